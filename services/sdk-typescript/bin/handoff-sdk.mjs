#!/usr/bin/env node
// Starts the program `handoff` of this platform: with the arguments given, without any as the MCP
// server (`handoff mcp`). The program comes in an optional package per platform, or from
// HANDOFF_BINARY. Its input, output, signals and exit code are this process's own.

import { spawn } from "node:child_process";
import { accessSync, constants, readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { constants as system } from "node:os";

const require = createRequire(import.meta.url);
const platform = `${process.platform}-${process.arch}`;
const packageName = `@handoff-sdk/${platform}`;
const program = process.platform === "win32" ? "handoff.exe" : "handoff";

const elsewhere = `Other ways:
  HANDOFF_BINARY=/path/to/handoff   use a program that is there already
  cargo install --path services/cli in a checkout of Handoff builds one`;

function fail(message) {
  console.error(`handoff-sdk: ${message}\n\n${elsewhere}`);
  process.exit(1);
}

/** Why the program can't be started, or undefined. Asked first, so that the message is plain. */
function obstacle(path) {
  try {
    if (!statSync(path).isFile()) return "it is not a file";
    accessSync(path, constants.X_OK);
  } catch (error) {
    if (error.code === "ENOENT") return "there is no such file";
    return error.code === "EACCES" ? "it may not be executed" : error.message;
  }
}

function findBinary() {
  const chosen = process.env.HANDOFF_BINARY;
  if (chosen) {
    const reason = obstacle(chosen);
    if (reason) fail(`HANDOFF_BINARY names ${chosen}, which can't be run: ${reason}.`);
    return chosen;
  }
  let path;
  try {
    path = require.resolve(`${packageName}/bin/${program}`);
  } catch {
    fail(missing());
  }
  const reason = obstacle(path);
  if (reason) fail(`${path} can't be run: ${reason}.`);
  return path;
}

function missing() {
  const manifest = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
  const packages = Object.keys(manifest.optionalDependencies ?? {});
  const what = `There is no program \`handoff\` for this platform (${platform}).`;
  if (packages.length > 0 && !packages.includes(packageName)) {
    const known = packages.map((name) => name.slice(name.indexOf("/") + 1)).join(", ");
    return `${what}
It is published for: ${known}.`;
  }
  return `${what}
Looked for the package ${packageName}, which is not installed. That happens where
optional packages are left out (npm's --omit=optional, --no-optional), where node_modules was copied
from another kind of machine, and where the program needs a C library that is not this machine's.
Installing again may help: npm install --include=optional handoff-sdk@${manifest.version}`;
}

const given = process.argv.slice(2);
const path = findBinary();
// Not handed on: were it to name this launcher, they would start each other for ever.
const env = { ...process.env };
delete env.HANDOFF_BINARY;
const child = spawn(path, given.length > 0 ? given : ["mcp"], { stdio: "inherit", env });

// The child decides what a signal means; this process only waits for it. One that came from a
// terminal reaches the child twice, which it takes like once.
const forwarded = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR2"];
const handlers = forwarded
  .filter((signal) => signal in system.signals)
  .map((signal) => [signal, () => child.kill(signal)]);
for (const [signal, handler] of handlers) process.on(signal, handler);

child.on("error", (error) => {
  // The file is there and may be run: another kind of machine's, or its loader is missing.
  fail(`${path} can't be run: ${error.message}.`);
});
child.on("exit", (code, signal) => {
  for (const [name, handler] of handlers) process.off(name, handler);
  if (signal === null) {
    process.exitCode = code;
    return;
  }
  // Ends as the child did, so that whoever waits sees the same; by number where that is refused.
  process.exitCode = 128 + system.signals[signal];
  process.kill(process.pid, signal);
});
