/** Streams whose relay is cut, killed, replaced or struck dumb: nothing is lost, nothing comes twice (G3). */

import assert from "node:assert/strict";
import { after, test } from "node:test";

import type { Handoff, HandoffError, Message } from "../src/index.ts";
import { client, environment, freshChannel, harness, proxy, take, within } from "./support.ts";

const hf = client();

/** Every message of the channel came once, in order, from this `seq` on. */
function assertComplete(messages: readonly Message[], first = 1): void {
  assert.deepEqual(
    messages.map(({ seq }) => seq),
    Array.from(messages, (_, index) => first + index),
  );
}

async function post(from: Handoff, channel: string, count: number): Promise<void> {
  for (let index = 0; index < count; index += 1) {
    await from.post(channel, `größer ${index} 🦀 ${"x".repeat(index % 300)}`);
  }
}

test("cut after every few bytes, and in the middle of characters", async () => {
  const channel = freshChannel();
  const count = 30;
  await post(hf, channel, count);
  const spoiled = await proxy(() => environment.urls[0]);
  after(() => spoiled.close());
  // Each connection brings a little more than the last but one, so that every place is cut once in a
  // while; and after each that may bring nothing comes one that does, or the pauses would grow.
  for (let answer = 150; answer < 1_500; answer += 37) {
    spoiled.spoilers.push({ answer, pieces: 7 }, { answer: answer + 1_350, pieces: 7 });
  }
  const cuts: (HandoffError | undefined)[] = [];
  const stream = client({ apiUrl: spoiled.url }).stream(channel, {
    last_event_id: "0",
    onCut: (error) => cuts.push(error),
  });
  assertComplete(await take(stream, count));
  assert.ok(cuts.length > 3, `${cuts.length} cuts`);
});

test("cut before the first event: the place is known", async () => {
  const channel = freshChannel();
  await post(hf, channel, 2);
  const spoiled = await proxy(() => environment.urls[0]);
  after(() => spoiled.close());
  const stream = client({ apiUrl: spoiled.url }).stream(channel);
  await within("it opens", stream.opened());
  assert.notEqual(stream.cursor, undefined);
  spoiled.cut();
  await post(hf, channel, 3);
  assertComplete(await take(stream, 3), 3);
});

test("a silent connection is given up", async () => {
  const channel = freshChannel();
  const spoiled = await proxy(() => environment.urls[0], [{ answer: 0, silent: true }]);
  after(() => spoiled.close());
  const cuts: (string | undefined)[] = [];
  // Headers never come here; below, they come and then nothing.
  const hasty = client({ apiUrl: spoiled.url, timeout: 300, streamTimeout: 300 });
  const stream = hasty.stream(channel, { last_event_id: "0", onCut: (error) => cuts.push(error?.code) });
  await within("it opens", stream.opened());
  assert.deepEqual(cuts, ["TIMEOUT"]);
  const taken = take(stream, 1);
  const end = Date.now() + 60_000;
  while (cuts.length < 3 && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual(cuts.slice(0, 3), ["TIMEOUT", "TIMEOUT", "TIMEOUT"]);
  await post(hf, channel, 1);
  assertComplete(await taken);
});

test("the relay is killed and replaced under many streams", async () => {
  const [left, right] = environment.urls;
  assert.ok(right !== undefined);
  // Clients come through one address, as through a load balancer, to whichever relay is alive.
  let alive = left;
  const balancer = await proxy(() => alive);
  after(() => balancer.close());
  const behind = client({ apiUrl: balancer.url });
  const channels = [freshChannel(), freshChannel()];
  const [a = "", b = ""] = channels;
  const each = 120;

  const streams = Array.from({ length: 6 }, (_, index) =>
    index % 2 === 0 ? behind.stream(a) : behind.stream(channels),
  );
  await within("all open", Promise.all(streams.map((stream) => stream.opened())));
  const heard: Message[] = [];
  const cursors: string[] = [];
  const sub = behind
    .subscribe(a)
    .on("message", (message) => heard.push(message))
    .on("cursor", (id) => cursors.push(id));
  await within("the subscription opens", sub.connect());
  const taken = streams.map((stream, index) => take(stream, index % 2 === 0 ? each : 2 * each));

  const posting = Promise.all([
    post(behind, a, each),
    post(client({ apiUrl: right }), b, each),
    (async () => {
      // Once a third is there the first relay is killed; once two thirds are, the other one takes over
      // from a third in good order.
      const reached = async (seq: number): Promise<void> => {
        await take(
          {
            async *[Symbol.asyncIterator]() {
              for await (const message of client({ apiUrl: right }).stream(b, { last_event_id: "0" })) {
                if (message.seq >= seq) yield message;
              }
            },
          },
          1,
        );
      };
      await reached(each / 3);
      await harness({ do: "kill", replica: 0 });
      balancer.cut();
      const third = await harness({ do: "start" });
      assert.ok(typeof third === "string");
      alive = third;
      await reached((each * 2) / 3);
      balancer.cut();
      alive = right;
      await harness({ do: "terminate", replica: 2 });
    })(),
  ]);
  await within("everything is posted", posting);

  for (const [index, messages] of (await Promise.all(taken)).entries()) {
    const ids = messages.map(({ id }) => BigInt(id));
    assert.ok(
      ids.every((id, at) => at === 0 || id > (ids[at - 1] ?? 0n)),
      `stream ${index} is in order`,
    );
    for (const channel of index % 2 === 0 ? [a] : channels) {
      const own = messages.filter((message) => message.channel === channel);
      assert.equal(own.length, each);
      assertComplete(own);
    }
  }
  const end = Date.now() + 60_000;
  while (heard.length < each && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 20));
  sub.close();
  assert.equal(heard.length, each);
  assertComplete(heard);
  assert.equal(cursors.at(-1), heard.at(-1)?.id);
});
