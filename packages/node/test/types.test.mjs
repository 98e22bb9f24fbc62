// The types of the package name everything that it exports.

import assert from "node:assert";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import * as exported from "../src/index.mjs";

// Members that only the package itself uses.
const INTERNAL = ["Call.open", "Timeline.add", "Timeline.close", "Timeline.wait", "Timeline.error"];

test("every export and every member of the classes has a type", async () => {
  const types = await readFile(new URL("../index.d.ts", import.meta.url), "utf8");
  for (const [name, value] of Object.entries(exported)) {
    assert.match(types, new RegExp(`^export (class|function|const) ${name}\\b`, "m"));
    if (value.prototype === undefined || value.prototype instanceof Error) continue;
    const [, body] = types.split(`export class ${name} {`);
    const [members] = body.split("\n}");
    const statics = Object.getOwnPropertyNames(value).filter((member) => typeof value[member] === "function");
    const own = Object.getOwnPropertyNames(value.prototype).filter((member) => member !== "constructor");
    for (const member of [...statics, ...own]) {
      if (INTERNAL.includes(`${name}.${member}`)) continue;
      assert.match(members, new RegExp(`^  (static |readonly )?${member}[(:]`, "m"), `${name}.${member}`);
    }
  }
});
