/** What goes over the wire, as programs see it. */

/** How a text travelled, where the client has an encryption key. */
export type Encryption =
  /** In the clear: whoever runs the relay could have read or written it. */
  | "plain"
  /** Encrypted, and decrypted here. */
  | "encrypted"
  /** Encrypted, and it could not be decrypted: why. The text is the envelope as it came. */
  | { failed: string };

/** A message. */
export interface Message {
  /** Its place in the team's order. */
  id: string;
  /** The channel it was posted to. */
  channel: string;
  /** Its place in the channel: 1, 2, 3 … with no number left out as posted. */
  seq: number;
  /** Who posted it, as the relay knows from the key. */
  sender: string;
  /** What it says. */
  content: string;
  /** Whom it calls. */
  mention: string | null;
  /** The message that it replies to. */
  thread_id: string | null;
  /** How many replies to it stand. */
  reply_count: number;
  /** When it was committed, RFC 3339. */
  created_at: string;
  /** How its text travelled, where the client has an encryption key. */
  encryption?: Encryption;
}

/** A page of messages, oldest first. */
export interface MessagePage {
  messages: Message[];
  /** Where the next page starts: pass it as `after_id`. */
  next_after_id: string;
  /** Whether more follows after this page. */
  has_more: boolean;
  /** The channel read. */
  channel: string;
}

/** A message and a page of its replies, oldest first. */
export interface ThreadPage {
  parent: Message;
  replies: Message[];
  next_after_id: string;
  has_more: boolean;
}

/** A channel. */
export interface Channel {
  name: string;
  description: string | null;
  created_at: string;
}

/** How far a sender has read a channel. */
export interface Ack {
  channel: string;
  sender: string;
  /** Everything up to this ID. */
  last_read_id: string;
  acked_at: string;
}

/** A status entry. */
export interface Status {
  channel: string;
  key: string;
  value: string;
  updated_by: string;
  updated_at: string;
  encryption?: Encryption;
}

/** A change of a status entry. */
export interface StatusChange {
  id: string;
  channel: string;
  key: string;
  /** What it said from then on; empty where the entry was deleted. */
  value: string;
  changed_by: string;
  changed_at: string;
  /** True where the entry was deleted. */
  deleted?: boolean;
  encryption?: Encryption;
}

/** A page of status changes, oldest first. */
export interface StatusChangePage {
  changes: StatusChange[];
  next_after_id: string;
  has_more: boolean;
}

/** What a key may do in a channel. */
export type Level = "read" | "write" | "admin";

/** What a key may do: a channel's name, or `*` for every channel, to a level. */
export type Permissions = Record<string, Level>;

/** A key that was just made. */
export interface CreatedKey {
  /** The key itself, shown only now. */
  api_key: string;
  /** The hash that names it. */
  key: string;
  sender: string;
  permissions?: Permissions;
  expires_at?: string;
}

/** A key, as its team's admins see it. */
export interface Key {
  /** The hash that names it. */
  key: string;
  team_id: string;
  sender: string;
  created_at: string;
  permissions: Permissions;
  expires_at?: string;
}

/** What a key may do from now on. */
export interface KeyPermissions {
  key: string;
  permissions: Permissions;
}

/** A team. */
export interface Team {
  id: string;
  name: string;
  created_at: string;
}

/** A new team and its first key. */
export interface SignedUp {
  team: Team;
  /** Shown only now. */
  api_key: string;
}

/** Limits and quotas of a key and its team. */
export interface Limits {
  rate_limit_max: number;
  rate_limit_window_ms: number;
  streams_per_key: number;
  keys_per_team: number;
  channels_per_team: number;
}

/** Whom the key speaks for. */
export interface Me {
  team: Team;
  sender: string;
  /** The hash that names the key. */
  key: string;
  permissions: Permissions;
  expires_at?: string;
  limits: Limits;
}

/** A short-lived token. */
export interface CreatedToken {
  token: string;
  sender: string;
  permissions: Permissions;
  expires_at: string;
}

/** A denied request. */
export interface AuditEntry {
  id: string;
  key_hash: string;
  sender_name: string;
  /** `METHOD /path`. */
  action: string;
  /** The channel, or `*` for team matters. */
  channel: string;
  result: string;
  timestamp: string;
}

/** A page of denied requests, oldest first. */
export interface AuditPage {
  entries: AuditEntry[];
  next_after_id: string;
  has_more: boolean;
}

/** What the caller has not read, over all its channels: cut to a budget, the rest as counts. */
export interface Inbox {
  /** Unread messages that mention the caller, oldest first. */
  mentions: Message[];
  /** Other unread messages of others, oldest first. */
  messages: Message[];
  unread: {
    /** 100 means 100 or more. */
    mentions: number;
    /** Messages by channel; channels without any are left out. */
    channels: Record<string, number>;
  };
  has_more: boolean;
  /** The newest ID that this answer knows of: as `after_id` it asks for what is newer. */
  next_after_id: string;
}

/** Something to wait for. */
export type WaitCondition =
  /** The entry has this value; without one, that it is there. */
  | { status: { channel: string; key: string; value?: string } }
  /** So many senders have read up to this message. */
  | { acks: { channel: string; id: string; count: number } }
  /** Somebody, or this sender, has replied to the message. */
  | { reply: { channel: string; id: string; by?: string } }
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
}

/** What came of a wait. */
export interface WaitResult {
  /** Whether what was asked for has happened; false: the time was over. */
  satisfied: boolean;
  conditions: WaitOutcome[];
}

/** What a relay says of itself. */
export interface RelayDescription {
  name: string;
  version: string;
  endpoints: { method: string; path: string }[];
  limits: Record<string, string>;
}
