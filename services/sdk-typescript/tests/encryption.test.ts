/** End-to-end encryption with the Rust client on the other side, both ways and in both versions. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";

import { HandoffError, type Message } from "../src/index.ts";
import { client, environment, freshChannel, harness, take, within } from "./support.ts";

/** Runs `handoff … --json` and gives what it prints, a document a line. */
async function rust(settings: Record<string, string>, ...args: string[]): Promise<unknown[]> {
  const { stdout } = await promisify(execFile)(environment.handoff, ["--json", ...args], {
    env: {
      RELAY_API_URL: environment.urls[0],
      RELAY_API_KEY: environment.key,
      HOME: "/nonexistent",
      ...settings,
    },
  });
  return stdout
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as unknown);
}

const SECRET = "grüner-tee-🍵";
const text = "the launch code is 0xC0FFEE, größer 🦀";

/** Every text in a document, however deep. */
function texts(value: unknown): string[] {
  if (typeof value === "string") return [value];
  if (typeof value !== "object" || value === null) return [];
  return Object.values(value).flatMap(texts);
}

for (const version of [1, 2] as const) {
  const settings = {
    HANDOFF_ENCRYPTION_KEY: SECRET,
    HANDOFF_ENCRYPTION_VERSION: String(version),
  };
  const hf = client({ encryptionKey: SECRET, encryptionVersion: version });
  const prefix = version === 1 ? "e2ee:" : "e2ee2:";

  test(`version ${version}: TypeScript writes, Rust reads`, async () => {
    const channel = freshChannel();
    const posted = await hf.post(channel, text);
    assert.deepEqual([posted.content, posted.encryption], [text, "encrypted"]);
    await hf.setStatus(channel, "key/with ?", text);
    const [raw] = (await client().read(channel)).messages;
    assert.ok(raw?.content.startsWith(prefix) === true);
    assert.equal(raw.encryption, undefined);
    assert.ok(texts(await rust(settings, "read", channel)).includes(text));
    assert.ok(texts(await rust(settings, "status", "get", channel)).includes(text));
    assert.equal(await harness({ do: "search", text: "0xC0FFEE" }), false);
    assert.equal(await harness({ do: "search", text: raw.content }), true);
  });

  test(`version ${version}: Rust writes, TypeScript reads everywhere`, async () => {
    const channel = freshChannel();
    const stream = hf.stream(channel);
    await within("the stream opens", stream.opened());
    await rust(settings, "post", channel, text, "--mention", "admin");
    await rust(settings, "status", "set", channel, "state", text);
    const [streamed] = await take(stream, 1);
    assert.ok(streamed);
    const shown = ({ content, encryption }: Message): unknown => [content, encryption];
    const expected = [text, "encrypted"];
    assert.deepEqual(shown(streamed), expected);
    const { messages } = await hf.read(channel);
    assert.deepEqual(messages.map(shown), [expected]);
    assert.deepEqual((await hf.unread(channel)).messages.map(shown), [expected]);
    const reply = await hf.reply(channel, streamed.id, "answer");
    const thread = await hf.thread(channel, streamed.id);
    assert.deepEqual([thread.parent, ...thread.replies].map(shown), [expected, ["answer", "encrypted"]]);
    assert.deepEqual(shown(reply), ["answer", "encrypted"]);
    const other = client({
      apiKey: (await hf.createKey(`reader-${channel}`)).api_key,
      encryptionKey: `another,${SECRET}`,
    });
    const inbox = await other.inbox({ channels: [channel] });
    assert.deepEqual(inbox.messages.map(shown), [expected, ["answer", "encrypted"]]);
    const [status] = await other.getStatus({ channel });
    assert.deepEqual([status?.value, status?.encryption], expected);
    await hf.deleteStatus(channel, "state");
    const { changes } = await other.getStatusChanges(channel);
    assert.deepEqual(
      changes.map(({ value, encryption, deleted }) => [value, encryption, deleted]),
      [
        [text, "encrypted", undefined],
        ["", undefined, true],
      ],
    );
    assert.equal(await harness({ do: "search", text: "0xC0FFEE" }), false);
  });
}

test("texts that can't be read spoil neither page nor stream", async () => {
  const channel = freshChannel();
  const hf = client({ encryptionKey: SECRET });
  const stream = hf.stream(channel);
  await within("the stream opens", stream.opened());
  await client().post(channel, "in the clear");
  await client({ encryptionKey: "another" }).post(channel, "not for us");
  await client({ encryptionKey: "another", encryptionVersion: 2 }).post(channel, "nor this");
  await client().post(channel, "e2ee:broken");
  await hf.post(channel, "for us");
  const streamed = await take(stream, 5);
  assert.deepEqual((await hf.read(channel)).messages, streamed);
  const shown = streamed.map(({ content, encryption }) =>
    typeof encryption === "object" ? `failed: ${encryption.failed}` : `${String(encryption)}: ${content}`,
  );
  assert.equal(shown[0], "plain: in the clear");
  assert.match(shown[1] ?? "", /^failed: No encryption key decrypts it/);
  assert.match(shown[2] ?? "", /^failed: It was encrypted with key [0-9a-f]{8}, and/);
  assert.match(shown[3] ?? "", /^failed: This is no whole envelope/);
  assert.equal(shown[4], "encrypted: for us");
  assert.ok(streamed[1]?.content.startsWith("e2ee:"));
});

test("version 2 is bound to its place", async () => {
  const [channel, elsewhere] = [freshChannel(), freshChannel()];
  const hf = client({ encryptionKey: SECRET, encryptionVersion: 2 });
  const { id } = await hf.post(channel, "meant for here");
  const [raw] = (await client().read(channel)).messages;
  assert.ok(raw?.id === id);
  await client().post(elsewhere, raw.content);
  const [moved] = (await hf.read(elsewhere)).messages;
  assert.ok(typeof moved?.encryption === "object");
  assert.match(moved.encryption.failed, /moved here/);
});

test("what can't be encrypted is refused before it leaves", async () => {
  const hf = client({ encryptionKey: SECRET });
  const channel = freshChannel();
  const refused = (code: string) => (error: unknown) =>
    error instanceof HandoffError && error.code === code;
  await assert.rejects(hf.post(channel, ""), refused("INVALID_ARGUMENT"));
  await assert.rejects(hf.post(channel, "x".repeat(32_000)), refused("ENCRYPTION_ERROR"));
  assert.deepEqual((await hf.read(channel)).messages, []);
});
