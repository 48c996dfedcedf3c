/**
 * Single keys (UX 3.4). They rest while the reader types, has a dialog open, or stands on a control that uses the key;
 * a button of the keys' own dialog switches all of them off in this browser, Escape in dialogs stays the browser's own.
 */

import { toast } from "./say.js";
import { closeMenus } from "./ui.js";

const JUMP_WINDOW = 1_000;
const STOP_WINDOW = 2_000;
const TYPING = "input, select, textarea, [contenteditable]";
const MAY_REPEAT = ["j", "k", "ArrowDown", "ArrowUp"]; // a key held down is one press of all others
const KEPT = "keys"; // in this browser
const USES_SPACE = "button, a, summary, input, select, textarea, [contenteditable], [data-scroll]";

let jumpUntil = 0;
let stopUntil = 0;

/** @param {KeyboardEvent} event @returns {boolean} */
function resting(event) {
  const at = event.target instanceof Element ? event.target : document.body;
  return (
    event.defaultPrevented ||
    event.isComposing ||
    (event.repeat && !MAY_REPEAT.includes(event.key)) ||
    event.ctrlKey || event.metaKey || event.altKey ||
    document.documentElement.dataset.keys === "off" ||
    document.querySelector("dialog[open]") !== null ||
    at.closest(TYPING) !== null
  );
}

/** The row in focus, or the proposal that the page is about. @returns {HTMLElement | null} */
function proposalInFocus() {
  const row = document.activeElement?.closest("[data-proposal]");
  const one = row ?? document.querySelector("[data-proposal][data-main]");
  return one instanceof HTMLElement ? one : null;
}

/** @param {"approve" | "decline"} answer @returns {boolean} */
function decide(answer) {
  const proposal = proposalInFocus();
  if (!proposal) return false;
  const button = proposal.querySelector(`button[data-decide=${answer}]`) ?? openDecision(proposal, answer);
  if (button instanceof HTMLButtonElement && !button.disabled && button.getAttribute("aria-disabled") !== "true") button.click();
  return true;
}

/** A row without the control opens the proposal, which has it. @param {HTMLElement} proposal @param {string} answer */
function openDecision(proposal, answer) {
  const link = proposal.querySelector("a.rowlink");
  if (link instanceof HTMLAnchorElement) location.assign(`${link.href}#${answer}`);
  return null;
}

/** Move the one tab stop of the list. @param {1 | -1} step @returns {boolean} */
function move(step) {
  const rows = [...document.querySelectorAll("tr[data-row]")];
  if (!rows.length) return false;
  const here = rows.findIndex((row) => row.contains(document.activeElement));
  const next = rows[here < 0 ? 0 : Math.max(0, Math.min(rows.length - 1, here + step))];
  focusRow(next);
  return true;
}

/** @param {Element | undefined} row */
export function focusRow(row) {
  if (!(row instanceof HTMLElement)) return;
  for (const other of document.querySelectorAll("tr[data-row]")) {
    other.classList.toggle("on", other === row);
    if (other instanceof HTMLElement) other.tabIndex = other === row ? 0 : -1;
  }
  row.focus();
}

/** @returns {boolean} */
function openRow() {
  const link = document.activeElement?.closest("tr[data-row]")?.querySelector("a.rowlink");
  if (link instanceof HTMLAnchorElement) link.click();
  return link !== null && link !== undefined;
}

/** @param {string} key @returns {boolean} */
function jump(key) {
  const link = document.querySelector(`nav.side a[data-jump="${key}"]`);
  jumpUntil = 0;
  if (link instanceof HTMLAnchorElement) link.click();
  return link !== null;
}

function startJump() {
  jumpUntil = performance.now() + JUMP_WINDOW;
  const places = [...document.querySelectorAll("nav.side a[data-jump]")].map(
    (link) => `${link.getAttribute("data-jump")?.toUpperCase()} ${link.querySelector(".lbl")?.textContent}`,
  );
  toast(`Go to: ${places.join(" · ")}`, "", JUMP_WINDOW);
  return true;
}

/** First Escape closes what is open or arms, the second within 2 s stops: quick, but not by accident. */
function escape() {
  if (closeMenus()) return true;
  const stop = document.querySelector("button[data-safety=stop]");
  if (!(stop instanceof HTMLButtonElement) || stop.disabled) return false;
  if (performance.now() < stopUntil) {
    stopUntil = 0;
    stop.click();
    return true;
  }
  stopUntil = performance.now() + STOP_WINDOW;
  toast("Press Esc again within 2 s to stop trading", "care", STOP_WINDOW);
  return true;
}

/** @param {KeyboardEvent} event @returns {boolean} */
function pauseOrResume(event) {
  const at = event.target instanceof Element ? event.target : null;
  if (at?.closest(USES_SPACE)) return false;
  const control = document.querySelector("[data-safety=pause], [data-safety=resume]");
  if (!(control instanceof HTMLElement) || control.getAttribute("aria-disabled") === "true") return false;
  control.click();
  return true;
}

function help() {
  const dialog = document.getElementById("keys-help");
  if (dialog instanceof HTMLDialogElement) dialog.showModal();
  return dialog !== null;
}

/** @param {string} selector @returns {boolean} */
function press(selector) {
  const control = document.querySelector(selector);
  if (control instanceof HTMLElement) control.click();
  return control !== null;
}

/** Ctrl+E opens the page of the liquidation, also while one types; there the word is asked for. @param {KeyboardEvent} event */
function opensLiquidation(event) {
  if (!event.ctrlKey || event.metaKey || event.altKey || event.key.toLowerCase() !== "e") return false;
  if (document.documentElement.dataset.keys === "off" || document.querySelector("dialog[open]")) return false;
  return press("a[data-liquidate]");
}

/** @param {KeyboardEvent} event @returns {boolean} */
function act(event) {
  const key = event.key;
  if (key === "Escape") return escape();
  if (performance.now() < jumpUntil) return jump(key.toLowerCase());
  switch (key) {
    case " ": return pauseOrResume(event);
    case "?": return help();
    case "g": return startJump();
    case "a": return decide("approve");
    case "r": return decide("decline");
    case "j": case "ArrowDown": return inList(event) && move(1);
    case "k": case "ArrowUp": return inList(event) && move(-1);
    case "o": case "Enter": return document.activeElement?.matches("tr[data-row]") === true && openRow();
    case "t": return press("[data-theme-next]");
    case ".": return press("[data-show-new]");
    default: return false;
  }
}

/** Arrows scroll the page unless a row has the focus; J and K always move. @param {KeyboardEvent} event */
function inList(event) {
  return event.key.length === 1 || document.activeElement?.closest("tr[data-row]") !== null;
}

/** Storage may be shut; then the choice lasts as long as the page. @param {"on" | "off"} choice */
function keep(choice) {
  document.documentElement.dataset.keys = choice;
  try {
    localStorage.setItem(KEPT, choice);
  } catch {}
}

/** @returns {boolean} */
function wereOff() {
  try {
    return localStorage.getItem(KEPT) === "off";
  } catch {
    return false;
  }
}

/** WCAG 2.1.4: single keys can be switched off; whoever speaks to the machine sets off half of them. */
function offerTheSwitch() {
  const show = () => {
    const off = document.documentElement.dataset.keys === "off";
    for (const button of document.querySelectorAll("button[data-keys-switch]")) {
      button.textContent = off ? "Switch the keys on" : "Switch the keys off";
      if (button instanceof HTMLElement) button.hidden = false;
    }
  };
  document.addEventListener("click", (event) => {
    if (!(event.target instanceof Element) || !event.target.closest("button[data-keys-switch]")) return;
    keep(document.documentElement.dataset.keys === "off" ? "on" : "off");
    show();
  });
  if (wereOff()) document.documentElement.dataset.keys = "off";
  show();
}

export function listenToKeys() {
  offerTheSwitch();
  document.addEventListener("keydown", (event) => {
    if (opensLiquidation(event) || (!resting(event) && act(event))) event.preventDefault();
  });
}
