// What a program's file says of itself, whatever machine this is: for which system and processor it
// was built, and on Linux which C library it asks for.

import { closeSync, openSync, readSync } from "node:fs";

const PT_INTERP = 3;
const HEADER_BYTES = 4096;

const ELF_CPUS = new Map([
  [0x3e, "x64"],
  [0xb7, "arm64"],
]);
const MACH_O_CPUS = new Map([
  [0x01000007, "x64"],
  [0x0100000c, "arm64"],
]);
const PE_CPUS = new Map([
  [0x8664, "x64"],
  [0xaa64, "arm64"],
]);

/**
 * Reads a program's headers.
 *
 * @param {string} path
 * @returns {{os: string, cpu: string, libc?: "glibc" | "musl"}} In npm's words; without `libc` it
 *   is linked statically or not Linux's.
 */
export function describeBinary(path) {
  const file = openSync(path, "r");
  try {
    return describe((offset, length) => {
      const bytes = Buffer.alloc(length);
      // What lies past the file's end reads as zeros, which match nothing below.
      readSync(file, bytes, 0, length, offset);
      return bytes;
    }, path);
  } finally {
    closeSync(file);
  }
}

function describe(read, path) {
  const header = read(0, HEADER_BYTES);
  if (header.readUInt32BE(0) === 0x7f454c46 && header[4] === 2 && header[5] === 1) {
    const cpu = known(ELF_CPUS, header.readUInt16LE(18), path);
    const libc = cLibrary(read, header, path);
    return { os: "linux", cpu, ...(libc && { libc }) };
  }
  if (header.readUInt32LE(0) === 0xfeedfacf) {
    return { os: "darwin", cpu: known(MACH_O_CPUS, header.readUInt32LE(4), path) };
  }
  if (header.readUInt32BE(0) === 0xcafebabe) {
    throw new Error(`${path} holds several processors' programs: take one out with lipo -thin`);
  }
  if (header.toString("latin1", 0, 2) === "MZ") {
    const pe = read(header.readUInt32LE(0x3c), 6);
    if (pe.toString("latin1", 0, 4) === "PE\0\0") {
      return { os: "win32", cpu: known(PE_CPUS, pe.readUInt16LE(4), path) };
    }
  }
  throw new Error(`${path} is no program for 64-bit Linux, macOS or Windows`);
}

function known(cpus, machine, path) {
  const cpu = cpus.get(machine);
  if (!cpu) throw new Error(`${path} is for a processor that is not supported (${machine})`);
  return cpu;
}

/** By the loader that the program names: a static one names none. */
function cLibrary(read, header, path) {
  const table = Number(header.readBigUInt64LE(32));
  const size = header.readUInt16LE(54);
  const count = header.readUInt16LE(56);
  for (let index = 0; index < count; index++) {
    const entry = read(table + index * size, size);
    if (entry.readUInt32LE(0) !== PT_INTERP) continue;
    const offset = Number(entry.readBigUInt64LE(8));
    const length = Number(entry.readBigUInt64LE(32));
    const loader = read(offset, Math.min(length, HEADER_BYTES)).toString("latin1");
    if (loader.includes("ld-linux")) return "glibc";
    if (loader.includes("ld-musl")) return "musl";
    throw new Error(`${path} asks for an unknown loader: ${loader.replaceAll("\0", "")}`);
  }
  return undefined;
}
