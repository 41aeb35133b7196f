//! The inbox: what a caller has not read, over all of its channels.

use crate::{
    ChannelName, Cursor, ErrorCode, Id, Invalid,
    messages::{AckRequest, Message},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};
use utoipa::ToSchema;

/// What `GET /api/inbox` answers. The caller's own messages are never part of it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Inbox {
    /// Unread messages that mention the caller, oldest first.
    pub mentions: Vec<Message>,
    /// Other unread messages, oldest first.
    pub messages: Vec<Message>,
    /// How much is unread in all, shown or not.
    pub unread: UnreadCounts,
    /// Whether something unread is not shown.
    pub has_more: bool,
    /// Nothing up to here was left out: as `after_id` it asks for what is newer.
    pub next_after_id: Cursor,
}

/// How much is unread; 100 means 100 or more.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct UnreadCounts {
    /// Messages that mention the caller.
    pub mentions: u64,
    /// Messages by channel; channels without any are left out.
    pub channels: BTreeMap<ChannelName, u64>,
}

impl Inbox {
    /// Shows nothing but how much is unread.
    pub fn counts_alone(unread: UnreadCounts) -> Self {
        Self {
            mentions: Vec::new(),
            messages: Vec::new(),
            has_more: !unread.channels.is_empty(),
            next_after_id: Cursor::BEGINNING,
            unread,
        }
    }
}

/// What of the inbox is wanted.
#[derive(Clone, Debug)]
pub struct InboxRequest {
    /// Only what is newer.
    pub after: Cursor,
    /// Only these channels; none: all that the key can read.
    pub channels: Option<Vec<ChannelName>>,
    /// Only what mentions the caller.
    pub mentions_only: bool,
    /// Bytes of text to show at most; a single longer message is shown. 0: counts alone.
    pub max_bytes: usize,
    /// How long to wait for something to show.
    pub wait: Duration,
}

impl InboxRequest {
    /// Most bytes of text that an answer shows: 256 KiB.
    pub const MAX_BYTES: usize = 256 << 10;
    /// Bytes of text that an answer shows where nothing else is asked for: 16 KiB.
    pub const DEFAULT_BYTES: usize = 16 << 10;
    /// Longest wait: below what proxies and clients commonly allow an answer.
    pub const MAX_WAIT: Duration = Duration::from_secs(55);

    /// Whether it asks how much is unread in all channels, and for nothing else.
    pub fn is_for_counts(&self) -> bool {
        self.max_bytes == 0
            && self.wait.is_zero()
            && self.after == Cursor::BEGINNING
            && self.channels.is_none()
    }

    /// Reads `max_bytes`: 0 to 262,144.
    pub fn parse_max_bytes(text: &str) -> Result<usize, Invalid> {
        number(text, Self::MAX_BYTES).ok_or_else(|| {
            invalid(format!(
                "max_bytes is a number from 0 to {}",
                Self::MAX_BYTES
            ))
        })
    }

    /// Reads `wait`, in seconds: 0 to 55.
    pub fn parse_wait(text: &str) -> Result<Duration, Invalid> {
        let most = Self::MAX_WAIT.as_secs();
        number(text, usize::try_from(most).unwrap_or(usize::MAX))
            .map(|seconds| Duration::from_secs(seconds as u64))
            .ok_or_else(|| invalid(format!("wait is a number of seconds from 0 to {most}")))
    }
}

/// The body of `POST /api/inbox/ack`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct InboxAckRequest {
    /// Required, 1 to 100.
    #[schema(value_type = Vec<ChannelAckRequest>, required = true, min_items = 1, max_items = 100)]
    pub acks: Option<Vec<ChannelAckRequest>>,
}

/// An ack in one of several channels.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ChannelAckRequest {
    /// Required.
    #[schema(value_type = ChannelName, required = true)]
    pub channel: Option<String>,
    /// Required: the last message read.
    #[schema(value_type = Id, required = true)]
    pub last_read_id: Option<String>,
}

impl InboxAckRequest {
    /// Most acks of one request.
    pub const ACKS_MAX: usize = 100;

    /// The channels and the IDs acknowledged.
    pub fn parse(self) -> Result<Vec<(ChannelName, Id)>, Invalid> {
        let acks = self.acks.filter(|acks| !acks.is_empty());
        let acks = acks.ok_or_else(|| Invalid::missing("acks, a list of at least one"))?;
        if acks.len() > Self::ACKS_MAX {
            return Err(invalid(format!("acks holds {} at most", Self::ACKS_MAX)));
        }
        acks.into_iter()
            .map(|ack| {
                let channel = ack.channel.filter(|channel| !channel.is_empty());
                let channel = channel.ok_or_else(|| Invalid::missing("channel in each ack"))?;
                let channel = ChannelName::parse(&channel)?;
                let last_read_id = ack.last_read_id;
                Ok((channel, AckRequest { last_read_id }.parse()?))
            })
            .collect()
    }
}

fn number(text: &str, most: usize) -> Option<usize> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number <= most)
}

fn invalid(message: String) -> Invalid {
    Invalid::new(ErrorCode::InvalidLimit, message)
}
