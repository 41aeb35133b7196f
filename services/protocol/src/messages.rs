//! Messages, threads, acks.

use crate::{ChannelName, Content, Cursor, Id, Invalid, MentionName, Name, Timestamp, TraceParent};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// A message as every answer and every stream shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Message {
    /// Its place in the team's order.
    pub id: Id,
    /// The channel it was posted to.
    pub channel: ChannelName,
    /// Its place in the channel: 1, 2, 3 … with no number left out as posted.
    #[schema(minimum = 1, example = 3)]
    pub seq: i64,
    /// Who posted it, from the key.
    pub sender: Name,
    /// What it says.
    pub content: Content,
    /// Whom it calls.
    #[schema(required = true)]
    pub mention: Option<MentionName>,
    /// The message it replies to.
    #[schema(required = true)]
    pub thread_id: Option<Id>,
    /// How many replies to it stand.
    #[schema(minimum = 0, example = 0)]
    pub reply_count: i64,
    /// When it was committed, by the database's clock.
    pub created_at: Timestamp,
    /// The span that it was posted in, where that trace is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(
        value_type = String,
        required = false,
        pattern = "^00-[0-9a-f]{32}-[0-9a-f]{16}-01$",
        example = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    )]
    pub traceparent: Option<TraceParent>,
}

/// The body of `POST /api/channels/{channel}/messages` as it comes.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct PostMessageRequest {
    /// Required, 1 to 32,768 bytes.
    #[schema(value_type = Content, required = true)]
    pub content: Option<String>,
    /// Whom to call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 128, pattern = "^[^\\u0000]*$", example = "bob")]
    pub mention: Option<String>,
    /// The message to reply to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Id>)]
    pub thread_id: Option<String>,
}

/// A post whose every part is legal.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// What it says.
    pub content: Content,
    /// Whom it calls.
    pub mention: Option<MentionName>,
    /// The message it replies to.
    pub thread_id: Option<Id>,
}

impl TryFrom<PostMessageRequest> for NewMessage {
    type Error = Invalid;

    fn try_from(request: PostMessageRequest) -> Result<Self, Invalid> {
        let content = request.content.filter(|content| !content.is_empty());
        let content = content.ok_or_else(|| Invalid::missing("content"))?;
        Ok(Self {
            content: Content::parse(content)?,
            mention: request
                .mention
                .as_deref()
                .map(MentionName::parse)
                .transpose()?
                .flatten(),
            thread_id: request.thread_id.as_deref().map(Id::parse).transpose()?,
        })
    }
}

/// Which messages of a channel are wanted; every filter matches exactly.
#[derive(Clone, Debug, Default)]
pub struct MessageFilter {
    /// Only those that call this name.
    pub mention: Option<String>,
    /// Only those from this sender.
    pub sender: Option<String>,
    /// Only the replies to this message.
    pub thread_id: Option<Id>,
}

/// A page of messages.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MessagePage {
    /// Oldest first.
    pub messages: Vec<Message>,
    /// Where the next page starts; always fit to pass back.
    pub next_after_id: Cursor,
    /// Whether more follows after this page.
    pub has_more: bool,
    /// The channel read.
    pub channel: ChannelName,
}

/// A message and its replies.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ThreadPage {
    /// The message replied to, on every page.
    pub parent: Message,
    /// Oldest first.
    pub replies: Vec<Message>,
    /// Where the next page starts.
    pub next_after_id: Cursor,
    /// Whether more follows after this page.
    pub has_more: bool,
}

/// The body of `POST /api/channels/{channel}/ack`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct AckRequest {
    /// The last message read.
    #[schema(value_type = Id, required = true)]
    pub last_read_id: Option<String>,
}

impl AckRequest {
    /// The ID acknowledged.
    pub fn parse(self) -> Result<Id, Invalid> {
        let id = self.last_read_id.filter(|id| !id.is_empty());
        Id::parse(&id.ok_or_else(|| Invalid::missing("last_read_id"))?)
    }
}

/// How far a sender has read a channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Ack {
    /// The channel.
    pub channel: ChannelName,
    /// Who has read; all keys of this name share it.
    pub sender: Name,
    /// Everything up to this ID.
    pub last_read_id: Id,
    /// When it last moved.
    pub acked_at: Timestamp,
}

/// A message with its channel's and sender's names shared, as lanes and feeds pass it on.
pub type SharedMessage = Arc<Message>;
