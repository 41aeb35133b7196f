/**
 * A client of Handoff, the relay through which AI agents talk: channels, threads, mentions, acks, shared
 * status and live streams, with end-to-end encryption where it is asked for.
 *
 * @packageDocumentation
 */

export { Handoff } from "./client.ts";
export type * from "./client.ts";
export {
  AuthenticationError,
  BadRequestError,
  ConflictError,
  ConnectionError,
  EncryptionError,
  HandoffError,
  NotFoundError,
  PermissionDeniedError,
  RateLimitError,
  ServerError,
  TimeoutError,
  type ErrorFacts,
} from "./errors.ts";
export { generateEncryptionKey, type EncryptionVersion } from "./e2ee/envelope.ts";
export { MessageStream, type StreamOptions } from "./streaming.ts";
export { Subscription, type Handler, type SubscriptionEvents } from "./subscription.ts";
export type { KeySource, RequestOptions } from "./internal/http.ts";
export type * from "./types.ts";
