// code-server opens every proposed API to every extension. VS Code opens one only to an extension that declares it and is
// allowed to have it. This puts a gate back into an installed copy: what is not declared is refused.
// usage: node vscode_stable_gate.mjs FOLDER_OF_THE_PACKAGE
import fs from "node:fs";
import path from "node:path";

const FILES = [
  "vs/workbench/api/node/extensionHostProcess.js",
  "vs/workbench/api/worker/extensionHostWorkerMain.js",
  "vs/code/browser/workbench/workbench.js",
];
/** The open gate, right before the function that asks it. */
const OPEN = /function ([\w$]+)\(([\w$]+),([\w$]+)\)\{return!0\}(?=function [\w$]+\([\w$]+,[\w$]+\)\{if\(!\1\()/g;

let closed = 0;
for (const name of FILES) {
  const file = path.join(process.argv[2], "lib/vscode/out", name);
  if (!fs.existsSync(file)) continue;
  const before = fs.readFileSync(file, "utf8");
  const after = before.replace(OPEN, (_, gate, extension, proposal) => {
    closed += 1;
    return `function ${gate}(${extension},${proposal}){return!!${extension}.enabledApiProposals?.includes(${proposal})}`;
  });
  if (after === before) continue;
  // A new file: the old one may be a hard link into the copy that stays open.
  fs.rmSync(file);
  fs.writeFileSync(file, after);
  console.log(`closed: ${name}`);
}
if (!closed) {
  console.error("no open gate was found");
  process.exit(1);
}
