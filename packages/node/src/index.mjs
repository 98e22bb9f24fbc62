// Tests of Microsoft Teams calling bots, against the Switchboard emulator.
//
// `Emulator` starts the emulator or connects to a running one. Its `placeCall` places a call to a bot and
// returns a `Call`, which waits for the steps of the call and checks them.

export { Call } from "./call.mjs";
export { ControlError } from "./control.mjs";
export { DEFAULT_APP, Emulator } from "./emulator.mjs";
export { EmulatorStartError, findBinary } from "./process.mjs";
export { Timeline, TimelineError } from "./timeline.mjs";
