/**
 * The live channel `/ws/v1/live`: one socket, numbered topics, reconnect 1 -> 60 s with full jitter.
 * A frame is a hint; elements fetch the truth: `proposals:changed` and its sisters fire on <body>.
 * Each ping and pong tells where every topic stands: a page that stands elsewhere has missed something and fetches.
 * It says "live" once it stands there, and shows what it had missed.
 */

import { learn } from "./clock.js";
import { decode } from "./msgpack.js";

/**
 * @typedef {object} Frame
 * @property {string} t topic
 * @property {string} k snap, delta, tick, stale, gone, ping, pong or err
 * @property {number} [s] number of the change within its topic
 * @property {number} [v] version of the object
 * @property {number} ts server time in ms
 * @property {Record<string, unknown>} [d]
 */
/** A topic's numbering and the last number seen of it. @typedef {[epoch: string, number: number]} Standing */
/** @typedef {{name: "connecting" | "live" | "waiting", until?: number, latency?: number, since: number}} Connection */

const FIRST_WAIT = 1_000;
const LONGEST_WAIT = 60_000;
const LATE = 2_000; // beyond two missed heartbeats: the line is dead
const ACKNOWLEDGE = 1_000; // the server lets go whoever leaves a thousand frames unacknowledged
const GATHER = 250; // several changes of one topic become one fetch
const PART = "body [hx-trigger]"; // still on the page, and still to be refreshed

export class LiveChannel extends EventTarget {
  /**
   * @param {string} url
   * @param {Record<string, Standing>} heads the topics of this page and the last change that it has seen
   * @param {number} heartbeat ms between the server's pings
   */
  constructor(url, heads, heartbeat) {
    super();
    this.url = url;
    this.heartbeat = heartbeat;
    this.heads = { ...heads };
    this.attempt = 0;
    /** @type {WebSocket | null} */
    this.socket = null;
    /** @type {Connection} */
    this.connection = { name: "connecting", since: Date.now() };
    this.received = 0; // frames of this socket
    this.acknowledgedAt = 0;
    this.watchdog = 0;
    this.retry = 0;
    /** @type {Map<string, number>} */
    this.gathering = new Map();
    this.agrees = false; // with what the server told last on this socket
    /** Parts that miss a change, each with the request that fetches it once that has begun. @type {Map<Element, unknown>} */
    this.owed = new Map();
    addEventListener("online", () => this.hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.hurry());
    document.addEventListener("htmx:before:request", (event) => event instanceof CustomEvent && this.asked(event.detail.ctx));
    document.addEventListener("htmx:finally:request", (event) => event instanceof CustomEvent && this.answered(event.detail.ctx));
  }

  open() {
    clearTimeout(this.retry);
    this.become({ name: "connecting", since: Date.now() });
    const socket = new WebSocket(this.url, ["kops.msgpack.1", "kops.json.1"]);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.greet();
    socket.onmessage = (event) => socket === this.socket && this.receive(event.data);
    socket.onclose = () => socket === this.socket && this.wait();
    this.socket = socket;
    this.agrees = false;
    this.watch();
  }

  /** Try at once instead of waiting out the back-off. */
  hurry() {
    if (this.connection.name === "waiting") this.open();
  }

  greet() {
    this.received = 0;
    this.send({ op: "sub", topics: Object.keys(this.heads) });
    this.send({ op: "resume", topics: this.heads });
    this.measure();
    this.watch();
  }

  /** @param {Record<string, unknown>} message */
  send(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  measure() {
    this.send({ op: "ping", c: performance.now() });
  }

  /** By what arrives, not by a timer: a hidden tab's timers sleep for a minute. */
  acknowledge() {
    this.received++;
    if (performance.now() - this.acknowledgedAt < ACKNOWLEDGE) return;
    this.acknowledgedAt = performance.now();
    this.send({ op: "ack", n: this.received });
  }

  /** @param {string | ArrayBuffer} data */
  receive(data) {
    this.acknowledge();
    const frame = /** @type {Frame} */ (typeof data === "string" ? JSON.parse(data) : decode(data));
    switch (frame.k) {
      case "ping":
        this.watch();
        this.send({ op: "pong" });
        this.measure();
        this.compare(frame);
        break;
      case "pong":
        this.measured(frame);
        this.compare(frame);
        break;
      case "err":
        if (frame.t in this.heads) this.heads[frame.t] = ["", 0]; // not for this reader: nothing of it is told or missed
        break;
      case "snap":
      case "delta":
        this.gather(frame);
        break;
    }
    this.dispatchEvent(new CustomEvent("frame", { detail: frame }));
  }

  /** @param {Frame} frame */
  measured(frame) {
    const sent = Number(frame.d?.c);
    const received = performance.now();
    learn(sent, received, frame.ts);
    this.become({ ...this.connection, latency: Math.round(received - sent) });
  }

  /** Silence with a gap: the server stands elsewhere than this page. @param {Frame} frame */
  compare(frame) {
    const heads = /** @type {Record<string, Standing>} */ (frame.d?.heads ?? {});
    for (const [topic, [epoch, number]] of Object.entries(heads)) {
      const [known, seen] = this.heads[topic] ?? ["", 0];
      if (epoch !== known || number > seen) this.gather({ t: topic, k: "snap", s: number, ts: 0, d: { e: epoch } });
    }
    this.agrees = Object.entries(this.heads).every(([topic, [epoch]]) => topic in heads || epoch === "");
    this.judge();
  }

  /** Live: stands where the server stands, and no part lags behind that. An ordinary change is fetched as it comes. */
  judge() {
    if (!this.socket) return;
    const lags = [...this.owed.keys()].some((part) => part.matches(PART)) || document.querySelector("[data-old]");
    const name = this.agrees && !lags ? "live" : "connecting";
    if (name === "live") this.attempt = 0;
    if (name !== this.connection.name) this.become({ ...this.connection, name, since: Date.now() });
  }

  /** The parts that show this topic lag until a question asked from now on is answered. @param {string} topic */
  owe(topic) {
    for (const part of document.querySelectorAll(`[hx-trigger*="${topic}:changed"]`)) this.owed.set(part, null);
    this.judge();
  }

  /** @param {{sourceElement: Element}} request */
  asked(request) {
    if (this.owed.has(request.sourceElement)) this.owed.set(request.sourceElement, request);
  }

  /** @param {{sourceElement: Element}} request */
  answered(request) {
    const part = request.sourceElement;
    if (this.owed.get(part) === request && !part.hasAttribute("data-old")) this.owed.delete(part);
    if (this.connection.name !== "live") this.judge();
  }

  /** Remember the number, and tell the page once per topic and quarter second. @param {Frame} frame */
  gather(frame) {
    const [known, seen] = this.heads[frame.t] ?? ["", 0];
    const epoch = String(frame.d?.e ?? known);
    if (epoch === known && frame.k === "delta" && (frame.s ?? 0) <= seen) return; // told twice
    if (frame.s !== undefined) this.heads[frame.t] = [epoch, epoch === known ? Math.max(frame.s, seen) : frame.s];
    if (frame.k === "snap" || !this.agrees) this.owe(frame.t);
    if (this.gathering.has(frame.t)) return;
    const timer = setTimeout(() => {
      this.gathering.delete(frame.t);
      document.body.dispatchEvent(new CustomEvent(`${frame.t}:changed`, { detail: frame.d ?? {} }));
    }, GATHER);
    this.gathering.set(frame.t, timer);
  }

  watch() {
    clearTimeout(this.watchdog);
    this.watchdog = setTimeout(() => {
      this.socket?.close();
      this.wait();
    }, 2 * this.heartbeat + LATE);
  }

  /** Full jitter: a random time up to the doubled limit, so that a restart is not met by every page at once. */
  wait() {
    clearTimeout(this.watchdog);
    clearTimeout(this.retry);
    const limit = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.attempt++);
    const delay = Math.max(250, Math.random() * limit);
    this.socket = null;
    const since = this.connection.name === "waiting" ? this.connection.since : Date.now();
    this.become({ name: "waiting", until: performance.now() + delay, since });
    this.retry = setTimeout(() => this.open(), delay);
  }

  /** @param {Connection} connection */
  become(connection) {
    this.connection = connection;
    this.dispatchEvent(new CustomEvent("connection", { detail: connection }));
  }
}
