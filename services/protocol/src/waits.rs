//! Waiting for what others do: conditions that the relay watches, so that no agent has to ask again
//! and again.

use crate::{
    ChannelName, Cursor, ErrorCode, Id, Invalid, MentionName, Name, StatusKey, StatusValue,
    messages::{Ack, Message},
    statuses::Status,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;

/// Longest wait: below what proxies and clients commonly allow an answer.
pub const WAIT_MAX: Duration = Duration::from_secs(50);
/// How long `POST /api/wait` waits where nothing else is asked for.
pub const WAIT_DEFAULT: Duration = Duration::from_secs(30);
/// Most conditions of one wait.
pub const CONDITIONS_MAX: usize = 16;
/// Most senders that a condition counts.
pub const ACKS_MAX: u32 = 100;

/// Reads the parameter `wait` of a page, in seconds: 0 to 50.
pub fn parse_wait(text: &str) -> Result<Duration, Invalid> {
    let most = WAIT_MAX.as_secs();
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|seconds| digits && *seconds <= most)
        .map(Duration::from_secs)
        .ok_or_else(|| {
            let message = format!("wait is a number of seconds from 0 to {most}");
            Invalid::new(ErrorCode::InvalidLimit, message)
        })
}

/// The body of `POST /api/wait`: `any` or `all`, one of them.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct WaitRequest {
    /// Until one of these is true, 1 to 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 16)]
    pub any: Option<Vec<ConditionRequest>>,
    /// Until all of these are true, 1 to 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 16)]
    pub all: Option<Vec<ConditionRequest>>,
    /// How long at most, 1 to 50. None: 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 50, default = 30)]
    pub timeout_seconds: Option<i64>,
}

/// A condition as it comes: exactly one of these.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ConditionRequest {
    /// A status entry stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusConditionRequest>,
    /// So many have read a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acks: Option<AcksConditionRequest>,
    /// Somebody replied to a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<ReplyConditionRequest>,
    /// A message was posted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageConditionRequest>,
}

/// A status entry stands.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct StatusConditionRequest {
    /// Required.
    #[schema(value_type = ChannelName, required = true)]
    pub channel: Option<String>,
    /// Required: the entry.
    #[schema(value_type = StatusKey, required = true)]
    pub key: Option<String>,
    /// It says exactly this. None: whatever it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<StatusValue>)]
    pub value: Option<String>,
    /// It was set after this place. None: whenever it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Id>)]
    pub after_id: Option<String>,
}

/// So many have read a message.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct AcksConditionRequest {
    /// Required.
    #[schema(value_type = ChannelName, required = true)]
    pub channel: Option<String>,
    /// Required: the message.
    #[schema(value_type = Id, required = true)]
    pub id: Option<String>,
    /// Required, 1 to 100: how many senders have an ack that reaches it.
    #[schema(value_type = i64, required = true, minimum = 1, maximum = 100)]
    pub count: Option<i64>,
}

/// Somebody replied to a message.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ReplyConditionRequest {
    /// Required.
    #[schema(value_type = ChannelName, required = true)]
    pub channel: Option<String>,
    /// Required: the message.
    #[schema(value_type = Id, required = true)]
    pub id: Option<String>,
    /// Only this sender's replies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Name>)]
    pub by: Option<String>,
    /// Only replies after this place. None: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Id>)]
    pub after_id: Option<String>,
}

/// A message was posted.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct MessageConditionRequest {
    /// Required.
    #[schema(value_type = ChannelName, required = true)]
    pub channel: Option<String>,
    /// Only one that calls this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<MentionName>)]
    pub mention: Option<String>,
    /// Only one from this sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Name>)]
    pub sender: Option<String>,
    /// Only one after this place. None: one that is posted from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Id>)]
    pub after_id: Option<String>,
}

/// Something to wait for, every part legal.
#[derive(Clone, Debug)]
pub enum Condition {
    /// The entry stands, set after a place, perhaps with a value.
    Status {
        /// Where.
        channel: ChannelName,
        /// Which.
        key: StatusKey,
        /// What it says, if that matters.
        value: Option<StatusValue>,
        /// Set after this place.
        after: Cursor,
    },
    /// So many senders have acks that reach the message.
    Acks {
        /// Where.
        channel: ChannelName,
        /// The message.
        id: Id,
        /// How many.
        count: u32,
    },
    /// A reply to the message stands.
    Reply {
        /// Where.
        channel: ChannelName,
        /// The message.
        id: Id,
        /// By whom, if that matters.
        by: Option<Name>,
        /// After this place.
        after: Cursor,
    },
    /// A message stands.
    Message {
        /// Where.
        channel: ChannelName,
        /// Whom it calls, if that matters.
        mention: Option<MentionName>,
        /// From whom, if that matters.
        sender: Option<Name>,
        /// After this place; none: posted from now on.
        after: Option<Cursor>,
    },
}

impl Condition {
    /// Where it looks.
    pub fn channel(&self) -> &ChannelName {
        match self {
            Condition::Status { channel, .. }
            | Condition::Acks { channel, .. }
            | Condition::Reply { channel, .. }
            | Condition::Message { channel, .. } => channel,
        }
    }
}

/// What to wait for.
#[derive(Clone, Debug)]
pub struct Wait {
    /// 1 to 16.
    pub conditions: Vec<Condition>,
    /// Whether all must be true; else one of them.
    pub needs_all: bool,
    /// How long at most.
    pub timeout: Duration,
}

impl TryFrom<WaitRequest> for Wait {
    type Error = Invalid;

    fn try_from(request: WaitRequest) -> Result<Self, Invalid> {
        let (conditions, needs_all) = match (request.any, request.all) {
            (Some(any), None) => (any, false),
            (None, Some(all)) => (all, true),
            (None, None) => return Err(Invalid::missing("any or all, a list of conditions")),
            (Some(_), Some(_)) => {
                let message = "A wait has any or all, not both";
                return Err(Invalid::new(ErrorCode::InvalidJson, message));
            }
        };
        if conditions.is_empty() {
            return Err(Invalid::missing("at least one condition"));
        }
        if conditions.len() > CONDITIONS_MAX {
            return Err(invalid(format!(
                "A wait has {CONDITIONS_MAX} conditions at most"
            )));
        }
        let most = WAIT_MAX.as_secs();
        let timeout = match request.timeout_seconds {
            None => WAIT_DEFAULT,
            Some(seconds) => u64::try_from(seconds)
                .ok()
                .filter(|seconds| (1..=most).contains(seconds))
                .map(Duration::from_secs)
                .ok_or_else(|| invalid(format!("timeout_seconds is a number from 1 to {most}")))?,
        };
        Ok(Self {
            conditions: conditions
                .into_iter()
                .map(Condition::try_from)
                .collect::<Result<_, _>>()?,
            needs_all,
            timeout,
        })
    }
}

impl TryFrom<ConditionRequest> for Condition {
    type Error = Invalid;

    fn try_from(request: ConditionRequest) -> Result<Self, Invalid> {
        match request {
            ConditionRequest {
                status: Some(status),
                acks: None,
                reply: None,
                message: None,
            } => {
                let (channel, key) = both(status.channel, status.key, "channel and key")?;
                Ok(Condition::Status {
                    channel,
                    key: StatusKey::parse(&key)?,
                    value: status.value.map(StatusValue::parse).transpose()?,
                    after: place(status.after_id)?.unwrap_or_default(),
                })
            }
            ConditionRequest {
                status: None,
                acks: Some(acks),
                reply: None,
                message: None,
            } => {
                let (channel, id) = both(acks.channel, acks.id, "channel, id and count")?;
                let count = acks
                    .count
                    .ok_or_else(|| Invalid::missing("channel, id and count"))?;
                Ok(Condition::Acks {
                    channel,
                    id: Id::parse(&id)?,
                    count: u32::try_from(count)
                        .ok()
                        .filter(|count| (1..=ACKS_MAX).contains(count))
                        .ok_or_else(|| {
                            invalid(format!("count is a number from 1 to {ACKS_MAX}"))
                        })?,
                })
            }
            ConditionRequest {
                status: None,
                acks: None,
                reply: Some(reply),
                message: None,
            } => {
                let (channel, id) = both(reply.channel, reply.id, "channel and id")?;
                Ok(Condition::Reply {
                    channel,
                    id: Id::parse(&id)?,
                    by: name("by", reply.by)?,
                    after: place(reply.after_id)?.unwrap_or_default(),
                })
            }
            ConditionRequest {
                status: None,
                acks: None,
                reply: None,
                message: Some(message),
            } => Ok(Condition::Message {
                channel: channel(message.channel, "channel")?,
                mention: message
                    .mention
                    .as_deref()
                    .map(MentionName::parse)
                    .transpose()?
                    .flatten(),
                sender: name("sender", message.sender)?,
                after: place(message.after_id)?,
            }),
            _ => Err(Invalid::missing(
                "in each condition exactly one of status, acks, reply and message",
            )),
        }
    }
}

fn invalid(message: String) -> Invalid {
    Invalid::new(ErrorCode::InvalidLimit, message)
}

fn channel(text: Option<String>, needed: &str) -> Result<ChannelName, Invalid> {
    let text = text.filter(|text| !text.is_empty());
    ChannelName::parse(&text.ok_or_else(|| Invalid::missing(needed))?)
}

fn both(
    channel_name: Option<String>,
    other: Option<String>,
    needed: &str,
) -> Result<(ChannelName, String), Invalid> {
    let other = other.filter(|other| !other.is_empty());
    let other = other.ok_or_else(|| Invalid::missing(needed))?;
    Ok((channel(channel_name, needed)?, other))
}

fn name(field: &str, text: Option<String>) -> Result<Option<Name>, Invalid> {
    let text = text.filter(|text| !text.is_empty());
    text.map(|text| Name::parse(field, &text)).transpose()
}

fn place(text: Option<String>) -> Result<Option<Cursor>, Invalid> {
    let text = text.filter(|text| !text.is_empty());
    text.map(|text| Id::parse(&text)).transpose()
}

/// What `POST /api/wait` answers.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WaitOutcome {
    /// Whether it ended because what was waited for is true, not because time was up.
    pub satisfied: bool,
    /// Each condition, in the order asked.
    pub conditions: Vec<ConditionState>,
}

/// How a condition stood at the end of a wait.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ConditionState {
    /// Its place in the list, from 0.
    #[schema(value_type = u32, minimum = 0, maximum = 15)]
    pub index: usize,
    /// Whether it is true.
    pub satisfied: bool,
    /// The message or the reply: the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Message, required = false)]
    pub message: Option<Message>,
    /// The entry as it stands, also where it says something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Status, required = false)]
    pub status: Option<Status>,
    /// The acks that reach the message, by sender.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<Ack>, required = false)]
    pub acks: Option<Vec<Ack>>,
    /// Of all but acks: as `after_id` of the same condition it waits for what comes next, and
    /// misses nothing in between.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Id, required = false)]
    pub next_after_id: Option<Cursor>,
}
