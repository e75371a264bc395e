// The package holds the repository's licence.
import fs from "node:fs";

fs.copyFileSync(new URL("../../../LICENSE", import.meta.url), new URL("../LICENSE", import.meta.url));
