#!/usr/bin/env node
// Makes the npm packages: handoff-sdk, and one that holds the program `handoff` of a platform.
// They are put together in a temporary folder; the tarballs appear in --out when all went well.

import { spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { describeBinary } from "./binary.mjs";

const sdk = dirname(dirname(fileURLToPath(import.meta.url)));
const project = resolve(sdk, "../..");
const targets = JSON.parse(readFileSync(join(sdk, "npm/targets.json"), "utf8"));
const host = `${process.platform}-${process.arch}`;
/** What package.json says to those who work on the SDK, not to those who use it. */
const DEVELOPMENT = new Set(["private", "scripts", "devDependencies", "overrides"]);
/** What the build takes into dist: its licences ask to come along. */
const BUNDLED = ["eventsource-parser"];

const HELP = `Makes the npm packages of Handoff's SDK.

  npm run pack -- --out DIR                                    handoff-sdk alone
  npm run pack -- --binary PATH [--target TARGET] --out DIR    and the package of a platform
  npm run pack -- --binary PATH [--target TARGET] --out DIR --without-sdk

  --binary PATH   the program handoff. Its file must be the target's; this machine's is run too,
                  and must be of the packages' version
  --target NAME   its platform (default: this one, ${host}):
                  ${Object.keys(targets).join(", ")}
  --out DIR       where the tarballs go
  --without-sdk   the package of the platform only

The version is that of Cargo.toml; package.json must say the same.

Building the programs, each on a machine that can:
${Object.entries(targets)
  .map(([name, { rust }]) => `  ${name.padEnd(14)}cargo build --release -p handoff-cli --target ${rust}`)
  .join("\n")}
On Linux the target is musl, linked statically: it runs on every distribution. A program that needs
a C library (glibc, say) is packed too, but its package then says so, and is not installed elsewhere.

Publishing, in this order: whoever installs handoff-sdk must find the platforms' packages there.
  1. npm publish --access public --provenance handoff-sdk-TARGET-VERSION.tgz    for each target
  2. npm publish --access public --provenance handoff-sdk-VERSION.tgz
--provenance signs where and from which commit a package was built. It works in a CI job with an
identity token only (GitHub Actions: permissions: id-token: write; GitLab: id_tokens), and asks that
"repository" in package.json names that job's repository; it is copied into every package.
A version can't be published twice: where step 1 fails half-way, publish what is missing, then go on.`;

class UsageError extends Error {}

function main() {
  const options = readOptions();
  if (options.help) {
    console.log(HELP);
    return;
  }
  const manifest = readManifest();
  const staging = mkdtempSync(join(tmpdir(), "handoff-pack-"));
  try {
    const packed = [];
    if (options.binary) packed.push(packPlatform(manifest, options, staging));
    if (!options["without-sdk"]) packed.push(packSdk(manifest, staging));
    mkdirSync(options.out, { recursive: true });
    for (const { tarball, says } of packed) {
      // Under its name only when it is whole.
      const destination = join(options.out, basename(tarball));
      const partial = `${destination}.${process.pid}`;
      copyFileSync(tarball, partial);
      renameSync(partial, destination);
      const kilobytes = (statSync(destination).size / 1000).toFixed(1);
      console.log(`${destination}  ${kilobytes} kB  ${says}`);
    }
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
}

function readOptions() {
  let values;
  try {
    ({ values } = parseArgs({
      options: {
        binary: { type: "string" },
        target: { type: "string" },
        out: { type: "string" },
        "without-sdk": { type: "boolean" },
        help: { type: "boolean", short: "h" },
      },
    }));
  } catch (error) {
    throw new UsageError(error.message);
  }
  if (values.help) return values;
  if (!values.out) throw new UsageError("--out is missing: the folder for the tarballs");
  if (!values.binary && (values.target || values["without-sdk"])) {
    throw new UsageError("--target and --without-sdk need --binary");
  }
  const target = values.target ?? host;
  if (values.binary && !Object.hasOwn(targets, target)) {
    const known = Object.keys(targets).join(", ");
    throw new UsageError(`${target} is not a target; there are ${known}`);
  }
  // npm runs scripts in the package's folder: paths are meant from where npm was called.
  const from = process.env.INIT_CWD ?? process.cwd();
  return {
    ...values,
    target,
    out: resolve(from, values.out),
    binary: values.binary && resolve(from, values.binary),
  };
}

/** package.json, with a version that is Cargo's. */
function readManifest() {
  const manifest = JSON.parse(readFileSync(join(sdk, "package.json"), "utf8"));
  const cargo = readFileSync(join(project, "Cargo.toml"), "utf8");
  const version = /^\[workspace\.package\]\n(?:(?!\[).*\n)*?version = "([^"]+)"/m.exec(cargo)?.[1];
  if (!version) throw new Error("Cargo.toml has no version under [workspace.package]");
  if (manifest.version !== version) {
    throw new Error(`package.json says ${manifest.version}, Cargo.toml ${version}: make them alike`);
  }
  return manifest;
}

function packPlatform(manifest, { binary, target }, staging) {
  const { os, cpu } = targets[target];
  const found = describeBinary(binary);
  if (found.os !== os || found.cpu !== cpu) {
    throw new Error(`${binary} is for ${found.os}-${found.cpu}, not for ${target}`);
  }
  // A package that claimed less than its program needs would be installed where it can't run.
  const { libc } = found;
  const ran = target === host;
  if (ran) checkVersion(binary, manifest.version);

  const folder = join(staging, target);
  const program = os === "win32" ? "handoff.exe" : "handoff";
  mkdirSync(join(folder, "bin"), { recursive: true });
  copyFileSync(binary, join(folder, "bin", program));
  chmodSync(join(folder, "bin", program), 0o755);
  copyFileSync(join(sdk, "npm/README.md"), join(folder, "README.md"));
  copyFileSync(join(project, "LICENSE"), join(folder, "LICENSE"));
  writeManifest(folder, {
    name: `@handoff-sdk/${target}`,
    version: manifest.version,
    description: `The program handoff for ${target}: install handoff-sdk instead`,
    license: manifest.license,
    ...(manifest.repository && { repository: manifest.repository }),
    ...(manifest.engines && { engines: manifest.engines }),
    files: ["bin"],
    os: [os],
    cpu: [cpu],
    ...(libc && { libc: [libc] }),
    // Yarn otherwise leaves packages zipped, where a program can't be run.
    preferUnplugged: true,
    publishConfig: { access: "public" },
  });
  const needs = os === "linux" ? `, ${libc ? `needs ${libc}` : "static"}` : "";
  return {
    tarball: npmPack(folder, staging),
    says: `${target}${needs}${ran ? "" : ", not run: not this machine's"}`,
  };
}

/** Runs the program, which must tell the version that its package will have. */
function checkVersion(binary, version) {
  const run = spawnSync(binary, ["--version"], { encoding: "utf8", timeout: 30_000 });
  if (run.error) throw new Error(`${binary} can't be run: ${run.error.message}`);
  const told = run.stdout.trim();
  if (run.status !== 0 || told !== `handoff ${version}`) {
    const said = told || run.stderr.trim() || "nothing";
    throw new Error(`${binary} --version says: ${said}; expected: handoff ${version}`);
  }
}

function packSdk(manifest, staging) {
  const folder = join(staging, "sdk");
  mkdirSync(folder);
  // Built outside of the working copy, whose own build may be in use.
  npm(["run", "build", "--", "--out-dir", join(folder, "dist")], sdk);
  for (const path of ["bin", "README.md"]) {
    cpSync(join(sdk, path), join(folder, path), { recursive: true });
  }
  copyFileSync(join(project, "LICENSE"), join(folder, "LICENSE"));
  const notices = BUNDLED.map((name) => {
    const license = readFileSync(join(sdk, "node_modules", name, "LICENSE"), "utf8");
    return `dist has code of ${name} in it:\n\n${license}`;
  });
  writeFileSync(join(folder, "THIRD-PARTY-LICENSES"), notices.join("\n"));

  // The platforms' packages are not in package.json itself: `npm ci` could not install there what
  // is not published yet.
  const platforms = Object.keys(targets).map((name) => [`@handoff-sdk/${name}`, manifest.version]);
  const published = Object.entries(manifest).filter(([field]) => !DEVELOPMENT.has(field));
  writeManifest(folder, {
    ...Object.fromEntries(published),
    optionalDependencies: Object.fromEntries(platforms),
    publishConfig: { access: "public" },
  });
  return { tarball: npmPack(folder, staging), says: "handoff-sdk" };
}

function writeManifest(folder, manifest) {
  writeFileSync(join(folder, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`);
}

/** Packs a folder and names the tarball. */
function npmPack(folder, destination) {
  const told = npm(["pack", "--json", "--pack-destination", destination], folder);
  const [{ filename }] = JSON.parse(told);
  return join(destination, filename);
}

function npm(args, cwd) {
  // The npm that runs this script, where one does.
  const own = process.env.npm_execpath;
  const [command, first, shell] = own
    ? [process.execPath, [own], false]
    : ["npm", [], process.platform === "win32"];
  const run = spawnSync(command, [...first, ...args], { cwd, encoding: "utf8", shell });
  if (run.error) throw new Error(`npm can't be run: ${run.error.message}`);
  if (run.status !== 0) {
    throw new Error(`npm ${args[0]} failed in ${cwd}:\n${run.stdout}${run.stderr}`);
  }
  return run.stdout;
}

try {
  main();
} catch (error) {
  console.error(`pack: ${error.message}`);
  if (error instanceof UsageError) console.error("See --help.");
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
