// The calls of a bot on the Graph client for Node: its client, its people, its new and its own calls.

import { strict as assert } from "node:assert";
import { randomUUID } from "node:crypto";

import { ClientSecretCredential } from "@azure/identity";
import { Client, ResponseType } from "@microsoft/microsoft-graph-client";

import * as bot from "./bot.mjs";
import { app, callback, emulator, graphScope, origin, placeCall, secret, tenant } from "./setting.mjs";

const credential = new ClientSecretCredential(tenant, app, secret, {
  authorityHost: origin,
  disableInstanceDiscovery: true,
});
export const client = Client.initWithMiddleware({
  authProvider: { getAccessToken: async () => (await credential.getToken(graphScope)).token },
  baseUrl: origin,
  customHosts: new Set([new URL(origin).hostname]),
});

// Sends a request whose response has no body, and compares its status.
export const send = async (path, expected, body, method = "post") => {
  const response = await client.api(path).responseType(ResponseType.RAW)[method](body);
  assert.equal(response.status, expected, `${path}: ${response.status} ${await response.text()}`);
};

// The identity set of a user, a number or an app, like { user: ID }.
export const identity = (who) => ({
  "@odata.type": "#microsoft.graph.identitySet",
  ...Object.fromEntries(Object.entries(who).map(([kind, id]) => [kind, { id }])),
});

export const invitation = (who, replacesCallId) => ({
  "@odata.type": "#microsoft.graph.invitationParticipantInfo",
  identity: identity(who),
  replacesCallId,
});

export const prompt = (uri) => ({
  "@odata.type": "#microsoft.graph.mediaPrompt",
  mediaInfo: { "@odata.type": "#microsoft.graph.mediaInfo", uri, resourceId: randomUUID() },
});

const mediaConfig = { "@odata.type": "#microsoft.graph.serviceHostedMediaConfig", preFetchMedia: [] };

// A call of the bot: the emulator's view of it, its path, and one of its people.
class LiveCall {
  constructor(otherSide) {
    this.otherSide = otherSide;
    this.id = otherSide.id;
    this.path = `/communications/calls/${this.id}`;
    this.person = null;
  }

  get(below = "") {
    return client.api(`${this.path}${below}`).get();
  }

  // Starts an operation.
  operate(path, clientContext, members = {}, version = "v1.0") {
    const action = client.api(`${this.path}/${path.replace("{id}", this.person)}`).version(version);
    return action.post({ clientContext, ...members });
  }

  // Waits for the end, and compares its code. Every request of both sides was accepted until then.
  async ended(code, subcode, members = {}) {
    const { data } = await bot.item(this.id, "", "deleted", members);
    assert.deepEqual([data.resultInfo.code, data.resultInfo.subcode], [code, subcode]);
    await this.otherSide.waitForEnd();
    // A step with neither is a remark.
    const sent = this.otherSide.steps.filter((step) => step.status ?? step.message_id);
    const refused = sent.filter(({ status }) => Math.floor(status / 100) !== 2);
    assert.deepEqual(refused, []);
    return `ends with ${code}/${subcode}`;
  }
}

// Lets a person call the bot: the call, and its callback URI.
export const incoming = async (options) => {
  const call = new LiveCall(await placeCall(options));
  return [call, await bot.newCall(call.id)];
};

// Answers a new call and waits until it is established.
export const answered = async (options) => {
  const [call, callbackUri] = await incoming(options);
  await send(`${call.path}/answer`, 202, { callbackUri, acceptedModalities: ["audio"], mediaConfig });
  for (const state of ["establishing", "established"]) await bot.item(call.id, "", "updated", { state });
  await bot.roster(call.id, "the bot and its caller", (people) => people.length >= 2);
  return call;
};

// Places a call of the bot.
export const created = async (members) => {
  const shown = await client.api("/communications/calls").post({
    "@odata.type": "#microsoft.graph.call",
    callbackUri: callback,
    direction: "outgoing",
    requestedModalities: ["audio"],
    mediaConfig,
    tenantId: tenant,
    source: { "@odata.type": "#microsoft.graph.participantInfo", identity: identity({ application: app }) },
    ...members,
  });
  assert.equal(shown["@odata.type"], "#microsoft.graph.call");
  assert.deepEqual([shown.state, shown.direction, shown.tenantId], ["establishing", "outgoing", tenant]);
  return new LiveCall(await emulator.followCall(shown.id));
};
