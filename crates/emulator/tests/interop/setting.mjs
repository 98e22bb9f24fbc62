// Settings and helpers of every script: the address of the emulator, and the identity of the app.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";

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

export const post = async (path, body) =>
  fetch(origin + path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });

// The environment variables that lead client libraries to the managed identity endpoint.
export const identityVariables = async () =>
  (await (await fetch(`${origin}/emulator`)).json()).identity_variables;

// Places a call that lasts until it is hung up: its id, and the URL it is posted to.
export const placeCall = async () => {
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => (body += chunk));
    request.on("end", () => response.writeHead("value" in JSON.parse(body) ? 202 : 204).end());
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  server.unref();
  const to = `http://127.0.0.1:${server.address().port}/api/calls`;
  const events = await post("/emulator/calls", { to, app, tenant, duration: "1h" });
  const { value } = await events.body.getReader().read();
  return { id: JSON.parse(new TextDecoder().decode(value).split("\n")[0]).call, to };
};
