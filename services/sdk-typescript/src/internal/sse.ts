/**
 * The blocks of an event stream. Unlike `EventSource` it also gives those that hold nothing but an
 * ID: the relay sends them so that a client knows how far it is.
 */

import { createParser } from "eventsource-parser";

/** A block that moves the cursor, brings data, or both. */
export interface Block {
  id: string | undefined;
  /** Undefined: an ID alone. */
  data: string | undefined;
  event: string;
}

/** Characters of a block at most: a message of 32 KiB, every character escaped, is far below. */
const BLOCK_MAX = 1 << 20;

/** Takes bytes as they come, cut anywhere, and gives the blocks that are whole. */
export class BlockDecoder {
  readonly #decoder = new TextDecoder();
  readonly #parser;
  #blocks: Block[] = [];
  #tooLong = false;

  constructor() {
    this.#parser = createParser({
      maxBufferSize: BLOCK_MAX,
      onId: (id) => {
        this.#blocks.push({ id, data: undefined, event: "message" });
      },
      onEvent: ({ id, event = "message", data }) => {
        // Its ID was told just before: they are one block.
        if (id !== undefined) this.#blocks.pop();
        this.#blocks.push({ id, data, event });
      },
      onError: (error) => {
        if (error.type === "max-buffer-size-exceeded") this.#tooLong = true;
      },
    });
  }

  /** The blocks that these bytes complete. */
  push(bytes: Uint8Array): Block[] {
    this.#parser.feed(this.#decoder.decode(bytes, { stream: true }));
    if (this.#tooLong) throw new RangeError(`A block has more than ${BLOCK_MAX} characters`);
    const blocks = this.#blocks;
    this.#blocks = [];
    return blocks;
  }
}
