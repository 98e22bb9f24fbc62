// The page for operators of a gateway. It shows the events of /events?topics=overview and searches in /calls.
// All text enters the document as text (textContent), never as markup. Rows are reused, and every list has a
// bound, so that the page can stay open for weeks.
"use strict";

const $ = id => document.getElementById(id);

/** Creates an element with properties and children. Strings become text nodes. */
function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** Sets the text of an element. An unchanged text stays as it is: a reader may have selected it. */
function put(target, text) {
  const value = text === null || text === undefined ? "" : String(text);
  if (target.textContent !== value) target.textContent = value;
}

/** Sets or removes an attribute, if it changes. */
function mark(target, name, value) {
  if (value === null || value === undefined || value === false) target.removeAttribute(name);
  else if (target.getAttribute(name) !== String(value)) target.setAttribute(name, value);
}

// Times and numbers

const numbers = new Intl.NumberFormat("en");
const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });
const byName = new Intl.Collator("en", { numeric: true });

/** The offset of the gateway's clock, and the time at which the page ends to be current. */
const clock = { offset: 0, stopped: null };

/** The time of the gateway. It stands still while no data arrives, as everything else in the page does. */
function now() { return clock.stopped ?? Date.now() + clock.offset; }

function span(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 48 * 60) return `${(Math.floor(minutes / 6) / 10).toFixed(1)} h`;
  return `${Math.floor(minutes / 1440)} d`;
}

const age = time => (time === null || time === undefined ? "" : span(now() - time));
const ago = time => (time === null || time === undefined ? "never" : `${age(time)} ago`);
const until = time => (time >= now() ? `in ${span(time - now())}` : `${span(now() - time)} ago`);
const two = number => String(number).padStart(2, "0");

/** The time of day, in the time zone of the reader. */
function timeOfDay(time) {
  const date = new Date(time);
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** Date and time, if the time is not of today. */
function moment(time) {
  const date = new Date(time);
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const isToday = date.toDateString() === new Date(now()).toDateString();
  return isToday ? timeOfDay(time) : `${day} ${timeOfDay(time)}`;
}

const count = (number, one) => `${numbers.format(number)} ${one}${number === 1 ? "" : "s"}`;

// Tables

/**
 * Fills a table with one row for each item. Rows keep their identity by key: an update writes only what
 * changed, a row that moves keeps the focus, and the rows of items that left are used for new ones.
 */
class Table {
  constructor(id, rows, columns, update) {
    Object.assign(this, { element: $(id), body: $(rows), columns, update, shown: new Map() });
    const head = this.element.querySelector(".head");
    head.append(...columns.map(([name, title, kind = ""]) =>
      element("span", { role: "columnheader", className: `${name} ${kind}` }, title)));
    this.empty = $(`no-${id}`);
  }

  show(items, keyOf, first = 0) {
    const held = document.activeElement;
    const heldKey = [...this.shown].find(([, row]) => row.element.contains(held))?.[0];
    const keys = new Set();
    const keyed = items.map(item => {
      let key = keyOf(item);
      while (keys.has(key)) key += "'";
      keys.add(key);
      return key;
    });
    const free = [];
    for (const [key, row] of this.shown) {
      if (keys.has(key)) continue;
      this.shown.delete(key);
      free.push(row);
    }
    // The button of a row that will be another's must not stay under the reader's finger.
    if (free.some(row => row.element.contains(held))) held.blur();
    let place = this.before?.nextSibling ?? this.body.firstChild;
    items.forEach((item, index) => {
      const key = keyed[index];
      const row = this.shown.get(key) ?? free.shift() ?? this.make();
      this.shown.set(key, row);
      row.item = item;
      this.update(row.cells, item, row);
      mark(row.element, "aria-rowindex", first + index + 2);
      if (row.element === place) place = place.nextSibling;
      else this.body.insertBefore(row.element, place);
    });
    for (const row of free) row.element.remove();
    if (keys.has(heldKey) && held !== document.activeElement) held.focus({ preventScroll: true });
  }

  /** Shows all items, or the sentence for none. */
  list(items, keyOf) {
    this.show(items, keyOf);
    this.element.hidden = items.length === 0;
    if (this.empty) this.empty.hidden = items.length > 0;
  }

  make() {
    const cells = {};
    const row = { cells, element: element("div", { role: "row", className: "row" }) };
    for (const [name, title, kind = ""] of this.columns) {
      cells[name] = element("span", { role: "cell", className: `${name} ${kind}`, "data-label": title });
      row.element.append(cells[name]);
    }
    this.prepare?.(row);
    return row;
  }
}

/** Writes text that the width may cut. The whole text is in its title. */
function cut(cell, text) {
  put(cell, text);
  mark(cell, "title", text || null);
}

// The state of the gateway

let hello = { region: "", version: "", started: null };
let overview = null;

function showHeadline() {
  const lost = feed.state !== "live" && feed.state !== "waiting";
  const { level, text, since } = lost
    ? { level: "bad", text: clock.stopped ? `No data since ${moment(clock.stopped)}` : "No data" }
    : overview?.headline ?? { level: "", text: "Connecting to the gateway" };
  mark($("state"), "data-level", level);
  put($("headline"), text);
  put($("since"), since ? `since ${moment(since)}, ${age(since)}` : "");
  const title = `${text} · Switchboard`;
  if (document.title !== title) document.title = title;
  const last = overview?.last_notification;
  const notified = last ? `${ago(last)}` : "never: is the webhook registered?";
  put($("notification"), overview ? `last authenticated notification: ${notified}` : "");
  // Numbers change each second. A screen reader hears a change of the state only.
  const state = `${level} ${text.replace(/\d+/g, "")}`;
  if (state !== showHeadline.announced) put($("announced"), text);
  showHeadline.announced = state;
}

// The fleet

const instances = new Map();
/** The instances in the order of their names. */
let named = [];

/** The states, worst first. */
const STATES = ["unreachable", "ejected", "full", "starting", "draining", "ready", "gone"];

const fleet = new Table("instances", "instance-rows", [
  ["name", "Instance"], ["state", "State"], ["reason", "Reason"], ["since", "Since", "number"],
  ["load", "Calls / capacity"],
  ["flight", "In flight", "number"], ["placed", "Placed", "number"], ["callbacks", "Callbacks", "number"],
  ["attempts", "Attempts", "number"], ["failures", "Failures"], ["action", ""],
], (cells, instance, row) => {
  const { name, incarnation, state, reason, since, failures } = instance;
  put(cells.name, name);
  mark(cells.name, "title", `${name}, incarnation ${incarnation}`);
  put(cells.state, state);
  mark(cells.state, "data-state", state);
  cut(cells.reason, reasonOf(instance));
  put(cells.since, age(since));
  const [calls, capacity] = [callsOf(instance), instance.capacity];
  const of = capacity === null ? "" : ` / ${numbers.format(capacity)}`;
  put(row.load, `${numbers.format(calls)}${of}`);
  const share = capacity > 0 ? Math.min(1, calls / capacity) : 0;
  const width = `${(100 * share).toFixed(1)}%`;
  if (row.bar.style.width !== width) row.bar.style.width = width;
  mark(row.bar.parentNode, "data-full", share >= 0.9 ? "" : null);
  put(cells.flight, instance.in_flight);
  put(cells.placed, numbers.format(instance.placed));
  put(cells.callbacks, numbers.format(instance.callbacks));
  put(cells.attempts, numbers.format(instance.attempts));
  cut(cells.failures, failuresOf(failures, instance));
  row.button.hidden = state === "gone";
  put(row.button, instance.drained ? "Resume" : "Drain");
  mark(row.button, "aria-label", `${instance.drained ? "Resume" : "Drain"} ${name}`);
});

fleet.prepare = row => {
  row.bar = element("span");
  row.load = element("span");
  row.cells.load.append(element("span", { className: "bar", ariaHidden: "true" }, row.bar), row.load);
  row.button = element("button", { type: "button" });
  row.button.onclick = () => askForChange(row.item);
  row.cells.action.append(row.button);
};

/** The calls of an instance as placement expects them, else the counted ones of this gateway. */
const callsOf = instance => instance.calls_expected ?? instance.calls ?? instance.calls_counted;

function reasonOf(instance) {
  if (instance.state !== "draining") return instance.reason;
  const calls = Math.max(callsOf(instance), instance.in_flight);
  return `${calls === 0 ? "no call left" : `${count(calls, "call")} left`}: ${instance.reason}`;
}

function failuresOf(failures, { missed_probes: missed, last_miss: miss }) {
  const parts = Object.entries(failures).sort(([, one], [, other]) => other - one)
    .map(([reason, times]) => `${reason} ${numbers.format(times)}`);
  if (missed > 0) parts.push(`probes missed ${numbers.format(missed)}${miss ? ` (${miss})` : ""}`);
  return parts.join(", ");
}

function takeFleet({ full, instances: changed, removed = [] }) {
  if (full) instances.clear();
  const before = full ? -1 : instances.size;
  for (const name of removed) instances.delete(name);
  for (const instance of changed) instances.set(instance.name, instance);
  if (before !== instances.size || removed.length > 0) {
    named = [...instances.keys()].sort(byName.compare);
  }
  chooseInstances();
}

/** The instances that the filter leaves, worst first. */
let chosen = [];

function chooseInstances() {
  const text = $("filter").value.trim().toLowerCase();
  const of = new Map(STATES.map(state => [state, []]));
  for (const name of named) {
    const instance = instances.get(name);
    const { state, reason } = instance;
    if (text && !`${name} ${state} ${reason}`.toLowerCase().includes(text)) continue;
    if (!of.has(state)) of.set(state, []);
    of.get(state).push(instance);
  }
  chosen = [...of.values()].flat();
  const counts = [...of].filter(([, list]) => list.length > 0)
    .map(([state, list]) => `${numbers.format(list.length)} ${state}`);
  const all = count(named.length, "instance");
  put($("fleet-count"), text ? `${numbers.format(chosen.length)} of ${all}` : counts.join(" · "));
  showFleet();
}

/** Rows above and below the visible ones, so that scrolling does not show gaps. */
const SPARE = 8;
/** As many rows as the tallest window shows, before the height of one is known. */
const ROWS_MIN = 40;

/** Makes rows for the visible instances only; two spacers stand for the others. */
function showFleet() {
  const { body, before, after } = fleet;
  const height = fleet.shown.values().next().value?.element.offsetHeight || 26;
  const length = Math.max(ROWS_MIN, Math.ceil(body.clientHeight / height) + 2 * SPARE);
  const first = Math.max(0, Math.min(Math.floor(body.scrollTop / height) - SPARE, chosen.length - length));
  const shown = chosen.slice(first, first + length);
  before.style.height = `${first * height}px`;
  after.style.height = `${(chosen.length - first - shown.length) * height}px`;
  mark(fleet.element, "aria-rowcount", chosen.length + 1);
  fleet.show(shown, instance => instance.name, first);
  const none = $("no-instances");
  none.hidden = chosen.length > 0 || (named.length === 0 && feed.state !== "live");
  put(none, named.length > 0 ? "No instance matches the filter." : "The fleet has no instance.");
}

// Draining and resuming

let change = null;

function askForChange({ name, drained, state, ...instance }) {
  const calls = callsOf(instance);
  change = { name, action: drained ? "resume" : "drain" };
  put($("confirm-title"), drained ? `Resume ${name}?` : `Drain ${name}?`);
  put($("confirm-text"), drained
    ? "It takes new calls again as soon as its probe and its source say that it is ready."
    : "It takes no new calls from this gateway until you resume it. "
      + (calls === 1 ? "Its call goes on. " : `Its ${numbers.format(calls)} calls go on. `)
      + "Other gateways of the region still give it calls: drain it there too.");
  put($("confirm-do"), drained ? "Resume" : "Drain");
  put($("confirm-error"), "");
  $("confirm-do").disabled = false;
  $("confirm").showModal();
}

async function makeChange() {
  const { name, action } = change;
  $("confirm-do").disabled = true;
  put($("confirm-error"), "");
  try {
    await request("POST", `/fleet/${encodeURIComponent(name)}/${action}`);
    $("confirm").close();
  } catch (error) {
    put($("confirm-error"), error.message);
    $("confirm-do").disabled = false;
  }
}

// Calls

const calls = new Map();
let remembered = 0;
/** The result of a search; null while the latest calls are shown. */
let found = null;

const callTable = new Table("calls", "call-rows", [
  ["call", "Call", "id"], ["chain", "Chain", "id"], ["kind", "Kind"], ["where", "Instance"],
  ["progress", "State"], ["age", "Age", "number"],
], (cells, call, row) => {
  cut(cells.call, call.id);
  cut(cells.chain, call.chain);
  put(cells.kind, call.kind?.replaceAll("_", " "));
  put(row.instance, call.instance);
  put(row.mark, call.placed_here ? "" : "placed elsewhere");
  mark(cells.where, "title", call.placed_here ? null : "This gateway first saw the call in a callback.");
  put(cells.progress, call.state);
  put(cells.age, age(call.first_seen));
});

callTable.prepare = row => {
  row.instance = element("span");
  row.mark = element("span", { className: "mark" });
  row.cells.where.append(row.instance, " ", row.mark);
};

/** As many as the gateway sends at once. */
const CALLS_MAX = 200;

const newestFirst = (one, other) => other.last_seen - one.last_seen || (one.id < other.id ? -1 : 1);

function takeCalls(event) {
  for (const call of event.calls) calls.set(call.id, call);
  remembered = event.remembered;
  forgetEnded();
  if (calls.size > CALLS_MAX) {
    const oldest = [...calls.values()].sort(newestFirst).slice(CALLS_MAX);
    for (const { id } of oldest) calls.delete(id);
  }
  if (search.text) search.again();
  showCalls();
}

/** The gateway forgets a call so long after its end. */
const ENDED_KEPT = 600_000;

function forgetEnded() {
  for (const { id, state, last_seen: seen } of calls.values()) {
    if (state === "terminated" && now() - seen > ENDED_KEPT) {
      calls.delete(id);
      remembered = Math.max(remembered - 1, calls.size);
    }
  }
  remembered = Math.max(remembered, calls.size);
}

function showCalls() {
  const list = found?.calls ?? [...calls.values()].sort(newestFirst);
  callTable.list(list, call => call.id);
  const shown = list.length;
  put($("calls-count"), found
    ? `${count(found.matched, "call")} of ${numbers.format(found.remembered)} remembered`
      + (found.matched > shown ? `, the newest ${shown}` : "")
    : `the latest ${numbers.format(shown)} of ${numbers.format(remembered)} remembered`);
  put($("no-calls"), found?.note ?? "This gateway remembers no call.");
}

const search = {
  text: "", timer: null, number: 0,

  /** Searches for the text of the field, once the reader has stopped typing. */
  soon() {
    const text = $("search").value.trim();
    if (text === this.text) return;
    this.text = text;
    clearTimeout(this.timer);
    this.timer = null;
    this.number += 1;
    if (text) this.again(200);
    else { found = null; showCalls(); }
  },

  /** Repeats the search after a change of the calls, at most once a second. */
  again(pause = 1000) { this.timer ??= setTimeout(() => { this.timer = null; this.run(); }, pause); },

  async run() {
    const { text } = this;
    if (!text || feed.state !== "live") return;
    const number = this.number += 1;
    let result;
    try {
      result = await request("GET", `/calls?search=${encodeURIComponent(text)}&limit=100`);
      result.note = result.matched > 0 ? "" : await this.guess(text);
    } catch (error) {
      result = { calls: [], matched: 0, remembered, note: error.message };
    }
    if (number !== this.number) return;
    found = result;
    showCalls();
  },

  /** Says which instance most likely has a call that the gateway does not remember. */
  async guess(text) {
    const none = "No call that this gateway remembers has such an id.";
    if (!/^[\w.-]{20,}$/.test(text)) return none;
    const { guess } = await request("GET", `/calls/${encodeURIComponent(text)}`);
    return guess ? `${none} If this region placed the call, most likely ${guess} has it.` : none;
  },
};

// Decisions, refusals, regions, keys, requests, and the process

const DECISIONS = {
  here: (_, instance) => (instance ? `here: ${instance}` : "here"),
  redirect: region => `redirect to ${region}`,
  overflow: region => `overflow to ${region}`,
  reject: () => "rejected as busy",
  refuse: () => "refused",
};

const decisionTable = new Table("decisions", "decision-rows", [
  ["time", "Time"], ["call", "Call", "id"], ["decision", "Decision"], ["rule", "Rule"],
  ["outcome", "Outcome"],
], (cells, { time, call, decision, region, instance, rule, outcome }) => {
  put(cells.time, timeOfDay(time));
  cut(cells.call, call);
  cut(cells.decision, DECISIONS[decision]?.(region, instance) ?? decision);
  cut(cells.rule, rule ?? "no rule");
  cells.rule.classList.toggle("faint", !rule);
  cut(cells.outcome, outcome);
});

const refusalTable = new Table("refusals", "refusal-rows", [
  ["time", "Time"], ["reason", "Reason"], ["trust", "Trust"], ["client", "Client"], ["problem", "Problem"],
], (cells, { time, outcome, reason, trust, client, problem }) => {
  put(cells.time, timeOfDay(time));
  cut(cells.reason, reason ?? outcome);
  cut(cells.trust, trust);
  cut(cells.client, client);
  cut(cells.problem, problem);
});

const reasonTable = new Table("reasons", "reason-rows", [
  ["trust", "Trust"], ["reason", "Reason"], ["count", "Count", "number"],
], (cells, { trust, reason, count: times }) => {
  cut(cells.trust, trust || "none");
  cut(cells.reason, reason);
  put(cells.count, numbers.format(times));
});

const trustTable = new Table("trusts", "trust-rows", [
  ["name", "Trust"], ["keys", "Keys", "number"], ["generation", "Generation", "number"],
  ["fetched", "Fetched", "number"], ["next", "Next refresh", "number"], ["problem", "Last error"],
], (cells, { name, keys, generation, fetched, next_refresh: next, last_error: error }) => {
  cut(cells.name, name);
  put(cells.keys, keys);
  mark(cells.keys, "data-unit", keys === 1 ? " key" : " keys");
  cells.keys.classList.toggle("bad", keys === 0);
  put(cells.generation, generation);
  put(cells.fetched, ago(fetched));
  put(cells.next, next === null ? "" : next > now() ? until(next) : "now");
  cut(cells.problem, error ? `${error.text}, ${ago(error.time)}` : "");
});

const ruleTable = new Table("rules", "rule-rows", [
  ["rule", "Rule"], ["region", "Region"], ["share", "Share", "number"], ["mode", "Mode"],
  ["calls", "Calls", "number"],
], (cells, { rule, region, share, dry_run: isDry, calls: times }) => {
  cut(cells.rule, rule ?? "no rule matched");
  cut(cells.region, region);
  put(cells.share, share === null ? "" : percent.format(share));
  put(cells.mode, rule === null ? "" : isDry ? "dry run" : "followed");
  put(cells.calls, numbers.format(times));
});

const regionTable = new Table("regions", "region-rows", [
  ["name", "Region"], ["health", "Health"], ["redirects", "Redirects", "number"],
], (cells, { name, healthy, redirects }) => {
  cut(cells.name, name);
  put(cells.health, healthy === undefined ? "" : healthy ? "healthy" : "unhealthy");
  cells.health.classList.toggle("bad", healthy === false);
  put(cells.redirects, numbers.format(redirects));
});

const outcomeTable = new Table("outcomes", "outcome-rows", [
  ["name", "Outcome"], ["count", "Since the start", "number"],
], (cells, [name, times]) => {
  cut(cells.name, name);
  put(cells.count, numbers.format(times));
});

function showOverview() {
  showHeadline();
  if (!overview) return;
  const { decisions, refusals, rules, redirects, peers, trusts, requests } = overview;
  decisionTable.list(decisions, ({ time, call }) => `${time} ${call}`);
  refusalTable.list(refusals.latest, ({ time, reason, client }) => `${time} ${reason} ${client}`);
  const counts = [...refusals.counts].sort((one, other) => other.count - one.count);
  reasonTable.list(counts, ({ trust, reason }) => `${trust} ${reason}`);
  const refused = counts.reduce((sum, { count: times }) => sum + times, 0);
  put($("refusal-count"), refused ? `the latest of ${numbers.format(refused)}` : "");
  trustTable.list(trusts, ({ name }) => name);
  ruleTable.list(rules, ({ rule }) => String(rule));
  const names = new Set([...peers.map(({ name }) => name), ...Object.keys(redirects)]);
  regionTable.list([...names].sort(byName.compare).map(name => ({
    name, healthy: peers.find(peer => peer.name === name)?.healthy, redirects: redirects[name] ?? 0,
  })), ({ name }) => name);
  const outcomes = Object.entries(requests.outcomes).filter(([, times]) => times > 0)
    .sort(([, one], [, other]) => other - one);
  outcomeTable.list(outcomes, ([name]) => name);
  put($("request-count"), `${numbers.format(requests.in_flight)} in flight`);
  showFacts();
}

/** The lines of the process, by name, with the element of each value. */
const facts = new Map();

function fact(name, text, level = "") {
  if (!facts.has(name)) {
    const value = element("dd");
    facts.set(name, value);
    $("facts").append(element("dt", {}, name), value);
  }
  put(facts.get(name), text);
  facts.get(name).className = level;
}

/** A certificate is replaced weeks before its end. */
const CERTIFICATE_WARNING = 14 * 86_400_000;

function showFacts() {
  const { certificate, configuration, log } = overview;
  fact("Version", hello.version);
  fact("Started", hello.started ? `${moment(hello.started)}, ${ago(hello.started)}` : "");
  const end = certificate?.not_after;
  const left = end ? end - now() : Infinity;
  const expires = `${left < 0 ? "expired" : "expires"} ${until(end)}, ${moment(end)}`;
  fact("Certificate", end ? expires : "none: the gateway does not terminate TLS",
    left < 0 ? "bad" : left < CERTIFICATE_WARNING ? "warn" : "");
  const { hash, loaded, last_reload: reload } = configuration;
  fact("Configuration", `${hash}, applies since ${moment(loaded)}`);
  const result = reload && (reload.ok ? "applied" : `refused: ${reload.problem ?? "see the log"}`);
  fact("Last reload", reload ? `${result}, ${moment(reload.time)}` : "none since the start",
    reload?.ok === false ? "bad" : "");
  const { reloads_ok: applied, reloads_failed: refused } = configuration;
  fact("Reloads", `${numbers.format(applied)} applied, ${numbers.format(refused)} refused`);
  fact("Log lines dropped", numbers.format(log.dropped), log.dropped > 0 ? "warn" : "");
  fact("Panics", numbers.format(log.panics), log.panics > 0 ? "bad" : "");
}

// Requests to the gateway, and the token

const token = {
  KEY: "switchboard-admin-token",
  /** For browsers that keep nothing. */
  value: null,
  get() { try { return sessionStorage.getItem(this.KEY) ?? this.value; } catch { return this.value; } },
  set(value) {
    this.value = value;
    try {
      if (value === null) sessionStorage.removeItem(this.KEY);
      else sessionStorage.setItem(this.KEY, value);
    } catch { /* The token lives as long as the page. */ }
    $("forget-token").hidden = value === null;
  },
};

function authorization() {
  const value = token.get();
  return value === null ? {} : { Authorization: `Bearer ${value}` };
}

/** Sends a request and returns the document of the response. Throws the message of a refusal. */
async function request(method, path) {
  const response = await fetch(path, { method, headers: authorization(), cache: "no-store" })
    .catch(() => { throw new Error("The gateway does not respond."); });
  if (response.ok) return response.json();
  if (response.status === 401) throw new Error("The gateway refuses the admin token.");
  throw new Error(await refusal(response));
}

async function refusal(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `The gateway responded with ${response.status}.`;
  }
}

function askForToken() {
  const refused = token.get() !== null;
  token.set(null);
  feed.close("closed", "The gateway requires its admin token.");
  forgetData();
  $("enter-token").hidden = false;
  put($("token-error"), refused ? "The gateway refuses this token. Enter the value of admin.token." : "");
  $("token-value").value = "";
  if ($("confirm").open) $("confirm").close();
  if (!$("token").open) $("token").showModal();
}

/** Removes all data from the page. Without a token, it must not show any. */
function forgetData() {
  overview = null;
  found = null;
  clock.stopped = null;
  search.text = $("search").value = $("filter").value = "";
  instances.clear();
  calls.clear();
  remembered = 0;
  named = [];
  for (const table of [
    decisionTable, refusalTable, reasonTable, trustTable, ruleTable, regionTable, outcomeTable,
  ]) {
    table.list([], () => "");
  }
  $("facts").replaceChildren();
  facts.clear();
  for (const id of ["refusal-count", "request-count"]) put($(id), "");
  chooseInstances();
  showCalls();
  showHeadline();
}

// The stream of events

/** The gateway sends a comment every 15 s. Two missing ones mean that the connection is dead. */
const SILENCE_MAX = 35_000;
const PAUSE_MIN = 500;
const PAUSE_MAX = 15_000;
/** The longest event is the list of a fleet of thousands. */
const EVENT_CHARS_MAX = 32 << 20;

const feed = {
  state: "waiting", pause: PAUSE_MIN, timer: null, heard: 0, abort: null,

  /** Reads events until the stream ends, and tries again later. */
  async open() {
    clearTimeout(this.timer);
    const abort = this.abort = new AbortController();
    this.heard = Date.now();
    let reason;
    try {
      const response = await fetch("/events?topics=overview", {
        headers: { Accept: "text/event-stream", ...authorization() }, cache: "no-store", signal: abort.signal,
      });
      if (abort !== this.abort) return;
      if (response.status === 401) { askForToken(); return; }
      if (response.ok) {
        await this.read(response.body.getReader(), abort);
        reason = "The gateway ended the stream.";
      } else {
        reason = await refusal(response);
        this.pause = Math.max(this.pause, 1000 * Number(response.headers.get("Retry-After") ?? 0) || 0);
      }
    } catch (error) {
      // The browser's own words for a lost connection differ, and say less.
      const isLost = error instanceof TypeError || error.name === "AbortError";
      reason = isLost ? "The gateway does not respond." : error.message;
    }
    if (abort === this.abort) this.lose(reason);
  },

  async read(reader, abort) {
    const decoder = new TextDecoder();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (abort !== this.abort || done) return;
      this.heard = Date.now();
      rest += decoder.decode(value, { stream: true });
      const end = rest.lastIndexOf("\n\n");
      if (end >= 0) {
        const whole = rest.slice(0, end);
        rest = rest.slice(end + 2);
        for (const block of whole.split("\n\n")) take(block);
      }
      if (rest.length > EVENT_CHARS_MAX) throw new Error("An event of the gateway is too long.");
    }
  },

  /** Notes that the data is no longer current, and opens the stream again after a pause. */
  lose(reason) {
    const pause = this.pause * (0.75 + Math.random() / 2);
    this.close("lost", `${reason.replace(/\.$/, "")}. Trying again in ${span(pause + 999)}.`);
    this.pause = Math.min(2 * this.pause, PAUSE_MAX);
    this.timer = setTimeout(() => this.open(), pause);
  },

  close(state, text) {
    clearTimeout(this.timer);
    if (this.state === "live") clock.stopped = this.heard + clock.offset;
    this.abort?.abort();
    this.abort = null;
    this.say(state, text);
  },

  say(state, text) {
    this.state = state;
    document.body.dataset.feed = state;
    put($("feed"), text);
    showHeadline();
  },
};

/** Takes one event. */
function take(block) {
  let name = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5));
  }
  if (data.length > 0) receive(name, JSON.parse(data.join("\n")));
}

function receive(name, data) {
  if (name === "hello") greet(data);
  else if (name === "overview") { overview = data; showOverview(); }
  else if (name === "fleet") takeFleet(data);
  else if (name === "calls") takeCalls(data);
  // Something is missing in what the page shows. A new stream begins with everything.
  else if (name === "dropped") feed.lose("The page was too slow for the gateway.");
}

/** A stream begins. All that is known comes again. */
function greet(data) {
  hello = data;
  clock.offset = data.now - Date.now();
  clock.stopped = null;
  feed.pause = PAUSE_MIN;
  calls.clear();
  put($("region"), data.region);
  $("enter-token").hidden = true;
  $("forget-token").hidden = token.get() === null;
  overview = null;
  feed.say("live", "Live");
}

/** Lets the ages grow, and finds a stream that is silent. */
function tick() {
  if (feed.abort && Date.now() - feed.heard > SILENCE_MAX) feed.lose("The gateway is silent.");
  if (feed.state !== "live" || document.hidden) return;
  showOverview();
  showFleet();
  forgetEnded();
  showCalls();
}

// Start

fleet.before = element("div", { ariaHidden: "true" });
fleet.after = element("div", { ariaHidden: "true" });
fleet.body.append(fleet.before, fleet.after);
fleet.body.addEventListener("scroll", showFleet, { passive: true });
addEventListener("resize", showFleet);
$("filter").addEventListener("input", () => { fleet.body.scrollTop = 0; chooseInstances(); });
$("search").addEventListener("input", () => search.soon());
document.addEventListener("visibilitychange", () => tick());
// Another use of the key stays as it is: typing, and commands of the browser.
document.addEventListener("keydown", event => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, dialog")) return;
  event.preventDefault();
  $("filter").focus();
});
$("forget-token").onclick = () => { token.set(null); askForToken(); };
$("enter-token").onclick = () => $("token").showModal();
$("token-cancel").onclick = () => $("token").close();
$("token-form").onsubmit = event => {
  event.preventDefault();
  token.set($("token-value").value);
  $("token-value").value = "";
  $("token").close();
  feed.close("waiting", "Connecting");
  feed.open();
};
$("confirm-cancel").onclick = () => $("confirm").close();
$("confirm-form").onsubmit = event => { event.preventDefault(); makeChange(); };
setInterval(tick, 1000);
showCalls();
feed.open();
