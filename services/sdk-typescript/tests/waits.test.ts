/** What the relay waits for, and acks of several channels at once. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { HandoffError, NotFoundError } from "../src/index.ts";
import { client, freshChannel, within } from "./support.ts";

const hf = client();

test("pages wait for something to show", async () => {
  const channel = freshChannel();
  const first = await hf.post(channel, "first");
  const read = hf.read(channel, { after_id: first.id, wait: 50 });
  await hf.ack(channel, first.id);
  const unread = hf.unread(channel, { wait: 50 });
  const second = await hf.post(channel, "second");
  assert.deepEqual((await within("the page", read)).messages, [second]);
  assert.deepEqual((await within("what is unread", unread)).messages, [second]);
  const empty = await hf.read(channel, { after_id: second.id, wait: 1 });
  assert.deepEqual(empty.messages, []);
});

test("any and all of the conditions", async () => {
  const channel = freshChannel();
  const asked = await hf.post(channel, "ready?");
  const all = hf.wait({
    all: [
      { status: { channel, key: "build", value: "green" } },
      { reply: { channel, id: asked.id } },
      { acks: { channel, id: asked.id, count: 1 } },
    ],
    timeout_seconds: 50,
  });
  const any = hf.wait({
    any: [{ message: { channel, mention: "nobody" } }, { status: { channel, key: "build" } }],
    timeout_seconds: 50,
  });
  await hf.setStatus(channel, "build", "green");
  const one = await within("any", any);
  assert.deepEqual(
    [one.satisfied, ...one.conditions.map(({ satisfied }) => satisfied)],
    [true, false, true],
  );
  assert.equal(one.conditions[1]?.status?.value, "green");
  const reply = await hf.reply(channel, asked.id, "yes");
  await hf.ack(channel, reply.id);
  const both = await within("all", all);
  assert.equal(both.satisfied, true);
  assert.equal(both.conditions[1]?.message?.content, "yes");
  const late = await hf.wait({ any: [{ message: { channel } }], timeout_seconds: 1 });
  assert.equal(late.satisfied, false);
});

test("what was waited for is decrypted, and encrypted values can't be compared", async () => {
  const channel = freshChannel();
  const secret = client({ encryptionKey: "secret", encryptionVersion: 2 });
  await secret.setStatus(channel, "build", "green");
  const { conditions } = await secret.wait({ any: [{ status: { channel, key: "build" } }] });
  assert.deepEqual(
    [conditions[0]?.status?.value, conditions[0]?.status?.encryption],
    ["green", "encrypted"],
  );
  await assert.rejects(
    secret.wait({ any: [{ status: { channel, key: "build", value: "green" } }] }),
    (error) => error instanceof HandoffError && error.code === "INVALID_ARGUMENT",
  );
});

test("acks of several channels, all or none", async () => {
  const [a, b] = [freshChannel(), freshChannel()];
  const first = await hf.post(a, "1");
  const second = await hf.post(b, "2");
  const acks = await hf.ackInbox([
    { channel: a, last_read_id: first.id },
    { channel: b, last_read_id: second.id },
  ]);
  assert.deepEqual(
    acks.map(({ channel, last_read_id }) => [channel, last_read_id]),
    [
      [a, first.id],
      [b, second.id],
    ],
  );
  const third = await hf.post(a, "3");
  await assert.rejects(
    hf.ackInbox([
      { channel: a, last_read_id: third.id },
      { channel: freshChannel(), last_read_id: "1" },
    ]),
    NotFoundError,
  );
  assert.deepEqual((await hf.unread(a)).messages, [third]);
});
