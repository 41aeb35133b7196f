/**
 * What goes over the wire, as programs see it: what the relay's document says, and what the client adds where
 * it decrypts.
 */

import type * as wire from "./internal/openapi.ts";
import type { Ack, Permissions } from "./internal/openapi.ts";

export type {
  About,
  Ack,
  AuditEntry,
  AuditPage,
  Channel,
  CreatedKey,
  ErrorCode,
  Key,
  KeyPermissions,
  Level,
  Limits,
  Me,
  Permissions,
  SignedUp,
  Team,
} from "./internal/openapi.ts";

/** How a text travelled, where the client has an encryption key. */
export type Encryption =
  /** In the clear: whoever runs the relay could have read or written it. */
  | "plain"
  /** Encrypted, and decrypted here. */
  | "encrypted"
  /** Encrypted, and it could not be decrypted: why. The text is the envelope as it came. */
  | { failed: string };

/** A message. */
export interface Message extends wire.Message {
  /** How its text travelled, where the client has an encryption key. */
  encryption?: Encryption;
}

/** A page of messages, oldest first. */
export interface MessagePage extends Omit<wire.MessagePage, "messages"> {
  /** Oldest first. */
  messages: Message[];
}

/** A message and a page of its replies. */
export interface ThreadPage extends Omit<wire.ThreadPage, "parent" | "replies"> {
  /** The message replied to, on every page. */
  parent: Message;
  /** Oldest first. */
  replies: Message[];
}

/** A status entry. */
export interface Status extends wire.Status {
  /** How its text travelled, where the client has an encryption key. */
  encryption?: Encryption;
}

/** One change in a channel's status history. */
export interface StatusChange extends wire.StatusChange {
  /** How its text travelled, where the client has an encryption key. */
  encryption?: Encryption;
}

/** A page of status changes. */
export interface StatusChangePage extends Omit<wire.StatusChangePage, "changes"> {
  /** Oldest first. */
  changes: StatusChange[];
}

/** What the caller has not read, over all its channels: cut to a budget, the rest as counts. */
export interface Inbox extends Omit<wire.Inbox, "mentions" | "messages"> {
  /** Unread messages that mention the caller, oldest first. */
  mentions: Message[];
  /** Other unread messages, oldest first. */
  messages: Message[];
}

/** A short-lived token. */
export interface CreatedToken {
  token: string;
  sender: string;
  permissions: Permissions;
  expires_at: string;
}

/** Something to wait for. */
export type WaitCondition =
  /** The entry stands, with this value and set after this ID where they are given. */
  | { status: { channel: string; key: string; value?: string; after_id?: string } }
  /** So many senders have read up to this message. */
  | { acks: { channel: string; id: string; count: number } }
  /** Somebody, or this sender, has replied to the message; after this ID, if given. */
  | { reply: { channel: string; id: string; by?: string; after_id?: string } }
  /** A message comes; after this ID, else from now on. */
  | { message: { channel: string; mention?: string; sender?: string; after_id?: string } };

/** What came of a condition. */
export interface WaitOutcome {
  /** Which of the conditions, counted from 0. */
  index: number;
  satisfied: boolean;
  message?: Message;
  status?: Status;
  acks?: Ack[];
  /** As `after_id` of the same condition it waits for what comes next, and misses nothing in between. */
  next_after_id?: string;
}

/** What came of a wait. */
export interface WaitResult {
  /** Whether what was asked for has happened; false: the time was over. */
  satisfied: boolean;
  conditions: WaitOutcome[];
}
