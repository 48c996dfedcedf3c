/**
 * Parts that a change refreshes. One whose refresh fails keeps what it shows, says that it is old, and asks again by
 * itself: the channel has told of the change already and does not tell of it twice.
 */

const FIRST_WAIT = 1_000;
const LONGEST_WAIT = 30_000;
const PATIENCE = "20s"; // an answer that was lost holds up the next question for that long; htmx would wait a minute
const CHANGE = /([a-z]+:changed) from:body/;
const TOO_MANY = 429;

/** Failures in a row, by the part's id. @type {Map<string, number>} */
const failures = new Map();
/** The changes that are told again in a moment: one timer serves all parts that listen. @type {Set<string>} */
const waiting = new Set();

/** @typedef {{part: HTMLElement, change: string, request: {timeout?: string}, status: number}} Refresh status 0: none came */

/** What this event of htmx says of a part that listens to a change. @param {Event} event @returns {Refresh | null} */
function refreshOf(event) {
  const ctx = event instanceof CustomEvent ? event.detail.ctx : undefined;
  const part = ctx?.sourceElement;
  if (!(part instanceof HTMLElement)) return null;
  const change = CHANGE.exec(part.getAttribute("hx-trigger") ?? "")?.[1];
  return change ? { part, change, request: ctx.request, status: Number(ctx.response?.status ?? 0) } : null;
}

/** Full jitter, as for the channel: pages that failed together do not ask together. @param {Refresh} refresh */
function askAgain({ part, change }) {
  const failed = failures.get(part.id) ?? 0;
  failures.set(part.id, failed + 1);
  if (waiting.has(change)) return;
  waiting.add(change);
  const limit = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** failed);
  setTimeout(() => {
    waiting.delete(change);
    document.body.dispatchEvent(new CustomEvent(change, { detail: {} }));
  }, Math.max(250, Math.random() * limit));
}

/** Refused now, refused next time. An answer that broke off has a status too, and says nothing. @param {number} status */
function isForGood(status) {
  return status < 500 && status !== TOO_MANY;
}

/** @param {Event} event */
function failed(event) {
  const refresh = refreshOf(event);
  if (!refresh || (event.type === "htmx:response:error" && isForGood(refresh.status))) return;
  refresh.part.dataset.old = "";
  askAgain(refresh);
}

/** @param {Event} event */
function succeeded(event) {
  const refresh = refreshOf(event);
  if (!refresh || refresh.status >= 400) return;
  delete refresh.part.dataset.old;
  failures.delete(refresh.part.id);
}

/** @param {Event} event */
function losePatience(event) {
  const refresh = refreshOf(event);
  if (refresh) refresh.request.timeout = PATIENCE;
}

export function keepRefreshing() {
  document.addEventListener("htmx:config:request", losePatience);
  document.addEventListener("htmx:response:error", failed);
  document.addEventListener("htmx:error", failed);
  document.addEventListener("htmx:after:request", succeeded);
}
