/** Tokens, against a live relay. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { AuthenticationError, PermissionDeniedError } from "../src/index.ts";
import { client, freshChannel, take, within } from "./support.ts";

const hf = client();

test("a token speaks for a part of its key", async () => {
  const channel = freshChannel();
  const made = await hf.createToken({
    permissions: { [channel]: "write" },
    sender_suffix: "reviewer",
    ttl_seconds: 60,
  });
  assert.equal(made.sender, "admin/reviewer");
  assert.deepEqual(made.permissions, { [channel]: "write" });
  assert.ok(Date.parse(made.expires_at) > Date.now());
  const sub = client({ apiKey: made.token });
  const posted = await sub.post(channel, "from a sub-agent");
  assert.equal(posted.sender, "admin/reviewer");
  await assert.rejects(sub.post("infra", "no"), PermissionDeniedError);
  await assert.rejects(sub.createToken(), PermissionDeniedError);
  assert.equal((await hf.createToken()).sender, "admin");
});

test("a token that has expired says so", async () => {
  const { token } = await hf.createToken({ ttl_seconds: 1 });
  const stream = client({ apiKey: token }).stream(freshChannel());
  await within("it opens", stream.opened());
  await assert.rejects(
    take(stream, 1),
    (error) => error instanceof AuthenticationError && error.code === "TOKEN_EXPIRED",
  );
  await assert.rejects(client({ apiKey: token }).me(), { status: 401, code: "TOKEN_EXPIRED" });
});

test("a client that makes itself new tokens goes on over the end of each", async () => {
  const channel = freshChannel();
  let made = 0;
  let current: Promise<string> | undefined;
  let expires = 0;
  const sub = client({
    apiKey: () => {
      // As a program would: a new one once the old one has gone.
      if (current === undefined || Date.now() >= expires) {
        made += 1;
        expires = Date.now() + 1_000;
        current = hf.createToken({ ttl_seconds: 1 }).then(({ token }) => token);
      }
      return current;
    },
  });
  const stream = sub.stream(channel);
  await within("it opens", stream.opened());
  const taken = take(stream, 40);
  for (let index = 0; index < 40; index += 1) {
    await sub.post(channel, String(index));
    await new Promise((resolve) => setTimeout(resolve, 60));
  }
  assert.deepEqual(
    (await taken).map(({ content }) => content),
    Array.from({ length: 40 }, (_, index) => String(index)),
  );
  assert.ok(made >= 2, `${made} tokens`);
});
