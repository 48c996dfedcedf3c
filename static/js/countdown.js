/**
 * Deadlines: every `[data-deadline]` (ms, server time) shows what is left and says how it will end.
 * The server alone decides; when the time is over, the page asks it for the outcome.
 */

import { serverNow } from "./clock.js";
import { announce } from "./say.js";

const SOON = 90;
const NOW = 10;
const SPOKEN = new Set([60, 30, 10]);
const RING = /** @type {const} */ ("circle:last-child");

/** @param {number} seconds @returns {string} */
export function leftText(seconds) {
  const whole = Math.max(0, seconds);
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/** @param {HTMLElement} due */
function draw(due) {
  const seconds = Math.ceil((Number(due.dataset.deadline) - serverNow()) / 1000);
  const timer = due.querySelector("[role=timer]");
  if (timer) timer.textContent = leftText(seconds);
  due.classList.toggle("soon", seconds <= SOON && seconds > NOW);
  due.classList.toggle("now", seconds <= NOW);
  const window = Number(due.dataset.window);
  if (window > 0) {
    const share = Math.max(0, Math.min(100, Math.round((seconds / window) * 100)));
    due.querySelector(`.ring ${RING}`)?.setAttribute("stroke-dasharray", `${share} 100`);
  }
  if (seconds <= 0) over(due);
  else if (SPOKEN.has(seconds) && isFocused(due)) announce(`${seconds} seconds left to decide`, seconds === NOW ? "alert" : "status");
}

/** Only the proposal in front of the reader speaks. @param {HTMLElement} due @returns {boolean} */
function isFocused(due) {
  return due.hasAttribute("data-main") || due.closest("tr")?.contains(document.activeElement) === true;
}

/** @param {HTMLElement} due */
function over(due) {
  if (due.dataset.over) return;
  due.dataset.over = "1";
  const word = due.querySelector("[data-outcome]");
  if (word) word.textContent = "deadline passed; asking the server";
  if (due.hasAttribute("data-main")) announce("The deadline has passed.", "alert");
  for (const button of due.closest("tr, main")?.querySelectorAll("button[data-decide]") ?? []) {
    if (button instanceof HTMLButtonElement) button.disabled = true;
  }
  // The sweep that writes the outcome runs once a second; ask after it.
  setTimeout(() => document.body.dispatchEvent(new CustomEvent("proposals:changed", { detail: {} })), 2500);
}

function tick() {
  for (const due of document.querySelectorAll("[data-deadline]")) {
    if (due instanceof HTMLElement) draw(due);
  }
  setTimeout(tick, 1000 - (serverNow() % 1000));
}

export function runCountdowns() {
  tick();
  document.addEventListener("htmx:after:swap", () => {
    for (const due of document.querySelectorAll("[data-deadline]")) if (due instanceof HTMLElement) draw(due);
  });
}
