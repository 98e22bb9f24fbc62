// The types of the package. Members of events and options are spelled as in the control API of the emulator.

/** The app id that the commands of the emulator have by default. */
export const DEFAULT_APP: string;

/** A running emulator. */
export class Emulator {
  private constructor();

  /**
   * Starts an emulator, on a free port by default, and waits until it listens. It ends with `stop`, and at
   * the latest with this process.
   */
  static start(settings?: StartSettings): Promise<Emulator>;

  /** Connects to a running emulator. With https, `ca` is the file of the certificate authority. */
  static connect(url: string, settings?: { app?: string; ca?: string }): Promise<Emulator>;

  /** Stops the emulator if `start` started it. */
  stop(): Promise<void>;

  /** The id of the app that calls are for. */
  readonly app: string;
  /** The scheme, host and port. */
  readonly origin: string;
  /** The URLs that a bot's settings need, by name, like `graph`, `skype_metadata` and `token_endpoint`. */
  readonly addresses: Record<string, string>;
  /** The environment variables for a bot with a managed identity. */
  readonly identityVariables: Record<string, string>;
  /** The file of the certificate authority to trust, if the emulator was started with `--tls`. */
  readonly ca: string | null;

  /**
   * Returns `placeCall` and `setFaults` for one test of `node:test`. After the test its calls are ended and
   * forgotten, and its faults are as before.
   */
  forTest(test: { after(work: () => unknown): void }): {
    placeCall(to: string, options?: CallOptions): Promise<Call>;
    setFaults(faults: Faults): Promise<void>;
  };

  /**
   * Places a call to the bot at the URL `to`, and returns it at once. By default the call lasts until a side
   * hangs up, at most an hour.
   */
  placeCall(to: string, options?: CallOptions): Promise<Call>;

  /** Returns the summaries of all calls, the newest first. `followCall` takes their `call`. */
  calls(): Promise<CallSummary[]>;

  /** Returns a call by its id, for example one that the bot created. */
  followCall(id: string): Promise<Call>;

  /**
   * Waits for a call whose summary has these members, like `direction: "outgoing"`; returns the newest one.
   */
  waitForCall(members?: Partial<CallSummary>, settings?: WaitSettings): Promise<Call>;

  /** Ends all calls, and removes them from the emulator. */
  forgetCalls(): Promise<void>;

  /** Returns all faults by name; `null` is a fault that is not active. */
  faults(): Promise<Record<string, string | null>>;

  /** Sets faults, like `{ graph: "429:1*2", duplicate: 0.5 }`. `null` ends one. The others stay. */
  setFaults(faults: Faults): Promise<void>;

  /** Ends all faults. */
  clearFaults(): Promise<void>;

  /** Rotates the keys of an issuer, and returns the id of the new key. */
  rotateKeys(
    issuer?: "skype" | "entra",
    options?: { publish_before?: string; overlap?: "true" | "false" },
  ): Promise<string>;

  /** Makes the token of a notification, good or flawed, like `entra-v2` or `expired`. */
  makeToken(
    kind?: string,
    options?: { app?: string; tenant?: string; overrides?: Record<string, unknown> },
  ): Promise<string>;
}

/** One call: its id, its timeline, and the steps that a test plays in it. */
export class Call {
  private constructor();

  /** The call id, as in the paths of Graph. */
  readonly id: string;
  /** The events so far. `String(call.timeline)` is a table. */
  readonly timeline: Timeline;
  /** The requests that have ended, ordered by the time of their start. */
  readonly steps: CallStep[];

  /** Returns the call as the control API shows it. */
  details(): Promise<CallDetails>;

  /** Plays one step of a script, like `playStep("operation", { operation: "playPrompt" })`. */
  playStep(action: string, members?: Record<string, unknown>): Promise<void>;
  /** Presses a key of a telephone: 0 to 9, `*` or `#`. */
  press(tone: number | string): Promise<void>;
  /** Speaks for a while, like `"2s"`, into the recording that goes on, or else into the next one. */
  speak(duration: string): Promise<void>;
  /** Lets people join. */
  join(participants?: number): Promise<void>;
  /** Lets people leave. */
  leave(participants?: number): Promise<void>;
  /** Lets a person mute the own microphone. People are numbered in the order of joining; 0 is the caller. */
  mute(participant?: number): Promise<void>;
  /** Lets a person unmute the own microphone. */
  unmute(participant?: number): Promise<void>;
  /** Puts the call on hold. */
  hold(): Promise<void>;
  /** Ends the hold. */
  resume(): Promise<void>;
  /** Hangs up, with the `resultInfo` that the bot gets. */
  hangUp(result?: { code?: number; subcode?: number; message?: string }): Promise<void>;
  /** Ends the call if it lives, and removes it from the emulator. A call that is not there is no error. */
  forget(): Promise<void>;

  /**
   * Waits for a step, and returns it. `what` is its name in the timeline, like `established`; `status` the
   * status of its response. With `times: 2` it waits for the second one.
   */
  waitForStep(what: string, settings?: WaitSettings & { status?: number; times?: number }): Promise<CallStep>;
  /** Waits until the call is in one of these states, like `established`, and returns the state. */
  waitForState(states: string | string[], settings?: WaitSettings): Promise<string>;
  /** Waits for the end of the call. */
  waitForEnd(settings?: WaitSettings): Promise<CallEnd>;

  /** Checks that these steps happened in this order. Other steps may be between them. */
  assertSteps(...expected: string[]): void;
  /** Checks that no such step has happened so far. */
  assertNoStep(what: string): void;
  /** Waits for the end, checks its outcome, by default `completed`, and returns the event `end`. */
  assertEnd(outcome?: string, settings?: WaitSettings): Promise<CallEnd>;
}

/** The events of one call, in the order in which they came. */
export class Timeline {
  private constructor();

  /** All events so far: `call`, `sent`, `step` and `end`. */
  readonly events: Array<{ event: string } & Record<string, unknown>>;
  /** The requests that have ended, and the remarks of the platform, ordered by the time of their start. */
  readonly steps: CallStep[];
  /** The event `end`; `null` while the call lives. */
  readonly end: CallEnd | null;

  /** Returns the timeline as a table. */
  toString(): string;
}

/** A call is not as the test expects. The message ends with the timeline as a table. */
export class TimelineError extends Error {}

/** The emulator refused a request, or cannot be reached. */
export class ControlError extends Error {
  /** The status of the response; `null` without a response. */
  readonly status: number | null;
  /** The code of the error in the body of the response. */
  readonly code: string | null;
}

/** The emulator is not installed, or did not start. */
export class EmulatorStartError extends Error {}

/**
 * Returns the path of the emulator's program. It is the argument, else the variable `SWITCHBOARD_EMULATOR`,
 * else the program in `PATH`, else the debug build of the clone of Switchboard that has this package or the
 * working folder in it.
 */
export function findBinary(binary?: string): string;

export interface StartSettings {
  /** The app id, by default `DEFAULT_APP`. */
  app?: string;
  /** The secret of the app. With it, Graph requires a token. */
  secret?: string;
  /** By default `127.0.0.1:0`, which is a free port. */
  listen?: string;
  /** Further options of `switchboard-emulator serve`. */
  options?: string[];
  /** The program; see `findBinary`. */
  binary?: string;
  /** The time until it listens, in milliseconds, by default 30 s. */
  timeout?: number;
}

export interface WaitSettings {
  /** In milliseconds; by default 10 s, and 30 s for the end of a call. */
  timeout?: number;
}

/** Faults by name. `GET /emulator` of the emulator lists their values. */
export type Faults = Record<string, string | number | null>;

/** The options of `switchboard-emulator call`. The control API has more. */
export interface CallOptions {
  kind?: "p2p" | "group" | "meeting" | "recording" | "pstn";
  /** Like `"2s"`. */
  duration?: string;
  answer_within?: string;
  participants?: number;
  protocol?: "legacy-first" | "graph";
  region?: string;
  country?: string;
  tenant?: string;
  token?: string;
  expect?: string;
  script?: Array<{ do: string } & Record<string, unknown>>;
  [option: string]: unknown;
}

export interface CallSummary {
  call: string;
  chain: string;
  direction: "incoming" | "outgoing";
  kind: string;
  app: string;
  tenant: string;
  to: string;
  state: string;
  placed_at: string;
  outcome: string | null;
  reason: string | null;
  ok: boolean | null;
}

export interface CallDetails {
  call: CallSummary;
  participants: Array<Record<string, unknown>>;
  operations: Array<{ id: string; name: string; client_context: string; status: string }>;
  recordings: Array<{ id: string; url: string; bytes: number }>;
  events: Array<{ event: string } & Record<string, unknown>>;
}

/** A request that has ended, or a remark of the platform. */
export interface CallStep {
  event: "step";
  at_ms: number;
  what: string;
  /** True for a request of the bot. */
  received: boolean;
  url: string;
  status: number | null;
  took_ms: number;
  attempt: number;
  message_id: string | null;
  note: string | null;
  request?: { method: string; url: string; headers: Record<string, string>; body: string };
  response?: { status: number; headers: Record<string, string>; body: string };
}

export interface CallEnd {
  event: "end";
  outcome: string;
  ok: boolean;
  reason: string;
  status: number | null;
  answered_ms: number | null;
  callback_uri: string | null;
  took_ms: number;
}
