//! The form of a history: what clients did to a relay, what they were told, and when, as JSON
//! lines. Nothing here reads a clock, talks to a relay or judges.
//!
//! The terms are those of Jepsen. A **process** does one operation at a time: it *invokes* it, and
//! later learns that it was done (*ok*), that it was refused and changed nothing (*fail*), or
//! neither (*info*: no answer, or a 5xx: it happened once, later, or not at all). A process goes on
//! after an *info*; that operation stays open for ever. **Nemesis** lines say which fault was at
//! work meanwhile, **final** lines what stood in the end.
//!
//! Rules for whoever writes one:
//! - times are nanoseconds of one monotonic clock since the run's start: that of an *invoke* is read
//!   before the request is sent, that of a completion after the whole answer has come;
//! - the lines of one process stand in the order in which they happened; those of several may stand
//!   in any order, since only times are compared;
//! - everything belongs to one team (IDs are compared across its channels);
//! - a value tells one write from every other one, within messages and within status changes; what
//!   a reader can't trace back to a writer is given a value that no writer used;
//! - one process reads one thing: it walks over one place by pages, or it follows one set of
//!   channels by streams. Its pages and streams are one walk, over all its reconnects;
//! - the first line is `run`, the last one `close`: without them a history was cut short.
//!
//! A line is an object with one member, which names its kind, so that a line can be read without
//! looking at it twice. Names inside are short, since a long run has millions of lines.

use serde::{Deserialize, Serialize};

/// The format that this crate reads and writes.
pub const FORMAT: u32 = 1;

/// Nanoseconds since the run's start.
pub type Time = u64;

/// Who did it: a thread of operations, one after the other.
pub type Process = u32;

/// What tells a write from all others of its kind.
pub type Value = u64;

/// An ID as the relay gave it.
pub type Id = u64;

/// A channel, by its number in this history.
pub type Channel = u32;

/// A status key, an API key, a sender, a replica: by its number in this history.
pub type Number = u32;

/// A history in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Its lines.
    pub lines: Vec<Line>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// What ran.
    Run(Run),
    /// A channel's name, for those who read the report.
    Channel(Named),
    /// A process sends a request.
    Invoke(Invoke),
    /// It was answered 2xx.
    Ok(Completion),
    /// It was refused (4xx), and so nothing was changed.
    Fail(Failure),
    /// It was answered 5xx or not at all.
    Info(Failure),
    /// What came together on a process's open stream.
    Events(Events),
    /// A process's stream ended, or was left.
    End(End),
    /// A reader waited for everything up to an ID.
    Due(Due),
    /// A fault begins or ends.
    Nemesis(Nemesis),
    /// What stands in the end.
    Final(Final),
    /// Everything was written down.
    Close(Close),
}

/// The first line: what ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// [`FORMAT`].
    pub format: u32,
    /// The seed of the load and of the schedule of faults.
    #[serde(default)]
    pub seed: u64,
    /// What ran: programs and their versions.
    #[serde(default)]
    pub what: String,
}

/// A number's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The number.
    pub n: Number,
    /// Its name.
    pub name: String,
}

/// A process sends a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Invoke {
    /// Just before its first attempt was sent.
    pub t: Time,
    /// Who.
    pub p: Process,
    /// What it asks for.
    pub op: Call,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// To open a channel by its name.
    OpenChannel {
        /// The channel.
        c: Channel,
    },
    /// To post a message; all attempts with one idempotency key are one operation.
    Post {
        /// The channel.
        c: Channel,
        /// The message's value.
        v: Value,
        /// With an idempotency key.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        key: bool,
        /// Whom it mentions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mention: Option<Number>,
        /// The message that it replies to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        thread: Option<Id>,
    },
    /// To delete a message.
    DeleteMessage {
        /// The channel.
        c: Channel,
        /// The message.
        id: Id,
    },
    /// To read the page of messages after a cursor.
    Messages {
        /// The channel.
        c: Channel,
        /// The cursor.
        after: Id,
    },
    /// To read the page of status changes after a cursor.
    Changes {
        /// The channel.
        c: Channel,
        /// The cursor.
        after: Id,
    },
    /// To read what a sender has not acked.
    Unread {
        /// The channel.
        c: Channel,
        /// The sender.
        s: Number,
    },
    /// To open a stream.
    Stream {
        /// The channels.
        c: Vec<Channel>,
        /// The cursor; none: from now on.
        after: Option<Id>,
        /// The API key, where it is one that changes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<Number>,
    },
    /// To move a sender's ack.
    Ack {
        /// The channel.
        c: Channel,
        /// The sender.
        s: Number,
        /// Up to here.
        id: Id,
    },
    /// To read a channel's acks.
    Acks {
        /// The channel.
        c: Channel,
    },
    /// To set a status entry; each attempt is an operation of its own.
    Set {
        /// The channel.
        c: Channel,
        /// The status key.
        k: Number,
        /// The new value.
        v: Value,
    },
    /// To delete a status entry.
    Unset {
        /// The channel.
        c: Channel,
        /// The status key.
        k: Number,
    },
    /// To set a status entry where it has the value that is expected.
    Cas {
        /// The channel.
        c: Channel,
        /// The status key.
        k: Number,
        /// The value that must stand; none: there must be no entry.
        old: Option<Value>,
        /// The new value.
        v: Value,
    },
    /// To read a status entry.
    Get {
        /// The channel.
        c: Channel,
        /// The status key.
        k: Number,
    },
    /// To give an API key a level on a channel, in place of the one it had.
    Grant {
        /// The API key.
        key: Number,
        /// The channel.
        c: Channel,
        /// The level.
        level: Level,
    },
    /// To revoke an API key.
    Revoke {
        /// The API key.
        key: Number,
    },
    /// To use an API key for something that needs a level on a channel.
    Probe {
        /// The API key.
        key: Number,
        /// The channel.
        c: Channel,
        /// The level that is needed.
        level: Level,
        /// The replica that is asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        n: Option<Number>,
    },
}

/// What an API key may do on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing.
    None,
    /// Read.
    Read,
    /// Read, post, ack, set status.
    Write,
    /// Everything.
    Admin,
}

/// An operation was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// Just after the whole answer had come.
    pub t: Time,
    /// Who had asked.
    pub p: Process,
    /// What was answered.
    pub op: Answer,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done (to all that ask for no more than that).
    Done,
    /// The message that stands (to `post`).
    Posted {
        /// Its ID.
        id: Id,
        /// Its place in the channel.
        seq: u64,
    },
    /// A page of messages (to `messages` and `unread`).
    Messages {
        /// What it holds.
        items: Vec<Message>,
        /// Whether more follows.
        more: bool,
    },
    /// A page of status changes (to `changes`).
    Changes {
        /// What it holds.
        items: Vec<Change>,
        /// Whether more follows.
        more: bool,
    },
    /// Where the sender's ack stands (to `ack`).
    Acked {
        /// The ID.
        id: Id,
    },
    /// Where acks stand, by sender (to `acks`).
    Acks(Vec<(Number, Id)>),
    /// The entry's value; none: there is no entry (to `get`).
    Value(Option<Value>),
    /// The replica that made the change (to `grant` and `revoke`).
    Changed {
        /// The replica, where it is known.
        n: Option<Number>,
    },
    /// Whether it was allowed (to `probe`); a 401 or 403 is such an answer.
    Allowed(bool),
}

/// An operation was refused, or its outcome is unknown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// When that was clear.
    pub t: Time,
    /// Who had asked.
    pub p: Process,
    /// The status code; 0: no answer.
    #[serde(default)]
    pub status: u16,
}

/// A message as a reader was given it: `[ID, channel, seq, value]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(Id, Channel, u64, Value)", into = "(Id, Channel, u64, Value)")]
pub struct Message {
    /// Its ID.
    pub id: Id,
    /// The channel it says it is in.
    pub channel: Channel,
    /// Its place in the channel.
    pub seq: u64,
    /// Its value.
    pub value: Value,
}

impl From<(Id, Channel, u64, Value)> for Message {
    fn from((id, channel, seq, value): (Id, Channel, u64, Value)) -> Message {
        Message {
            id,
            channel,
            seq,
            value,
        }
    }
}

impl From<Message> for (Id, Channel, u64, Value) {
    fn from(message: Message) -> (Id, Channel, u64, Value) {
        (message.id, message.channel, message.seq, message.value)
    }
}

/// A status change as a reader was given it: `[ID, channel, key, value]`, the value null for a
/// deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    from = "(Id, Channel, Number, Option<Value>)",
    into = "(Id, Channel, Number, Option<Value>)"
)]
pub struct Change {
    /// Its ID.
    pub id: Id,
    /// The channel it says it is in.
    pub channel: Channel,
    /// The status key.
    pub key: Number,
    /// The new value; none: the entry was deleted.
    pub value: Option<Value>,
}

impl From<(Id, Channel, Number, Option<Value>)> for Change {
    fn from((id, channel, key, value): (Id, Channel, Number, Option<Value>)) -> Change {
        Change {
            id,
            channel,
            key,
            value,
        }
    }
}

impl From<Change> for (Id, Channel, Number, Option<Value>) {
    fn from(change: Change) -> (Id, Channel, Number, Option<Value>) {
        (change.id, change.channel, change.key, change.value)
    }
}

/// What came together on an open stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// When the client had it.
    pub t: Time,
    /// Whose stream.
    pub p: Process,
    /// The messages, in the order in which they came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<Message>,
    /// The last ID that came without an event, if that was the last thing to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Id>,
}

/// A stream is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// When the client knew.
    pub t: Time,
    /// Whose stream.
    pub p: Process,
    /// Who ended it.
    pub by: EndedBy,
}

/// Who ended a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// The client left.
    Client,
    /// The relay ended it as it should: the body is whole.
    Relay,
    /// The connection was lost.
    Loss,
}

/// A reader went on for as long as it takes to be given everything up to an ID: whatever stands up
/// to there in what it reads was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// When it gave up waiting, or had it.
    pub t: Time,
    /// Who.
    pub p: Process,
    /// The ID.
    pub id: Id,
}

/// A fault begins or ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nemesis {
    /// When: before the fault can have begun, after it was certainly over.
    pub t: Time,
    /// Its name.
    pub fault: String,
    /// Whether it begins or ends. One that does both at once has two lines.
    pub phase: Phase,
    /// What it hit.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// While it lasts some replica may not hear of key changes: notifications are down, Postgres is
    /// out of reach, or the replica doesn't run. Such a time has the longer bound of G5.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deaf: bool,
    /// At an end: another database serves from here on, and the last commits may be lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lossy: Option<Lossy>,
}

/// Whether a fault begins or ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// From here on.
    #[default]
    Begin,
    /// Up to here.
    End,
}

/// A failover that may lose commits: those answered from `since` on up to the line's own time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lossy {
    /// Commits answered before this were certainly on the standby.
    #[serde(default)]
    pub since: Time,
}

/// A part of what stands in the end, read after all writers had stopped. Parts of one kind and
/// channel follow one another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Final {
    /// A channel's messages, from the beginning, in ascending order.
    Messages {
        /// The channel.
        c: Channel,
        /// A part of them.
        items: Vec<Message>,
        /// Whether this is the last part: without it the channel counts as not read.
        done: bool,
    },
    /// A channel's status changes, from the beginning, in ascending order.
    Changes {
        /// The channel.
        c: Channel,
        /// A part of them.
        items: Vec<Change>,
        /// Whether this is the last part.
        done: bool,
    },
    /// All of a channel's status entries.
    Entries {
        /// The channel.
        c: Channel,
        /// Key and value.
        entries: Vec<(Number, Value)>,
    },
    /// All of a channel's acks.
    Acks {
        /// The channel.
        c: Channel,
        /// Sender and ID.
        acks: Vec<(Number, Id)>,
    },
    /// All channels.
    Channels(Vec<Channel>),
}

/// The last line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Close {
    /// When.
    pub t: Time,
    /// How many lines stand before it.
    pub lines: u64,
}
