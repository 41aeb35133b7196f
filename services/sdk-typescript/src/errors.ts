/** What can go wrong, as classes: one for each kind of refusal, all of them {@link HandoffError}. */

/** What the relay or the client knows of a failure. */
export interface ErrorFacts {
  /** The HTTP status; 0 where no answer came. */
  status: number;
  /** The machine-readable code, like `FORBIDDEN`. */
  code: string;
  /** Names the request in the relay's log. */
  request_id?: string | undefined;
  /** More of what the relay said, where it said more. */
  details?: unknown;
  /** Seconds after which the relay asks to try again. */
  retryAfter?: number | undefined;
  /** What led to it. */
  cause?: unknown;
}

/** A request or a stream that came to nothing. */
export class HandoffError extends Error {
  /** The HTTP status; 0 where no answer came. */
  readonly status: number;
  /**
   * The machine-readable code: the relay's own, like `FORBIDDEN`; `HTTP_502` and the like where a
   * proxy answered; `CONNECTION_ERROR`, `TIMEOUT`, `BAD_ANSWER`, `ENCRYPTION_ERROR` and
   * `INVALID_ARGUMENT` where this client says so.
   */
  readonly code: string;
  /** Names the request in the relay's log. */
  readonly request_id: string | undefined;
  /** More of what the relay said, where it said more. */
  readonly details: unknown;
  /** Seconds after which the relay asks to try again. */
  readonly retryAfter: number | undefined;

  constructor(message: string, facts: ErrorFacts) {
    super(message, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.name = "HandoffError";
    this.status = facts.status;
    this.code = facts.code;
    this.request_id = facts.request_id;
    this.details = facts.details;
    this.retryAfter = facts.retryAfter;
  }
}

/** 400 and 413: something in the request is not as it must be. */
export class BadRequestError extends HandoffError {
  override readonly name = "BadRequestError";
}

/** 401: the key or token is missing, unknown, revoked or expired. */
export class AuthenticationError extends HandoffError {
  override readonly name = "AuthenticationError";
}

/** 403: the key may not do this, or a quota is used up. */
export class PermissionDeniedError extends HandoffError {
  override readonly name = "PermissionDeniedError";
}

/** 404: there is no such thing for this key. */
export class NotFoundError extends HandoffError {
  override readonly name = "NotFoundError";
}

/** 409: it doesn't go with what stands. */
export class ConflictError extends HandoffError {
  override readonly name = "ConflictError";
}

/** 429: too many requests or streams; `retryAfter` says when there is room again. */
export class RateLimitError extends HandoffError {
  override readonly name = "RateLimitError";
}

/** 500 and above: the relay, or a proxy before it, could not answer. */
export class ServerError extends HandoffError {
  override readonly name = "ServerError";
}

/** No answer came, or it broke off. */
export class ConnectionError extends HandoffError {
  override readonly name: string = "ConnectionError";
  /** Whether it is certain that the request never reached the relay. */
  readonly unsent: boolean;

  constructor(
    message: string,
    options: { cause?: unknown; code?: string; unsent?: boolean } = {},
  ) {
    super(message, {
      status: 0,
      code: options.code ?? "CONNECTION_ERROR",
      cause: options.cause,
    });
    this.unsent = options.unsent ?? false;
  }
}

/** No answer came in time. */
export class TimeoutError extends ConnectionError {
  override readonly name = "TimeoutError";

  constructor(message: string) {
    super(message, { code: "TIMEOUT" });
  }
}

/** A text that can't be encrypted or decrypted, or a key that is none. */
export class EncryptionError extends HandoffError {
  override readonly name = "EncryptionError";

  constructor(message: string, cause?: unknown) {
    super(message, { status: 0, code: "ENCRYPTION_ERROR", cause });
  }
}

/** An argument that no relay would take. */
export function invalidArgument(message: string, cause?: unknown): HandoffError {
  return new HandoffError(message, { status: 0, code: "INVALID_ARGUMENT", cause });
}

/** An answer that is none of a relay's. */
export function badAnswer(status: number, what: string): HandoffError {
  return new HandoffError(`This is no answer of a Handoff relay: ${what}`, {
    status,
    code: "BAD_ANSWER",
  });
}

/** The error class that goes with a status. */
export function refusal(message: string, facts: ErrorFacts): HandoffError {
  const { status } = facts;
  if (status >= 500) return new ServerError(message, facts);
  switch (status) {
    case 400:
    case 413:
      return new BadRequestError(message, facts);
    case 401:
      return new AuthenticationError(message, facts);
    case 403:
      return new PermissionDeniedError(message, facts);
    case 404:
      return new NotFoundError(message, facts);
    case 409:
      return new ConflictError(message, facts);
    case 429:
      return new RateLimitError(message, facts);
    default:
      return new HandoffError(message, facts);
  }
}
