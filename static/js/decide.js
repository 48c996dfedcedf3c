/**
 * The second press. MEDIUM: the button arms for a moment and goes out when pressed again in place.
 * HIGH opens its dialog. Without this script the server asks the same question on a page of its own.
 */

import { announce, toast } from "./say.js";

const CALM = 600; // a double click must not count as two decisions
const ARMED = 5_000;

/** @param {HTMLButtonElement} button */
function arm(button) {
  const label = button.querySelector("[data-label]");
  if (!label) return;
  button.dataset.before = label.textContent ?? "";
  button.dataset.armedAt = String(performance.now());
  label.textContent = "Press again to approve";
  button.classList.add("armed");
  button.classList.remove("primary");
  announce("Press again to approve");
  setTimeout(() => disarm(button), ARMED);
}

/** @param {HTMLButtonElement} button */
function disarm(button) {
  const label = button.querySelector("[data-label]");
  if (!button.dataset.armedAt || !label) return;
  label.textContent = button.dataset.before ?? "";
  button.classList.remove("armed");
  button.classList.add("primary");
  delete button.dataset.armedAt;
}

/** @param {MouseEvent} event */
function onPress(event) {
  const held = event.target instanceof Element ? event.target.closest("button[data-held]") : null;
  if (held) {
    event.preventDefault();
    event.stopImmediatePropagation();
    toast("Prices are older than 10 s: approving waits for fresh ones", "care");
    return;
  }
  const button = event.target instanceof Element ? event.target.closest("button[data-arm]") : null;
  if (!(button instanceof HTMLButtonElement) || button.disabled) return;
  const armedAt = Number(button.dataset.armedAt);
  if (armedAt && performance.now() - armedAt >= CALM) {
    const confirmed = button.form?.elements.namedItem("confirmed");
    if (confirmed instanceof HTMLInputElement) confirmed.value = "yes";
    return;
  }
  event.preventDefault();
  event.stopImmediatePropagation();
  if (!armedAt) arm(button);
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

/** After an answer the outcome stands at the top: lead eyes and focus there. */
function showOutcome() {
  document.addEventListener("htmx:after:swap", (event) => {
    const source = event instanceof CustomEvent ? event.detail.ctx?.request?.method : "";
    if (String(source).toUpperCase() !== "POST") return;
    const title = document.querySelector("#proposal h1");
    if (!(title instanceof HTMLElement) || document.querySelector("dialog[open]")) return;
    title.tabIndex = -1;
    title.focus({ preventScroll: true });
    scrollTo({ top: 0 });
  });
}

export function startDecisions() {
  showOutcome();
  document.addEventListener("click", onPress, { capture: true });
  document.addEventListener("keydown", onReasonKey);
  openByAddress();
}
