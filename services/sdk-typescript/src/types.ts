/**
 * What goes over the wire, as programs see it: what the relay's document says, and what the client adds where
 * it decrypts.
 */

import type * as wire from "./internal/openapi.ts";

export type {
  About,
  Ack,
  AcksConditionRequest,
  AuditEntry,
  AuditPage,
  Channel,
  ChannelAckRequest,
  ConditionRequest,
  CreatedKey,
  CreatedToken,
  Endpoint,
  ErrorCode,
  Key,
  KeyPermissions,
  Level,
  Limits,
  Me,
  MessageConditionRequest,
  Permissions,
  ReplyConditionRequest,
  SignedUp,
  StatusConditionRequest,
  Team,
  TextLimits,
  UnreadCounts,
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

/** Something to wait for: a status entry, acks, a reply or a message. */
export type WaitCondition = {
  [Kind in keyof wire.ConditionRequest]-?: Record<Kind, NonNullable<wire.ConditionRequest[Kind]>>;
}[keyof wire.ConditionRequest];

/** How a condition stood at the end of a wait. */
export interface ConditionState extends Omit<wire.ConditionState, "message" | "status"> {
  /** The message or the reply: the first one. */
  message?: Message;
  /** The entry as it stands, also where it says something else. */
  status?: Status;
}

/** What came of a wait. */
export interface WaitOutcome extends Omit<wire.WaitOutcome, "conditions"> {
  /** Each condition, in the order asked. */
  conditions: ConditionState[];
}
