/** The server's clock, measured: the reader's own clock may be minutes wrong or jump while the page is open. */

const started = performance.timeOrigin;
let offset = firstGuess();
let error = Infinity;

/** The page carries the server's time at rendering, which is just before its first byte arrived. @returns {number} */
function firstGuess() {
  const rendered = Number(document.documentElement.dataset.serverMs);
  if (!Number.isFinite(rendered)) return 0;
  const navigation = performance.getEntriesByType("navigation")[0];
  const arrived = navigation instanceof PerformanceNavigationTiming ? navigation.responseStart : performance.now();
  return rendered - (started + arrived);
}

/** The server's time now, in ms since 1970. @returns {number} */
export function serverNow() {
  return started + performance.now() + offset;
}

/**
 * Take over a round trip: `sent` and `received` on performance.now(), `server` in ms since 1970.
 * Only a measurement at least as sharp as the last one counts, or one that refutes it: a machine that slept has lost
 * minutes. Old ones fade.
 * @param {number} sent
 * @param {number} received
 * @param {number} server
 */
export function learn(sent, received, server) {
  const doubt = (received - sent) / 2;
  const measured = server - (started + (sent + received) / 2);
  error *= 1.2;
  if (doubt > error && Math.abs(measured - offset) <= doubt + error) return;
  error = doubt;
  offset = measured;
}

/** How far this machine's own clock is from the server's, in ms. @returns {number} */
export function clockOffset() {
  return Math.round(serverNow() - Date.now());
}
