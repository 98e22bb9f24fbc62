// The control API: requests, and streams of events.

import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";

const TIMEOUT_MS = 30_000;
const ERROR_CHARACTERS_MAX = 4096;

/** The emulator refused a request, or cannot be reached. */
export class ControlError extends Error {
  constructor(message, { status = null, code = null, cause } = {}) {
    super(message, { cause });
    this.name = "ControlError";
    this.status = status;
    this.code = code;
  }
}

/** The control API of one emulator. */
export class Control {
  #ca;

  constructor(origin, ca) {
    if (!/^https?:\/\/[^/]/.test(origin)) throw new TypeError(`not the URL of an emulator: ${origin}`);
    this.origin = origin.replace(/\/+$/, "");
    this.#ca = ca == null ? undefined : readFileSync(ca);
  }

  /** Sends a request, and returns the JSON of the response; `null` if it has no body. */
  async request(method, path, body) {
    const response = await this.#send(method, path, body);
    const text = await this.#read(async () => {
      let text = "";
      for await (const chunk of response) text += chunk;
      return text;
    });
    return text === "" ? null : JSON.parse(text);
  }

  /** Posts a body, and returns the first line of a response of JSON lines. The rest is not read. */
  async firstLine(path, body) {
    const response = await this.#send("POST", path, body);
    return this.#read(async () => {
      for await (const line of lines(response)) return JSON.parse(line);
      throw new Error("the response is empty");
    });
  }

  /** Opens a stream of server-sent events, and returns their data one by one. */
  async events(path) {
    const response = await this.#send("GET", path);
    // A stream is no reason for the process to go on.
    response.socket.unref();
    return readEvents(response);
  }

  async #read(work) {
    try {
      return await work();
    } catch (error) {
      throw this.#unreachable(error);
    }
  }

  #unreachable(cause) {
    const why = cause.message || cause.code;
    return new ControlError(`cannot reach the emulator at ${this.origin}: ${why}`, { cause });
  }

  async #send(method, path, body) {
    const url = new URL(this.origin + path);
    const { request } = url.protocol === "https:" ? https : http;
    const content = body === undefined ? undefined : JSON.stringify(body);
    const headers = content === undefined ? {} : { "Content-Type": "application/json" };
    const response = await this.#read(
      () =>
        new Promise((resolve, reject) => {
          const options = { method, headers, agent: false, ca: this.#ca, timeout: TIMEOUT_MS };
          const sent = request(url, options, resolve);
          sent.on("timeout", () => sent.destroy(new Error(`no response within ${TIMEOUT_MS} ms`)));
          sent.on("error", reject);
          sent.end(content);
        }),
    );
    response.setEncoding("utf8");
    if (response.statusCode < 400) return response;
    throw await refusal(`${method} ${path}`, response);
  }
}

async function* readEvents(response) {
  // The emulator sends a comment every 15 s, so a silent stream is broken and ends by the timeout.
  for await (const line of lines(response)) {
    if (line.startsWith("data: ")) yield JSON.parse(line.slice("data: ".length));
  }
}

async function* lines(response) {
  let unread = "";
  for await (const chunk of response) {
    const parts = (unread + chunk).split("\n");
    unread = parts.pop();
    yield* parts;
  }
}

const refusal = async (request, response) => {
  let text = "";
  for await (const chunk of response) {
    text += chunk;
    if (text.length > ERROR_CHARACTERS_MAX) break;
  }
  let code = null;
  let message = text.slice(0, ERROR_CHARACTERS_MAX);
  try {
    ({ code, message } = JSON.parse(text).error);
  } catch {
    // The text itself is the message.
  }
  const status = response.statusCode;
  return new ControlError(`${request}: ${status} ${code}: ${message}`, { status, code });
};
