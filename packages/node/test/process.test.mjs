// The process of the emulator: its start, and its end in each case.

import assert from "node:assert";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, cp, mkdir, mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { Emulator, EmulatorStartError, findBinary } from "../src/index.mjs";

const LIMIT_MS = 20_000;
const SOURCE = fileURLToPath(new URL("../src", import.meta.url));
let emulator;
let folder;

before(async () => {
  emulator = await Emulator.start();
  folder = await realpath(await mkdtemp(join(tmpdir(), "switchboard-")));
});

after(async () => {
  await emulator?.stop();
  await rm(folder, { recursive: true });
});

const isUp = async (origin) => {
  try {
    await Emulator.connect(origin);
    return true;
  } catch {
    return false;
  }
};

const assertGoesDown = async (origin) => {
  const deadline = performance.now() + LIMIT_MS;
  while (await isUp(origin)) {
    assert(performance.now() < deadline, `the emulator at ${origin} still runs`);
    await sleep(50);
  }
};

/** Runs a script that starts an emulator, and returns its process and the origin that it prints. */
const runScript = async (then) => {
  const code = `
    import { Emulator } from ${JSON.stringify(join(SOURCE, "index.mjs"))};
    console.log((await Emulator.start()).origin);
    ${then}`;
  const stdio = ["ignore", "pipe", "inherit"];
  const run = spawn(process.execPath, ["--input-type=module", "-e", code], { stdio });
  const [line] = await once(run.stdout.setEncoding("utf8"), "data");
  return { run, origin: line.trim() };
};

const program = async (path, text = "#!/bin/sh\n") => {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text);
  await chmod(path, 0o755);
  return path;
};

/** Sets environment variables until the end of the test. */
const setVariables = (t, variables) => {
  for (const [name, value] of Object.entries(variables)) {
    const former = process.env[name];
    t.after(() => (former === undefined ? delete process.env[name] : (process.env[name] = former)));
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
};

test("stop ends the emulator", async () => {
  const started = await Emulator.start();
  assert(await isUp(started.origin));
  await started.stop();
  assert(!(await isUp(started.origin)));
  await started.stop();
});

for (const signal of ["SIGINT", "SIGTERM", "SIGKILL"]) {
  test(`a run that ends by ${signal} leaves no emulator`, async () => {
    const { run, origin } = await runScript("setInterval(() => {}, 1000);");
    assert(await isUp(origin));
    run.kill(signal);
    await assertGoesDown(origin);
  });
}

test("a run that never stops it ends, and leaves no emulator", async () => {
  const { run, origin } = await runScript("");
  if (run.exitCode === null) await once(run, "exit");
  assert.equal(run.exitCode, 0);
  await assertGoesDown(origin);
});

test("a taken port is named", async () => {
  const { host } = new URL(emulator.origin);
  await assert.rejects(Emulator.start({ listen: host }), (error) => {
    assert(error instanceof EmulatorStartError);
    assert.match(error.message, /choose another address or port with --listen/);
    assert(error.message.includes(host));
    return true;
  });
});

test("an unknown option is named", async () => {
  await assert.rejects(Emulator.start({ options: ["--answer"] }), /unexpected argument '--answer'/);
});

test("a program that prints nothing is given up", async () => {
  const binary = await program(join(folder, "silent"), "#!/bin/sh\nexec sleep 60\n");
  await assert.rejects(Emulator.start({ binary, timeout: 200 }), /printed no addresses within 200 ms/);
});

test("a file that is no program", async () => {
  const binary = await program(join(folder, "broken"), "#!/none\n");
  await assert.rejects(Emulator.start({ binary }), (error) => {
    assert(error instanceof EmulatorStartError, error);
    assert(error.message.startsWith(`cannot start ${binary}`), error.message);
    return true;
  });
});

test("a missing emulator is named", async (t) => {
  await assert.rejects(Emulator.start({ binary: "/none" }), /binary is not a program: \/none/);
  setVariables(t, { SWITCHBOARD_EMULATOR: "/none" });
  assert.throws(() => findBinary(), /SWITCHBOARD_EMULATOR is not a program: \/none/);
});

test("the variable goes before PATH, and PATH before the debug build", async (t) => {
  // A copy of the package that is not inside the clone.
  const clone = join(folder, "clone");
  await cp(SOURCE, join(clone, "packages/node/src"), { recursive: true });
  const copied = await import(join(clone, "packages/node/src/index.mjs"));
  const workingFolder = process.cwd();
  t.after(() => process.chdir(workingFolder));
  process.chdir(folder);

  setVariables(t, { SWITCHBOARD_EMULATOR: undefined, PATH: "/none" });
  assert.throws(() => copied.findBinary(), /switchboard-emulator is not in PATH; build it/);
  await mkdir(join(clone, "crates/emulator"), { recursive: true });
  await writeFile(join(clone, "crates/emulator/Cargo.toml"), "");
  const debug = await program(join(clone, "target/debug/switchboard-emulator"));
  assert.equal(copied.findBinary(), debug);
  const inPath = await program(join(folder, "bin/switchboard-emulator"));
  process.env.PATH = `/none:${dirname(inPath)}`;
  assert.equal(copied.findBinary(), inPath);
  process.env.SWITCHBOARD_EMULATOR = await program(join(folder, "named"));
  assert.equal(copied.findBinary(), process.env.SWITCHBOARD_EMULATOR);
});
