/**
 * The second press. MEDIUM: the button arms for a moment and goes out when pressed again in place.
 * HIGH opens its dialog. Without this script the server asks the same question on a page of its own.
 */

import { announce, toast } from "./say.js";

const CALM = 600; // a double click must not count as two decisions
const ARMED = 5_000;

/**
 * The one armed button, by what it would approve: a refreshed page replaces the element, not the person's first press.
 * @type {{what: string, at: number} | null}
 */
let armed = null;

/** The proposal and the version that a press would approve. @param {HTMLButtonElement} button @returns {string} */
function target(button) {
  const version = button.form?.elements.namedItem("version");
  return `${button.form?.action} ${version instanceof HTMLInputElement ? version.value : ""}`;
}

/** @param {HTMLButtonElement} button */
function arm(button) {
  armed = { what: target(button), at: performance.now() };
  announce("Press again to approve");
  showArmed();
  setTimeout(disarm, ARMED);
}

function disarm() {
  if (armed && performance.now() - armed.at < ARMED - 50) return; // armed anew meanwhile
  armed = null;
  showArmed();
}

/** Paint every button that can be armed as it stands. */
function showArmed() {
  for (const button of document.querySelectorAll("button[data-arm]")) {
    const label = button.querySelector("[data-label]");
    if (!(button instanceof HTMLButtonElement) || !label) continue;
    const on = armed?.what === target(button);
    label.textContent = on ? "Press again to approve" : "Approve";
    button.classList.toggle("armed", on);
    button.classList.toggle("primary", !on);
  }
}

/** @param {MouseEvent} event */
function onPress(event) {
  const held = event.target instanceof Element ? event.target.closest("button[data-held]") : null;
  if (held) {
    event.preventDefault();
    event.stopImmediatePropagation();
    toast("Prices are too old to trade on: approving waits for fresh ones", "care");
    return;
  }
  const button = event.target instanceof Element ? event.target.closest("button[data-arm]") : null;
  if (!(button instanceof HTMLButtonElement) || button.disabled) return;
  const first = armed?.what === target(button) ? armed.at : null;
  if (first !== null && performance.now() - first >= CALM) {
    const confirmed = button.form?.elements.namedItem("confirmed");
    if (confirmed instanceof HTMLInputElement) confirmed.value = "yes";
    return;
  }
  event.preventDefault();
  event.stopImmediatePropagation();
  if (first === null) arm(button);
}

/** Keys 1 to 6 choose the reason while the decline dialog is open. @param {KeyboardEvent} event */
function onReasonKey(event) {
  const open = document.querySelector("dialog[open] [data-reasons]");
  const typing = event.target instanceof Element && event.target.matches("textarea, input:not([type=radio])");
  if (!open || typing || !/^[1-6]$/.test(event.key)) return;
  const choice = open.querySelectorAll("input[type=radio]")[Number(event.key) - 1];
  if (!(choice instanceof HTMLInputElement)) return;
  choice.checked = true;
  choice.focus();
  event.preventDefault();
}

/** `…/approvals/prop_x#decline` opens that answer, so that a key in the list leads straight to it. */
function openByAddress() {
  const answer = location.hash.slice(1);
  if (answer !== "approve" && answer !== "decline") return;
  history.replaceState(null, "", location.pathname + location.search);
  const button = document.querySelector(`[data-proposal][data-main] button[data-decide=${answer}]`);
  if (!(button instanceof HTMLButtonElement) || button.disabled) return;
  // Arriving must never decide by itself: approve only takes the focus, decline opens its reasons.
  if (answer === "decline") button.click();
  else button.focus();
}

/** After an answer the outcome stands at the top: lead eyes and focus there. A refusal closes the dialog it came to. */
function showOutcome() {
  document.addEventListener("htmx:after:swap", (event) => {
    const ctx = event instanceof CustomEvent ? event.detail.ctx : null;
    if (ctx?.target?.id !== "proposal" || String(ctx.request?.method).toUpperCase() !== "POST") return;
    const refusal = document.querySelector("#proposal > [role=alert]");
    if (refusal) for (const dialog of document.querySelectorAll("#proposal dialog[open]")) /** @type {HTMLDialogElement} */ (dialog).close();
    const outcome = refusal ?? document.querySelector("#proposal h1");
    if (!(outcome instanceof HTMLElement) || document.querySelector("dialog[open]")) return;
    outcome.tabIndex = -1;
    outcome.focus({ preventScroll: true });
    scrollTo({ top: 0 });
  });
}

/** @param {Event} event @returns {boolean} */
function refreshes(event) {
  const ctx = event instanceof CustomEvent ? event.detail.ctx : null;
  return ctx?.target?.id === "proposal" && String(ctx.request?.method).toUpperCase() === "GET";
}

/** A refusal stays while a decision is still open: the card that refreshes itself underneath knows nothing of it. */
function keepRefusal() {
  /** @type {Node | undefined} */
  let refusal;
  document.addEventListener("htmx:before:swap", (event) => {
    refusal = refreshes(event) ? document.querySelector("#proposal > [role=alert]")?.cloneNode(true) : undefined;
  });
  document.addEventListener("htmx:after:swap", (event) => {
    const card = document.querySelector("#proposal:has([data-decide]):not(:has(> [role=alert]))");
    if (refusal && refreshes(event)) card?.querySelector(":scope > .crumbs")?.after(refusal);
  });
}

export function startDecisions() {
  showOutcome();
  keepRefusal();
  document.addEventListener("htmx:after:swap", showArmed);
  document.addEventListener("click", onPress, { capture: true });
  document.addEventListener("keydown", onReasonKey);
  openByAddress();
}
