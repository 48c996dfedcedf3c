/** The one entry: every page loads it, nothing on a page depends on it for a decision or a stop. */

import { runCountdowns } from "./countdown.js";
import { startDecisions } from "./decide.js";
import { listenToKeys } from "./keys.js";
import { LiveChannel } from "./live.js";
import { runServerClock, showConnection } from "./pill.js";
import { receiveTick, watchAge } from "./quotes.js";
import { keepRefreshing } from "./refresh.js";
import { startRows } from "./rows.js";
import { startFrame } from "./ui.js";

function goLive() {
  const heads = document.body.dataset.topics;
  if (!heads) return;
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const heartbeat = Number(document.body.dataset.heartbeat) * 1_000;
  const channel = new LiveChannel(`${scheme}://${location.host}/ws/v1/live`, JSON.parse(heads), heartbeat);
  channel.addEventListener("connection", (event) => event instanceof CustomEvent && showConnection(event.detail));
  channel.addEventListener("frame", (event) => event instanceof CustomEvent && receiveTick(event.detail));
  channel.open();
}

startFrame();
startDecisions();
startRows();
keepRefreshing();
runCountdowns();
runServerClock();
watchAge();
listenToKeys();
goLive();
