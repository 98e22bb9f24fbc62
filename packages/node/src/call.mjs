// A call of the emulator, as a test drives and checks it.

import { Timeline } from "./timeline.mjs";

const TONES = { "*": "star", "#": "pound" };

/** One call: its id, its timeline, and the steps that a test plays in it. */
export class Call {
  #control;
  #path;

  constructor(control, id, events) {
    this.#control = control;
    this.#path = `/emulator/calls/${id}`;
    this.id = id;
    this.timeline = new Timeline();
    this.#read(events);
  }

  static async open(control, id) {
    return new Call(control, id, await control.events(`/emulator/calls/${id}/events`));
  }

  async #read(events) {
    let why = "the emulator closed the stream";
    try {
      for await (const event of events) this.timeline.add(event);
    } catch (error) {
      // An error of the connection or the JSON: the timeline shows it.
      why = String(error);
    }
    this.timeline.close(why);
  }

  get steps() {
    return this.timeline.steps;
  }

  details() {
    return this.#control.request("GET", this.#path);
  }

  // What the other side does.

  async playStep(action, members = {}) {
    await this.#control.request("POST", `${this.#path}/steps`, { do: action, ...members });
  }

  press(tone) {
    return this.playStep("tone", { tone: TONES[tone] ?? String(tone) });
  }

  speak(duration) {
    return this.playStep("speak", { for: duration });
  }

  join(participants = 1) {
    return this.playStep("join", { participants });
  }

  leave(participants = 1) {
    return this.playStep("leave", { participants });
  }

  mute(participant = 0) {
    return this.playStep("mute", { participant });
  }

  unmute(participant = 0) {
    return this.playStep("unmute", { participant });
  }

  hold() {
    return this.playStep("hold");
  }

  resume() {
    return this.playStep("resume");
  }

  hangUp({ code = 200, subcode = 0, message = "" } = {}) {
    return this.playStep("terminate", { code, subcode, message });
  }

  async forget() {
    try {
      await this.#control.request("DELETE", this.#path);
    } catch (error) {
      if (error.status !== 404) throw error;
    }
  }

  // What the test waits for.

  waitForStep(what, { status = null, times = 1, timeout = 10_000 } = {}) {
    const matches = (step) => step.what === what && (status === null || step.status === status);
    const find = () => this.steps.filter(matches)[times - 1];
    const withStatus = status === null ? "" : ` with status ${status}`;
    const ofTimes = times === 1 ? "" : `, ${times} times`;
    return this.timeline.wait(find, `step "${what}"${withStatus}${ofTimes}`, timeout);
  }

  waitForState(states, { timeout = 10_000 } = {}) {
    const wanted = [states].flat();
    const find = async () => {
      const { state } = (await this.details()).call;
      return wanted.includes(state) ? state : null;
    };
    return this.timeline.wait(find, `state ${wanted.join(" or ")}`, timeout);
  }

  waitForEnd({ timeout = 30_000 } = {}) {
    return this.timeline.wait(() => this.timeline.end, "end of the call", timeout);
  }

  // What the test checks.

  assertSteps(...expected) {
    const names = this.steps.map((step) => step.what);
    let next = 0;
    for (const what of expected) {
      // The search goes on after the step that it found last.
      const found = names.indexOf(what, next);
      if (found < 0) throw this.timeline.error(`no step "${what}" in the order ${expected.join(", ")}`);
      next = found + 1;
    }
  }

  assertNoStep(what) {
    if (this.steps.some((step) => step.what === what)) throw this.timeline.error(`unexpected step "${what}"`);
  }

  async assertEnd(outcome = "completed", { timeout = 30_000 } = {}) {
    const end = await this.waitForEnd({ timeout });
    if (end.outcome !== outcome) throw this.timeline.error(`the outcome is ${end.outcome}, not ${outcome}`);
    return end;
  }
}
