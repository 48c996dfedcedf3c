/**
 * The live channel `/ws/v1/live`: one socket, numbered topics, reconnect 1 -> 60 s with full jitter.
 * A frame is a hint; elements fetch the truth: `proposals:changed` and its sisters fire on <body>.
 * Each ping tells where every topic stands: a page that stands elsewhere has missed something and fetches.
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
const SILENCE = 32_000; // the server pings every 15 s; two missed pings mean a dead line
const ACKNOWLEDGE = 1_000; // the server lets go whoever leaves a thousand frames unacknowledged
const GATHER = 250; // several changes of one topic become one fetch

export class LiveChannel extends EventTarget {
  /**
   * @param {string} url
   * @param {Record<string, Standing>} heads the topics of this page and the last change that it has seen
   */
  constructor(url, heads) {
    super();
    this.url = url;
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
    addEventListener("online", () => this.hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.hurry());
  }

  open() {
    clearTimeout(this.retry);
    this.become({ name: "connecting", since: Date.now() });
    const socket = new WebSocket(this.url, ["kops.msgpack.1", "kops.json.1"]);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.greet();
    socket.onmessage = (event) => this.receive(event.data);
    socket.onclose = () => socket === this.socket && this.wait();
    this.socket = socket;
    this.watch();
  }

  /** Try at once instead of waiting out the back-off. */
  hurry() {
    if (this.connection.name === "waiting") this.open();
  }

  greet() {
    this.attempt = 0;
    this.received = 0;
    this.send({ op: "sub", topics: Object.keys(this.heads) });
    this.send({ op: "resume", topics: this.heads });
    this.measure();
    this.become({ name: "live", since: Date.now() });
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
    this.watch();
    this.acknowledge();
    const frame = /** @type {Frame} */ (typeof data === "string" ? JSON.parse(data) : decode(data));
    switch (frame.k) {
      case "ping":
        this.send({ op: "pong" });
        this.measure();
        this.compare(/** @type {Record<string, Standing>} */ (frame.d?.heads ?? {}));
        break;
      case "pong":
        this.measured(frame);
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
    this.become({ ...this.connection, name: "live", latency: Math.round(received - sent) });
  }

  /** Silence with a gap: the server stands elsewhere than this page. @param {Record<string, Standing>} heads */
  compare(heads) {
    for (const [topic, [epoch, number]] of Object.entries(heads)) {
      const [known, seen] = this.heads[topic] ?? ["", 0];
      if (epoch !== known || number > seen) this.gather({ t: topic, k: "snap", s: number, ts: 0, d: { e: epoch } });
    }
  }

  /** Remember the number, and tell the page once per topic and quarter second. @param {Frame} frame */
  gather(frame) {
    const [known, seen] = this.heads[frame.t] ?? ["", 0];
    const epoch = String(frame.d?.e ?? known);
    if (epoch === known && frame.k === "delta" && (frame.s ?? 0) <= seen) return; // told twice
    if (frame.s !== undefined) this.heads[frame.t] = [epoch, epoch === known ? Math.max(frame.s, seen) : frame.s];
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
    }, SILENCE);
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
