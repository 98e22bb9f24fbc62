// Settings and helpers of every script: the address of the emulator, and the identity of the app.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";

import { Emulator } from "switchboard-emulator";

const env = (name) => process.env[`EMULATOR_${name}`];

export const origin = env("ORIGIN");
export const app = env("APP");
export const secret = env("SECRET");
export const tenant = env("TENANT");
export const certificateFile = env("CERTIFICATE");
export const certificate = readFileSync(certificateFile, "ascii");
export const key = readFileSync(env("KEY"), "ascii");
export const pemFile = env("PEM");
export const graphScope = "https://graph.microsoft.com/.default";

export const ok = (what) => console.log(`  ${what}`);

export const refused = async (what, attempt, expected) => {
  try {
    await attempt();
  } catch (error) {
    if (!`${error}${error?.errorMessage ?? ""}`.match(expected)) throw error;
    return ok(what);
  }
  throw new Error(`not refused: ${what}`);
};

export const emulator = await Emulator.connect(origin, { app, ca: env("CA") });

// Places a call that lasts until it is hung up: its id, the call, and the URL that it is posted to.
export const placeCall = async () => {
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => (body += chunk));
    request.on("end", () => response.writeHead("value" in JSON.parse(body) ? 202 : 204).end());
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  server.unref();
  const to = `http://127.0.0.1:${server.address().port}/api/calls`;
  const call = await emulator.placeCall(to, { tenant });
  return { id: call.id, placed: call, to };
};
