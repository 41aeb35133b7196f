/** Parts that need no relay. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { maxPlainBytes } from "../src/e2ee/envelope.ts";
import { Keyring } from "../src/e2ee/keyring.ts";
import { EncryptionError, Handoff, HandoffError, generateEncryptionKey } from "../src/index.ts";
import { channelPath, query, segment } from "../src/internal/encoding.ts";
import { BlockDecoder, type Block } from "../src/internal/sse.ts";
import { Backoff, follow, sleep } from "../src/internal/time.ts";
import { isAfter } from "../src/streaming.ts";

const STREAM =
  ": handoff\n\nid: 7\n\n" +
  'id: 8\nevent: message\ndata: {"content":"größer 🦀 \\n data: x"}\n\n' +
  'id: 9\nevent: other\ndata: a\ndata: b\n\n: handoff\n\nid: 11\n\nid: 12\nevent: message\ndata: cut o';

const BLOCKS: Block[] = [
  { id: "7", event: "message", data: undefined },
  { id: "8", event: "message", data: '{"content":"größer 🦀 \\n data: x"}' },
  { id: "9", event: "other", data: "a\nb" },
  { id: "11", event: "message", data: undefined },
];

test("blocks are the same wherever the bytes are cut", () => {
  for (const text of [STREAM, STREAM.replaceAll("\n", "\r\n"), `\uFEFF${STREAM}`]) {
    const bytes = new TextEncoder().encode(text);
    for (let first = 0; first <= bytes.length; first += 1) {
      const decoder = new BlockDecoder();
      const blocks = [bytes.subarray(0, first), bytes.subarray(first)].flatMap((part) =>
        decoder.push(part),
      );
      assert.deepEqual(blocks, BLOCKS, `cut at ${first}`);
    }
    const decoder = new BlockDecoder();
    assert.deepEqual(
      Array.from(bytes, (byte) => decoder.push(Uint8Array.of(byte))).flat(),
      BLOCKS,
    );
  }
});

test("a block has a bound", () => {
  const decoder = new BlockDecoder();
  const piece = new TextEncoder().encode("x".repeat(100_000));
  decoder.push(new TextEncoder().encode("data: "));
  assert.throws(() => {
    for (let pieces = 0; pieces < 12; pieces += 1) decoder.push(piece);
  }, RangeError);
});

test("IDs ascend as numbers", () => {
  assert.ok(isAfter("10", "9"));
  assert.ok(!isAfter("9", "10"));
  assert.ok(!isAfter("9", "9"));
  assert.ok(isAfter("9223372036854775807", "9223372036854775806"));
  assert.ok(isAfter("b", "a") && isAfter("a", "b") && !isAfter("a", "a"));
});

test("waits grow to a bound and honour what the relay asks for", () => {
  const waits = new Backoff(1_000);
  for (const least of [100, 200, 400, 500, 500, 500]) {
    const wait = waits.next();
    assert.ok(wait >= least && wait <= 2 * least, `${wait}, at least ${least}`);
  }
  assert.equal(waits.tries, 6);
  const asked = waits.next(3);
  assert.ok(asked >= 3_000 && asked <= 3_250, String(asked));
  waits.reset();
  assert.ok(waits.next() <= 200);
});

test("a sleep ends with its signal", async () => {
  const controller = new AbortController();
  const sleeping = sleep(1_000_000, controller.signal);
  controller.abort(new Error("enough"));
  await assert.rejects(sleeping, /enough/);
  await assert.rejects(sleep(1_000_000, controller.signal), /enough/);
});

test("a released signal is no longer followed", () => {
  const controller = new AbortController();
  const kept = follow(controller.signal);
  const released = follow(controller.signal);
  released.release();
  controller.abort();
  assert.ok(kept.controller.signal.aborted);
  assert.ok(!released.controller.signal.aborted);
});

test("texts in URLs", () => {
  assert.equal(query({ a: "x y&z", b: 0, c: undefined, d: "", e: true }), "?a=x%20y%26z&b=0&e=true");
  assert.equal(query({}), "");
  assert.equal(segment("status key", "a/b?c#d%"), "a%2Fb%3Fc%23d%25");
  assert.equal(channelPath("ops", "/ack"), "/api/channels/ops/ack");
  for (const text of ["", ".", "..", "half a \ud83e"]) {
    assert.throws(
      () => segment("status key", text),
      (error) => error instanceof HandoffError && error.code === "INVALID_ARGUMENT",
    );
  }
});

test("options that make no sense are refused", () => {
  const wrong = (apiUrl: string): void => {
    assert.throws(
      () => new Handoff({ apiUrl, apiKey: "relay_x" }),
      (error) => error instanceof HandoffError && error.code === "INVALID_ARGUMENT",
      apiUrl,
    );
  };
  wrong("");
  wrong("relay.example.com");
  wrong("ftp://relay.example.com");
  wrong("https://relay.example.com/?a=b");
  wrong("https://user:password@relay.example.com");
  assert.throws(() => new Handoff({ apiUrl: "http://localhost", apiKey: " " }), HandoffError);
  const encrypted = (encryptionKey: string | string[]) => () =>
    new Handoff({ apiUrl: "http://localhost", apiKey: "relay_x", encryptionKey });
  assert.throws(encrypted("a,"), EncryptionError);
  assert.throws(encrypted("a, b"), EncryptionError);
  assert.throws(encrypted([]), EncryptionError);
  assert.throws(encrypted("v2:"), EncryptionError);
  assert.doesNotThrow(encrypted(""));
  assert.throws(() => new Handoff({ apiUrl: "http://localhost", apiKey: "relay_x" }).stream([]));
});

test("a keyring writes with its first key and reads with all", async () => {
  const place = { team_id: "1", channel: "ops" };
  const old = Keyring.parse("old");
  const both = Keyring.parse("v2:new,v2:old");
  assert.equal(both.version, 2);
  assert.equal(Keyring.parse("v2:new", 1).version, 1);
  assert.equal(Keyring.parse("new,v2:old").version, 1);
  const text = await both.decrypt(place, await old.encrypt(place, "hello"));
  assert.deepEqual(text, { plain: false, text: "hello" });
  await assert.rejects(old.decrypt(place, await both.encrypt(place, "hello")), /has [0-9a-f]{8}$/);
});

test("texts that fit no envelope are refused", async () => {
  const place = { team_id: "1", channel: "ops" };
  for (const version of [1, 2] as const) {
    const keyring = new Keyring(["secret"], version);
    const longest = "x".repeat(maxPlainBytes(version));
    const envelope = await keyring.encrypt(place, longest);
    assert.ok(envelope.length <= 32_768 && envelope.length > 32_760, String(envelope.length));
    assert.deepEqual(await keyring.decrypt(place, envelope), { plain: false, text: longest });
    await assert.rejects(keyring.encrypt(place, `${longest}x`), /Too long/);
    await assert.rejects(keyring.encrypt(place, "half \ud83e"), EncryptionError);
    // A byte order mark is a character of the text.
    const marked = await keyring.encrypt(place, "\uFEFFx");
    assert.deepEqual(await keyring.decrypt(place, marked), { plain: false, text: "\uFEFFx" });
  }
});

test("generated keys", () => {
  const keys = [generateEncryptionKey(), generateEncryptionKey()];
  for (const key of keys) assert.match(key, /^[A-Za-z0-9_-]{43}$/);
  assert.notEqual(keys[0], keys[1]);
});

test("errors keep their class, name and cause", () => {
  const error = new EncryptionError("no", new Error("why"));
  assert.ok(error instanceof HandoffError && error instanceof Error);
  assert.equal(error.name, "EncryptionError");
  assert.equal(String(error), "EncryptionError: no");
  assert.equal((error.cause as Error).message, "why");
});
