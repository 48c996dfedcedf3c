/** Price ticks: patch `[data-quote="<ticker>:yes_bid"]` text nodes, all of one moment inside one animation frame. */

import { serverNow } from "./clock.js";

/** @typedef {import("./live.js").Frame} Frame */

const STALE = 8_000;
const QUIET = 5_000; // without a tick: either no price moves, or none is told
const TOO_OLD = 10_000; // unless the page says what the gateway's limit is: beyond it an approval is refused (E312)
/** @type {Map<string, string>} */
const waiting = new Map();
/** @type {Map<string, number>} */
const flashed = new Map();
/** When prices were last proven, as far as this page knows. */
let newest = 0;
/** When the newest tick came: what this page shows is as fresh as that, or as its part's last refresh. */
let ticked = serverNow();
let askedAt = 0;
let planned = false;

/** `0.5450` becomes `54.5¢`: the digits are moved, nothing is computed. @param {unknown} dollars @returns {string} */
export function cents(dollars) {
  const match = /^(\d)\.(\d{2})(\d*)$/.exec(String(dollars ?? ""));
  if (!match) return "–";
  const [, whole = "", two = "", rest = ""] = match;
  const units = (whole + two).replace(/^0+(?=\d)/, "");
  return `${units}.${rest.replace(/0+$/, "") || "0"}¢`;
}

/** @param {Frame} frame */
export function receiveTick(frame) {
  if (frame.k !== "tick" || !frame.d) return;
  for (const [field, value] of Object.entries(frame.d)) waiting.set(`${frame.t.replace(/^market:/, "")}:${field}`, cents(value));
  newest = Math.max(newest, frame.ts);
  ticked = serverNow();
  if (!planned) requestAnimationFrame(paint);
  planned = true;
}

function paint() {
  planned = false;
  for (const [key, text] of waiting) {
    for (const cell of document.querySelectorAll(`[data-quote="${CSS.escape(key)}"]`)) change(cell, key, text);
  }
  waiting.clear();
}

/** A cell that changed is tinted once, at most once a second. @param {Element} cell @param {string} key @param {string} text */
function change(cell, key, text) {
  if (cell.textContent === text) return;
  cell.textContent = text;
  if (performance.now() - (flashed.get(key) ?? -1000) < 1000) return;
  flashed.set(key, performance.now());
  cell.classList.remove("flash");
  requestAnimationFrame(() => cell.classList.add("flash"));
}

/** While prices are too old to trade on, approving waits and says why; declining and exits do not. @param {boolean} held */
function holdApprovals(held) {
  for (const button of document.querySelectorAll("button[data-decide=approve]:not([data-exit])")) {
    button.toggleAttribute("data-held", held);
    if (held) button.setAttribute("aria-disabled", "true");
    else button.removeAttribute("aria-disabled");
  }
  const reason = document.getElementById("held-why");
  if (reason) reason.hidden = !held;
}

/** The age of the newest price, in the footer; what was not refreshed since is underlined and named stale. */
function showAge() {
  const now = serverNow();
  const header = document.getElementById("trading-state")?.dataset;
  // Where no price moves none is sent: the header asks when prices were last proven. Without the line it proves nothing here.
  if (!newest || document.querySelector("#connection.live")) newest = Math.max(newest, Number(header?.quotesAsOf) || 0);
  const age = newest ? Math.max(0, now - newest) : null;
  const place = document.querySelector("[data-age]");
  if (place) place.textContent = age === null ? "–" : `${(age / 1000).toFixed(1)} s${age > STALE ? " stale" : ""}`;
  for (const panel of document.querySelectorAll("[data-prices]")) {
    if (!(panel instanceof HTMLElement)) continue;
    panel.dataset.shownAt ??= String(now);
    panel.classList.toggle("stale", now - Math.max(ticked, Number(panel.dataset.shownAt)) > STALE || (age ?? 0) > STALE);
  }
  if (!document.hidden && now - Math.max(ticked, askedAt) > QUIET) {
    askedAt = now;
    document.body.dispatchEvent(new CustomEvent("prices:quiet", { detail: {} }));
  }
  holdApprovals(age !== null && age > (Number(header?.tooOld) || TOO_OLD));
}

/** What a part has just been given is as fresh as its answer. @param {Event} event */
function shownNow(event) {
  const ctx = event instanceof CustomEvent ? event.detail.ctx : null;
  const part = ctx?.target instanceof Element ? document.getElementById(ctx.target.id) : null;
  if (Number(ctx?.response?.status) >= 400) return;
  for (const panel of part?.querySelectorAll("[data-prices]") ?? []) {
    if (panel instanceof HTMLElement) panel.dataset.shownAt = String(serverNow());
  }
  showAge();
}

export function watchAge() {
  setInterval(showAge, 500);
  document.addEventListener("htmx:after:swap", shownNow);
}
