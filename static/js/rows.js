/**
 * Lists that grow under the reader's eyes. A refreshed list is morphed in at once, unless the reader stands in it:
 * then new rows wait in a bar, so that the row under the cursor never moves.
 */

import { announce } from "./say.js";
import { focusRow } from "./keys.js";

const BATCH = 5_000;
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

/** @param {HTMLElement} list @param {number} count */
function showBar(list, count) {
  const bar = document.querySelector(`[data-new-bar="${list.id}"]`);
  if (!(bar instanceof HTMLElement)) return;
  const word = bar.querySelector("[data-new-count]");
  if (word) word.textContent = `${count} new`;
  bar.hidden = count === 0;
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
  const arriving = new DOMParser().parseFromString(String(event.detail.ctx.text ?? ""), "text/html");
  const known = ids(list);
  const fresh = [...ids(arriving.body)].filter((id) => !known.has(id));
  if (fresh.length) speakOfNew(fresh.length);
  if (fresh.length && readerStandsIn(list)) {
    event.preventDefault();
    showBar(list, fresh.length);
  }
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
    bar.hidden = true;
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
  keepFocus();
  letIn();
  selectByPointer();
}
