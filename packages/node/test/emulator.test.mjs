// The emulator and its calls, against the emulator's program and a bot.

import assert from "node:assert";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { ControlError, Emulator, TimelineError } from "../src/index.mjs";
import { Bot } from "./bot.mjs";

const TENANT = "11111111-2222-4333-8444-555555555555";
let emulator;
let bot;

before(async () => {
  emulator = await Emulator.start();
  bot = await Bot.start(emulator.addresses.graph);
});

after(async () => {
  bot?.stop();
  await emulator?.stop();
});

test("a call is answered, and hung up by the bot", async (t) => {
  const { placeCall } = emulator.forTest(t);
  bot.tones = [];
  const call = await placeCall(bot.url, { kind: "group" });
  assert.equal(await call.waitForState("established"), "established");
  await call.waitForStep("roster", { status: 202 });
  for (const tone of [3, "#", 5]) await call.press(tone);
  assert((await call.assertEnd("completed")).ok);
  assert.deepEqual(bot.tones, ["tone3", "pound", "tone5"]);
  call.assertSteps("incoming", "answer", "establishing", "established", "hang up");
  call.assertNoStep("keep alive");
});

test("a step has its request and response", async (t) => {
  const { placeCall } = emulator.forTest(t);
  const answer = await (await placeCall(bot.url)).waitForStep("answer");
  assert(answer.received);
  assert.equal(answer.response.status, 202);
  assert.equal(JSON.parse(answer.request.body).callbackUri, bot.url);
});

test("people join, leave, mute and hang up", async (t) => {
  const { placeCall } = emulator.forTest(t);
  const call = await placeCall(bot.url, { kind: "meeting" });
  await call.waitForStep("roster");
  await call.join(2);
  await call.waitForStep("roster", { times: 2 });
  const people = (await call.details()).participants.length;
  await call.mute(1);
  await call.waitForStep("roster", { times: 3 });
  await call.unmute(1);
  await call.waitForStep("roster", { times: 4 });
  await call.leave();
  await call.waitForStep("roster", { times: 5 });
  assert.equal((await call.details()).participants.length, people - 1);
  await call.hold();
  await call.waitForState("hold");
  await call.resume();
  await call.waitForState(["established", "terminated"]);
  await call.hangUp({ code: 500, subcode: 7106, message: "Media connectivity was lost." });
  const terminated = await call.waitForStep("terminated");
  assert.match(terminated.request.body, /"subcode":7106/);
  await call.waitForEnd();
});

test("a failed wait shows the timeline", async (t) => {
  const { placeCall } = emulator.forTest(t);
  const call = await placeCall(bot.url);
  await call.waitForStep("established");
  const wait = call.waitForStep("play prompt", { status: 200, times: 2, timeout: 200 });
  await assert.rejects(wait, (error) => {
    assert(error instanceof TimelineError && error instanceof assert.AssertionError);
    assert(error.message.startsWith('no step "play prompt" with status 200, 2 times within 200 ms\n\n'));
    assert.match(error.message, /<- answer[^]*-> established[^]*the call goes on$/);
    return true;
  });
  const state = call.waitForState(["hold", "terminated"], { timeout: 100 });
  await assert.rejects(state, /no state hold or terminated within 100 ms/);
});

test("a failed check shows the timeline", async (t) => {
  const { placeCall } = emulator.forTest(t);
  const call = await placeCall(bot.url);
  await call.waitForStep("established");
  await call.hangUp();
  for (const [check, message] of [
    [() => call.assertEnd("rejected"), "the outcome is completed, not rejected"],
    [() => call.assertSteps("established", "answer"), 'no step "answer" in the order established, answer'],
    [() => call.assertNoStep("answer"), 'unexpected step "answer"'],
    [() => call.waitForStep("tone 5"), 'the call ended without step "tone 5"'],
  ]) {
    await assert.rejects(async () => check(), (error) => {
      assert(error.message.startsWith(`${message}\n\n`), error.message);
      assert.match(error.message, /ok: completed after/);
      return true;
    });
  }
});

test("a call that never ends is ended by the test", async (t) => {
  const { placeCall } = emulator.forTest(t);
  const call = await placeCall(bot.url);
  await call.waitForState("established");
  await assert.rejects(call.waitForEnd({ timeout: 200 }), /no end of the call within 200 ms/);
  await call.forget();
  await call.assertEnd("completed");
  await call.forget();
});

test("several waits at once", async (t) => {
  const { placeCall } = emulator.forTest(t);
  const call = await placeCall(bot.url);
  const names = ["answer", "established", "roster"];
  const steps = await Promise.all(names.map((what) => call.waitForStep(what)));
  assert.deepEqual(steps.map((step) => step.what), names);
});

test("a bot that does not answer", async (t) => {
  const { placeCall } = emulator.forTest(t);
  bot.answers = false;
  t.after(() => (bot.answers = true));
  const call = await placeCall(bot.url, { answer_within: "1s", expect: "unanswered" });
  assert((await call.assertEnd("unanswered")).ok);
});

test("a fault and its end", async (t) => {
  const { placeCall, setFaults } = emulator.forTest(t);
  await setFaults({ graph: "500*1" });
  const failed = await placeCall(bot.url);
  await failed.waitForStep("answer", { status: 500 });
  await failed.forget();
  await failed.assertEnd("unanswered");
  assert.equal((await emulator.faults()).graph, null);
  await setFaults({ graph: 7504 });
  await (await placeCall(bot.url)).waitForStep("answer", { status: 403 });
  await emulator.clearFaults();
  await (await placeCall(bot.url)).waitForState("established");
});

test("calls and faults end with their test", async (t) => {
  await emulator.forgetCalls();
  await emulator.setFaults({ clock: "+1m" });
  await t.test("inner", async (inner) => {
    const { placeCall, setFaults } = emulator.forTest(inner);
    await placeCall(bot.url);
    await setFaults({ clock: null, graph: "7504" });
    await setFaults({ login: "7000215" });
  });
  assert.deepEqual(await emulator.calls(), []);
  const faults = Object.entries(await emulator.faults()).filter(([, value]) => value !== null);
  await emulator.clearFaults();
  assert.deepEqual(faults, [["clock", "+1m"]]);
});

test("a call that the bot places", async () => {
  const created = await bot.createCall(emulator.app, TENANT);
  const call = await emulator.waitForCall({ direction: "outgoing" });
  assert.equal(call.id, created);
  await call.waitForState("established");
  await emulator.forgetCalls();
  assert.deepEqual(await emulator.calls(), []);
  const missing = emulator.waitForCall({ kind: "fax" }, { timeout: 100 });
  await assert.rejects(missing, /no call with \{"kind":"fax"\} within 100 ms; the calls are \[\]/);
});

test("keys and tokens", async () => {
  const kid = await emulator.rotateKeys();
  assert.notEqual(kid, await emulator.rotateKeys("entra", { publish_before: "10m" }));
  const token = await emulator.makeToken("entra-v2", { overrides: { tid: null } });
  assert.equal(token.split(".").length, 3);
});

test("a refused request names its reason", async () => {
  await assert.rejects(emulator.placeCall("http://127.0.0.1:1/", { kind: "fax" }), (error) => {
    assert(error instanceof ControlError);
    assert.match(error.message, /kind: must be one of p2p/);
    assert.deepEqual([error.status, error.code], [400, "badRequest"]);
    return true;
  });
});

test("a connection stops nothing", async () => {
  const connected = await Emulator.connect(emulator.origin);
  assert.deepEqual(connected.addresses, emulator.addresses);
  await connected.stop();
  assert(Array.isArray(await emulator.calls()));
  const closed = Emulator.connect("http://127.0.0.1:1");
  await assert.rejects(closed, /cannot reach the emulator at http:..127.0.0.1:1:/);
  await assert.rejects(Emulator.connect("127.0.0.1:4000"), /not the URL of an emulator: 127.0.0.1:4000/);
});

test("https and a secret", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "switchboard-"));
  t.after(() => rm(folder, { recursive: true }));
  const secured = await Emulator.start({ secret: "not-secret", options: ["--tls", folder] });
  t.after(() => secured.stop());
  assert(secured.origin.startsWith("https://"));
  const connected = await Emulator.connect(secured.origin, { ca: secured.ca });
  assert.deepEqual(await connected.calls(), []);
});

test("an emulator that goes away cuts the timeline off", async (t) => {
  const other = await Emulator.start();
  t.after(() => other.stop());
  const call = await other.placeCall(bot.url);
  await call.waitForStep("incoming");
  await other.stop();
  await assert.rejects(call.waitForEnd(), (error) => {
    assert(error.message.startsWith("the timeline was cut off before end of the call\n\n"), error.message);
    assert.match(error.message, /\ncut off: /);
    return true;
  });
  await assert.rejects(call.press(5), /cannot reach the emulator/);
});

test("an unknown call is refused", async () => {
  const unknown = emulator.followCall("00000000-0000-4000-8000-000000000000");
  await assert.rejects(unknown, /404 noSuchCall: no call has this id/);
});
