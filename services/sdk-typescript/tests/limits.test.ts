/** Against a relay that allows five requests a second and one stream a key. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { RateLimitError } from "../src/index.ts";
import { client, freshChannel, take, within } from "./support.ts";

test("a spent rate limit is waited for", async () => {
  const hf = client();
  const began = performance.now();
  const senders = await within(
    "all answers",
    Promise.all(Array.from({ length: 10 }, () => hf.me().then((me) => me.sender))),
  );
  assert.deepEqual(new Set(senders), new Set(["admin"]));
  assert.ok(performance.now() - began >= 900, "ten need two windows");
});

test("without retries it is an error that says how long", async () => {
  const hf = client({ maxRetries: 0 });
  const outcomes = await Promise.allSettled(Array.from({ length: 30 }, () => hf.me()));
  const refused = outcomes.flatMap((outcome) =>
    outcome.status === "rejected" ? [outcome.reason as unknown] : [],
  );
  assert.ok(refused.length > 0);
  for (const error of refused) {
    assert.ok(error instanceof RateLimitError);
    assert.equal(error.code, "RATE_LIMITED");
    assert.ok((error.retryAfter ?? 0) >= 1);
  }
});

test("a stream waits until there is room for it", async () => {
  const hf = client();
  const channel = freshChannel();
  const first = hf.stream(channel);
  await within("the first opens", first.opened());
  const cuts: unknown[] = [];
  let heard: (() => void) | undefined;
  const refused = new Promise<void>((resolve) => {
    heard = resolve;
  });
  const second = hf.stream(channel, {
    last_event_id: "0",
    onCut: (error) => {
      cuts.push(error?.code);
      heard?.();
    },
  });
  const taken = take(second, 1);
  await within("the second is refused", refused);
  first.close();
  const posted = await hf.post(channel, "at last");
  assert.deepEqual(await taken, [posted]);
  assert.ok(cuts.every((code) => code === "SSE_LIMIT_REACHED" || code === "RATE_LIMITED"));
});
