/** Requests whose answers are lost on the way, through a proxy before a live relay. */

import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import { after, test } from "node:test";

import { ConnectionError, HandoffError, NotFoundError, ServerError, TimeoutError } from "../src/index.ts";
import { client, environment, freshChannel, proxy, within } from "./support.ts";

const hf = client();
const spoiled = await proxy(() => environment.urls[0]);
const behind = client({ apiUrl: spoiled.url });
after(() => spoiled.close());

test("a post whose answer is lost is there once", async () => {
  const channel = freshChannel();
  // Nothing, half of the head, half of the body.
  for (const answer of [0, 20, 300]) {
    spoiled.cut();
    spoiled.spoilers.push({ answer }, { answer });
    const posted = await within("the post", behind.post(channel, `cut after ${answer}`));
    assert.equal(posted.content, `cut after ${answer}`);
  }
  const { messages } = await hf.read(channel);
  assert.deepEqual(
    messages.map(({ content }) => content),
    ["cut after 0", "cut after 20", "cut after 300"],
  );
});

test("two posts with one idempotency key are one", async () => {
  const channel = freshChannel();
  const once = await hf.post(channel, "deploying", { idempotency_key: "deploy-42" });
  const twice = await hf.post(channel, "deploying", { idempotency_key: "deploy-42" });
  assert.deepEqual(twice, once);
  await assert.rejects(hf.post(channel, "another", { idempotency_key: "deploy-42" }), {
    name: "ConflictError",
    status: 409,
    code: "IDEMPOTENCY_MISMATCH",
  });
});

test("a deletion whose answer is lost has happened", async () => {
  const channel = freshChannel();
  const { id } = await hf.post(channel, "going");
  spoiled.cut();
  spoiled.spoilers.push({ answer: 0 });
  await within("the deletion", behind.deleteMessage(channel, id));
  await assert.rejects(behind.deleteMessage(channel, id), NotFoundError);
});

test("a key is not made twice", async () => {
  // A proxy of its own: a connection that was kept from before may be found cut, with nothing sent.
  const cutting = await proxy(() => environment.urls[0], [{ answer: 0 }]);
  const sender = "made-once";
  await assert.rejects(client({ apiUrl: cutting.url }).createKey(sender, {}), ConnectionError);
  await cutting.close();
  const keys = await hf.listKeys();
  assert.equal(keys.filter((key) => key.sender === sender).length, 1);
});

test("an answer that never comes is given up in time, and asked for again", async () => {
  spoiled.cut();
  spoiled.spoilers.push({ answer: 0, silent: true });
  const patient = client({ apiUrl: spoiled.url, timeout: 500 });
  assert.equal((await within("the answer", patient.me())).sender, "admin");
  spoiled.cut();
  spoiled.spoilers.push({ answer: 0, silent: true });
  await assert.rejects(
    client({ apiUrl: spoiled.url, timeout: 300, maxRetries: 0 }).me(),
    (error) => error instanceof TimeoutError && error.status === 0 && error.code === "TIMEOUT",
  );
});

test("no relay at all: an error, after a bounded number of tries", async () => {
  const gone = await proxy(() => environment.urls[0]);
  await gone.close();
  const nobody = client({ apiUrl: gone.url, maxRetries: 2 });
  await assert.rejects(within("the error", nobody.me()), (error) => {
    assert.ok(error instanceof ConnectionError && error instanceof HandoffError);
    assert.ok(error.unsent);
    assert.equal(error.status, 0);
    return true;
  });
});

test("what proxies answer in a relay's place", async () => {
  // Answers of programs that stand before relays; the relay itself gives none of these.
  const answers: [status: number, headers: http.OutgoingHttpHeaders, body: string][] = [];
  const seen: { time: number; key: string | undefined }[] = [];
  const server = http.createServer((request, response) => {
    request.resume();
    const key = request.headers["idempotency-key"];
    seen.push({ time: performance.now(), key: typeof key === "string" ? key : undefined });
    const [status, headers, body] = answers.shift() ?? [200, {}, '{"id":"1","content":"done"}'];
    response.writeHead(status, headers).end(body);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  assert.ok(typeof address === "object" && address !== null);
  const before = client({ apiUrl: `http://127.0.0.1:${address.port}/path/` });
  try {
    answers.push(
      [503, { "retry-after": "1" }, '{"error":"full","code":"OVERLOADED"}'],
      [502, {}, "<html>Bad gateway</html>"],
    );
    assert.equal((await before.post("ops", "done")).content, "done");
    assert.equal(seen.length, 3);
    const [first, second, third] = seen;
    assert.ok(first && second && third);
    assert.ok(second.time - first.time >= 990, `${second.time - first.time} ms`);
    assert.match(first.key ?? "", /^[0-9a-f]{32}$/);
    assert.ok(first.key === second.key && second.key === third.key);
    assert.equal(await before.post("ops", "x").then(() => seen.at(-1)?.key === first.key), false);

    answers.push([500, {}, '{"error":"our fault","code":"INTERNAL_ERROR","request_id":"r1","details":{"a":1}}']);
    await assert.rejects(before.me(), (error) => {
      assert.ok(error instanceof ServerError);
      assert.deepEqual([error.status, error.code, error.request_id], [500, "INTERNAL_ERROR", "r1"]);
      assert.deepEqual(error.details, { a: 1 });
      return true;
    });
    answers.push([302, { location: "https://elsewhere.example/" }, ""]);
    await assert.rejects(before.post("ops", "x"), { code: "BAD_ANSWER", status: 302 });
    answers.push([200, {}, "<html>Sign in</html>"]);
    await assert.rejects(before.me(), { code: "BAD_ANSWER" });
    answers.push([418, {}, "x".repeat(1_000_000)]);
    await assert.rejects(before.me(), { code: "HTTP_418", status: 418 });
    // A post that may have happened is not made again where nothing tells the tries apart.
    const count = seen.length;
    answers.push([503, {}, '{"error":"gone","code":"UNAVAILABLE"}']);
    await assert.rejects(before.createKey("x"), { code: "UNAVAILABLE" });
    assert.equal(seen.length, count + 1);
    answers.push([200, { "content-type": "text/html" }, "<html>Sign in</html>"]);
    await assert.rejects(before.stream("ops").opened(), { code: "BAD_ANSWER" });
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

test("a try is given up with its signal, also while it waits for the next", async () => {
  const gone = await proxy(() => environment.urls[0]);
  await gone.close();
  const controller = new AbortController();
  const asked = client({ apiUrl: gone.url, maxRetries: 1_000 }).me({ signal: controller.signal });
  setTimeout(() => {
    controller.abort(new Error("enough"));
  }, 300);
  await assert.rejects(within("the end", asked), /enough/);
});
