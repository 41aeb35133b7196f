/**
 * Messages as they come, over one connection after another: each goes on where the last was cut, so
 * that nothing is skipped and nothing comes twice.
 */

import { ConnectionError, HandoffError, ServerError, badAnswer } from "./errors.ts";
import { mayPass, type Http } from "./internal/http.ts";
import { BlockDecoder, type Block } from "./internal/sse.ts";
import { Backoff, follow, sleep } from "./internal/time.ts";
import type { Message } from "./types.ts";

/** How a stream starts and ends. */
export interface StreamOptions {
  /** Everything after this ID comes; none: what is posted from now on. */
  last_event_id?: string | undefined;
  /** Only messages that mention this name. */
  mention?: string | undefined;
  /** Ends the stream, and the loop over it, without an error. */
  signal?: AbortSignal | undefined;
  /**
   * Hears of every connection that is lost, and of every one that doesn't come about, before the next is
   * tried; without an error where the relay has ended it in good order, as when it shuts down.
   */
  onCut?: ((error: HandoffError | undefined) => void) | undefined;
}

/** What a stream comes upon. */
export type Happening =
  /** A connection was opened; what is posted from now on comes. Nothing comes before the first one. */
  | { type: "open"; cursor: string | undefined; epoch: string | undefined }
  | { type: "message"; message: Message }
  /** Everything up to this ID has come. */
  | { type: "cursor"; id: string };

/** What a stream needs of its client. */
export interface StreamSource {
  http: Http;
  /** Path and query. */
  path: string;
  /** A connection without a byte for so many milliseconds is dead. */
  silence: number;
  /** Makes a message of what came: rejects only where a later try may go better. */
  read: (message: Message) => Promise<Message>;
}

/** Longest wait before a new connection, in milliseconds. */
const LONGEST_WAIT_MS = 10_000;
/** A connection that held for so long was a good one: the next wait is short again. */
const GOOD_CONNECTION_MS = 10_000;
/** How long a relay has to tell where a stream starts, in milliseconds. Ours does so at once. */
const POSITION_WAIT_MS = 2_000;

/**
 * Messages of channels as they come: `for await (const message of stream)`. Connects again for ever
 * when it is cut. Ends without an error when the loop is left, on {@link MessageStream.close} and when
 * its signal is aborted; with one where another try can't help, like a key that was revoked.
 *
 * It asks for the next message when the loop does, so a slow loop slows the relay down and fills no
 * memory. It can be looped over once.
 */
export class MessageStream implements AsyncIterable<Message> {
  readonly #controller: AbortController;
  readonly #release: () => void;
  readonly #happenings: AsyncGenerator<Happening, void, undefined>;
  readonly #mention: string | undefined;
  #first: Promise<IteratorResult<Happening, void>> | undefined;
  #cursor: string | undefined;
  #epoch: string | undefined;
  #connected = false;

  /** @internal Use `hf.stream()`. */
  constructor(source: StreamSource, options: StreamOptions = {}) {
    const { controller, release } = follow(options.signal);
    this.#controller = controller;
    this.#release = release;
    // An empty one counts as none, as it does for the relay.
    this.#cursor = options.last_event_id === "" ? undefined : options.last_event_id;
    this.#mention = options.mention;
    this.#happenings = happenings(source, this.#cursor, controller.signal, (error) => {
      this.#connected = false;
      options.onCut?.(error);
    });
  }

  /** Everything up to this ID was handed out: a later stream from here on goes on where this one was. */
  get cursor(): string | undefined {
    return this.#cursor;
  }

  /**
   * The relay's epoch when it was last connected, as {@link Handoff.describe} tells it. Another one than
   * before: the database was restored or failed over, and what came from the old one may be gone.
   */
  get epoch(): string | undefined {
    return this.#epoch;
  }

  /** Whether there is a connection at the moment. */
  get connected(): boolean {
    return this.#connected && !this.#controller.signal.aborted;
  }

  /**
   * Resolves when the stream is open for the first time: whatever is posted from then on comes, even if
   * the connection is cut at that moment. The loop opens it as well; this is for those who must know.
   */
  async opened(): Promise<void> {
    await this.#begin();
  }

  /** Ends the stream, and the loop over it. */
  close(): void {
    this.#release();
    this.#connected = false;
    this.#controller.abort();
    void this.#happenings.return().catch(() => undefined);
  }

  /** The messages. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Message, void, undefined> {
    for await (const happening of this.happenings()) {
      if (happening.type === "message") yield happening.message;
    }
  }

  /** @internal Everything that the stream comes upon. */
  async *happenings(): AsyncGenerator<Happening, void, undefined> {
    try {
      for (let step = await this.#begin(); step.done !== true; step = await this.#happenings.next()) {
        const happening = step.value;
        this.#note(happening);
        if (
          happening.type === "message" &&
          this.#mention !== undefined &&
          happening.message.mention !== this.#mention
        ) {
          continue;
        }
        yield happening;
      }
    } finally {
      this.close();
    }
  }

  /** The first happening, which is the opening: asked for by whoever comes first. */
  #begin(): Promise<IteratorResult<Happening, void>> {
    this.#first ??= this.#happenings.next().then((step) => {
      if (step.done !== true) this.#note(step.value);
      return step;
    });
    return this.#first;
  }

  #note(happening: Happening): void {
    switch (happening.type) {
      case "open":
        this.#connected = true;
        this.#cursor = happening.cursor;
        this.#epoch = happening.epoch;
        break;
      case "message":
        this.#cursor = happening.message.id;
        break;
      case "cursor":
        this.#cursor = happening.id;
        break;
    }
  }
}

/** What happens from connection to connection. Returns once the signal is aborted. */
async function* happenings(
  source: StreamSource,
  start: string | undefined,
  signal: AbortSignal,
  onCut: (error: HandoffError | undefined) => void,
): AsyncGenerator<Happening, void, undefined> {
  const waits = new Backoff(LONGEST_WAIT_MS);
  let position = start;
  let wasOpen = false;
  let renewed = false;
  const ended = (): boolean => signal.aborted;
  while (!ended()) {
    const { controller, release } = follow(signal);
    let openSince: number | undefined;
    let cut: HandoffError | undefined;
    try {
      const response = await source.http.open(source.path, position, controller.signal);
      const bytes = new Bytes(response, source.silence);
      openSince = Date.now();
      wasOpen = true;
      renewed = false;
      let early: Block[] = [];
      if (position === undefined) {
        // Without a position nobody could say what was missed if it were cut now.
        early = (await bytes.within(POSITION_WAIT_MS)) ?? [];
        const [first] = early;
        if (first?.id !== undefined && first.data === undefined) position = first.id;
      }
      const epoch = response.headers.get("handoff-epoch") ?? undefined;
      yield { type: "open", cursor: position, epoch };
      for (let blocks: Block[] | undefined = early; ; blocks = await bytes.next()) {
        if (blocks === undefined) break;
        for (const { id: blockId, event, data } of blocks) {
          const id = blockId === "" ? undefined : blockId;
          if (id !== undefined && position !== undefined && !isAfter(id, position)) continue;
          if (data !== undefined && event === "message") {
            const message = await source.read(parseMessage(data));
            waits.reset();
            position = id ?? position;
            yield { type: "message", message };
          } else {
            position = id ?? position;
          }
          // An ID alone says it too: the relay has looked through everything up to it.
          if (id !== undefined) yield { type: "cursor", id };
        }
      }
    } catch (error) {
      if (ended()) return;
      if (!(error instanceof HandoffError)) throw error;
      const renews: boolean = !renewed && source.http.canRenew(error);
      renewed ||= renews;
      if (!renews && !mayReconnect(error, wasOpen)) throw error;
      cut = error;
    } finally {
      controller.abort();
      release();
    }
    // A server that shuts down ends its streams without an error: another one takes over.
    onCut(cut);
    if (openSince !== undefined && Date.now() - openSince >= GOOD_CONNECTION_MS) waits.reset();
    try {
      await sleep(waits.next(cut?.retryAfter), signal);
    } catch {
      return;
    }
  }
}

/** The blocks of a body, read only as far as they are asked for. */
class Bytes {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #decoder = new BlockDecoder();
  readonly #silence: number;
  #pending: ReturnType<ReadableStreamDefaultReader<Uint8Array>["read"]> | undefined;

  constructor(response: Response, silence: number) {
    if (response.body === null) throw badAnswer(response.status, "it has no body");
    this.#reader = response.body.getReader();
    this.#silence = silence;
  }

  /** The next blocks, maybe none; undefined: the relay ended the stream. */
  async next(): Promise<Block[] | undefined> {
    const chunk = await this.#read(this.#silence);
    if (chunk === undefined) {
      throw new ConnectionError(`The stream was silent for ${this.#silence} ms`, {
        code: "TIMEOUT",
      });
    }
    return chunk.blocks;
  }

  /** The first blocks that come within this time; none: nothing was told. */
  async within(ms: number): Promise<Block[] | undefined> {
    const end = Date.now() + ms;
    for (;;) {
      const chunk = await this.#read(Math.max(0, end - Date.now()));
      if (chunk === undefined) return [];
      // The relay ended the stream before it told anything: the next read says so once more.
      if (chunk.blocks === undefined) return undefined;
      if (chunk.blocks.length > 0) return chunk.blocks;
    }
  }

  /** Undefined: nothing came in time; what comes later is read by the next call. */
  async #read(ms: number): Promise<{ blocks: Block[] | undefined } | undefined> {
    this.#pending ??= this.#reader.read();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(resolve, ms, undefined);
    });
    try {
      const chunk = await Promise.race([this.#pending, late]);
      if (chunk === undefined) return undefined;
      this.#pending = undefined;
      return { blocks: chunk.done ? undefined : this.#decoder.push(chunk.value) };
    } catch (cause) {
      throw new ConnectionError("The stream broke off", { cause });
    } finally {
      clearTimeout(timer);
    }
  }
}

function parseMessage(data: string): Message {
  try {
    return JSON.parse(data) as Message;
  } catch {
    throw badAnswer(200, "an event is not JSON");
  }
}

/** IDs ascend as numbers. What is no number can only be told from itself. */
export function isAfter(id: string, other: string): boolean {
  const digits = /^\d+$/;
  if (!digits.test(id) || !digits.test(other)) return id !== other;
  return BigInt(id) > BigInt(other);
}

/** Whether another connection may help. */
function mayReconnect(error: HandoffError, wasOpen: boolean): boolean {
  // What was a relay's URL before may be answered by a proxy while relays are replaced.
  if (error.code === "HTTP_404") return wasOpen;
  return mayPass(error) || error instanceof ServerError;
}
