/** Waiting: with an end, and given up when a signal says so. */

/** The shortest wait between tries. */
const FIRST_WAIT_MS = 100;

/**
 * The waits between tries, each of a length twice the last's and a random part of as much again: no two
 * clients that were cut at the same moment come back at the same moment, and none gives up early by
 * chance.
 */
export class Backoff {
  readonly #longestMs: number;
  #tries = 0;

  constructor(longestMs: number) {
    this.#longestMs = longestMs;
  }

  /** How often it was asked. */
  get tries(): number {
    return this.#tries;
  }

  /** The next wait, at least as long as the relay asked for. */
  next(retryAfterSeconds?: number): number {
    const length = Math.min(this.#longestMs / 2, FIRST_WAIT_MS * 2 ** this.#tries);
    this.#tries += 1;
    const wait = length * (1 + Math.random());
    // Past what the relay asked for still a little apart from the other clients it asked.
    return retryAfterSeconds === undefined ? wait : retryAfterSeconds * 1000 + wait / 4;
  }

  /** Begins again with short waits. */
  reset(): void {
    this.#tries = 0;
  }
}

/** Waits so many milliseconds; rejects with the signal's reason once it is aborted. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer);
      reject(abortReason(signal));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}

/** Why a signal was aborted, as an error. */
export function abortReason(signal: AbortSignal | undefined): Error {
  const reason: unknown = signal?.reason;
  return reason instanceof Error ? reason : new DOMException("Aborted", "AbortError");
}

/**
 * A controller that is aborted with the signal; `release` ends the tie, so that a signal which lives
 * long doesn't hold on to every request it was ever given to.
 */
export function follow(signal: AbortSignal | undefined): {
  controller: AbortController;
  release: () => void;
} {
  const controller = new AbortController();
  const abort = (): void => {
    controller.abort(abortReason(signal));
  };
  if (signal?.aborted) abort();
  else signal?.addEventListener("abort", abort, { once: true });
  return {
    controller,
    release: () => {
      signal?.removeEventListener("abort", abort);
    },
  };
}
