// The timeline of a call: its events as they happen, and waiting for them.

import { AssertionError } from "node:assert";

const POLL_MS = 50;

/** A call is not as the test expects. The message ends with the timeline as a table. */
export class TimelineError extends AssertionError {
  constructor(message) {
    super({ message });
    this.name = "TimelineError";
  }
}

/** The events of one call, in the order in which they came. */
export class Timeline {
  #events = [];
  #cutOff = null;
  #waiting = new Set();

  /** Adds an event of the control API. */
  add(event) {
    this.#events.push(event);
    this.#wake();
  }

  /** Notes that no event follows. Without an event `end`, the timeline was cut off for the reason `why`. */
  close(why) {
    this.#cutOff = why;
    this.#wake();
  }

  get events() {
    return [...this.#events];
  }

  get steps() {
    return this.#named("step").sort((a, b) => a.at_ms - b.at_ms);
  }

  get end() {
    return this.#named("end")[0] ?? null;
  }

  #named(name) {
    return this.#events.filter(({ event }) => event === name);
  }

  /**
   * Waits until `find` returns a value, and returns that value. `find` runs after each event, and every 50
   * ms. `expected` names its subject in the error. The end of the call ends the wait.
   */
  async wait(find, expected, timeout) {
    const deadline = performance.now() + timeout;
    for (;;) {
      const { end } = this;
      const cutOff = this.#cutOff;
      const count = this.#events.length;
      const found = await find();
      if (found != null) return found;
      if (end !== null) throw this.error(`the call ended without ${expected}`);
      if (cutOff !== null) throw this.error(`the timeline was cut off before ${expected}`);
      const left = deadline - performance.now();
      if (left <= 0) throw this.error(`no ${expected} within ${timeout} ms`);
      if (this.#events.length === count && this.#cutOff === null) await this.#change(Math.min(left, POLL_MS));
    }
  }

  #wake() {
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }

  /** Waits for the next event, at most `limit` milliseconds. */
  async #change(limit) {
    let timer;
    await new Promise((resolve) => {
      this.#waiting.add(resolve);
      timer = setTimeout(() => {
        this.#waiting.delete(resolve);
        resolve();
      }, limit);
    });
    clearTimeout(timer);
  }

  /** Returns the error for a problem, with the timeline. */
  error(problem) {
    return new TimelineError(`${problem}\n\n${this}`);
  }

  toString() {
    const { steps } = this;
    const rows = steps.map((step) => [step.at_ms, stepRow(step)]);
    const ended = new Set(steps.map((step) => `${step.message_id} ${step.at_ms}`));
    for (const sent of this.#named("sent")) {
      if (ended.has(`${sent.message_id} ${sent.at_ms}`)) continue;
      rows.push([sent.at_ms, row(sent, "->", "...", "", null)]);
    }
    rows.sort(([a], [b]) => a - b);
    const heading =
      `${"time".padStart(11)}     ${"what".padEnd(24)} ${"status".padStart(6)} ${"took".padStart(10)}  where`;
    return [heading, ...rows.map(([, text]) => text), "", this.#verdict()].map(printable).join("\n");
  }

  #verdict() {
    const { end } = this;
    if (end !== null) {
      return `${end.ok ? "ok" : "not ok"}: ${end.outcome} after ${milliseconds(end.took_ms)}: ${end.reason}`;
    }
    return this.#cutOff === null ? "the call goes on" : `cut off: ${this.#cutOff}`;
  }
}

const stepRow = (step) => {
  const status = step.status === null ? "-" : String(step.status);
  if (step.received) return row(step, "<-", status, "", step.note);
  // A step without a message id posted nothing. It is a remark.
  return row(step, "->", status, step.message_id === null ? "" : milliseconds(step.took_ms), step.note);
};

const row = (event, direction, status, took, note) => {
  const what = event.attempt < 2 ? event.what : `${event.what} #${event.attempt}`;
  const at = milliseconds(event.at_ms).padStart(11);
  const text =
    `${at}  ${direction} ${what.padEnd(24)} ${status.padStart(6)} ${took.padStart(10)}  ${event.url}`;
  return note === null ? text : `${text}  ${note}`;
};

const milliseconds = (number) => `${number.toFixed(1)} ms`;

/** Replaces control characters, which a bot can send and a terminal obeys. */
const printable = (text) => text.replace(/\p{C}/gu, "\ufffd");
