// The example of the README.

import assert from "node:assert";
import { spawnSync } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

test("the example works", async (t) => {
  const readme = await readFile(new URL("../README.md", import.meta.url), "utf8");
  const [[, example], ...more] = readme.matchAll(/^```js\n([^]*?)^```/gm);
  assert.deepEqual(more, []);
  const folder = await mkdtemp(join(tmpdir(), "switchboard-"));
  t.after(() => rm(folder, { recursive: true }));
  await writeFile(join(folder, "bot.test.mjs"), example);
  // As `npm install ./packages/node` links it.
  await mkdir(join(folder, "node_modules"));
  const here = fileURLToPath(new URL("..", import.meta.url));
  await symlink(here, join(folder, "node_modules/switchboard-emulator"));
  const env = { ...process.env };
  // It keeps a test runner from starting another one.
  delete env.NODE_TEST_CONTEXT;
  const run = spawnSync(process.execPath, ["--test", "bot.test.mjs"], { cwd: folder, env, encoding: "utf8" });
  assert.equal(run.status, 0, run.stdout + run.stderr);
  assert.match(run.stdout, /pass 2/);
});
