/** The connection pill: Live with its latency, Reconnecting in n s, or Offline with the time of the data. */

import { clockOffset, serverNow } from "./clock.js";
import { announce } from "./say.js";

/** @typedef {import("./live.js").Connection} Connection */

const LOST_AFTER = 10_000;
/** @type {Connection | null} */
let last = null;
let lostAt = 0;
let alarmed = false;

/** @param {Connection} connection */
export function showConnection(connection) {
  last = connection;
  const pill = document.getElementById("connection");
  const word = pill?.querySelector("[data-word]");
  const latency = pill?.querySelector("[data-latency]");
  const detail = pill?.querySelector("[data-detail]");
  if (!pill || !word || !latency || !detail) return;
  pill.classList.toggle("live", connection.name === "live");
  pill.classList.toggle("wait", connection.name === "connecting" || (connection.name === "waiting" && !tooLong()));
  pill.classList.toggle("lost", connection.name === "waiting" && tooLong());
  if (connection.name === "live") backAgain();
  else lostAt ||= Date.now();
  word.textContent = wording(connection);
  latency.textContent = connection.name === "live" && connection.latency !== undefined ? `${connection.latency} ms` : "";
  detail.textContent = `Clock offset ${clockOffset()} ms. ${
    connection.name === "live" ? "Changes arrive by themselves." : "Pages and buttons work as before; reload to see what is new."
  }`;
}

/** @param {Connection} connection @returns {string} */
function wording(connection) {
  if (connection.name === "live") return "Live";
  if (tooLong()) return `Offline, data from ${utcTime(lostAt + clockOffset())}`;
  if (connection.name === "connecting") return "Connecting";
  return `Reconnecting in ${Math.max(0, Math.ceil(((connection.until ?? 0) - performance.now()) / 1000))} s`;
}

/** @returns {boolean} */
function tooLong() {
  const lost = lostAt > 0 && Date.now() - lostAt > LOST_AFTER;
  if (lost && !alarmed) {
    alarmed = true;
    announce("Connection lost. The page shows old data.", "alert");
  }
  return lost;
}

function backAgain() {
  if (alarmed) announce("Connected again.");
  lostAt = 0;
  alarmed = false;
}

/** @param {number} ms @returns {string} */
function utcTime(ms) {
  return new Date(ms).toISOString().slice(11, 19);
}

/** The footer's clock, one step a second. */
export function runServerClock() {
  const clock = document.querySelector("[data-server-clock]");
  if (!clock) return;
  setInterval(() => {
    if (last?.name === "waiting") showConnection(last);
    const now = new Date(serverNow());
    clock.setAttribute("datetime", now.toISOString());
    clock.textContent = `${utcTime(now.getTime())} UTC`;
  }, 1000);
}
