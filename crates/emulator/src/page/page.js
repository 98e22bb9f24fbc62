// The page of the emulator. Everything that it shows comes from the control API, and bots write much of that:
// text enters the document as text only (textContent, text nodes), never as markup.
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

/** Sends a request to the control API. Throws the message of an error response. */
async function send(method, path, body, headers) {
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) })
    .catch(() => { throw new Error("The emulator does not respond."); });
  if (response.ok) return response;
  const message = parsed(await response.text())?.error?.message;
  throw new Error(message ?? `The emulator responded with ${response.status}.`);
}

/** Returns the document of a response of the control API. */
async function ask(method, path, body) {
  const text = await (await send(method, path, body)).text();
  return text ? JSON.parse(text) : null;
}

/** Returns the value of JSON, and undefined for other text. */
function parsed(text) {
  try { return JSON.parse(text); } catch { return undefined; }
}

/** Runs an action. Shows its failure in `place`, and clears an earlier one. */
async function attempt(place, action) {
  const shown = $(place);
  shown.hidden = true;
  try {
    await action();
  } catch (error) {
    shown.textContent = error.message;
    shown.hidden = false;
  }
}

function say(text) {
  $("notice").textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { $("notice").textContent = ""; }, 4000);
}

const remembered = {
  get(name) { try { return localStorage.getItem(name); } catch { return null; } },
  set(name, value) { try { localStorage.setItem(name, value); } catch { /* The browser keeps nothing. */ } },
};

// Copying

async function copy(text, name) {
  try {
    await navigator.clipboard.writeText(text);
    say(`Copied: ${name}`);
  } catch {
    // Over plain http, browsers have a clipboard for addresses of this machine only.
    $("text-value").value = text;
    $("text").showModal();
    $("text-value").select();
  }
}

const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/;

/** Quotes a word for a shell. Control characters become escapes: a terminal would obey them when pasted. */
function quoted(word) {
  if (/^[\w@%+=:,./-]+$/.test(word)) return word;
  if (!HIDDEN.test(word)) return `'${word.replaceAll("'", "'\\''")}'`;
  const escaped = word.replace(/[\\']/g, "\\$&")
    .replace(new RegExp(HIDDEN, "g"), sign => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);
  return `$'${escaped}'`;
}

/** Returns a curl command. */
function curl(method, url, headers, body) {
  const words = ["curl", "-sS"];
  if (location.protocol === "https:") words.push("--cacert", "ca.pem");
  if (method !== (body ? "POST" : "GET")) words.push("-X", method);
  for (const [name, value] of Object.entries(headers)) words.push("-H", quoted(`${name}: ${value}`));
  if (body) words.push("--data-raw", quoted(body));
  return [...words, quoted(url)].join(" ");
}

// Text of times, tokens and bodies

function duration(milliseconds) {
  if (milliseconds < 1000) return `${milliseconds.toFixed(1)} ms`;
  const seconds = milliseconds / 1000;
  return seconds < 60 ? `${seconds.toFixed(2)} s` : `${(seconds / 60).toFixed(1)} min`;
}

function date(seconds) {
  const time = new Date(seconds * 1000);
  if (Number.isNaN(time.getTime())) return "";
  const away = Math.round(seconds - Date.now() / 1000);
  const amount = Math.abs(away) < 120 ? `${Math.abs(away)} s` : duration(Math.abs(away) * 1000);
  const when = away < 0 ? `${amount} ago` : `in ${amount}`;
  return `${time.toISOString().slice(0, 19).replace("T", " ")} UTC, ${when}`;
}

const TIMES = new Set(["exp", "nbf", "iat", "auth_time"]);

function definitions(values, className = "values") {
  const list = element("dl", { className });
  for (const [name, value] of Object.entries(values)) {
    const text = typeof value === "string" ? value : JSON.stringify(value);
    const shown = element("dd", {}, text);
    if (TIMES.has(name) && typeof value === "number") shown.append(element("small", {}, ` ${date(value)}`));
    list.append(element("dt", {}, name), shown);
  }
  return list;
}

/** Returns the header and the claims of a token; nothing if the text is not a token. */
function decoded(token) {
  const parts = token.trim().split(".").slice(0, 2).map(part => {
    try {
      const bytes = atob(part.replaceAll("-", "+").replaceAll("_", "/"));
      return parsed(new TextDecoder().decode(Uint8Array.from(bytes, sign => sign.charCodeAt(0))));
    } catch { return undefined; }
  });
  if (parts.length < 2 || parts.some(part => typeof part !== "object" || part === null)) return [];
  return [
    element("h5", {}, "Token: header"), definitions(parts[0]),
    element("h5", {}, "Token: claims"), definitions(parts[1]),
  ];
}

const BODY_MAX = 16384;

function message(title, { headers = {}, body = "" }) {
  const part = element("section", {}, element("h4", {}, title), definitions(headers));
  const [, token] = /^bearer (.+)$/i.exec(headers.authorization ?? "") ?? [];
  if (token) part.append(...decoded(token));
  const value = parsed(body);
  const text = value === undefined ? body : JSON.stringify(value, null, 2);
  if (body) part.append(element("pre", { tabIndex: 0 }, text));
  if (body.length >= BODY_MAX) part.append(element("p", { className: "hint" }, "The body is cut at 16 KiB."));
  return part;
}

// The list of calls

const calls = new Map();
let selected = null;

function showSummary(summary) {
  let entry = calls.get(summary.call);
  if (!entry) {
    const row = element("li", { role: "option", id: `call-${summary.call}`, ariaSelected: "false" });
    row.onclick = () => select(summary.call);
    entry = { row };
    calls.set(summary.call, entry);
    $("calls").prepend(row);
  }
  entry.summary = summary;
  const name = summary.direction === "outgoing" ? `${summary.kind}, from the bot` : summary.kind;
  entry.row.dataset.state = summary.ok === false ? "failed" : summary.state;
  entry.row.replaceChildren(
    element("span", {}, name),
    element("span", { className: "end" }, summary.outcome ?? summary.state),
    element("span", { className: "host" }, hostOf(summary.to)),
    element("time", { dateTime: summary.placed_at }, new Date(summary.placed_at).toLocaleTimeString()),
  );
  while (calls.size > CALLS_MAX) remove(calls.keys().next().value);
  if (summary.call === selected) { showState(); refreshSoon(); }
  showList();
}

/** As many as the emulator keeps. */
const CALLS_MAX = 200;

function hostOf(url) {
  try { return new URL(url).host; } catch { return url; }
}

function showList() {
  $("no-calls").hidden = calls.size > 0;
  $("forget-all").disabled = calls.size === 0;
  const first = $("calls").firstElementChild;
  for (const { row } of calls.values()) row.tabIndex = -1;
  const entry = calls.get(selected)?.row ?? first;
  if (entry) entry.tabIndex = 0;
}

function remove(id) {
  calls.get(id)?.row.remove();
  calls.delete(id);
  if (id === selected) select(null);
  showList();
}

/** Follows the summaries of all calls. The stream repeats them when it opens, but not the forgotten ones. */
const list = {
  open() {
    this.stream = new EventSource("/emulator/events");
    this.stream.onopen = () => { connection("live"); this.forget().catch(() => connection("lost")); };
    this.stream.onerror = () => {
      connection("lost");
      if (this.stream.readyState === EventSource.CLOSED) this.timer = setTimeout(() => this.open(), 2000);
    };
    this.stream.addEventListener("call", event => showSummary(JSON.parse(event.data)));
    this.stream.addEventListener("forgotten", event => remove(JSON.parse(event.data).call));
  },
  close() {
    clearTimeout(this.timer);
    this.stream?.close();
  },
  async forget() {
    const known = [...calls.keys()];
    const kept = new Set((await ask("GET", "/emulator/calls")).calls.map(summary => summary.call));
    for (const id of known) if (!kept.has(id)) remove(id);
    await showFaults();
  },
};

const CONNECTION = { live: "Live", lost: "The emulator does not respond. Trying again", waiting: "Paused" };

function connection(state) {
  const shown = $("connection");
  if (shown.dataset.state === state) return;
  shown.dataset.state = state;
  shown.textContent = CONNECTION[state];
}

// The selected call

function select(id) {
  if (id === selected) return;
  timeline.close();
  calls.get(selected)?.row.setAttribute("aria-selected", "false");
  selected = id;
  history.replaceState(null, "", id ? `#${id}` : location.pathname);
  const entry = calls.get(id);
  entry?.row.setAttribute("aria-selected", "true");
  timeline.clear();
  for (const name of ["people", "more", "facts"]) $(name).replaceChildren();
  $("call-error").hidden = true;
  $("last-step").textContent = "No step yet";
  $("copy-step").disabled = true;
  showState();
  showList();
  if (!id) return;
  $("download").href = `/emulator/calls/${id}`;
  $("download").download = `call-${id}.json`;
  timeline.open();
  refreshSoon();
}

/** The steps that a call takes before the bot answers. */
const ENDS = new Set(["terminate", "drop"]);

/** Shows the summary of the selected call. */
function showState() {
  const summary = calls.get(selected)?.summary;
  $("chosen").hidden = !summary;
  $("no-call").hidden = Boolean(summary);
  for (const name of ["state", "download", "forget"]) $(name).hidden = !summary;
  if (!summary) { $("call-title").textContent = "No call selected"; return; }
  const { call, chain, tenant, app, to, kind, direction, state, outcome, reason, ok } = summary;
  $("call-title").textContent = direction === "outgoing" ? `${kind} call of the bot` : `${kind} call`;
  $("state").textContent = state;
  $("state").dataset.state = ok === false ? "failed" : state;
  if (!$("facts").firstChild) $("facts").append(...definitions({ call, chain, tenant, app, to }).children);
  $("peer").textContent = hostOf(to);
  $("outcome").textContent = outcome ? `${outcome}: ${reason}` : "";
  $("outcome").dataset.ok = String(ok);
  const ended = state === "terminated" || state === "terminating";
  const answered = !ended && state !== "incoming";
  for (const button of document.querySelectorAll("#keypad button, #actions [data-step], #people button")) {
    button.disabled = ENDS.has(button.dataset.step) ? ended : !answered;
  }
  const hold = document.querySelector("[data-step=hold], [data-step=resume]");
  hold.dataset.step = state === "hold" ? "resume" : "hold";
  hold.textContent = state === "hold" ? "Resume" : "Hold";
}

let refreshTimer = null;

/** Reads the people and the operations of the selected call again, once for many events. */
function refreshSoon() {
  if (refreshTimer) return;
  refreshTimer = setTimeout(async () => {
    const id = selected;
    try {
      const details = id && await ask("GET", `/emulator/calls/${id}`);
      if (id && id === selected) showDetails(details);
    } catch { /* The call is forgotten, or the state of the connection shows the reason. */ }
    refreshTimer = null;
    if (id !== selected) refreshSoon();
  }, timeline.next > 300 ? 1500 : 250);
}

function showDetails({ participants = [], operations = [], recordings = [] }) {
  let number = 0;
  $("people").replaceChildren(...participants.map(person => {
    const marks = ["muted", "on_hold", "in_lobby", "hand_raised"].filter(mark => person[mark]);
    const { app, direction } = calls.get(selected)?.summary ?? {};
    const isBot = person.identity === app;
    const isCaller = !isBot && number === 0 && direction === "incoming";
    const role = isBot ? "The bot" : isCaller ? "The caller" : person.identity ?? person.id;
    const name = String(person.name ?? role);
    const row = element("li", {}, element("span", { className: "name", title: name }, name));
    for (const mark of [person.kind, ...marks]) {
      if (mark) row.append(element("span", { className: "mark" }, String(mark).replaceAll("_", " ")));
    }
    // A step counts the people without the bot.
    if (!isBot) row.append(...personButtons(name, person, number++));
    return row;
  }));
  if (!participants.length) $("people").append(element("li", { className: "hint" }, "None reported"));
  const lists = [
    ["Operations", operations, ({ name, status, client_context }) => [`${name}: ${status}`, client_context]],
    ["Recordings", recordings, recording => [`${recording.bytes} bytes`, recordingButton(recording)]],
  ];
  $("more").replaceChildren(...lists.filter(([, items]) => items.length).flatMap(([title, items, show]) => [
    element("h3", {}, title),
    element("ul", {}, ...items.map(item => {
      return element("li", {}, ...show(item).flatMap(part => [part ?? "", " "]));
    })),
  ]));
  showState();
}

function personButtons(name, person, participant) {
  const actions = [person.muted ? "unmute" : "mute", person.hand_raised ? "lower-hand" : "raise-hand"];
  return actions.map(action => {
    const text = action[0].toUpperCase() + action.slice(1).replace("-", " ");
    const press = () => play({ do: action, participant });
    return element("button", { type: "button", ariaLabel: `${text}: ${name}`, onclick: press }, text);
  });
}

/** Returns the button that saves a recording. A link cannot carry its access token. */
function recordingButton({ id, access_token: token }) {
  const path = `/emulator/calls/${selected}/recordings/${encodeURIComponent(id)}`;
  const save = () => attempt("call-error", async () => {
    const response = await send("GET", path, undefined, { Authorization: `Bearer ${token}` });
    const href = URL.createObjectURL(await response.blob());
    element("a", { href, download: `recording-${id}.wav` }).click();
    setTimeout(() => URL.revokeObjectURL(href), 60000);
  });
  return element("button", { type: "button", onclick: save }, "Download");
}

/** Plays a step in the selected call. */
async function play(step) {
  const path = `/emulator/calls/${selected}/steps`;
  $("copy-step").disabled = false;
  const command = curl("POST", location.origin + path, {}, JSON.stringify(step));
  $("copy-step").onclick = () => copy(command, "the step");
  const name = Object.values(step).join(" ");
  await attempt("call-error", async () => {
    $("last-step").textContent = `${name}: sent`;
    try {
      await ask("POST", path, step);
    } catch (error) {
      $("last-step").textContent = `${name}: refused`;
      throw error;
    }
    $("last-step").textContent = `${name}: accepted`;
  });
}

// The messages of the selected call

const timeline = {
  next: 0,
  queue: [],
  ended: false,
  open() {
    if (this.ended) return;
    const id = selected;
    this.stream = new EventSource(`/emulator/calls/${id}/events`);
    this.stream.onerror = () => {
      if (this.stream.readyState !== EventSource.CLOSED) return;
      // A browser does not open a refused stream again. The call may be forgotten.
      list.forget().catch(() => undefined);
      this.timer = setTimeout(() => { if (selected === id) this.open(); }, 2000);
    };
    this.stream.onmessage = event => {
      const value = JSON.parse(event.data);
      // A browser opens a stream again that is over.
      if (value.event === "end") { this.ended = true; this.stream.close(); }
      // A stream that is opened again repeats the events that are there.
      if (Number(event.lastEventId) < this.next) return;
      this.next = Number(event.lastEventId) + 1;
      if (this.queue.push(value) === 1) requestAnimationFrame(() => this.draw());
    };
  },
  close() {
    clearTimeout(this.timer);
    this.stream?.close();
  },
  clear() {
    this.ended = false;
    this.next = 0;
    this.queue = [];
    this.pending = new Map();
    $("steps").replaceChildren();
    $("count").textContent = "";
  },
  /** Adds the rows of the queued events. */
  draw() {
    const steps = $("steps");
    const room = steps.scrollHeight - steps.clientHeight;
    const follows = steps.scrollTop >= room - 60 && !steps.querySelector(".detail");
    const rows = document.createDocumentFragment();
    for (const event of this.queue.splice(0)) {
      const row = this.row(event);
      if (row) rows.append(row);
    }
    steps.append(rows);
    $("count").textContent = String(steps.getElementsByClassName("step").length);
    if (follows) steps.scrollTop = steps.scrollHeight;
    refreshSoon();
  },
  row(event) {
    if (event.event === "call") return element("li", { className: "edge" }, `${event.kind} call placed`);
    if (event.event === "end") {
      const text = `${event.outcome} after ${duration(event.took_ms)}: ${event.reason}`;
      return element("li", { className: event.ok ? "edge" : "edge bad" }, text);
    }
    const key = `${event.message_id} ${event.attempt} ${event.at_ms}`;
    const waiting = event.received ? null : this.pending.get(key);
    const row = waiting ?? element("li");
    if (event.event === "sent") this.pending.set(key, row);
    else this.pending.delete(key);
    fill(row, event);
    return waiting ? null : row;
  },
};

/** Writes an event into its row. The height of a row never changes, except when it is opened. */
function fill(row, event) {
  const isSent = event.event === "sent";
  const isBad = !isSent && !(event.status >= 200 && event.status < 400);
  row.className = `step ${event.received ? "received" : "sent"}`;
  row.classList.toggle("pending", isSent);
  row.classList.toggle("bad", isBad);
  row.classList.toggle("lost", !isSent && !event.status);
  const status = isSent ? "…" : String(event.status ?? "none");
  const button = row.querySelector("button") ?? element("button", { type: "button", ariaExpanded: "false" });
  button.replaceChildren(
    element("span", { className: "time" }, duration(event.at_ms)),
    element("span", { className: "label" },
      element("span", { className: "what" }, event.what),
      element("span", { className: "note" }, event.note ?? operationOf(event)),
      ...(event.attempt > 1 ? [element("span", { className: "mark" }, `attempt ${event.attempt}`)] : []),
      element("span", { className: "status" }, status),
      element("span", { className: "took" }, isSent || event.received ? "" : duration(event.took_ms))),
  );
  const direction = event.received ? "From the bot" : "To the bot";
  button.ariaLabel = `${direction}: ${event.what} ${status}, ${duration(event.at_ms)}`;
  button.onclick = () => toggle(row, event);
  if (!button.isConnected) row.append(button);
  if (row.querySelector(".detail")) { toggle(row, event); toggle(row, event); }
}

/** Returns the name and the status of the operation that a notification is about. */
function operationOf({ what, request }) {
  const data = what === "operation" ? parsed(request?.body)?.value?.[0]?.resourceData : null;
  const [, name] = /^#microsoft\.graph\.(\w+)Operation$/.exec(data?.["@odata.type"]) ?? [];
  return name ? `${name}: ${data.status}` : "";
}

/** Opens or closes the detail of a row. */
function toggle(row, event) {
  const button = row.querySelector("button");
  const open = row.querySelector(".detail");
  button.ariaExpanded = String(!open);
  if (open) { open.remove(); return; }
  const { url, note, message_id: messageId, attempt, request, response } = event;
  const detail = element("div", { className: "detail" });
  const facts = { url, note, "message id": messageId && `${messageId}, attempt ${attempt}` };
  if (request) {
    const again = () => copy(curlOf(request), "the request");
    detail.append(element("button", { type: "button", onclick: again }, "Copy as curl"));
  }
  for (const name of Object.keys(facts)) if (!facts[name]) delete facts[name];
  detail.append(definitions(facts));
  if (request) detail.append(message(`${request.method} ${request.url}`, request));
  if (response) detail.append(message(`Response ${response.status}`, response));
  row.append(detail);
}

const HOP_HEADERS = new Set(["host", "content-length", "connection", "transfer-encoding"]);

function curlOf({ method, url, headers, body }) {
  const kept = Object.entries(headers).filter(([name]) => !HOP_HEADERS.has(name));
  return curl(method, new URL(url, location).href, Object.fromEntries(kept), body);
}

// Placing a call

const KINDS = {
  p2p: [1, "One person calls the bot."],
  group: [3, "Three people in a group call."],
  meeting: [8, "Eight people in a scheduled meeting."],
  recording: [2, "A recording policy calls its bot for two people. The bot has 5 s to answer instead of 15."],
  pstn: [1, "A telephone calls the bot."],
};

function preset() {
  const [people, about] = KINDS[$("place").elements.kind.value];
  $("place").elements.participants.value = people;
  $("about-kind").textContent = about;
}

function token(fields) {
  const flaw = fields.flaw.value;
  return flaw === "none" ? fields.token_kind.value : `${fields.token_kind.value}+${flaw}`;
}

/** Reads the steps of a script: a list, an object with `step`, or one step a line. */
function script(text) {
  const whole = parsed(text);
  if (Array.isArray(whole)) return whole;
  if (Array.isArray(whole?.step)) return whole.step;
  return text.split("\n").filter(line => line.trim()).map((line, index) => {
    const step = parsed(line);
    if (typeof step !== "object" || step === null) throw new Error(`Script: line ${index + 1} is not JSON.`);
    return step;
  });
}

/** Returns the body of `POST /emulator/calls`. */
function callOfForm() {
  const fields = $("place").elements;
  const steps = script(fields.script.value);
  return {
    to: fields.to.value.trim(),
    kind: fields.kind.value,
    duration: fields.duration.value.trim(),
    participants: Number(fields.participants.value),
    protocol: fields.protocol.value,
    token: token(fields),
    ...(fields.app.value.trim() && { app: fields.app.value.trim() }),
    ...(fields.answer_within.value.trim() && { answer_within: fields.answer_within.value.trim() }),
    ...(fields.operations.value !== "notified" && { operations: fields.operations.value }),
    ...(steps.length && { script: steps }),
  };
}

/** Returns the command line that places the same call. */
function commandOf({ app, script: steps, ...call }) {
  const words = ["switchboard-emulator", "call", "--platform", location.origin];
  if (location.protocol === "https:") words.push("--ca", "ca.pem");
  words.push("--app-id", quoted(app ?? ($("app").placeholder || "APP_ID")));
  for (const [name, value] of Object.entries(call)) {
    words.push(`--${name.replaceAll("_", "-")}`, quoted(`${value}`));
  }
  if (!steps) return words.join(" ");
  return `${words.join(" ")} --script /dev/stdin <<'END'\n${JSON.stringify({ step: steps })}\nEND\n`;
}

async function place() {
  const call = callOfForm();
  remembered.set("to", call.to);
  remembered.set("app", call.app ?? "");
  const response = await send("POST", "/emulator/calls", call);
  // The first line names the call. The page follows it by its stream of events.
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (!text.includes("\n")) {
    const { value, done } = await reader.read();
    if (done) break;
    text += value;
  }
  reader.cancel().catch(() => undefined);
  const id = parsed(text.split("\n")[0])?.call;
  if (!id) throw new Error("The emulator named no call.");
  const { call: summary } = await ask("GET", `/emulator/calls/${id}`);
  // The stream of all calls may have been faster, and then knows more.
  if (!calls.has(id)) showSummary(summary);
  select(id);
  $("call-title").focus({ preventScroll: innerWidth > 900 });
}

// Faults

/** A value to start with, for each fault. */
const FAULT_DEFAULTS = {
  skype: "down", entra: "down", login: "500", graph: "429:2", clock: "+10m", token: "expired", drop: "0.2",
  duplicate: "0.5", reorder: "0.5", delay: "2s", callee: "busy",
};
let faultHints = {};

async function showFaults() {
  const faults = await ask("GET", "/emulator/faults");
  if (!$("fault-list").firstChild) $("fault-list").append(...Object.keys(faults).map(faultRow));
  for (const row of $("fault-list").children) {
    const value = faults[row.dataset.name] ?? null;
    row.querySelector("[type=checkbox]").checked = value !== null;
    const input = row.querySelector("[type=text]");
    if (value !== null && input !== document.activeElement) input.value = value;
  }
  const active = Object.values(faults).filter(value => value !== null).length;
  $("fault-count").hidden = active === 0;
  $("fault-count").textContent = `${active} on`;
}

function faultRow(name) {
  const hint = faultHints[name] ?? "";
  const box = element("input", { type: "checkbox", role: "switch" });
  const value = element("input", { type: "text", value: FAULT_DEFAULTS[name] ?? "", spellcheck: false });
  value.setAttribute("aria-label", `Value of ${name}`);
  value.setAttribute("aria-describedby", `hint-${name}`);
  const apply = () => attempt("fault-error", async () => {
    try {
      await ask("PATCH", "/emulator/faults", { [name]: box.checked ? value.value.trim() : null });
    } finally {
      await showFaults();
    }
  });
  box.onchange = apply;
  value.onchange = () => { if (box.checked) apply(); };
  value.onkeydown = event => { if (event.key === "Enter" && !box.checked) { box.checked = true; apply(); } };
  return element("li", { "data-name": name },
    element("label", { className: "check" }, box, ` ${name}`), value,
    element("details", { className: "hint" }, element("summary", {}, "Values"),
      element("span", { id: `hint-${name}` }, hint)));
}

// Keys and tokens

async function rotate(later) {
  const fields = $("rotation").elements;
  const query = new URLSearchParams({ issuer: fields.issuer.value, overlap: fields.overlap.checked });
  if (later) query.set("publish_before", fields.publish_before.value.trim());
  const { kid, issuer } = await ask("POST", `/emulator/rotate?${query}`);
  const text = later ? `is published and signs in ${fields.publish_before.value}` : "signs";
  const time = new Date().toLocaleTimeString();
  $("rotations").prepend(element("li", {}, `${time}: the key ${kid} of ${issuer} ${text}`));
}

async function mint() {
  const fields = $("mint").elements;
  const [app, tenant] = [fields.app.value.trim(), fields.tenant.value.trim()];
  const body = { kind: token(fields), ...(app && { app }), ...(tenant && { tenant }) };
  $("token").value = (await ask("POST", "/emulator/token", body)).token;
  showToken();
}

function showToken() {
  const parts = decoded($("token").value);
  $("decoded").replaceChildren(...parts);
  $("copy-token").disabled = !$("token").value;
}

// Start

function showTab(tab, focus) {
  for (const other of document.querySelectorAll("[role=tab]")) {
    other.ariaSelected = String(other === tab);
    other.tabIndex = other === tab ? 0 : -1;
    $(other.getAttribute("aria-controls")).hidden = other !== tab;
  }
  if (focus) tab.focus();
  if (tab.id === "tab-faults") attempt("fault-error", showFaults);
}

/** Moves the focus among `items` by the arrow keys, Home and End. Returns the item with the new focus. */
function move(event, items, current) {
  const at = items.indexOf(current);
  const to = {
    ArrowDown: at + 1, ArrowRight: at + 1, ArrowUp: at - 1, ArrowLeft: at - 1, Home: 0, End: items.length - 1,
  }[event.key];
  if (to === undefined || at < 0 || !items[to]) return null;
  event.preventDefault();
  items[to].focus();
  return items[to];
}

const TONES = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "star", "0", "pound"];
const SIGNS = { star: "*", pound: "#" };
const THEMES = ["system", "light", "dark"];

function showTheme(theme) {
  document.documentElement.dataset.theme = theme;
  $("theme").textContent = `Theme: ${theme}`;
}

function prepareKeyboard() {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  for (const tab of tabs) {
    tab.onclick = () => showTab(tab);
    tab.onkeydown = event => { const next = move(event, tabs, tab); if (next) showTab(next, true); };
  }
  $("calls").onkeydown = event => {
    const row = event.target.closest("[role=option]");
    const next = move(event, [...$("calls").children], row);
    if (next) next.click();
    if (event.key === "Enter") { row.click(); $("call-title").focus(); }
    if (event.key === "Delete") forget(row.id.slice("call-".length));
  };
  $("steps").onkeydown = event => {
    const row = event.target.closest(".step");
    const button = row?.querySelector("button");
    if (event.key === "Escape" && row?.querySelector(".detail")) { button.click(); button.focus(); }
    if (event.target === button && !event.key.endsWith("Left") && !event.key.endsWith("Right")) {
      move(event, [...document.querySelectorAll(".step > button")], button);
    }
  };
  $("keypad").onkeydown = event => {
    const tone = Object.keys(SIGNS).find(name => SIGNS[name] === event.key) ?? event.key;
    if (TONES.includes(tone)) $(`tone-${tone}`).click();
  };
}

async function forget(id) {
  if (id === selected) select(null);
  await attempt("call-error", async () => {
    await ask("DELETE", `/emulator/calls/${id}`);
    remove(id);
    $("calls").querySelector("[tabindex='0']")?.focus();
  });
}

async function forgetAll() {
  select(null);
  await ask("DELETE", "/emulator/calls");
  for (const id of [...calls.keys()]) remove(id);
}

function prepareForms() {
  const fields = $("place").elements;
  fields.to.value = remembered.get("to") ?? "http://127.0.0.1:3978/api/calls";
  fields.app.value = remembered.get("app") ?? "";
  $("kinds").onchange = preset;
  preset();
  $("place").onsubmit = event => { event.preventDefault(); attempt("place-error", place); };
  const command = () => copy(commandOf(callOfForm()), "the command");
  const url = `${location.origin}/emulator/calls`;
  const request = () => copy(curl("POST", url, {}, JSON.stringify(callOfForm())), "the curl command");
  $("copy-command").onclick = () => attempt("place-error", command);
  $("copy-curl").onclick = () => attempt("place-error", request);
  $("rotation").onsubmit = event => {
    event.preventDefault();
    attempt("keys-error", () => rotate(event.submitter?.value === "later"));
  };
  $("mint").onsubmit = event => { event.preventDefault(); attempt("keys-error", mint); };
  $("token").oninput = showToken;
  $("copy-token").onclick = () => copy($("token").value, "the token");
  $("end-faults").onclick = () => attempt("fault-error", async () => {
    await ask("DELETE", "/emulator/faults");
    await showFaults();
  });
}

function prepareCall() {
  for (const tone of TONES) {
    const press = () => play({ do: "tone", tone: SIGNS[tone] ? tone : Number(tone) });
    const properties = { type: "button", id: `tone-${tone}`, onclick: press };
    $("keypad").append(element("button", properties, SIGNS[tone] ?? tone));
  }
  $("actions").onclick = event => {
    const step = event.target.closest("[data-step]")?.dataset.step;
    if (step) play(step === "speak" ? { do: step, for: "2s" } : { do: step });
  };
  $("other-step").onsubmit = event => {
    event.preventDefault();
    attempt("call-error", async () => {
      const step = parsed($("other-step").elements.step.value);
      if (typeof step !== "object" || step === null) throw new Error("The step is not a JSON object.");
      await play(step);
    });
  };
  $("forget").onclick = () => forget(selected);
  $("forget-all").onclick = () => attempt("call-error", forgetAll);
}

/** Reads the facts about the platform that the forms show. */
async function readIndex() {
  const index = await ask("GET", "/emulator");
  faultHints = index.fault_values ?? {};
  const flaws = /one of (.+)/.exec(faultHints.token ?? "")?.[1].split(", ") ?? ["none"];
  for (const select of document.querySelectorAll(".flaws")) {
    select.replaceChildren(...flaws.map(flaw => element("option", {}, flaw)));
  }
  for (const input of document.querySelectorAll("[name=app]")) input.placeholder = index.app ?? "";
  $("app").required = !index.app;
  for (const name of ["skype_keys", "entra_keys"]) $(name).href = new URL(index[name]).pathname;
}

async function start() {
  showTheme(remembered.get("theme") ?? "system");
  $("theme").onclick = () => {
    const theme = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
    remembered.set("theme", theme);
    showTheme(theme);
  };
  prepareKeyboard();
  prepareForms();
  prepareCall();
  await attempt("place-error", readIndex);
  const wanted = location.hash.slice(1);
  await attempt("call-error", async () => {
    for (const summary of (await ask("GET", "/emulator/calls")).calls.reverse()) showSummary(summary);
  });
  if (calls.has(wanted)) select(wanted);
  list.open();
  // A browser has six connections to a host: pages that are not seen must leave them to the others.
  document.addEventListener("visibilitychange", () => {
    list.close();
    timeline.close();
    if (document.hidden) return connection("waiting");
    list.open();
    if (selected) timeline.open();
  });
}

start();
