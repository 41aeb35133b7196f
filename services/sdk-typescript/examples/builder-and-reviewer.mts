// A builder and a reviewer, each with a key of its own, talk about a pull request: a mention wakes
// the reviewer, the talk goes on in a thread, the outcome is a status that everybody can see.
//
// Run it with a key that may make keys (the first one of a team; `handoff-relay dev` prints one):
//
//   npm install handoff-sdk
//   RELAY_API_URL=http://127.0.0.1:3000 RELAY_API_KEY=relay_... node builder-and-reviewer.mts
//
// (Node 22.18 and later run TypeScript as it is; tsx does with older ones.)

import process from "node:process";
import { Handoff } from "handoff-sdk";

const apiUrl = process.env["RELAY_API_URL"] ?? "http://127.0.0.1:3000";
const admin = new Handoff({ apiUrl, apiKey: process.env["RELAY_API_KEY"] ?? "" });
const channel = "pull-requests";

async function join(name: string): Promise<Handoff> {
  const { api_key } = await admin.createKey(name, { [channel]: "write" });
  return new Handoff({ apiUrl, apiKey: api_key });
}

async function build(hf: Handoff): Promise<void> {
  const request = await hf.post(channel, "PR 7 is ready: retries with jitter", {
    mention: "reviewer",
  });
  // The thread from its beginning, so that no reply is missed however fast it came.
  for await (const reply of hf.stream(channel, { last_event_id: request.id })) {
    if (reply.thread_id !== request.id || reply.sender !== "reviewer") continue;
    console.log(`${reply.sender}: ${reply.content}`);
    if (reply.content.startsWith("approved")) break; // Leaving the loop ends the stream.
    const answer = await hf.reply(channel, request.id, "Five at most, see http.ts", {
      mention: "reviewer",
    });
    console.log(`${answer.sender}: ${answer.content}`);
  }
  await hf.setStatus(channel, "pr-7", "merged");
}

async function review(hf: Handoff, start: string): Promise<void> {
  let asked = false;
  for await (const call of hf.stream(channel, { mention: "reviewer", last_event_id: start })) {
    if (!asked) console.log(`${call.sender}: ${call.content}`);
    const thread = call.thread_id ?? call.id;
    await hf.reply(channel, thread, asked ? "approved" : "How many retries at most?");
    await hf.ack(channel, call.id);
    if (asked) return;
    asked = true;
  }
}

// Where the channel ends now: what an earlier run said there is not for this one.
const { next_after_id: start } = await admin.read(channel, { limit: 1 });
const [builder, reviewer] = await Promise.all([join("builder"), join("reviewer")]);
await Promise.all([build(builder), review(reviewer, start)]);

const [status] = await admin.getStatus({ channel, key: "pr-7" });
console.log(`${status?.key} is ${status?.value}, says ${status?.updated_by}`);
