// @ts-check
/**
 * The SDK as its users have it, on any run-time: nothing here but what browsers have as well. Throws where
 * something is not as it must be.
 *
 * @param {typeof import("../../src/index.ts")} sdk the built package
 * @param {{ apiUrl: string, apiKey: string, channel: string }} where
 */
export async function scenario(sdk, { apiUrl, apiKey, channel }) {
  const { Handoff, HandoffError, generateEncryptionKey } = sdk;
  const hf = new Handoff({ apiUrl, apiKey });

  // A stream, a subscription and a listener, all open before anything is posted.
  const stream = hf.stream([channel, `${channel}-2`]);
  await stream.opened();
  /** @type {string[]} */
  const heard = [];
  const sub = hf.subscribe(channel).on("message", (message) => heard.push(message.content));
  await sub.connect();
  equal(sub.connected, true, "connected");

  const posted = await hf.post(channel, "größer 🦀", { mention: "jordan" });
  const reply = await hf.reply(channel, posted.id, "a reply");
  await hf.post(`${channel}-2`, "elsewhere");
  await hf.setStatus(channel, "eks", "ready");

  const streamed = [];
  for await (const message of stream) {
    streamed.push(message.content);
    if (streamed.length === 3) break;
  }
  equal(streamed.join(), "größer 🦀,a reply,elsewhere", "streamed");
  for (let waits = 0; heard.length < 2 && waits < 1_000; waits += 1) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  sub.close();
  equal(heard.join(), "größer 🦀,a reply", "heard");

  // Resumed by header.
  for await (const message of hf.stream(channel, { last_event_id: posted.id })) {
    equal(message.id, reply.id, "resumed");
    break;
  }
  const page = await hf.read(channel);
  equal(page.messages.length, 2, "page");
  const [status] = await hf.getStatus({ channel });
  equal(status?.value, "ready", "status");
  equal((await hf.ack(channel, reply.id)).last_read_id, reply.id, "ack");

  const encryptionKey = generateEncryptionKey();
  for (const encryptionVersion of /** @type {const} */ ([1, 2])) {
    const secret = new Handoff({ apiUrl, apiKey, encryptionKey, encryptionVersion });
    const sealed = await secret.post(channel, `secret ${encryptionVersion}`);
    equal(sealed.content, `secret ${encryptionVersion}`, "decrypted");
    const raw = (await hf.read(channel, { after_id: reply.id })).messages.at(-1);
    equal(raw?.content.startsWith("e2ee"), true, "sealed");
  }

  const refused = await new Handoff({ apiUrl, apiKey: "relay_no" }).me().catch((error) => error);
  equal(refused instanceof HandoffError, true, "an error of its own class");
  equal(`${refused.status} ${refused.code}`, "401 INVALID_API_KEY", "error");

  const controller = new AbortController();
  const waiting = hf.inbox({ wait: 50, after_id: "999999999", signal: controller.signal });
  setTimeout(() => controller.abort(), 100);
  const given = await waiting.catch((error) => error);
  equal(given.name, "AbortError", "abort");
  return "all is well";
}

/**
 * @param {unknown} found
 * @param {unknown} expected
 * @param {string} what
 */
function equal(found, expected, what) {
  if (found !== expected) throw new Error(`${what}: ${String(found)}, not ${String(expected)}`);
}
