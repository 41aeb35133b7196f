//! What the relay answers, as a client sees it: fields that it doesn't know are ignored, texts are
//! decrypted where there is a key.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Message {
    /// Its place in the team's order.
    pub id: String,
    /// The channel it stands in.
    pub channel: String,
    /// Its place in the channel: 1, 2, 3 … with no number left out as posted.
    #[serde(default)]
    pub seq: i64,
    /// Who posted it, as the relay knows it from the key.
    pub sender: String,
    /// What it says; the envelope as it came where it could not be decrypted.
    pub content: String,
    /// Whom it calls.
    pub mention: Option<String>,
    /// The message it replies to.
    pub thread_id: Option<String>,
    /// How many replies to it stand.
    pub reply_count: i64,
    /// When it was committed, RFC 3339.
    pub created_at: String,
    /// How its text travelled.
    #[serde(default, skip_serializing_if = "Encryption::is_unknown")]
    pub encryption: Encryption,
}

/// How a text travelled, where the client has a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encryption {
    /// Nobody looked: this client has no key.
    #[default]
    Unknown,
    /// In the clear: whoever runs the relay could have read or written it.
    Plain,
    /// Encrypted, and decrypted here.
    Encrypted,
    /// Encrypted, and it could not be decrypted: why.
    Failed(String),
}

impl Encryption {
    /// Whether nobody looked.
    pub fn is_unknown(&self) -> bool {
        *self == Self::Unknown
    }
}

/// A page of messages, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MessagePage {
    /// The messages.
    pub messages: Vec<Message>,
    /// Where the next page starts: pass it as `after_id`.
    pub next_after_id: String,
    /// Whether more follows after this page.
    pub has_more: bool,
    /// The channel read.
    pub channel: String,
}

/// A message and a page of its replies, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ThreadPage {
    /// The message replied to.
    pub parent: Message,
    /// The replies.
    pub replies: Vec<Message>,
    /// Where the next page starts: pass it as `after_id`.
    pub next_after_id: String,
    /// Whether more follows after this page.
    pub has_more: bool,
}

/// What the caller has not read, over all channels that its key can read: cut to a budget, the
/// rest as counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Inbox {
    /// Unread messages that mention the caller, oldest first.
    pub mentions: Vec<Message>,
    /// Other unread messages from others, oldest first.
    pub messages: Vec<Message>,
    /// How much is unread in all, shown above or not.
    pub unread: UnreadCounts,
    /// Whether the budget left something out.
    pub has_more: bool,
    /// The newest ID this answer knows of: pass it as `after_id` to hear only of what is newer.
    pub next_after_id: String,
}

/// How much a caller has not read; its own messages don't count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnreadCounts {
    /// Messages that mention it; 100 means 100 or more.
    pub mentions: u64,
    /// Messages by channel, only channels that have any; 100 means 100 or more.
    pub channels: BTreeMap<String, u64>,
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// When it was opened, RFC 3339.
    pub created_at: String,
}

/// How far a sender has read a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ack {
    /// The channel.
    pub channel: String,
    /// Who has read.
    pub sender: String,
    /// Everything up to this ID.
    pub last_read_id: String,
    /// When it last moved, RFC 3339.
    pub acked_at: String,
}

/// A status entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Its channel.
    pub channel: String,
    /// Its key.
    pub key: String,
    /// What it says.
    pub value: String,
    /// Who set it.
    pub updated_by: String,
    /// When, RFC 3339.
    pub updated_at: String,
    /// How its text travelled.
    #[serde(default, skip_serializing_if = "Encryption::is_unknown")]
    pub encryption: Encryption,
}

/// A change of a status entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatusChange {
    /// Its place in the team's order.
    pub id: String,
    /// The channel.
    pub channel: String,
    /// The entry's key.
    pub key: String,
    /// What it said from then on; empty when it was deleted.
    pub value: String,
    /// Who changed it.
    pub changed_by: String,
    /// When, RFC 3339.
    pub changed_at: String,
    /// Whether the change was a deletion.
    #[serde(default)]
    pub deleted: bool,
    /// How its text travelled.
    #[serde(default, skip_serializing_if = "Encryption::is_unknown")]
    pub encryption: Encryption,
}

/// A page of status changes, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatusChangePage {
    /// The changes.
    pub changes: Vec<StatusChange>,
    /// Where the next page starts: pass it as `after_id`.
    pub next_after_id: String,
    /// Whether more follows after this page.
    pub has_more: bool,
}

/// What a key may do: a channel's name, or `*` for all, to `read`, `write` or `admin`.
pub type Permissions = BTreeMap<String, String>;

/// A key, as its team's admins see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Key {
    /// The hash that names it.
    pub key: String,
    /// Whom it speaks for.
    pub sender: String,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// What it may do.
    pub permissions: Permissions,
    /// When it stops being good, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// A key that was just made.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct CreatedKey {
    /// The key itself, shown only now.
    pub api_key: String,
    /// The hash that names it.
    pub key: String,
    /// Whom it speaks for.
    pub sender: String,
}

/// A token to be made, for a sub-agent, a browser or a dashboard.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct NewToken {
    /// No more than the key may do; none: all that it may do, at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Permissions>,
    /// The token speaks for `name/suffix`; none: for the key's own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_suffix: Option<String>,
    /// How long it is good, 1 to 86,400; none: 3,600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u32>,
}

/// A token that was just made.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct CreatedToken {
    /// The token itself, shown only now: it goes wherever a key goes.
    pub token: String,
    /// Whom it speaks for.
    pub sender: String,
    /// What it may do, as long as its key may.
    pub permissions: Permissions,
    /// When it stops being good, RFC 3339.
    pub expires_at: String,
}

/// What a key may do from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyPermissions {
    /// The hash that names the key.
    pub key: String,
    /// What it may do.
    pub permissions: Permissions,
}

/// A team.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Team {
    /// Names it.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// When it signed up, RFC 3339.
    pub created_at: String,
}

/// A new team and its first key.
#[derive(Clone, Serialize, Deserialize)]
pub struct SignedUp {
    /// The team.
    pub team: Team,
    /// Its first key, which may do everything; shown only now.
    pub api_key: String,
}

/// Who the caller is.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Me {
    /// Its team.
    pub team: Team,
    /// The name it speaks under.
    pub sender: String,
    /// What it may do.
    pub permissions: Permissions,
}

/// A denied request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditEntry {
    /// Its place in the team's order.
    pub id: String,
    /// The key that asked.
    pub key_hash: String,
    /// Whom it speaks for.
    pub sender_name: String,
    /// `METHOD /path`.
    pub action: String,
    /// The channel, or `*` for team matters.
    pub channel: String,
    /// What came of it.
    pub result: String,
    /// When, RFC 3339.
    pub timestamp: String,
}

/// A page of denied requests, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditPage {
    /// The requests.
    pub entries: Vec<AuditEntry>,
    /// Where the next page starts: pass it as `after_id`.
    pub next_after_id: String,
    /// Whether more follows after this page.
    pub has_more: bool,
}

/// A message to post.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct NewMessage {
    /// What it says, 1 to 32,768 bytes.
    pub content: String,
    /// Whom it calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mention: Option<String>,
    /// The message it replies to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<String>,
}

/// Which page, and which of a channel's messages.
#[derive(Clone, Debug, Default)]
pub struct MessageQuery {
    /// The page right after this ID; none: the newest.
    pub after_id: Option<String>,
    /// 1 to 100; none: 50.
    pub limit: Option<u32>,
    /// Only those that mention this name.
    pub mention: Option<String>,
    /// Only those from this sender.
    pub sender: Option<String>,
    /// Only the replies to this message.
    pub thread_id: Option<String>,
    /// Waits so many seconds, 50 at most, until there is a message on the page.
    pub wait_seconds: Option<u32>,
}

/// Which page.
#[derive(Clone, Debug, Default)]
pub struct PageQuery {
    /// The page right after this ID; none: the newest (of a thread: the oldest).
    pub after_id: Option<String>,
    /// 1 to 100; none: 50.
    pub limit: Option<u32>,
}

/// What of the inbox.
#[derive(Clone, Debug, Default)]
pub struct InboxQuery {
    /// Bytes of text at most; 0 for the counts alone; none: 16,384.
    pub max_bytes: Option<u32>,
    /// Only what is newer than this ID, read or not.
    pub after_id: Option<String>,
    /// Only these channels; empty: all that the key can read.
    pub channels: Vec<String>,
    /// Only what mentions the caller.
    pub mentions_only: bool,
    /// Waits so many seconds, 55 at most, until there is something to show.
    pub wait_seconds: Option<u32>,
}

/// What to wait for: any or all of some conditions.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitFor {
    /// Until one is true.
    Any(Vec<Condition>),
    /// Until all are true.
    All(Vec<Condition>),
}

/// Something that others do. Places (`after_id`) are those of [`ConditionState::next_after_id`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// A status entry stands.
    Status {
        /// Where.
        channel: String,
        /// Which.
        key: String,
        /// What it says; none: anything. Not with a key for encryption: the relay can't compare.
        #[serde(skip_serializing_if = "Option::is_none")]
        value: Option<String>,
        /// It was set after this place.
        #[serde(skip_serializing_if = "Option::is_none")]
        after_id: Option<String>,
    },
    /// So many senders have acknowledged a message.
    Acks {
        /// Where.
        channel: String,
        /// The message.
        id: String,
        /// 1 to 100.
        count: u32,
    },
    /// Somebody replied to a message.
    Reply {
        /// Where.
        channel: String,
        /// The message.
        id: String,
        /// Who; none: anybody.
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// After this place.
        #[serde(skip_serializing_if = "Option::is_none")]
        after_id: Option<String>,
    },
    /// A message was posted.
    Message {
        /// Where.
        channel: String,
        /// Whom it calls; none: anybody or nobody.
        #[serde(skip_serializing_if = "Option::is_none")]
        mention: Option<String>,
        /// From whom; none: anybody.
        #[serde(skip_serializing_if = "Option::is_none")]
        sender: Option<String>,
        /// After this place; none: from now on.
        #[serde(skip_serializing_if = "Option::is_none")]
        after_id: Option<String>,
    },
}

/// What came of a wait.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WaitOutcome {
    /// Whether what was waited for is true; else time was up.
    pub satisfied: bool,
    /// Each condition, in the order asked.
    pub conditions: Vec<ConditionState>,
}

/// How a condition stood at the end of a wait.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ConditionState {
    /// Its place in the list, from 0.
    pub index: usize,
    /// Whether it is true.
    pub satisfied: bool,
    /// The message or the reply: the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Message>,
    /// The entry as it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// The acks that reach the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acks: Option<Vec<Ack>>,
    /// As `after_id` of the same condition it waits for what comes next, and misses nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_after_id: Option<String>,
}
