/** Texts in URLs. Refuses what a URL can't carry rather than send something else. */

import { invalidArgument } from "../errors.ts";

/** A parameter's value; undefined, null and "" are left out. */
export type QueryValue = string | number | boolean | null | undefined;

/**
 * A body or a query of the relay's document with every field named, be it as undefined: so the compiler
 * finds what the relay has gained or lost.
 */
export type Every<T> = { [K in keyof Required<T>]: Lax<T[K]> };

type Lax<T> = T extends (infer Item)[] ? readonly Item[] : T;

/** The query of a URL, with its question mark; empty where there is nothing to say. */
export function query(parameters: Record<string, QueryValue>): string {
  const parts = Object.entries(parameters).flatMap(([name, value]) =>
    value === undefined || value === null || value === ""
      ? []
      : [`${name}=${encode(name, String(value))}`],
  );
  return parts.length === 0 ? "" : `?${parts.join("&")}`;
}

/** A text as a segment of a path. */
export function segment(what: string, text: string): string {
  // URLs have no way to say these: `..` goes up, however it is encoded.
  if (text === "" || text === "." || text === "..") {
    throw invalidArgument(`"${text}" can't be named as a ${what}`);
  }
  return encode(what, text);
}

/** A path below a channel. */
export function channelPath(channel: string, below = ""): string {
  return `/api/channels/${segment("channel", channel)}${below}`;
}

function encode(what: string, text: string): string {
  try {
    return encodeURIComponent(text);
  } catch (cause) {
    throw invalidArgument(`The ${what} is not well-formed text`, cause);
  }
}
