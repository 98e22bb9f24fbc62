// The process of the emulator: the place of its program, its start, and its end.

import { spawn } from "node:child_process";
import { accessSync, constants, existsSync, statSync } from "node:fs";
import { delimiter, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const VARIABLE = "SWITCHBOARD_EMULATOR";
const PROGRAM = "switchboard-emulator";
const STOP_TIMEOUT_MS = 5_000;
const COMPLAINT_CHARACTERS_MAX = 4096;

/** The emulator is not installed, or did not start. */
export class EmulatorStartError extends Error {
  constructor(message, options) {
    super(message, options);
    this.name = "EmulatorStartError";
  }
}

/** Returns the path of the emulator's program. */
export const findBinary = (binary) => {
  for (const [source, given] of [["binary", binary], [VARIABLE, process.env[VARIABLE]]]) {
    if (!given) continue;
    const found = isProgram(given) ? resolve(given) : inPath(given);
    if (found === null) throw new EmulatorStartError(`${source} is not a program: ${given}`);
    return found;
  }
  const here = dirname(fileURLToPath(import.meta.url));
  const found = inPath(PROGRAM) ?? debugBuild(here) ?? debugBuild(process.cwd());
  if (found !== null) return found;
  throw new EmulatorStartError(
    `${PROGRAM} is not in PATH; build it (cargo build -p ${PROGRAM}), or name it in the variable ${VARIABLE}`,
  );
};

const isProgram = (path) => {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
};

const withSuffix = (path) => (process.platform === "win32" ? `${path}.exe` : path);

const inPath = (name) => {
  if (name.includes("/")) return null;
  const folders = (process.env.PATH ?? "").split(delimiter).filter((folder) => folder !== "");
  return folders.map((folder) => withSuffix(join(folder, name))).find(isProgram) ?? null;
};

/** Returns the debug build of the clone of Switchboard that has the folder in it, or `null`. */
const debugBuild = (folder) => {
  const program = withSuffix(join(folder, "target", "debug", PROGRAM));
  if (existsSync(join(folder, "crates", "emulator", "Cargo.toml")) && isProgram(program)) return program;
  const parent = dirname(folder);
  return parent === folder ? null : debugBuild(parent);
};

/**
 * The running emulator. It is the child of its own `guard`, which ends it when stdin closes. That happens
 * when this process ends, in whatever way. The process group of its own keeps Ctrl-C from the emulator until
 * the tests have cleaned up.
 */
export class EmulatorProcess {
  #child;
  #complaint = "";
  #closed;

  constructor(binary, options) {
    const stdio = ["pipe", "pipe", "pipe"];
    this.#child = spawn(binary, ["guard", "--", binary, ...options], { stdio, detached: true });
    this.#closed = new Promise((closed) => this.#child.on("close", closed));
    this.#child.stderr.setEncoding("utf8").on("data", (text) => {
      this.#complaint = (this.#complaint + text).slice(0, COMPLAINT_CHARACTERS_MAX);
    });
    // The guard may be gone when stdin is closed.
    this.#child.stdin.on("error", () => {});
  }

  /** Starts the emulator, and waits until it has printed its addresses. */
  static async start(binary, options, timeout) {
    const started = new EmulatorProcess(binary, options);
    try {
      started.document = await started.#readDocument(binary, timeout);
    } catch (error) {
      await started.stop();
      throw error;
    }
    started.#release();
    return started;
  }

  async #readDocument(binary, timeout) {
    let timer;
    const late = new Promise((resolve) => (timer = setTimeout(resolve, timeout, "late")));
    const failed = new Promise((resolve) => this.#child.on("error", resolve));
    let printed = "";
    const line = new Promise((resolve) => {
      this.#child.stdout.setEncoding("utf8").on("data", (text) => {
        printed += text;
        if (printed.includes("\n")) resolve("printed");
      });
    });
    const first = await Promise.race([line, this.#closed, failed, late]);
    clearTimeout(timer);
    if (first instanceof Error) {
      throw new EmulatorStartError(`cannot start ${binary}: ${first.message}`, { cause: first });
    }
    if (first === "late") {
      throw new EmulatorStartError(`the emulator printed no addresses within ${timeout} ms`);
    }
    try {
      return JSON.parse(printed.split("\n")[0]);
    } catch {
      const complaint = this.#complaint.trim() || "no error was printed";
      throw new EmulatorStartError(`the emulator did not start: ${complaint}`);
    }
  }

  /** Lets this process end while the emulator runs, which then ends too. */
  #release() {
    this.#child.unref();
    for (const stream of this.#child.stdio) stream.unref?.();
  }

  /** Ends the process, and waits for its end. Does nothing if it has ended. */
  async stop() {
    this.#child.ref();
    this.#child.stdin.end();
    // A fork of this process may hold the other end of stdin open.
    this.#child.kill("SIGTERM");
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), STOP_TIMEOUT_MS);
    for (const stream of [this.#child.stdout, this.#child.stderr]) stream.ref?.();
    await this.#closed;
    clearTimeout(timer);
  }
}
