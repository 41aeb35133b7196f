/** The types of what goes over the wire are those of the relay's document. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { promisify } from "node:util";

import { environment } from "./support.ts";

test("src/internal/openapi.ts is what the relay's document gives", async () => {
  const folder = new URL("..", import.meta.url);
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ["scripts/generate.mjs", "--print", environment.relay],
    { cwd: folder, maxBuffer: 16 << 20 },
  );
  const committed = readFileSync(new URL("src/internal/openapi.ts", folder), "utf8");
  assert.equal(stdout, committed, "npm run generate -- target/debug/handoff-relay makes it anew");
});
