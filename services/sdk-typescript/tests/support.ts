/** What the tests stand on: the relay that the Rust harness runs for them, and ways to spoil things. */

import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";

import { Handoff, type HandoffOptions, type Message } from "../src/index.ts";

interface Environment {
  urls: [string, ...string[]];
  key: string;
  team_id: string;
  control: string;
  relay: string;
  handoff: string;
  vectors: string;
}

/** What the harness tells. */
export const environment = JSON.parse(process.env["HANDOFF_SDK_TEST"] ?? "null") as Environment;

/** How long anything may take before it is called broken: far more than a busy machine needs. */
export const DEADLINE_MS = 60_000;

/** A client of the team's admin. */
export function client(options: Partial<HandoffOptions> = {}): Handoff {
  return new Handoff({ apiUrl: environment.urls[0], apiKey: environment.key, ...options });
}

type Command =
  | { do: "kill" | "terminate"; replica: number }
  | { do: "start" }
  | { do: "search"; text: string };

/** Has the harness do something to the relay. */
export async function harness(command: Command): Promise<unknown> {
  const socket = net.connect(environment.control);
  socket.end(`${JSON.stringify(command)}\n`);
  const parts: Buffer[] = [];
  for await (const part of socket) parts.push(part as Buffer);
  return JSON.parse(Buffer.concat(parts).toString());
}

/** The promise's outcome, or a failure that names what did not come in time. */
export async function within<T>(what: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`waited ${DEADLINE_MS} ms in vain: ${what}`));
    }, DEADLINE_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Asks again and again until it is so. */
export async function eventually(
  what: string,
  ask: () => boolean | Promise<boolean>,
): Promise<void> {
  const end = Date.now() + DEADLINE_MS;
  while (!(await ask())) {
    assert.ok(Date.now() < end, `waited ${DEADLINE_MS} ms in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

let channels = 0;

/** A channel that no other test uses. */
export function freshChannel(): string {
  channels += 1;
  return `channel-${channels}`;
}

/** So many messages of a stream. */
export async function take(stream: AsyncIterable<Message>, count: number): Promise<Message[]> {
  const messages: Message[] = [];
  await within(
    `${count} messages`,
    (async () => {
      for await (const message of stream) {
        messages.push(message);
        if (messages.length >= count) break;
      }
    })(),
  );
  return messages;
}

/** What a proxy does to an answer: where to cut it, if at all. */
export interface Spoiler {
  /** Bytes of answers to pass on before the connection is cut; Infinity: all. */
  answer: number;
  /** Passes answers on in pieces of so many bytes. */
  pieces?: number;
  /** Keeps answers back without an end. */
  silent?: boolean;
}

/** A TCP proxy before a relay. Each connection gets the next spoiler; later ones pass untouched. */
export async function proxy(
  target: () => string,
  spoilers: Spoiler[] = [],
): Promise<{
  url: string;
  spoilers: Spoiler[];
  connections: () => number;
  cut: () => void;
  close: () => Promise<void>;
}> {
  let connections = 0;
  const open = new Set<net.Socket>();
  const server = net.createServer((socket) => {
    connections += 1;
    const spoiler = spoilers.shift() ?? { answer: Infinity };
    const { hostname, port } = new URL(target());
    const upstream = net.connect(Number(port), hostname);
    for (const end of [socket, upstream]) {
      open.add(end);
      end.setNoDelay(true);
      end.on("error", () => undefined);
      end.on("close", () => {
        open.delete(end);
        socket.destroy();
        upstream.destroy();
      });
    }
    socket.pipe(upstream);
    let left = spoiler.answer;
    upstream.on("data", (bytes: Buffer) => {
      if (spoiler.silent === true) return;
      const passed = bytes.subarray(0, Math.min(bytes.length, left));
      left -= passed.length;
      const size = spoiler.pieces ?? passed.length;
      for (let at = 0; at < passed.length; at += size) socket.write(passed.subarray(at, at + size));
      if (left <= 0) socket.destroySoon();
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  assert.ok(typeof address === "object" && address !== null);
  return {
    url: `http://127.0.0.1:${address.port}`,
    spoilers,
    connections: () => connections,
    cut: () => {
      for (const socket of open) socket.destroy();
    },
    close: async () => {
      for (const socket of open) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}
