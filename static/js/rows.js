/**
 * Lists that change under the reader's eyes. A refreshed list is morphed in at once, unless the reader stands in one that
 * has a bar: then rows wait in it, come and gone, so that the row under the cursor never moves; they go in when he leaves.
 * A press that meets a row which has just moved there does nothing, in any list.
 */

import { announce, toast } from "./say.js";
import { focusRow } from "./keys.js";

const BATCH = 5_000;
const SETTLED = 700; // ms; quicker than that nobody has read what stands there now
let movedAt = -Infinity;
let spokenAt = 0;
let unspoken = 0;

/** @param {Element} list @returns {Set<string>} */
function ids(list) {
  return new Set([...list.querySelectorAll("tr[data-row]")].map((row) => row.id));
}

/** Speak about new proposals at most every 5 s. @param {number} count */
function speakOfNew(count) {
  unspoken += count;
  const wait = Math.max(0, spokenAt + BATCH - Date.now());
  setTimeout(() => {
    if (!unspoken) return;
    announce(unspoken === 1 ? "One new proposal waits for a decision" : `${unspoken} new proposals wait for a decision`);
    spokenAt = Date.now();
    unspoken = 0;
  }, wait);
}

/** @param {HTMLElement} list @returns {HTMLElement | null} */
function barOf(list) {
  return document.querySelector(`[data-new-bar="${list.id}"]`);
}

/** @param {HTMLElement} bar @param {number} fresh @param {number} gone */
function showBar(bar, fresh, gone) {
  const word = bar.querySelector("[data-new-count]");
  if (word) word.textContent = [fresh && `${fresh} new`, gone && `${gone} over`].filter(Boolean).join(", ");
  bar.hidden = fresh + gone === 0;
}

/** What is over keeps its place until the reader leaves, and decides nothing any more. @param {HTMLElement} list @param {string[]} gone */
function strike(list, gone) {
  for (const id of gone) {
    const row = list.querySelector(`#${CSS.escape(id)}`);
    row?.classList.add("off");
    for (const button of row?.querySelectorAll("button") ?? []) button.disabled = true;
  }
}

/** @param {HTMLElement} list @returns {boolean} */
function readerStandsIn(list) {
  return list.contains(document.activeElement) || list.matches(":has(tr[data-row]:hover)");
}

/** @param {Event} event */
function beforeRefresh(event) {
  if (!(event instanceof CustomEvent)) return;
  const list = event.detail.ctx?.target;
  if (!(list instanceof HTMLElement) || !list.matches("[data-list]") || list.dataset.letIn) return;
  if (Number(event.detail.ctx.response?.status) >= 400) return; // the words of a fault are no list
  const arriving = new DOMParser().parseFromString(String(event.detail.ctx.text ?? ""), "text/html");
  const [known, coming] = [ids(list), ids(arriving.body)];
  const fresh = [...coming].filter((id) => !known.has(id));
  const gone = [...known].filter((id) => !coming.has(id));
  const moves = fresh.length + gone.length > 0;
  const bar = barOf(list);
  const waits = moves && bar !== null && readerStandsIn(list);
  if (moves && !waits) movedAt = performance.now();
  if (!bar) return;
  if (fresh.length) speakOfNew(fresh.length);
  showBar(bar, waits ? fresh.length : 0, waits ? gone.length : 0);
  if (!waits) return;
  event.preventDefault();
  strike(list, gone);
}

/** What waits goes in once the reader has left. */
function letInWhoWaits() {
  const look = () => {
    for (const bar of document.querySelectorAll("[data-new-bar]:not([hidden])")) {
      const list = document.getElementById(bar.getAttribute("data-new-bar") ?? "");
      if (!(bar instanceof HTMLElement) || !list || readerStandsIn(list)) continue;
      showBar(bar, 0, 0);
      document.body.dispatchEvent(new CustomEvent("proposals:changed", { detail: {} }));
    }
  };
  setInterval(look, 1_000);
}

/** @param {MouseEvent} event */
function ignoreMeetings(event) {
  const button = event.target instanceof Element ? event.target.closest("[data-list] tr[data-row] button") : null;
  if (!button || event.detail === 0 || performance.now() - movedAt > SETTLED) return; // 0: by a key, on the row in focus
  event.preventDefault();
  event.stopImmediatePropagation();
  toast("The list has just moved: look at the row and press again", "care");
}

/** A focused row that went away hands the focus to its neighbour. */
function keepFocus() {
  let index = -1;
  document.addEventListener("htmx:before:swap", () => {
    index = [...document.querySelectorAll("tr[data-row]")].findIndex((row) => row.contains(document.activeElement));
  });
  document.addEventListener("htmx:after:swap", () => {
    if (index < 0 || document.activeElement !== document.body) return;
    const rows = document.querySelectorAll("tr[data-row]");
    if (rows.length) focusRow(rows[Math.min(index, rows.length - 1)]);
  });
}

function letIn() {
  document.addEventListener("click", (event) => {
    const button = event.target instanceof Element ? event.target.closest("[data-show-new]") : null;
    const bar = button?.closest("[data-new-bar]");
    const list = bar && document.getElementById(bar.getAttribute("data-new-bar") ?? "");
    if (!(bar instanceof HTMLElement) || !list) return;
    showBar(bar, 0, 0);
    list.dataset.letIn = "1";
    document.body.dispatchEvent(new CustomEvent("proposals:changed", { detail: {} }));
    setTimeout(() => delete list.dataset.letIn, 2000);
  });
}

/** A click on a row selects it, as J and K do. */
function selectByPointer() {
  document.addEventListener("focusin", (event) => {
    const row = event.target instanceof Element ? event.target.closest("tr[data-row]") : null;
    if (!row) return;
    for (const other of document.querySelectorAll("tr[data-row]")) other.classList.toggle("on", other === row);
  });
}

export function startRows() {
  document.addEventListener("htmx:before:swap", beforeRefresh);
  document.addEventListener("click", ignoreMeetings, { capture: true });
  letInWhoWaits();
  keepFocus();
  letIn();
  selectByPointer();
}
