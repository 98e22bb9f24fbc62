// Settings and helpers of every script: the address of the emulator, and the identity of the app.

import { readFileSync } from "node:fs";

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
// The callback URI of the bot behind the gateway, for the calls that it places.
export const callback = process.env.BOT_CALLBACK;
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

// Lets a person call the bot behind the gateway. The call lasts until it is hung up.
export const placeCall = (options = {}) =>
  emulator.placeCall(process.env.GATEWAY_WEBHOOK, { tenant, ...options });
