/**
 * Requests over `fetch`: a call goes in, its answer or its refusal comes out. Repeats only what is
 * safe to repeat, for a bounded time.
 */

import {
  AuthenticationError,
  ConnectionError,
  HandoffError,
  NotFoundError,
  TimeoutError,
  badAnswer,
  invalidArgument,
  refusal,
} from "../errors.ts";
import { Backoff, abortReason, follow, sleep } from "./time.ts";

/** Where a key comes from: the text, or what gives one for each request. */
export type KeySource = string | (() => string | Promise<string>);

/** What every request can be told. */
export interface RequestOptions {
  /** Gives the request up, its retries too: it rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** How long one try may take, in milliseconds. */
  timeout?: number | undefined;
}

/** A request to be made, as often as it takes. */
export interface Call extends RequestOptions {
  method: "GET" | "POST" | "PUT" | "DELETE";
  /** Path and query. */
  path: string;
  /** The JSON body. */
  body?: object;
  /** Shared by all its tries, so that the relay acts once. */
  idempotencyKey?: string;
  /** False: the second time would do more, so only what surely didn't happen is tried again. */
  repeatable?: boolean;
  /** Seconds that the relay was asked to hold it. */
  held?: number | undefined;
}

/** How a relay is reached. */
export interface HttpOptions {
  apiUrl: string;
  apiKey: KeySource | undefined;
  fetch: typeof fetch;
  maxRetries: number;
  timeout: number;
}

/** Longest wait between two tries, in milliseconds. */
const LONGEST_WAIT_MS = 10_000;
/**
 * No try begins later than this after the first, in milliseconds. Longer than the usual timeout, so
 * that a request which was swallowed gets a second chance, and than a `Retry-After` of half a minute.
 */
const PATIENCE_MS = 40_000;
/** Bytes of a refusal that are read at most. */
const REFUSAL_MAX_BYTES = 64 * 1024;

/** A way to a relay. */
export class Http {
  readonly #base: string;
  readonly #options: HttpOptions;

  constructor(options: HttpOptions) {
    this.#base = baseUrl(options.apiUrl);
    this.#options = options;
  }

  /** Sends a call and reads its JSON answer. */
  async json<T>(call: Call): Promise<T> {
    const { text, status } = await this.send(call);
    try {
      // The one place where an answer gets its type: the tests hold these against the relay.
      return JSON.parse(text) as T;
    } catch {
      throw badAnswer(status, "it is not JSON");
    }
  }

  /** Sends a call, again where that is safe, until it is answered 2xx or refused for good. */
  async send(call: Call): Promise<{ status: number; text: string }> {
    const waits = new Backoff(LONGEST_WAIT_MS);
    const began = Date.now();
    const heldMs = (call.held ?? 0) * 1000;
    // Whether an earlier try may have been carried out although its answer never came.
    let perhapsDone = false;
    let renewed = false;
    for (;;) {
      const error = await this.#try(call, heldMs).catch((thrown: unknown) => {
        if (thrown instanceof HandoffError) return thrown;
        throw thrown;
      });
      if (!(error instanceof HandoffError)) return error;
      if (perhapsDone && call.method === "DELETE" && isGone(error)) {
        return { status: 204, text: "" };
      }
      if (!renewed && this.canRenew(error)) {
        renewed = true;
        continue;
      }
      if (!mayPass(error) || (call.repeatable === false && !isUntouched(error))) throw error;
      if (waits.tries >= this.#options.maxRetries) throw error;
      const wait = waits.next(error.retryAfter);
      if (Date.now() - began + wait > PATIENCE_MS + heldMs) throw error;
      perhapsDone ||= !isUntouched(error);
      await sleep(wait, call.signal);
    }
  }

  /** Opens a stream: the answer with its body unread. The caller ends it by its signal. */
  async open(path: string, lastEventId: string | undefined, signal: AbortSignal): Promise<Response> {
    const headers: Record<string, string> = { Accept: "text/event-stream" };
    if (lastEventId !== undefined) headers["Last-Event-ID"] = lastEventId;
    const { controller, release } = follow(signal);
    const timer = setTimeout(() => {
      controller.abort();
    }, this.#options.timeout);
    let response: Response;
    try {
      response = await this.#fetch(path, { method: "GET", headers, signal: controller.signal });
    } catch (error) {
      release();
      if (signal.aborted) throw abortReason(signal);
      if (controller.signal.aborted) throw this.#late(this.#options.timeout);
      throw error;
    } finally {
      clearTimeout(timer);
    }
    // From here on the signal governs the body, for as long as it is read.
    if (response.status === 200) {
      if (isEventStream(response)) return response;
      controller.abort();
      release();
      throw badAnswer(200, "it is no event stream");
    }
    const late = setTimeout(() => {
      controller.abort();
    }, this.#options.timeout);
    try {
      throw await readRefusal(response);
    } finally {
      clearTimeout(late);
      release();
      controller.abort();
    }
  }

  /** Whether another try will come with another token, in place of one that has expired. */
  canRenew(error: HandoffError): boolean {
    return (
      typeof this.#options.apiKey === "function" &&
      error instanceof AuthenticationError &&
      error.code === "TOKEN_EXPIRED"
    );
  }

  async #try(call: Call, heldMs: number): Promise<{ status: number; text: string }> {
    if (call.signal?.aborted) throw abortReason(call.signal);
    const headers: Record<string, string> = { Accept: "application/json" };
    if (call.body !== undefined) headers["Content-Type"] = "application/json";
    if (call.idempotencyKey !== undefined) headers["Idempotency-Key"] = call.idempotencyKey;
    const timeout = (call.timeout ?? this.#options.timeout) + heldMs;
    const { controller, release } = follow(call.signal);
    const timer = setTimeout(() => {
      controller.abort();
    }, timeout);
    try {
      const response = await this.#fetch(call.path, {
        method: call.method,
        headers,
        signal: controller.signal,
        ...(call.body === undefined ? {} : { body: JSON.stringify(call.body) }),
      });
      if (!response.ok) throw await readRefusal(response);
      const text = await response.text().catch((cause: unknown) => {
        throw new ConnectionError(`The answer broke off: ${chain(cause)}`, { cause });
      });
      return { status: response.status, text };
    } catch (error) {
      if (call.signal?.aborted) throw abortReason(call.signal);
      if (controller.signal.aborted) throw this.#late(timeout);
      throw error;
    } finally {
      clearTimeout(timer);
      release();
    }
  }

  async #fetch(path: string, init: RequestInit & { headers: Record<string, string> }): Promise<Response> {
    const key = await this.#key();
    if (key !== undefined) init.headers["Authorization"] = `Bearer ${key}`;
    const { fetch } = this.#options;
    try {
      // Followed, a redirected POST would arrive as a GET, and be answered like one.
      return await fetch(`${this.#base}${path}`, { ...init, redirect: "manual", cache: "no-store" });
    } catch (cause) {
      const message = `The relay could not be reached: ${chain(cause)}`;
      throw new ConnectionError(message, { cause, unsent: neverLeft(cause) });
    }
  }

  async #key(): Promise<string | undefined> {
    const { apiKey } = this.#options;
    const key = (typeof apiKey === "function" ? await apiKey() : apiKey)?.trim();
    if (key === undefined || key === "") return undefined;
    if (!/^[\x21-\x7e]+$/.test(key)) {
      throw invalidArgument("apiKey has characters that no key has");
    }
    return key;
  }

  #late(timeout: number): TimeoutError {
    return new TimeoutError(`No answer came within ${timeout} ms`);
  }
}

/** Whether another try may go better. */
export function mayPass(error: HandoffError): boolean {
  return error instanceof ConnectionError || [429, 502, 503, 504].includes(error.status);
}

/** Whether it is certain that the relay did not act. */
function isUntouched(error: HandoffError): boolean {
  if (error instanceof ConnectionError) return error.unsent;
  // The relay answers 503 also when Postgres went away over a write: only this code says that it
  // did nothing.
  return error.status === 429 || error.code === "OVERLOADED";
}

/** Whether the relay says that what was to be deleted is not there. */
function isGone(error: HandoffError): boolean {
  // `NOT_FOUND` alone is an unknown route.
  return error instanceof NotFoundError && error.code.endsWith("_NOT_FOUND");
}

function isEventStream(response: Response): boolean {
  return (response.headers.get("content-type") ?? "").startsWith("text/event-stream");
}

/** What an answer other than 2xx says. */
async function readRefusal(response: Response): Promise<HandoffError> {
  const { status } = response;
  if (response.type === "opaqueredirect" || (status >= 300 && status < 400)) {
    const target = response.headers.get("location") ?? "elsewhere";
    await response.body?.cancel();
    return badAnswer(status, `it points to ${target}`);
  }
  // Cut short or not, the status says most.
  const text = await readStart(response).catch(() => "");
  const seconds = response.headers.get("retry-after")?.trim() ?? "";
  const facts = {
    status,
    request_id: response.headers.get("x-request-id") ?? undefined,
    retryAfter: /^\d{1,6}$/.test(seconds) ? Number(seconds) : undefined,
  };
  const body = parseObject(text);
  if (typeof body?.["error"] === "string" && typeof body["code"] === "string") {
    const named = body["request_id"];
    return refusal(body["error"], {
      ...facts,
      code: body["code"],
      details: body["details"],
      request_id: typeof named === "string" ? named : facts.request_id,
    });
  }
  // A proxy's answer, most often: it still says whether another try may help.
  return refusal(`HTTP ${status}, from something before the relay`, {
    ...facts,
    code: `HTTP_${status}`,
  });
}

/** The beginning of a body, as long as a refusal can be. */
async function readStart(response: Response): Promise<string> {
  const reader = response.body?.getReader();
  if (reader === undefined) return "";
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for (;;) {
    const chunk = await reader.read();
    if (chunk.done) return text + decoder.decode();
    text += decoder.decode(chunk.value, { stream: true });
    bytes += chunk.value.length;
    if (bytes > REFUSAL_MAX_BYTES) {
      await reader.cancel();
      return text;
    }
  }
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}

/** The URL that paths are appended to. */
function baseUrl(apiUrl: string): string {
  let url: URL;
  try {
    url = new URL(apiUrl.trim());
  } catch (cause) {
    throw invalidArgument(`apiUrl must be like https://relay.example.com, not "${apiUrl}"`, cause);
  }
  const wrong = (why: string): HandoffError =>
    invalidArgument(`apiUrl must be like https://relay.example.com: ${why}`);
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    throw wrong("it starts with neither http:// nor https://");
  }
  if (url.search !== "" || url.hash !== "") throw wrong("nothing may follow its path");
  if (url.username !== "" || url.password !== "") {
    throw wrong("a name or password has no place in it");
  }
  return `${url.origin}${url.pathname.replace(/\/+$/, "")}`;
}

/** Whether a failed `fetch` says that no connection came about. Browsers never tell. */
function neverLeft(error: unknown): boolean {
  const codes = ["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "UND_ERR_CONNECT_TIMEOUT", "ConnectionRefused"];
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if ("code" in cause && typeof cause.code === "string" && codes.includes(cause.code)) return true;
  }
  return false;
}

/** An error and its causes in one sentence. */
function chain(error: unknown): string {
  const parts: string[] = [];
  for (let cause = error; cause instanceof Error && parts.length < 5; cause = cause.cause) {
    const code = "code" in cause && typeof cause.code === "string" ? cause.code : "";
    const text = cause.message === "" ? code : cause.message;
    if (text !== "" && !parts.some((part) => part.includes(text))) parts.push(text);
  }
  return parts.length === 0 ? String(error) : parts.join(": ");
}
