// A lock between agents: while one of them is in the guarded section, nobody else is.
//
// A channel is the queue. Whoever wants the lock posts "request"; the answer "release" in its thread
// gives it back. The oldest request without a release holds the lock. Why nobody else does then:
//
// - The relay puts all messages into one order, and whoever has seen an ID never sees a smaller one
//   appear. So nobody can get in before a request that was seen to be the oldest.
// - A stream from the beginning hands out every message once, in that order. So all agents see the
//   same queue, some of them a little later, and an agent that sees itself at its head has seen the
//   releases of all before it. Those were posted after their holders had left the section.
// - A request that is tried again is posted once (the SDK sends an idempotency key with it).
//
// What it does not do: expire. An agent that crashes keeps the lock, until somebody releases it for
// it (`handoff reply lock-counter ID release`), knowing that it is gone.
//
// Run it in several terminals at once, on a relay (`handoff-relay dev` prints address and key). Each
// adds 1 to a counter, read and written in two steps, so often; none of it is lost:
//
//   npm install handoff-sdk
//   RELAY_API_URL=http://127.0.0.1:3000 RELAY_API_KEY=relay_... node lock.mts [TIMES]

import process from "node:process";
import { Handoff } from "handoff-sdk";

const hf = new Handoff({
  apiUrl: process.env["RELAY_API_URL"] ?? "http://127.0.0.1:3000",
  apiKey: process.env["RELAY_API_KEY"] ?? "",
});

class Lock {
  readonly #channel: string;

  constructor(name: string) {
    this.#channel = `lock-${name}`;
  }

  /** Runs the section while this agent, and nobody else, holds the lock. */
  async hold<T>(section: () => Promise<T>): Promise<T> {
    const { id } = await hf.post(this.#channel, "request");
    try {
      await this.#turn(id);
      return await section();
    } finally {
      await hf.reply(this.#channel, id, "release");
    }
  }

  /** Waits until this request is the oldest that stands. */
  async #turn(mine: string): Promise<void> {
    const queue = new Set<string>(); // Keeps the order in which they came.
    for await (const message of hf.stream(this.#channel, { last_event_id: "0" })) {
      const { id, thread_id, content } = message;
      if (thread_id === null && content === "request") queue.add(id);
      if (thread_id !== null && content === "release") queue.delete(thread_id);
      const [oldest] = queue;
      if (oldest === mine) return;
    }
    throw new Error("the stream has ended");
  }
}

async function count(): Promise<number> {
  const [entry] = await hf.getStatus({ channel: "lock-counter", key: "count" });
  return Number(entry?.value ?? 0);
}

const lock = new Lock("counter");
const times = Number(process.argv[2] ?? 5);
for (let turn = 0; turn < times; turn++) {
  await lock.hold(async () => {
    const next = (await count()) + 1;
    // Without the lock another agent may read the same number here, and one of the two is lost.
    await hf.setStatus("lock-counter", "count", String(next));
    console.log(`counted to ${next}`);
  });
}
