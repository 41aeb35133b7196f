// Builds the SDK as tsup.config.ts says, into dist or the folder given with --out-dir.

import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { build } from "tsup";

const { values } = parseArgs({ options: { "out-dir": { type: "string", default: "dist" } } });
const outDir = values["out-dir"];
await build({ outDir });
// The same types for both kinds of modules, once: they are a good part of the package's size, and
// what one module makes then fits what another takes.
await writeFile(join(outDir, "index.d.ts"), 'export * from "./index.cjs";\n');
