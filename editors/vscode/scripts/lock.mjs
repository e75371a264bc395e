// Take what is no part of a lock out of package-lock.json: addresses of sponsors, and notes about packages.
import fs from "node:fs";

const file = new URL("../package-lock.json", import.meta.url);
const lock = JSON.parse(fs.readFileSync(file, "utf8"));
for (const entry of Object.values(lock.packages)) {
  delete entry.funding;
  delete entry.deprecated;
  delete entry.resolved;
}
fs.writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`);
