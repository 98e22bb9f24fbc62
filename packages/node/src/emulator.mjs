// The emulator, as a test starts it and drives it.

import { AssertionError } from "node:assert";
import { setTimeout as sleep } from "node:timers/promises";

import { Call } from "./call.mjs";
import { Control } from "./control.mjs";
import { EmulatorProcess, findBinary } from "./process.mjs";

/** The app id that the commands of the emulator have by default. */
export const DEFAULT_APP = "0efc74f7-41c3-47a4-8775-7259bfef4241";

const POLL_MS = 50;

/** A running emulator. Made by `Emulator.start` or `Emulator.connect`. */
export class Emulator {
  #control;
  #process;

  constructor(control, app, process, index) {
    this.#control = control;
    this.#process = process;
    this.app = app;
    this.origin = control.origin;
    const texts = Object.entries(index).filter(([, value]) => typeof value === "string");
    this.addresses = Object.fromEntries(texts);
    this.identityVariables = index.identity_variables;
    this.ca = process?.document.ca ?? null;
  }

  static async start(settings = {}) {
    const { app = DEFAULT_APP, secret, listen = "127.0.0.1:0", options = [] } = settings;
    const { binary, timeout = 30_000 } = settings;
    const credential = secret === undefined ? [] : ["--secret", secret];
    const command = ["serve", "--json", "--listen", listen, "--app-id", app, ...credential, ...options];
    const process = await EmulatorProcess.start(findBinary(binary), command, timeout);
    try {
      const control = new Control(process.document.origin, process.document.ca);
      return new Emulator(control, app, process, await control.request("GET", "/emulator"));
    } catch (error) {
      await process.stop();
      throw error;
    }
  }

  static async connect(url, { app = DEFAULT_APP, ca } = {}) {
    const control = new Control(url, ca);
    return new Emulator(control, app, null, await control.request("GET", "/emulator"));
  }

  async stop() {
    await this.#process?.stop();
    this.#process = null;
  }

  /** Returns `placeCall` and `setFaults` for one test: their calls and faults end after it. */
  forTest(test) {
    let before = null;
    return {
      placeCall: async (to, options) => {
        const call = await this.placeCall(to, options);
        test.after(() => call.forget());
        return call;
      },
      setFaults: async (faults) => {
        if (before === null) {
          before = await this.faults();
          test.after(() => this.setFaults(before));
        }
        await this.setFaults(faults);
      },
    };
  }

  // Calls.

  async placeCall(to, options = {}) {
    const body = { app: this.app, duration: "1h", to, ...options };
    const placed = await this.#control.firstLine("/emulator/calls", body);
    return this.followCall(placed.call);
  }

  async calls() {
    return (await this.#control.request("GET", "/emulator/calls")).calls;
  }

  followCall(id) {
    return Call.open(this.#control, id);
  }

  async waitForCall(members = {}, { timeout = 10_000 } = {}) {
    const deadline = performance.now() + timeout;
    const wanted = Object.entries(members);
    for (;;) {
      const calls = await this.calls();
      const found = calls.find((call) => wanted.every(([name, value]) => call[name] === value));
      if (found !== undefined) return this.followCall(found.call);
      if (performance.now() >= deadline) {
        const [missing, there] = [members, calls].map((value) => JSON.stringify(value));
        const message = `no call with ${missing} within ${timeout} ms; the calls are ${there}`;
        throw new AssertionError({ message });
      }
      await sleep(POLL_MS);
    }
  }

  async forgetCalls() {
    await this.#control.request("DELETE", "/emulator/calls");
  }

  // Faults, keys and tokens.

  faults() {
    return this.#control.request("GET", "/emulator/faults");
  }

  async setFaults(faults) {
    await this.#control.request("PATCH", "/emulator/faults", faults);
  }

  async clearFaults() {
    await this.#control.request("DELETE", "/emulator/faults");
  }

  async rotateKeys(issuer = "skype", options = {}) {
    const query = new URLSearchParams({ issuer, ...options });
    return (await this.#control.request("POST", `/emulator/rotate?${query}`)).kid;
  }

  async makeToken(kind = "skype", options = {}) {
    const body = { app: this.app, kind, ...options };
    return (await this.#control.request("POST", "/emulator/token", body)).token;
  }
}
