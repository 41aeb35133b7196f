/** A channel's messages by way of handlers, for programs that are written around them. */

import { HandoffError } from "./errors.ts";
import type { MessageStream, StreamOptions } from "./streaming.ts";
import type { Message } from "./types.ts";

/** What a subscription tells, and with what. */
export interface SubscriptionEvents {
  /** A message has come. */
  message: [message: Message];
  /**
   * Something went wrong: a connection was lost (the next one is opened by itself), a handler threw,
   * or, just before `close`, the relay has refused the stream for good.
   */
  error: [error: Error];
  /** Everything up to this ID has come: as `last_event_id` it goes on from here. */
  cursor: [id: string];
  /** It has ended, and opens nothing by itself any more. */
  close: [];
}

/** What is called when something of this sort happens. */
export type Handler<E extends keyof SubscriptionEvents> = (...what: SubscriptionEvents[E]) => unknown;

/** A channel's messages as events. Nothing happens before {@link Subscription.connect}. */
export class Subscription {
  readonly #open: (options: StreamOptions) => MessageStream;
  readonly #handlers: { [E in keyof SubscriptionEvents]: Set<Handler<E>> } = {
    message: new Set(),
    error: new Set(),
    cursor: new Set(),
    close: new Set(),
  };
  #stream: MessageStream | undefined;
  #cursor: string | undefined;

  /** @internal Use `hf.subscribe()`. */
  constructor(open: (options: StreamOptions) => MessageStream, last_event_id?: string) {
    this.#open = open;
    this.#cursor = last_event_id;
  }

  /** Whether there is a connection at the moment. */
  get connected(): boolean {
    return this.#stream?.connected ?? false;
  }

  /** Everything up to this ID has come. */
  get cursor(): string | undefined {
    return this.#cursor;
  }

  /** Calls the handler whenever this happens. */
  on<E extends keyof SubscriptionEvents>(event: E, handler: Handler<E>): this {
    this.#handlers[event].add(handler);
    return this;
  }

  /** Calls the handler no more. */
  off<E extends keyof SubscriptionEvents>(event: E, handler: Handler<E>): this {
    this.#handlers[event].delete(handler);
    return this;
  }

  /**
   * Opens the stream, from where it was when it was closed. Resolves once it is open, when what is
   * posted from then on will come, or has ended; never rejects: that is what `error` is for.
   */
  connect(): Promise<void> {
    if (this.#stream !== undefined) return this.#stream.opened().catch(() => undefined);
    const stream: MessageStream = this.#open({
      last_event_id: this.#cursor,
      onCut: (error) => {
        if (error !== undefined && this.#stream === stream) this.#emit("error", error);
      },
    });
    this.#stream = stream;
    const opened = stream.opened().catch(() => undefined);
    void this.#follow(stream);
    return opened;
  }

  /** Ends it: nothing is handed out after this. */
  close(): void {
    this.#end(this.#stream);
  }

  async #follow(stream: MessageStream): Promise<void> {
    try {
      for await (const happening of stream.happenings()) {
        // A handler may have closed it.
        if (this.#stream !== stream) return;
        switch (happening.type) {
          case "message":
            this.#emit("message", happening.message);
            break;
          case "cursor":
            this.#reach(happening.id);
            break;
          case "open":
            if (happening.cursor !== undefined) this.#reach(happening.cursor);
            break;
        }
      }
    } catch (error) {
      if (this.#stream === stream) this.#fail(error);
    } finally {
      this.#end(stream);
    }
  }

  #reach(cursor: string): void {
    if (cursor === this.#cursor) return;
    this.#cursor = cursor;
    this.#emit("cursor", cursor);
  }

  #end(stream: MessageStream | undefined): void {
    if (stream === undefined || this.#stream !== stream) return;
    this.#stream = undefined;
    stream.close();
    this.#emit("close");
  }

  #emit<E extends keyof SubscriptionEvents>(event: E, ...what: SubscriptionEvents[E]): void {
    const handlers: ReadonlySet<Handler<E>> = this.#handlers[event];
    // One that is added meanwhile hears of the next event first.
    for (const handler of [...handlers]) {
      try {
        const result = handler(...what);
        if (result instanceof Promise) {
          result.catch((error: unknown) => {
            this.#fail(error, event);
          });
        }
      } catch (error) {
        // What one handler does wrong must not cost the others their message.
        this.#fail(error, event);
      }
    }
  }

  /** Tells of an error that would else be lost. */
  #fail(error: unknown, from?: keyof SubscriptionEvents): void {
    if (from !== "error" && this.#handlers.error.size > 0) {
      this.#emit("error", error instanceof Error ? error : new Error(String(error)));
    } else if (error instanceof HandoffError) {
      console.error(`handoff-sdk: the subscription has ended: ${error.message} (${error.code})`);
    } else {
      console.error("handoff-sdk: a handler of a subscription failed:", error);
    }
  }
}
