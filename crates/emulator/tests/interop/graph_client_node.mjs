// @microsoft/microsoft-graph-client for Node: a bot behind the gateway that uses the whole calls API.

import { strict as assert } from "node:assert";
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import { BatchRequestContent, BatchResponseContent } from "@microsoft/microsoft-graph-client";

import * as bot from "./bot.mjs";
import { answered, client, created, identity, incoming, invitation, prompt, send } from "./graph_calls.mjs";
import { app, callback, emulator, origin, tenant } from "./setting.mjs";

const DESK = "0a0a0a0a-1111-4aaa-8bbb-000000000002";
const NUMBER = "+12025550123";
const THREAD = "19:meeting_interop@thread.v2";

// The operations: `before` prepares the call, `meanwhile` acts before the operation ends with `result`, and
// `then` looks at what it changed.

const ofBot = (person) => "application" in person.info.identity;

// Looks at the newest roster.
const roster = (what, test) => (call) => bot.roster(call.id, what, (people) => test(people, call));

// The first key ends the prompt (barge-in), the second one the recording.
const pressPoundTwice = async (call) => {
  await call.otherSide.press("#");
  await sleep(200);
  await call.otherSide.press("#");
};

const pressFive = async (call) => {
  await call.otherSide.press(5);
  assert.equal((await bot.tone(call.id, "tone5")).change, "updated");
};

// Downloads the recording, as documented: the token of the operation is the bearer token.
const download = async (_call, ended) => {
  const headers = { Authorization: `Bearer ${ended.recordingAccessToken}` };
  const response = await fetch(ended.recordingLocation, { headers, signal: AbortSignal.timeout(10_000) });
  const file = Buffer.from(await response.arrayBuffer());
  assert.equal(`${file.subarray(0, 4)} ${file.subarray(8, 12)}`, "RIFF WAVE");
  assert.ok(file.length > 1000, `${file.length} bytes`);
};

const playLongPrompt = async (call) => {
  call.played = await call.operate("playPrompt", "long", { prompts: [prompt(bot.longPromptUrl)] });
};

const promptWasCancelled = async (call) => {
  const below = `/operations/${call.played.id}`;
  const { data } = await bot.item(call.id, below, "deleted", { clientContext: "long", status: "failed" });
  assert.deepEqual([data.resultInfo.code, data.resultInfo.subcode], [400, 8508]);
};

const fillTheLobby = async (call) => {
  await call.otherSide.playStep("lobby");
  await bot.roster(call.id, "the lobby", (people) => people.some((person) => person.isInLobby));
};

const OPERATIONS = [
  { path: "playPrompt", type: "playPrompt", members: { prompts: [prompt(bot.promptUrl)] } },
  {
    path: "recordResponse",
    type: "record",
    members: {
      bargeInAllowed: true,
      playBeep: true,
      initialSilenceTimeoutInSeconds: 5,
      maxSilenceTimeoutInSeconds: 10,
      maxRecordDurationInSeconds: 20,
      prompts: [prompt(bot.promptUrl)],
      stopTones: ["#"],
    },
    meanwhile: pressPoundTwice,
    then: download,
    result: [200, 8514],
  },
  { path: "subscribeToTone", type: "subscribeToTone", then: pressFive },
  {
    path: "cancelMediaProcessing",
    type: "cancelMediaProcessing",
    before: playLongPrompt,
    then: promptWasCancelled,
  },
  {
    path: "sendDtmfTones",
    type: "sendDtmfTones",
    members: { delayBetweenTonesMs: 50, tones: ["tone1", "star", "pound"] },
  },
  {
    path: "mute",
    type: "muteParticipant",
    then: roster("the bot is muted", (people) => people.some((one) => ofBot(one) && one.isMuted)),
  },
  {
    path: "unmute",
    type: "unmuteParticipant",
    then: roster("the bot is not muted", (people) => !people.some((one) => one.isMuted)),
  },
  { path: "updateRecordingStatus", type: "updateRecordingStatus", members: { status: "recording" } },
  { path: "addLargeGalleryView", type: "addLargeGalleryView" },
  { path: "raiseHand", type: "comms", version: "beta" },
  { path: "lowerHand", type: "comms", version: "beta" },
  {
    path: "participants/invite",
    type: "inviteParticipants",
    members: { participants: [invitation({ user: DESK })] },
    then: roster("the desk joined", (people) => JSON.stringify(people).includes(DESK)),
  },
  {
    path: "participants/{id}/mute",
    type: "muteParticipant",
    then: roster("the person is muted", (people, call) =>
      people.some((one) => one.id === call.person && one.isMuted),
    ),
  },
  {
    path: "participants/{id}/startHoldMusic",
    type: "startHoldMusic",
    members: { customPrompt: prompt(bot.promptUrl) },
  },
  { path: "participants/{id}/stopHoldMusic", type: "stopHoldMusic" },
  {
    path: "participants/admitAllFromLobby",
    type: "comms",
    version: "beta",
    before: fillTheLobby,
    then: roster("the lobby is empty", (people) => !people.some((one) => one.isInLobby)),
  },
  { path: "participants/lowerAllHands", type: "comms", version: "beta" },
];

// Starts an operation and waits for its end: the response, the notification, and the resource.
const operate = async (call, operation) => {
  const { path, type, members, version, before, meanwhile, then, result = [200, 0] } = operation;
  await before?.(call);
  const clientContext = randomUUID();
  const started = await call.operate(path, clientContext, members, version);
  const expected = { "@odata.type": `#microsoft.graph.${type}Operation`, clientContext };
  // The reference shows this one as completed in its response.
  const status = path === "updateRecordingStatus" ? "completed" : "running";
  const parts = (operation) => [operation["@odata.type"], operation.clientContext, operation.status];
  assert.deepEqual(parts(started), [...Object.values(expected), status]);
  await meanwhile?.(call);
  const { data } = await bot.item(call.id, `/operations/${started.id}`, "deleted", expected);
  assert.deepEqual([data.status, data.resultInfo.code, data.resultInfo.subcode], ["completed", ...result]);
  const shown = await call.get(`/operations/${started.id}`);
  assert.deepEqual(parts(shown), [...Object.values(expected), "completed"]);
  await then?.(call, data);
  return `${status}, then deleted ${result.join("/")}`;
};

// The rest: one function for each, which returns what it saw.

const show = async (call) => {
  const shown = await call.get();
  assert.deepEqual(
    [shown["@odata.type"], shown.id, shown.state, shown.direction, shown.tenantId],
    ["#microsoft.graph.call", call.id, "established", "incoming", tenant],
  );
  assert.ok(shown.source.identity.user.id && shown.targets[0].identity.application.id === app);
  assert.ok(shown.myParticipantId && shown.callChainId && shown.callbackUri);
  return "established";
};

const participants = async (call) => {
  const people = (await call.get("/participants")).value;
  const { myParticipantId } = await call.get();
  call.person = people.find(({ id }) => id !== myParticipantId).id;
  const person = await call.get(`/participants/${call.person}`);
  assert.deepEqual([person["@odata.type"], person.id], ["#microsoft.graph.participant", call.person]);
  assert.deepEqual([person.isMuted, person.isInLobby], [false, false]);
  assert.ok(person.info.identity.user.id);
  return `${people.length} people`;
};

const remove = async (call) => {
  await send(`${call.path}/participants/${call.person}`, 204, undefined, "delete");
  await bot.roster(call.id, "the person left", (people) => !people.some(({ id }) => id === call.person));
  return "204, a roster without them";
};

const operations = async (call) => {
  const shown = (await call.get("/operations")).value;
  const types = shown.map((operation) => operation["@odata.type"]);
  assert.ok(types.includes("#microsoft.graph.recordOperation"), `${types}`);
  return `${shown.length} operations`;
};

const audioRoutingGroups = async (call) => {
  const groups = `${call.path}/audioRoutingGroups`;
  const { myParticipantId } = await call.get();
  const group = {
    "@odata.type": "#microsoft.graph.audioRoutingGroup",
    routingMode: "oneToOne",
    sources: [myParticipantId],
    receivers: [call.person],
  };
  const made = await client.api(groups).post(group);
  assert.deepEqual(made, { ...group, id: made.id });
  const one = client.api(`${groups}/${made.id}`);
  assert.deepEqual(await one.get(), made);
  assert.equal((await one.patch({ routingMode: "multicast" })).routingMode, "multicast");
  assert.deepEqual((await client.api(groups).get()).value, [{ ...made, routingMode: "multicast" }]);
  await one.delete();
  assert.deepEqual((await client.api(groups).get()).value, []);
  return "create, get, update, list, delete";
};

const contentSharingSessions = async (call) => {
  assert.deepEqual((await call.get("/contentSharingSessions")).value, []);
  return "none";
};

const shareScreen = async (call) => {
  await send(`${call.path}/changeScreenSharingRole`, 202, { role: "sharer" });
  const shares = (one) =>
    one.mediaStreams.some((s) => s.mediaType === "videoBasedScreenSharing" && s.direction === "sendOnly");
  await bot.roster(call.id, "the bot shares", (people) => people.some((one) => ofBot(one) && shares(one)));
  return "202, a roster";
};

const keepAlive = async (call) => {
  await send(`${call.path}/keepAlive`, 200);
  return "200";
};

const deviceQuality = async () => {
  const quality = { "@odata.type": "#microsoft.graph.teleconferenceDeviceQuality", deviceName: "interop" };
  await send("/communications/calls/logTeleconferenceDeviceQuality", 200, { quality });
  return "200";
};

// The library strips the host, and the version is that of the batch.
const batch = async (call) => {
  const url = `${origin}${call.path}`;
  const steps = [
    { id: "1", request: new Request(url) },
    { id: "2", request: new Request(`${url}/participants`), dependsOn: ["1"] },
    { id: "3", request: new Request(`${url}/keepAlive`, { method: "POST" }), dependsOn: ["2"] },
  ];
  const content = await new BatchRequestContent(steps).getContent();
  const responses = new BatchResponseContent(await client.api("/$batch").post(content));
  const [shown, people, kept] = ["1", "2", "3"].map((id) => responses.getResponseById(id));
  assert.deepEqual([shown.status, people.status, kept.status], [200, 200, 200]);
  assert.equal((await shown.json()).id, call.id);
  assert.ok((await people.json()).value.length >= 2);
  return "3 responses";
};

const hangUp = async (call) => {
  await send(call.path, 204, undefined, "delete");
  return call.ended(200, 10550, { state: "terminated" });
};

const unknown = async () => {
  const gone = client.api("/communications/calls/00000000-0000-4000-8000-000000000000");
  await assert.rejects(gone.get(), { name: "Error", statusCode: 404, code: "8522" });
  return "GraphError 404, 8522";
};

const reject = async () => {
  const [call, callbackUri] = await incoming();
  await send(`${call.path}/reject`, 202, { callbackUri, reason: "busy" });
  return call.ended(603, 0);
};

const redirect = async () => {
  const [call, callbackUri] = await incoming();
  const targets = [invitation({ user: DESK })];
  await send(`${call.path}/redirect`, 202, { callbackUri, targets, timeout: 30 });
  return call.ended(200, 0, { state: "terminated" });
};

const transferred = async (call, transferTarget) => {
  await send(`${call.path}/transfer`, 202, { transferTarget });
  for (const state of ["transferring", "transferAccepted"]) {
    await bot.item(call.id, "", "updated", { state });
  }
  return call.ended(0, 7015, { state: "terminated" });
};

const transfer = async () => transferred(await answered(), invitation({ user: DESK }));

// Hands the caller to the desk, which the bot called before.
const consult = async () => {
  const call = await answered();
  const desk = await created({ targets: [invitation({ user: DESK })] });
  await bot.item(desk.id, "", "updated", { state: "established" });
  const end = await transferred(call, invitation({ user: DESK }, desk.id));
  await bot.item(desk.id, "", "deleted", { state: "terminated" });
  return `${end}, and the replaced call ends`;
};

// Places a call, and hangs it up when it is established.
const create = (members) => async () => {
  const call = await created(members);
  for (const state of ["establishing", "established"]) await bot.item(call.id, "", "updated", { state });
  await bot.roster(call.id, "the people", (people) => people.some(ofBot));
  const shown = await call.get();
  assert.deepEqual([shown.state, shown.callbackUri], ["established", callback]);
  return hangUp(call);
};

// Calls a person who does not take the call.
const notTaken = (fault, code, subcode) => async () => {
  await emulator.setFaults({ callee: `${fault}*1` });
  const call = await created({ targets: [invitation({ user: DESK })] });
  return call.ended(code, subcode, { state: "terminated" });
};

const meeting = (type, members) => ({ "@odata.type": `#microsoft.graph.${type}MeetingInfo`, ...members });
const chatInfo = { "@odata.type": "#microsoft.graph.chatInfo", threadId: THREAD, messageId: "0" };
const organizer = meeting("organizer", { organizer: identity({ user: DESK }) });
const byToken = meeting("token", { token: "not-a-real-token" });
const byJoinId = meeting("joinMeetingId", { joinMeetingId: "1234567", passcode: "psw123" });

const OF_THE_CALL = {
  "GET operations": operations,
  audioRoutingGroups,
  contentSharingSessions,
  changeScreenSharingRole: shareScreen,
  keepAlive,
  logTeleconferenceDeviceQuality: deviceQuality,
  $batch: batch,
  "DELETE participants/{id}": remove,
  DELETE: hangUp,
};

const WHOLE_CALLS = {
  "an unknown call": unknown,
  reject,
  redirect,
  transfer,
  "transfer: consultative": consult,
  "create: a user": create({ targets: [invitation({ user: DESK })] }),
  "create: a number": create({ targets: [invitation({ phone: NUMBER })] }),
  "create: people": create({ targets: [invitation({ user: DESK }), invitation({ user: randomUUID() })] }),
  "create: by the organizer": create({ chatInfo, meetingInfo: organizer }),
  "create: by a token": create({ meetingInfo: byToken }),
  "create: by a join id": create({ meetingInfo: byJoinId }),
  "create: busy": notTaken("busy", 486, 0),
  "create: rejected": notTaken("reject", 603, 0),
  "create: no answer": notTaken("no-answer", 408, 10057),
  "create: not found": notTaken("not-found", 480, 10037),
};

// Runs one check and prints its row.
const check = async (name, run) => {
  const start = `  node    ${name.padEnd(32)} `;
  try {
    console.log(`${start} ok      ${await run()}`);
  } catch (error) {
    process.exitCode = 1;
    console.log(`${start} failed  ${error}`);
  }
};

const call = await answered({ kind: "group", participants: 3 });
await check("answer", () => show(call));
await check("GET participants", () => participants(call));
for (const operation of OPERATIONS) await check(operation.path, () => operate(call, operation));
for (const [name, run] of Object.entries(OF_THE_CALL)) await check(name, () => run(call));
for (const [name, run] of Object.entries(WHOLE_CALLS)) await check(name, run);
