/** Every method, against a live relay. */

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  AuthenticationError,
  BadRequestError,
  Handoff,
  HandoffError,
  NotFoundError,
  PermissionDeniedError,
  type Message,
} from "../src/index.ts";
import { client, environment, eventually, freshChannel, take, within } from "./support.ts";

const hf = client();

/** A client of another agent. */
async function agent(name: string, permissions: Parameters<Handoff["createKey"]>[1]): Promise<Handoff> {
  return client({ apiKey: (await hf.createKey(name, permissions)).api_key });
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

test("the example", async () => {
  const jordan = await agent("jordan", { "*": "write" });
  const heard: Message[] = [];
  const sub = jordan.subscribe("infra").on("message", (msg) => heard.push(msg));
  await within("the subscription opens", sub.connect());
  const posted = await hf.post("infra", "EKS cluster ready", { mention: "jordan" });
  const reply = await jordan.reply("infra", posted.id, "What node instance type?");
  await hf.setStatus("infra", "eks", "ready");
  const unread = await hf.read("infra");
  assert.deepEqual(Object.keys(unread).sort(), ["channel", "has_more", "messages", "next_after_id"]);
  assert.deepEqual(unread.messages, [{ ...posted, reply_count: 1 }, reply]);
  assert.equal(unread.channel, "infra");
  assert.equal(unread.has_more, false);
  await eventually("both are heard", () => heard.length === 2);
  assert.deepEqual(
    heard.map((msg) => msg.id),
    [posted.id, reply.id],
  );
  sub.close();
});

test("channels", async () => {
  const channel = freshChannel();
  const made = await hf.createChannel(channel, "what it is for");
  assert.equal(made.description, "what it is for");
  assert.deepEqual(await hf.createChannel(channel, { description: "another" }), made);
  assert.equal((await hf.createChannel(freshChannel())).description, null);
  assert.ok((await hf.listChannels()).some(({ name }) => name === channel));
  await hf.deleteChannel(channel);
  assert.ok(!(await hf.listChannels()).some(({ name }) => name === channel));
});

test("messages, filters and pages", async () => {
  const channel = freshChannel();
  const bob = await agent("bob", { "*": "write" });
  const posted: Message[] = [];
  for (let index = 0; index < 7; index += 1) {
    const who = index % 2 === 0 ? hf : bob;
    posted.push(await who.post(channel, `text ${index} 🦀`, index === 3 ? { mention: "bob" } : {}));
  }
  const ids = posted.map(({ id }) => id);
  const read = async (options: Parameters<Handoff["read"]>[1]): Promise<string[]> =>
    (await hf.read(channel, options)).messages.map(({ id }) => id);
  assert.deepEqual(await read({}), ids);
  assert.deepEqual(await read({ limit: 2 }), ids.slice(-2));
  assert.deepEqual(await read({ after_id: ids[1], limit: 2 }), ids.slice(2, 4));
  assert.deepEqual(await read({ mention: "bob" }), [ids[3]]);
  assert.deepEqual(await read({ sender: "bob" }), [ids[1], ids[3], ids[5]]);
  assert.deepEqual(await all(hf.messages(channel, { limit: 3 })), posted);
  assert.deepEqual(await all(hf.messages(channel, { after_id: ids[4], limit: 1 })), posted.slice(5));
  assert.deepEqual(await all(hf.messages(channel, { sender: "bob", limit: 2 })), [
    posted[1],
    posted[3],
    posted[5],
  ]);
  const [first = ""] = ids;
  await hf.deleteMessage(channel, first);
  await assert.rejects(hf.deleteMessage(channel, first), NotFoundError);
  assert.deepEqual(await read({}), ids.slice(1));
});

test("threads", async () => {
  const channel = freshChannel();
  const parent = await hf.post(channel, "a question");
  const replies: Message[] = [];
  for (const text of ["one", "two", "three"]) replies.push(await hf.reply(channel, parent.id, text));
  assert.ok(replies.every((reply) => reply.thread_id === parent.id));
  const page = await hf.thread(channel, parent.id, { limit: 2 });
  assert.deepEqual(page.parent, { ...parent, reply_count: 3 });
  assert.deepEqual(page.replies, replies.slice(0, 2));
  assert.equal(page.has_more, true);
  assert.deepEqual(await all(hf.replies(channel, parent.id, { limit: 2 })), replies);
  const filtered = await hf.read(channel, { thread_id: parent.id });
  assert.deepEqual(filtered.messages, replies);
  await assert.rejects(hf.thread(channel, "999999"), NotFoundError);
});

test("acks, unread and inbox", async () => {
  const channel = freshChannel();
  const carol = await agent("carol", { "*": "write" });
  const first = await hf.post(channel, "first");
  const second = await hf.post(channel, "for you", { mention: "carol" });
  const unread = await carol.unread(channel, { limit: 1 });
  assert.deepEqual(unread.messages, [first]);
  assert.equal(unread.has_more, true);
  const inbox = await carol.inbox({ channels: [channel] });
  assert.deepEqual(inbox.mentions, [second]);
  assert.deepEqual(inbox.messages, [first]);
  assert.deepEqual(inbox.unread, { mentions: 1, channels: { [channel]: 2 } });
  const ack = await carol.ack(channel, first.id);
  assert.deepEqual(
    { ...ack, acked_at: "" },
    { channel, sender: "carol", last_read_id: first.id, acked_at: "" },
  );
  assert.deepEqual(await carol.getAcks(channel), [ack]);
  const mentions = await carol.inbox({ channels: [channel], mentions_only: true, max_bytes: 100 });
  assert.deepEqual([mentions.mentions, mentions.messages], [[second], []]);
  await carol.ack(channel, second.id);
  assert.deepEqual((await carol.unread(channel)).messages, []);
});

test("the inbox waits", async () => {
  const channel = freshChannel();
  const dave = await agent("dave", { [channel]: "write" });
  const asked = dave.inbox({ wait: 50 });
  const posted = await hf.post(channel, "wake up", { mention: "dave" });
  const inbox = await within("the inbox answers", asked);
  assert.deepEqual(inbox.mentions, [posted]);
});

test("a wait is given up with its signal", async () => {
  const controller = new AbortController();
  const name = freshChannel();
  const erin = await agent("erin", { [name]: "write" });
  const asked = erin.inbox({ wait: 50, signal: controller.signal });
  controller.abort();
  await assert.rejects(asked, { name: "AbortError" });
  await assert.rejects(hf.me({ signal: AbortSignal.abort(new Error("not now")) }), /not now/);
});

test("status and its history", async () => {
  const channel = freshChannel();
  const set = await hf.setStatus(channel, "a/b c?", "1");
  assert.deepEqual([set.channel, set.key, set.value, set.updated_by], [channel, "a/b c?", "1", "admin"]);
  const other = await hf.setStatus(channel, "other", "");
  assert.deepEqual(await hf.getStatus({ channel }), [set, other]);
  assert.deepEqual(await hf.getStatus({ channel, key: "other" }), [other]);
  assert.ok((await hf.getStatus()).length >= 2);
  await hf.deleteStatus(channel, "a/b c?");
  await assert.rejects(hf.deleteStatus(channel, "a/b c?"), NotFoundError);
  const page = await hf.getStatusChanges(channel);
  assert.deepEqual(
    page.changes.map(({ key, value, deleted }) => [key, value, deleted]),
    [
      ["a/b c?", "1", undefined],
      ["other", "", undefined],
      ["a/b c?", "", true],
    ],
  );
  assert.deepEqual(await all(hf.statusChanges(channel, { limit: 1 })), page.changes);
});

test("keys, their permissions and their end", async () => {
  const made = await hf.createKey("frank", { infra: "read" });
  assert.equal(made.sender, "frank");
  const frank = client({ apiKey: made.api_key });
  const me = await frank.me();
  assert.deepEqual([me.sender, me.key, me.permissions], ["frank", made.key, { infra: "read" }]);
  assert.equal(me.team.id, environment.team_id);
  await assert.rejects(frank.post("infra", "no"), (error) => {
    assert.ok(error instanceof PermissionDeniedError && error instanceof HandoffError);
    assert.deepEqual([error.status, error.code, error.name], [403, "FORBIDDEN", "PermissionDeniedError"]);
    assert.match(error.request_id ?? "", /./);
    return true;
  });
  const denied = await hf.audit({ limit: 100 });
  assert.ok(denied.entries.some((entry) => entry.sender_name === "frank"));
  assert.ok((await all(hf.auditEntries({ limit: 1 }))).length >= 1);
  const updated = await hf.updateKeyPermissions(made.key, { infra: "write" });
  assert.deepEqual(updated, { key: made.key, permissions: { infra: "write" } });
  assert.equal((await frank.post("infra", "yes")).sender, "frank");
  assert.ok((await hf.listKeys()).some(({ key }) => key === made.key));
  await hf.revokeKey(made.key);
  await assert.rejects(frank.me(), AuthenticationError);
  await assert.rejects(hf.revokeKey(made.key), NotFoundError);
});

test("signup and description", async () => {
  const made = await Handoff.signup({
    apiUrl: environment.urls[0],
    team_name: "others",
    sender_name: "olga",
  });
  assert.equal(made.team.name, "others");
  const olga = client({ apiKey: made.api_key });
  assert.deepEqual(await olga.listChannels(), []);
  const description = await olga.describe();
  assert.match(description.epoch ?? "none", /^[0-9a-f-]{36}$/);
  const stream = hf.stream(freshChannel());
  await within("it opens", stream.opened());
  assert.equal(stream.epoch, description.epoch);
  stream.close();
  assert.ok(description.endpoints.some(({ path }) => path === "/api/me"));
});

test("refusals have their classes", async () => {
  await assert.rejects(hf.post("not a channel!", "x"), (error) => {
    assert.ok(error instanceof BadRequestError);
    assert.equal(error.code, "INVALID_CHANNEL_NAME");
    return true;
  });
  await assert.rejects(client({ apiKey: "relay_no" }).me(), AuthenticationError);
  await assert.rejects(hf.post(freshChannel(), ""), HandoffError);
  await assert.rejects(hf.ack(freshChannel(), "1"), NotFoundError);
});

test("a key may come from a function", async () => {
  let asked = 0;
  const from = client({
    apiKey: () => {
      asked += 1;
      return Promise.resolve(environment.key);
    },
  });
  await from.me();
  await from.me();
  assert.equal(asked, 2);
});

test("streams of several channels", async () => {
  const [a, b] = [freshChannel(), freshChannel()];
  const stream = hf.stream([a, b]);
  await within("the stream opens", stream.opened());
  assert.ok(stream.connected);
  const posted = [await hf.post(a, "1"), await hf.post(b, "2"), await hf.post(a, "3", { mention: "x" })];
  assert.deepEqual(await take(stream, 3), posted);
  assert.ok(!stream.connected);
  assert.equal(stream.cursor, posted[2]?.id);
  const resumed = hf.stream([a, b], { last_event_id: posted[0]?.id });
  assert.deepEqual(await take(resumed, 2), posted.slice(1));
  const mentions = hf.stream([a, b], { last_event_id: "0", mention: "x" });
  assert.deepEqual(await take(mentions, 1), posted.slice(2));
});

test("a stream ends with its signal, and with close", async () => {
  const channel = freshChannel();
  const controller = new AbortController();
  const aborted = hf.stream(channel, { signal: controller.signal });
  await within("it opens", aborted.opened());
  const looping = take(aborted, 1);
  controller.abort();
  assert.deepEqual(await looping, []);
  const closed = hf.stream(channel);
  await within("it opens", closed.opened());
  const other = take(closed, 1);
  closed.close();
  assert.deepEqual(await other, []);
  assert.deepEqual(await take(hf.stream(channel, { signal: AbortSignal.abort() }), 1), []);
});

test("a stream that is refused ends with the error", async () => {
  const reader = await agent("grace", { infra: "read" });
  await assert.rejects(take(reader.stream("secret"), 1), PermissionDeniedError);
  await assert.rejects(take(reader.stream("infra", { last_event_id: "x" }), 1), BadRequestError);
  await assert.rejects(reader.stream("secret").opened(), PermissionDeniedError);
});

test("a revoked key ends its streams", async () => {
  const made = await hf.createKey("henry", { "*": "read" });
  const stream = client({ apiKey: made.api_key }).stream("infra");
  await within("it opens", stream.opened());
  const looping = take(stream, 1);
  await hf.revokeKey(made.key);
  await assert.rejects(looping, AuthenticationError);
});

test("subscriptions", async () => {
  const channel = freshChannel();
  const events: string[] = [];
  const errors: Error[] = [];
  const sub = hf
    .subscribe(channel, { last_event_id: "0" })
    .on("message", () => {
      throw new Error("a handler's mistake");
    })
    .on("message", (msg) => events.push(`message ${msg.content}`))
    .on("cursor", (id) => events.push(`cursor ${id}`))
    .on("error", (error) => errors.push(error))
    .on("close", () => events.push("close"));
  const posted = await hf.post(channel, "before");
  assert.equal(sub.connected, false);
  await within("it opens", sub.connect());
  await within("it is open already", sub.connect());
  assert.equal(sub.connected, true);
  await eventually("the first comes", () => events.includes(`cursor ${posted.id}`));
  sub.close();
  assert.equal(sub.connected, false);
  const missed = await hf.post(channel, "between");
  await sub.connect();
  await eventually("it goes on", () => events.includes(`cursor ${missed.id}`));
  sub.close();
  sub.close();
  assert.deepEqual(events, [
    "message before",
    `cursor ${posted.id}`,
    "close",
    "message between",
    `cursor ${missed.id}`,
    "close",
  ]);
  assert.deepEqual(
    errors.map((error) => error.message),
    ["a handler's mistake", "a handler's mistake"],
  );
});

test("a refused subscription says why and closes", async () => {
  const reader = await agent("ivan", {});
  const events: string[] = [];
  const sub = reader
    .subscribe("infra")
    .on("error", (error) => {
      assert.ok(error instanceof HandoffError);
      events.push(error.code);
    })
    .on("close", () => events.push("close"));
  await sub.connect();
  await eventually("it closes", () => events.length === 2);
  assert.deepEqual(events, ["FORBIDDEN", "close"]);
});

test("on, and its end", async () => {
  const channel = freshChannel();
  const heard: string[] = [];
  const unsub = hf.on(channel, (msg) => heard.push(msg.content), { last_event_id: "0" });
  await hf.post(channel, "one");
  await eventually("it is heard", () => heard.length === 1);
  unsub();
  unsub();
  await hf.post(channel, "two");
  // Had it gone on, the second would come before this stream has both.
  await take(hf.stream(channel, { last_event_id: "0" }), 2);
  assert.deepEqual(heard, ["one"]);
});
