/**
 * The whole contract, a method each. Arguments come in, a request goes out, its answer comes back; texts
 * are encrypted on the way out and decrypted on the way in, where there is a key for it.
 */

import { EncryptionError, HandoffError, invalidArgument } from "./errors.ts";
import type { EncryptionVersion, Place } from "./e2ee/envelope.ts";
import { Keyring } from "./e2ee/keyring.ts";
import { channelPath, query, segment, type Every } from "./internal/encoding.ts";
import { Http, mayPass, type Call, type KeySource, type RequestOptions } from "./internal/http.ts";
import type * as wire from "./internal/openapi.ts";
import { MessageStream, type StreamOptions } from "./streaming.ts";
import { Subscription } from "./subscription.ts";
import type {
  About,
  Ack,
  AuditEntry,
  AuditPage,
  Channel,
  ChannelAckRequest,
  ConditionState,
  CreatedKey,
  CreatedToken,
  Encryption,
  Inbox,
  Key,
  KeyPermissions,
  Me,
  Message,
  MessagePage,
  Permissions,
  SignedUp,
  Status,
  StatusChange,
  StatusChangePage,
  ThreadPage,
  WaitCondition,
  WaitOutcome,
} from "./types.ts";

/** How a client reaches its relay, and as whom. */
export interface HandoffOptions {
  /** The relay's URL, like `https://relay.example.com`. */
  apiUrl: string;
  /** A key or a token; or what gives one for each request, for tokens that expire. */
  apiKey: KeySource;
  /**
   * Encrypts what is sent and decrypts what is read. Several keys, separated by commas or as a list: the
   * first writes, all read.
   */
  encryptionKey?: string | readonly string[] | undefined;
  /** Which envelope is written: 1, which every client reads, by default; 2 is bound to its place. */
  encryptionVersion?: EncryptionVersion | undefined;
  /** How long an answer may take, in milliseconds; 30,000 by default. */
  timeout?: number | undefined;
  /** How often a request is tried again at most; 5 by default. */
  maxRetries?: number | undefined;
  /**
   * A stream without a byte for so many milliseconds is opened again; 60,000 by default. The relay says
   * something every 25 seconds at least.
   */
  streamTimeout?: number | undefined;
  /** In place of the global `fetch`. */
  fetch?: typeof fetch | undefined;
}

/** What a post has beside its text. */
export interface PostOptions extends RequestOptions {
  /** Whom it calls. */
  mention?: string | undefined;
  /** The message that it replies to. */
  thread_id?: string | undefined;
  /**
   * A name for this post: with the same one, another call posts nothing and answers the first message.
   * A call has one of its own, which its retries share.
   */
  idempotency_key?: string | undefined;
}

/** What a reply has beside its text. */
export type ReplyOptions = Omit<PostOptions, "thread_id">;

/** Which page. */
export interface PageOptions extends RequestOptions {
  /** The page right after this ID. */
  after_id?: string | undefined;
  /** 1 to 100, by default 50. */
  limit?: number | undefined;
}

/** Which of a channel's messages. */
export interface MessageFilter {
  /** Only those that mention this name. */
  mention?: string | undefined;
  /** Only those from this sender. */
  sender?: string | undefined;
  /** Only the replies to this message. */
  thread_id?: string | undefined;
}

/** Which page of a channel's messages. Without `after_id`: the newest. */
export interface ReadOptions extends PageOptions, MessageFilter {
  /** Seconds, 50 at most, that the relay waits for something to answer; needs `after_id`. */
  wait?: number | undefined;
}

/** How much of what is unread. */
export interface UnreadOptions extends RequestOptions {
  /** 1 to 100, by default 50. */
  limit?: number | undefined;
  /** Seconds, 50 at most, that the relay waits for something to answer. */
  wait?: number | undefined;
}

/** What of the inbox. */
export interface InboxOptions extends RequestOptions {
  /** Bytes of text at most; 0 for the counts alone; by default 16,384. */
  max_bytes?: number | undefined;
  /** Only what is newer than this ID, read or not. */
  after_id?: string | undefined;
  /** Only these channels. */
  channels?: readonly string[] | undefined;
  /** Only what mentions the caller. */
  mentions_only?: boolean | undefined;
  /** Seconds, 55 at most, that the relay waits until there is something to show. */
  wait?: number | undefined;
}

/** Where all pages begin, and which messages. */
export interface MessagesOptions extends PageOptions, MessageFilter {}

/** Which status entries. */
export interface StatusFilter extends RequestOptions {
  channel?: string | undefined;
  key?: string | undefined;
}

/** Which denied requests. */
export interface AuditOptions extends PageOptions {
  result?: string | undefined;
}

/** How a channel is opened. */
export interface ChannelOptions extends RequestOptions {
  /** What it is for. */
  description?: string | undefined;
}

/** What a key is like. */
export interface KeyOptions extends RequestOptions {
  /** From when on it is refused, RFC 3339. */
  expires_at?: string | undefined;
}

/** What a token is like. */
export interface TokenOptions extends RequestOptions {
  /** What it may do, as far as its key may; none given: all that its key may. */
  permissions?: Permissions | undefined;
  /** It speaks as `SENDER/SUFFIX`. */
  sender_suffix?: string | undefined;
  /** For how long it is good: 1 to 86,400 seconds, by default 3,600. */
  ttl_seconds?: number | undefined;
}

/** What to wait for, and for how long. */
export type WaitRequest = RequestOptions & {
  /** Seconds, 1 to 50; by default 30. */
  timeout_seconds?: number | undefined;
} & (
    | { any: readonly WaitCondition[]; all?: undefined }
    | { all: readonly WaitCondition[]; any?: undefined }
  );

/** Handlers and starting point of {@link Handoff.on}. */
export interface ListenOptions {
  /** Everything after this ID comes. */
  last_event_id?: string | undefined;
  /** Hears of lost connections, of what a handler throws, and why the stream has ended. */
  onError?: ((error: Error) => void) | undefined;
}

/**
 * A client of a relay, for one key.
 *
 * ```ts
 * const hf = new Handoff({ apiUrl: "https://relay.example", apiKey: "relay_..." });
 * await hf.post("infra", "EKS cluster ready", { mention: "jordan" });
 * for await (const message of hf.stream("infra")) console.log(message.content);
 * ```
 *
 * Requests are tried again where that can't double anything. Every method takes a `signal` and a
 * `timeout` in its last argument, and rejects with a {@link HandoffError}.
 */
export class Handoff {
  readonly #http: Http;
  readonly #keyring: Keyring | undefined;
  readonly #streamTimeout: number;
  #me: Promise<Me> | undefined;

  constructor(options: HandoffOptions) {
    if (typeof options.apiKey === "string" && options.apiKey.trim() === "") {
      throw invalidArgument("apiKey is empty");
    }
    this.#http = http(options, options.apiKey);
    this.#streamTimeout = options.streamTimeout ?? 60_000;
    const { encryptionKey, encryptionVersion } = options;
    if (typeof encryptionKey === "string") {
      // An empty one is none: so it comes from an environment in which it is not set.
      if (encryptionKey !== "") this.#keyring = Keyring.parse(encryptionKey, encryptionVersion);
    } else if (encryptionKey !== undefined) {
      this.#keyring = new Keyring(encryptionKey, encryptionVersion);
    }
  }

  /** Signs a team up. Needs no key; the answer has the first one. */
  static async signup(
    options: Omit<HandoffOptions, "apiKey"> & { team_name: string; sender_name: string },
  ): Promise<SignedUp> {
    const { team_name, sender_name } = options;
    return http(options, undefined).json({
      method: "POST",
      path: "/api/signup",
      body: { team_name, sender_name } satisfies Every<wire.SignupRequest>,
      repeatable: false,
    });
  }

  /** Who the key speaks for, and what it may do. */
  me(options?: RequestOptions): Promise<Me> {
    return this.#get("/api/me", options);
  }

  /** What the relay says of itself. Another `epoch` than before: its database was restored or failed over. */
  describe(options?: RequestOptions): Promise<About> {
    return this.#get("/api", options);
  }

  // Channels

  /** Opens a channel; one that is open already stays as it is. */
  createChannel(name: string, description?: string | ChannelOptions): Promise<Channel> {
    const options = typeof description === "string" ? { description } : (description ?? {});
    const body = { name, description: options.description };
    // The second time answers with the channel that stands.
    return this.#write("POST", "/api/channels", body satisfies Every<wire.CreateChannelRequest>, options);
  }

  /** The channels that the key can read, by name. */
  listChannels(options?: RequestOptions): Promise<Channel[]> {
    return this.#get("/api/channels", options);
  }

  /** Deletes a channel with everything in it. */
  async deleteChannel(channel: string, options?: RequestOptions): Promise<void> {
    await this.#delete(channelPath(channel), options);
  }

  // Messages

  /** Posts a message, once however often it must be tried. Opens the channel if need be. */
  async post(channel: string, content: string, options: PostOptions = {}): Promise<Message> {
    const path = channelPath(channel, "/messages");
    if (content === "") {
      // Encrypted it would be no longer empty, and the relay could not tell.
      throw invalidArgument("A message must say something");
    }
    const { mention, thread_id, idempotency_key, ...request } = options;
    const encrypted = await this.#encrypt({ channel }, content, request);
    const message = await this.#http.json<Message>({
      ...request,
      method: "POST",
      path,
      body: { content: encrypted, mention, thread_id } satisfies Every<wire.PostMessageRequest>,
      idempotencyKey: idempotency_key ?? randomName(),
    });
    return this.#readMessage(message, channel);
  }

  /** Posts a reply to a message. */
  reply(
    channel: string,
    thread_id: string,
    content: string,
    options: ReplyOptions = {},
  ): Promise<Message> {
    return this.post(channel, content, { ...options, thread_id });
  }

  /** A page of a channel's messages, oldest first: the newest, or the one right after `after_id`. */
  async read(channel: string, options: ReadOptions = {}): Promise<MessagePage> {
    const { after_id, limit, mention, sender, thread_id, wait, ...request } = options;
    const parameters = { after_id, limit, mention, sender, thread_id, wait };
    const below = `/messages${query(parameters satisfies Every<wire.ListMessagesQuery>)}`;
    const path = channelPath(channel, below);
    return this.#readPage(await this.#get<MessagePage>(path, request, wait), channel);
  }

  /** All messages of a channel, oldest first, page after page; those after `after_id`, if given. */
  async *messages(
    channel: string,
    options: MessagesOptions = {},
  ): AsyncGenerator<Message, void, undefined> {
    yield* pages(options, async (page) => {
      const { messages, ...rest } = await this.read(channel, page);
      return { items: messages, ...rest };
    });
  }

  /** Deletes a message. */
  async deleteMessage(channel: string, id: string, options?: RequestOptions): Promise<void> {
    await this.#delete(channelPath(channel, `/messages/${segment("message ID", id)}`), options);
  }

  /** A message and a page of its replies, oldest first. */
  async thread(channel: string, id: string, options: PageOptions = {}): Promise<ThreadPage> {
    const { after_id, limit, ...request } = options;
    const parameters = query({ after_id, limit } satisfies Every<wire.ReadThreadQuery>);
    const below = `/threads/${segment("message ID", id)}${parameters}`;
    const page = await this.#get<ThreadPage>(channelPath(channel, below), request);
    const [parent, replies] = await Promise.all([
      this.#readMessage(page.parent, channel),
      this.#readMessages(page.replies, channel),
    ]);
    return { ...page, parent, replies };
  }

  /** All replies to a message, oldest first, page after page. */
  async *replies(
    channel: string,
    id: string,
    options: PageOptions = {},
  ): AsyncGenerator<Message, void, undefined> {
    yield* pages(options, async (page) => {
      const { replies, ...rest } = await this.thread(channel, id, page);
      return { items: replies, ...rest };
    });
  }

  // What was read

  /** Says that everything up to this message was read. Never moves back. */
  ack(channel: string, last_read_id: string, options?: RequestOptions): Promise<Ack> {
    const body = { last_read_id } satisfies Every<wire.AckRequest>;
    return this.#write("POST", channelPath(channel, "/ack"), body, options);
  }

  /** How far each sender has read a channel. */
  getAcks(channel: string, options?: RequestOptions): Promise<Ack[]> {
    return this.#get(channelPath(channel, "/acks"), options);
  }

  /** What comes after the caller's ack in a channel, its own messages included. Moves no ack. */
  async unread(channel: string, options: UnreadOptions = {}): Promise<MessagePage> {
    const { limit, wait, ...request } = options;
    const parameters = query({ limit, wait } satisfies Every<wire.ListUnreadQuery>);
    const path = channelPath(channel, `/unread${parameters}`);
    return this.#readPage(await this.#get<MessagePage>(path, request, wait), channel);
  }

  /** What the caller has not read, over all its channels. */
  async inbox(options: InboxOptions = {}): Promise<Inbox> {
    const { max_bytes, after_id, channels, mentions_only, wait, ...request } = options;
    const parameters = query({
      max_bytes,
      after_id,
      channels: channels?.join(","),
      mentions_only: mentions_only === true ? true : undefined,
      wait,
    } satisfies Every<wire.ReadInboxQuery>);
    const inbox = await this.#get<Inbox>(`/api/inbox${parameters}`, request, wait);
    const [mentions, messages] = await Promise.all([
      this.#readMessages(inbox.mentions),
      this.#readMessages(inbox.messages),
    ]);
    return { ...inbox, mentions, messages };
  }

  /** Says of several channels how far they were read, all at once or none. */
  ackInbox(acks: readonly ChannelAckRequest[], options?: RequestOptions): Promise<Ack[]> {
    const body = { acks } satisfies Every<wire.InboxAckRequest>;
    return this.#write("POST", "/api/inbox/ack", body, options);
  }

  /**
   * Waits on the relay until any or all of the conditions hold, or the time is over. A condition that
   * holds already answers at once.
   */
  async wait(request: WaitRequest): Promise<WaitOutcome> {
    const { any, all, timeout_seconds, signal, timeout } = request;
    const conditions = any ?? all;
    for (const condition of conditions) {
      if (this.#keyring && "status" in condition && typeof condition.status.value === "string") {
        throw invalidArgument("The relay can't compare encrypted values: wait for the entry's key");
      }
    }
    const outcome = await this.#http.json<WaitOutcome>({
      method: "POST",
      path: "/api/wait",
      body: { any, all, timeout_seconds } satisfies Every<wire.WaitRequest>,
      held: timeout_seconds ?? 30,
      signal,
      timeout,
    });
    const states = outcome.conditions.map(async (state): Promise<ConditionState> => {
      const { message, status } = state;
      return {
        ...state,
        ...(message && { message: await this.#readMessage(message) }),
        ...(status && { status: await this.#readStatus(status) }),
      };
    });
    return { ...outcome, conditions: await Promise.all(states) };
  }

  // Status

  /** Sets a status entry. Opens the channel if need be. */
  async setStatus(
    channel: string,
    key: string,
    value: string,
    options: RequestOptions = {},
  ): Promise<Status> {
    const path = channelPath(channel, "/status");
    const encrypted = await this.#encrypt({ channel, status_key: key }, value, options);
    const body = { key, value: encrypted } satisfies Every<wire.SetStatusRequest>;
    const status = await this.#write<Status>("PUT", path, body, options);
    return this.#readStatus(status, channel);
  }

  /** The status entries of all channels that the key can read, of one channel, or of one key. */
  async getStatus(options: StatusFilter = {}): Promise<Status[]> {
    const { channel, key, ...request } = options;
    const parameters = query({ channel, key } satisfies Every<wire.ListAllStatusesQuery>);
    const statuses = await this.#get<Status[]>(`/api/status${parameters}`, request);
    return Promise.all(statuses.map((status) => this.#readStatus(status, channel)));
  }

  /** A page of a channel's status history, oldest first: the newest, or the one after `after_id`. */
  async getStatusChanges(channel: string, options: PageOptions = {}): Promise<StatusChangePage> {
    const { after_id, limit, ...request } = options;
    const parameters = query({ after_id, limit } satisfies Every<wire.ListStatusChangesQuery>);
    const path = channelPath(channel, `/status/changes${parameters}`);
    const page = await this.#get<StatusChangePage>(path, request);
    const changes = page.changes.map(async (change): Promise<StatusChange> => {
      // A deletion says nothing, so there is nothing to say of its encryption either.
      if (change.deleted === true) return change;
      const { text, ...how } = await this.#decrypt({ channel, status_key: change.key }, change.value);
      return { ...change, value: text, ...how };
    });
    return { ...page, changes: await Promise.all(changes) };
  }

  /** A channel's whole status history, oldest first, page after page. */
  async *statusChanges(
    channel: string,
    options: PageOptions = {},
  ): AsyncGenerator<StatusChange, void, undefined> {
    yield* pages(options, async (page) => {
      const { changes, ...rest } = await this.getStatusChanges(channel, page);
      return { items: changes, ...rest };
    });
  }

  /** Deletes a status entry. */
  async deleteStatus(channel: string, key: string, options?: RequestOptions): Promise<void> {
    await this.#delete(channelPath(channel, `/status/${segment("status key", key)}`), options);
  }

  // Keys and tokens

  /** Makes a key for a sender; without permissions it may do everything. The key is shown only now. */
  createKey(
    sender_name: string,
    permissions?: Permissions,
    options: KeyOptions = {},
  ): Promise<CreatedKey> {
    const { expires_at, ...request } = options;
    return this.#http.json({
      ...request,
      method: "POST",
      path: "/api/keys",
      body: { sender_name, permissions, expires_at } satisfies Every<wire.CreateKeyRequest>,
      repeatable: false,
    });
  }

  /** The team's keys. */
  listKeys(options?: RequestOptions): Promise<Key[]> {
    return this.#get("/api/keys", options);
  }

  /** Replaces what a key may do, which its hash names. */
  updateKeyPermissions(
    hash: string,
    permissions: Permissions,
    options?: RequestOptions,
  ): Promise<KeyPermissions> {
    const path = `/api/keys/${segment("key hash", hash)}/permissions`;
    const body = { permissions } satisfies Every<wire.SetPermissionsRequest>;
    return this.#write("PUT", path, body, options);
  }

  /** Ends a key, which its hash names, and its streams. */
  async revokeKey(hash: string, options?: RequestOptions): Promise<void> {
    await this.#delete(`/api/keys/${segment("key hash", hash)}`, options);
  }

  /** Makes a short-lived token with a part of what this key may: for sub-agents and browsers. */
  createToken(options: TokenOptions = {}): Promise<CreatedToken> {
    const { permissions, sender_suffix, ttl_seconds, ...request } = options;
    const body = { permissions, sender_suffix, ttl_seconds };
    return this.#write("POST", "/api/tokens", body satisfies Every<wire.CreateTokenRequest>, request);
  }

  /** A page of the denied requests, oldest first: the newest, or the one right after `after_id`. */
  audit(options: AuditOptions = {}): Promise<AuditPage> {
    const { after_id, limit, result, ...request } = options;
    const parameters = { after_id, limit, result } satisfies Every<wire.ListAuditQuery>;
    return this.#get(`/api/audit${query(parameters)}`, request);
  }

  /** All denied requests, oldest first, page after page. */
  async *auditEntries(options: AuditOptions = {}): AsyncGenerator<AuditEntry, void, undefined> {
    yield* pages(options, async (page) => {
      const { entries, ...rest } = await this.audit(page);
      return { items: entries, ...rest };
    });
  }

  // Streams

  /**
   * Messages of a channel, or of several with one cursor, as they come:
   * `for await (const message of hf.stream(["build", "deploy"]))`. Nothing is sent before the loop
   * begins; leaving the loop ends the connection.
   */
  stream(channels: string | readonly string[], options?: StreamOptions): MessageStream {
    return new MessageStream(
      {
        http: this.#http,
        path: streamPath(channels),
        silence: this.#streamTimeout,
        read: (message) => this.#readMessage(message),
      },
      options,
    );
  }

  /** A channel's messages as events; nothing happens before its `connect()`. */
  subscribe(channel: string, options: { last_event_id?: string | undefined } = {}): Subscription {
    return new Subscription((from) => this.stream(channel, from), options.last_event_id);
  }

  /** Calls the handler with every message that is posted from now on. Returns what ends that. */
  on(
    channel: string,
    handler: (message: Message) => unknown,
    options: ListenOptions = {},
  ): () => void {
    const subscription = this.subscribe(channel, options).on("message", handler);
    if (options.onError) subscription.on("error", options.onError);
    void subscription.connect();
    return () => {
      subscription.close();
    };
  }

  // How requests are made

  #get<T>(path: string, options: RequestOptions = {}, wait?: number): Promise<T> {
    return this.#http.json({ ...only(options), method: "GET", path, held: wait });
  }

  #write<T>(
    method: "POST" | "PUT",
    path: string,
    body: object,
    options: RequestOptions = {},
  ): Promise<T> {
    return this.#http.json({ ...only(options), method, path, body });
  }

  async #delete(path: string, options: RequestOptions = {}): Promise<void> {
    await this.#http.send({ ...only(options), method: "DELETE", path });
  }

  // Encryption: each text for itself, so that one that can't be read spoils no page and no stream

  async #encrypt(
    place: Omit<Place, "team_id">,
    text: string,
    options: RequestOptions,
  ): Promise<string> {
    if (this.#keyring === undefined) return text;
    const team_id = this.#keyring.writesForTeam ? await this.#teamId(options) : "";
    return this.#keyring.encrypt({ ...place, team_id }, text);
  }

  /** Decrypts a text. Rejects only where a later try may go better. */
  async #decrypt(
    place: Omit<Place, "team_id">,
    text: string,
  ): Promise<{ text: string; encryption?: Encryption }> {
    const keyring = this.#keyring;
    if (keyring === undefined) return { text };
    try {
      const team_id = keyring.needsTeam(text) ? await this.#teamId() : "";
      const opened = await keyring.decrypt({ ...place, team_id }, text);
      return opened.plain
        ? { text, encryption: "plain" }
        : { text: opened.text, encryption: "encrypted" };
    } catch (error) {
      if (!(error instanceof HandoffError) || mayPass(error)) throw error;
      const failed =
        error instanceof EncryptionError
          ? error.message
          : `The relay does not tell which team this is: ${error.message}`;
      return { text, encryption: { failed } };
    }
  }

  /** Asked for once, then remembered. */
  async #teamId(options?: RequestOptions): Promise<string> {
    // The signal of one call must not fail the others that wait for the same answer.
    this.#me ??= this.me({ timeout: options?.timeout });
    const asked = this.#me;
    try {
      return (await asked).team.id;
    } catch (error) {
      if (this.#me === asked) this.#me = undefined;
      throw error;
    }
  }

  /**
   * Decrypts a message. Where a channel was asked for it must be of that one, whatever the relay says
   * of it.
   */
  async #readMessage(message: Message, asked: string = message.channel): Promise<Message> {
    const { text, ...how } = await this.#decrypt({ channel: asked }, message.content);
    return { ...message, content: text, ...how };
  }

  #readMessages(messages: readonly Message[], asked?: string): Promise<Message[]> {
    return Promise.all(messages.map((message) => this.#readMessage(message, asked)));
  }

  async #readPage(page: MessagePage, asked: string): Promise<MessagePage> {
    return { ...page, messages: await this.#readMessages(page.messages, asked) };
  }

  async #readStatus(status: Status, asked = ""): Promise<Status> {
    const channel = asked === "" ? status.channel : asked;
    const { text, ...how } = await this.#decrypt({ channel, status_key: status.key }, status.value);
    return { ...status, value: text, ...how };
  }
}

function http(options: Omit<HandoffOptions, "apiKey">, apiKey: KeySource | undefined): Http {
  return new Http({
    apiUrl: options.apiUrl,
    apiKey,
    // Browsers insist on being called as their own.
    fetch: options.fetch ?? ((input, init) => globalThis.fetch(input, init)),
    maxRetries: options.maxRetries ?? 5,
    timeout: options.timeout ?? 30_000,
  });
}

/** One channel by the route that every relay has. */
function streamPath(channels: string | readonly string[]): string {
  const names = typeof channels === "string" ? [channels] : channels;
  const [first] = names;
  if (first === undefined) throw invalidArgument("A stream needs at least one channel");
  if (names.length === 1) return channelPath(first, "/stream");
  // Where it starts is said by a header.
  const parameters: Omit<Every<wire.StreamChannelsQuery>, "last_event_id"> = {
    channels: names.join(","),
  };
  return `/api/stream${query(parameters)}`;
}

/** Options may have more in them than a request knows. */
function only({ signal, timeout }: RequestOptions): Pick<Call, "signal" | "timeout"> {
  return { signal, timeout };
}

/** 16 random bytes. `crypto.randomUUID` is not there on every web page. */
function randomName(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The items of all pages from the beginning on. */
async function* pages<Item, Options extends PageOptions>(
  options: Options,
  read: (
    options: Options,
  ) => Promise<{ items: Item[]; next_after_id: string; has_more: boolean }>,
): AsyncGenerator<Item, void, undefined> {
  let after_id = options.after_id ?? "0";
  for (;;) {
    const page = await read({ ...options, after_id });
    yield* page.items;
    if (!page.has_more) return;
    after_id = page.next_after_id;
  }
}
