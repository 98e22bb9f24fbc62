// The bot of the scripts, behind the gateway: it keeps what it hears, and serves a prompt.

import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

const [host, port] = process.env.BOT_ADDRESS.split(":");
export const promptUrl = `http://${host}:${port}/prompt.wav`;
export const longPromptUrl = `http://${host}:${port}/long.wav`;
const waitMs = 15_000;

// All items of all notifications, oldest first: { call, below, change, data }. `below` is the path below the
// call, like "/participants".
export const items = [];
// The callback URI that the gateway gave for each new call.
const callbacks = new Map();

// Waits until `find` returns something.
const heard = async (what, find) => {
  const end = performance.now() + waitMs;
  while (performance.now() < end) {
    const found = find();
    if (found) return found;
    await sleep(10);
  }
  throw new Error(`the bot did not hear ${what}; it heard ${JSON.stringify(items.slice(-3))}`);
};

const about = (call, below) => items.filter((item) => item.call === call && item.below === below);

// Waits for an item about a call whose resourceData has these members.
export const item = (call, below, change, members = {}) =>
  heard(`${change} ${below || "call"} ${JSON.stringify(members)}`, () =>
    about(call, below).find(
      ({ change: heard, data }) =>
        heard === change && Object.entries(members).every(([name, value]) => data[name] === value),
    ),
  );

// Waits until the newest roster of a call is as expected.
export const roster = (call, what, test) =>
  heard(`a roster: ${what}`, () => {
    const newest = about(call, "/participants").at(-1)?.data;
    return newest && test(newest) && newest;
  });

// Waits for a key.
export const tone = (call, tone) =>
  heard(tone, () => about(call, "").find(({ data }) => data.toneInfo?.tone === tone));

// Waits for a new call: its callback URI.
export const newCall = (call) => heard(`the new call ${call}`, () => callbacks.get(call));

const receive = (headers, body) => {
  for (const { resourceUrl, changeType: change, resourceData: data } of body.value) {
    const [, call, below] = resourceUrl.match(/^\/communications\/calls\/([^/]+)(.*)$/);
    items.push({ call, below, change, data });
    if (headers["switchboard-deadline"]) callbacks.set(call, headers["switchboard-callback-uri"]);
  }
};

// A file as Graph takes it: WAV, PCM, 16 kHz, 16 bit, mono.
const silence = (seconds) => {
  const bytes = 32_000 * seconds;
  const file = Buffer.alloc(44 + bytes);
  file.write("RIFF", 0);
  file.writeUInt32LE(36 + bytes, 4);
  file.write("WAVEfmt ", 8);
  file.writeUInt32LE(16, 16);
  file.writeUInt16LE(1, 20);
  file.writeUInt16LE(1, 22);
  file.writeUInt32LE(16_000, 24);
  file.writeUInt32LE(32_000, 28);
  file.writeUInt16LE(2, 32);
  file.writeUInt16LE(16, 34);
  file.write("data", 36);
  file.writeUInt32LE(bytes, 40);
  return file;
};

const webhook = createServer(async (request, response) => {
  if (request.method === "GET") return response.end(silence(request.url.includes("long") ? 20 : 0.2));
  let text = "";
  for await (const chunk of request) text += chunk;
  const body = JSON.parse(text);
  // 204 asks for the Graph form of a legacy notification.
  const legacy = !("value" in body);
  if (!legacy) receive(request.headers, body);
  response.writeHead(legacy ? 204 : 202).end();
});
await new Promise((listening) => webhook.listen(Number(port), host, listening));
webhook.unref();
