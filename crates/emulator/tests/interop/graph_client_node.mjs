// @microsoft/microsoft-graph-client for Node: answer, get, hang up.

import { ClientSecretCredential } from "@azure/identity";
import { BatchRequestContent, BatchResponseContent, Client } from "@microsoft/microsoft-graph-client";
import { app, graphScope, ok, origin, placeCall, refused, secret, tenant } from "./setting.mjs";

const credential = new ClientSecretCredential(tenant, app, secret, {
  authorityHost: origin,
  disableInstanceDiscovery: true,
});
const client = Client.initWithMiddleware({
  authProvider: { getAccessToken: async () => (await credential.getToken(graphScope)).token },
  baseUrl: origin,
  customHosts: new Set([new URL(origin).hostname]),
});

const { id, placed, to } = await placeCall();
const call = `/communications/calls/${id}`;
await client.api(`${call}/answer`).post({
  callbackUri: to,
  acceptedModalities: ["audio"],
  mediaConfig: { "@odata.type": "#microsoft.graph.serviceHostedMediaConfig" },
});
await placed.waitForState("established");
if ((await client.api(call).get()).state !== "established") throw new Error("not established");
ok("a call is answered and read");

// The library strips the host, and the version is that of the batch.
const steps = [
  { id: "1", request: new Request(`${origin}${call}`, { method: "GET" }) },
  { id: "2", request: new Request(`${origin}${call}/keepAlive`, { method: "POST" }), dependsOn: ["1"] },
];
const batch = await client.api("/$batch").post(await new BatchRequestContent(steps).getContent());
const responses = new BatchResponseContent(batch);
const shown = await responses.getResponseById("1").json();
if (shown.id !== id || responses.getResponseById("2").status !== 200) throw new Error(JSON.stringify(batch));
ok("a batch reads a call and keeps it alive");

await client.api(call).delete();
await placed.assertEnd();
placed.assertSteps("answer", "established", "keep alive", "hang up");
ok("a call is hung up");

const unknown = client.api("/communications/calls/00000000-0000-4000-8000-000000000000");
await refused("an unknown call is a GraphError 8522", async () => {
  try {
    await unknown.get();
  } catch (error) {
    throw new Error(`${error.statusCode} ${error.code}`);
  }
}, /404 8522/);
