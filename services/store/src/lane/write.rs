//! What can be written through a lane, and what came of it.

use crate::{Result, Store, digest::Digest};
use handoff_protocol::{
    ChannelName, Content, Description, Id, MentionName, Name, StatusKey, StatusValue, TeamId,
    Timestamp, TraceParent,
    keys::KeyHash,
    messages::{Message, NewMessage, SharedMessage},
};

/// A write to one team's data.
pub(crate) enum Write {
    Post(Post),
    Acks(MoveAcks),
    SetStatus(SetStatus),
    DeleteStatus(DeleteStatus),
    DeleteMessage(DeleteMessage),
    CreateChannel(CreateChannel),
    DeleteChannel(DeleteChannel),
    Audit(Denial),
}

/// What came of a [`Write`].
pub(crate) enum Outcome {
    Post(PostOutcome),
    Acks(Vec<Option<AckMoved>>),
    SetStatus(SetStatusOutcome),
    DeleteStatus(bool),
    DeleteMessage(bool),
    CreateChannel(CreateChannelOutcome),
    DeleteChannel(bool),
    Audit,
}

/// A message to post; its channel is opened if it doesn't exist.
pub struct Post {
    /// The sender's team.
    pub team: TeamId,
    /// Where to.
    pub channel: ChannelName,
    /// Who posts.
    pub sender: Name,
    /// What.
    pub message: NewMessage,
    /// Makes a retry of the same post answer the first.
    pub idempotency: Option<Idempotency>,
    /// The span that it is posted in, to stand with the message.
    pub traceparent: Option<TraceParent>,
}

/// Names a post so that a retry of it posts nothing. Kept for 24 hours.
#[derive(Clone, Copy)]
pub struct Idempotency {
    /// Of the hash of the API key that posts, and the `Idempotency-Key` header.
    pub digest: Digest,
    /// Of everything that was asked for.
    pub body_digest: Digest,
}

/// What came of a [`Post`].
pub enum PostOutcome {
    /// It stands.
    Posted(SharedMessage),
    /// It stood already, posted under the same idempotency key.
    Replayed(Box<Message>),
    /// Something else was posted under the same idempotency key.
    Mismatch,
    /// The message replied to doesn't stand in this channel.
    ParentNotFound,
    /// The team has as many channels as it may.
    ChannelLimitReached,
}

/// An ack to move forward.
pub struct MoveAck {
    /// The reader's team.
    pub team: TeamId,
    /// The channel read.
    pub channel: ChannelName,
    /// Who has read.
    pub sender: Name,
    /// How far; beyond the newest message it counts as that.
    pub last_read_id: Id,
}

/// Acks of one team that are moved together.
pub(crate) struct MoveAcks {
    pub(crate) team: TeamId,
    pub(crate) acks: Vec<MoveAck>,
}

/// Where the ack stands after a [`MoveAck`].
#[derive(Clone, Copy, Debug)]
pub struct AckMoved {
    /// How far the sender has read.
    pub last_read_id: Id,
    /// When it last moved.
    pub acked_at: Timestamp,
}

/// A status entry to set; its channel is opened if it doesn't exist.
pub struct SetStatus {
    /// The writer's team.
    pub team: TeamId,
    /// Where.
    pub channel: ChannelName,
    /// Who writes.
    pub sender: Name,
    /// The entry.
    pub key: StatusKey,
    /// What it says.
    pub value: StatusValue,
}

/// What came of a [`SetStatus`].
pub enum SetStatusOutcome {
    /// It stands since then.
    Set(Timestamp),
    /// The team has as many channels as it may.
    ChannelLimitReached,
}

/// A status entry to delete.
pub struct DeleteStatus {
    /// The team.
    pub team: TeamId,
    /// Where.
    pub channel: ChannelName,
    /// Who deletes.
    pub sender: Name,
    /// The entry.
    pub key: StatusKey,
}

/// A message to delete.
pub struct DeleteMessage {
    /// The team.
    pub team: TeamId,
    /// Where.
    pub channel: ChannelName,
    /// The message.
    pub id: Id,
}

/// A channel to open.
pub struct CreateChannel {
    /// The team.
    pub team: TeamId,
    /// Its name.
    pub name: ChannelName,
    /// What it is for.
    pub description: Option<Description>,
}

/// What came of a [`CreateChannel`].
#[derive(Clone, Copy, Debug)]
pub enum CreateChannelOutcome {
    /// It is new.
    Created(Timestamp),
    /// It stood already, and stays as it was.
    Exists,
    /// The team has as many channels as it may.
    ChannelLimitReached,
}

/// A channel to delete, with everything in it.
pub struct DeleteChannel {
    /// The team.
    pub team: TeamId,
    /// Its name.
    pub name: ChannelName,
}

/// A request that was refused, for the audit log.
pub struct Denial {
    /// The key's team.
    pub team: TeamId,
    /// The key.
    pub key_hash: KeyHash,
    /// Whom it speaks for.
    pub sender: Name,
    /// `METHOD /path`.
    pub action: String,
    /// The channel in the path, `*` for team matters.
    pub channel: String,
}

impl Write {
    pub(crate) fn team(&self) -> TeamId {
        match self {
            Write::Post(post) => post.team,
            Write::Acks(acks) => acks.team,
            Write::SetStatus(status) => status.team,
            Write::DeleteStatus(status) => status.team,
            Write::DeleteMessage(message) => message.team,
            Write::CreateChannel(channel) => channel.team,
            Write::DeleteChannel(channel) => channel.team,
            Write::Audit(denial) => denial.team,
        }
    }

    /// About how many bytes this write holds, for the bounds of queue and batch.
    pub(crate) fn text_bytes(&self) -> usize {
        const OVERHEAD: usize = 256;
        OVERHEAD
            + match self {
                Write::Post(post) => post.message.content.as_str().len(),
                Write::SetStatus(status) => status.value.as_str().len(),
                Write::CreateChannel(channel) => channel
                    .description
                    .as_ref()
                    .map_or(0, |text| text.as_str().len()),
                Write::Audit(denial) => denial.action.len(),
                Write::Acks(acks) => OVERHEAD * acks.acks.len(),
                Write::DeleteStatus(_) | Write::DeleteMessage(_) | Write::DeleteChannel(_) => 0,
            }
    }
}

/// Turns the lane's answer into the one that this kind of write has.
macro_rules! submit {
    ($store:expr, $kind:ident, $write:expr) => {
        outcome!($store.lanes.submit(Write::$kind($write)), $kind)
    };
}
macro_rules! outcome {
    ($answer:expr, $kind:ident) => {
        match $answer.await? {
            Outcome::$kind(outcome) => Ok(outcome),
            _ => Err(crate::Error::Internal(
                "a lane answered another write".into(),
            )),
        }
    };
}

impl Store {
    /// Posts a message. It is queued by the call itself, so that who waits doesn't hold it.
    pub fn post_message(&self, post: Post) -> impl Future<Output = Result<PostOutcome>> + use<> {
        let answer = self.lanes.submit(Write::Post(post));
        async { outcome!(answer, Post) }
    }

    /// Moves acks of one team forward, never back, in one transaction; none where a channel
    /// doesn't exist.
    pub async fn move_acks(
        &self,
        team: TeamId,
        acks: Vec<MoveAck>,
    ) -> Result<Vec<Option<AckMoved>>> {
        submit!(self, Acks, MoveAcks { team, acks })
    }

    /// Sets a status entry and records the change.
    pub async fn set_status(&self, status: SetStatus) -> Result<SetStatusOutcome> {
        submit!(self, SetStatus, status)
    }

    /// Deletes a status entry and records it; false where there is none.
    pub async fn delete_status(&self, status: DeleteStatus) -> Result<bool> {
        submit!(self, DeleteStatus, status)
    }

    /// Empties a message into a tombstone; false where it doesn't stand.
    pub async fn delete_message(&self, message: DeleteMessage) -> Result<bool> {
        submit!(self, DeleteMessage, message)
    }

    /// Opens a channel.
    pub async fn create_channel(&self, channel: CreateChannel) -> Result<CreateChannelOutcome> {
        submit!(self, CreateChannel, channel)
    }

    /// Deletes a channel; what it held is removed in the background. False where there is none.
    pub async fn delete_channel(&self, channel: DeleteChannel) -> Result<bool> {
        submit!(self, DeleteChannel, channel)
    }

    /// Records a denial.
    pub async fn record_denial(&self, denial: Denial) -> Result<()> {
        match self.lanes.submit(Write::Audit(denial)).await? {
            Outcome::Audit => Ok(()),
            _ => Err(crate::Error::Internal(
                "a lane answered another write".into(),
            )),
        }
    }
}

impl Post {
    /// The message as it stands once Postgres has given it these.
    pub(crate) fn as_message(&self, id: i64, seq: i64, created_at: Timestamp) -> Message {
        let NewMessage {
            content,
            mention,
            thread_id,
        } = &self.message;
        let (content, mention): (Content, Option<MentionName>) = (content.clone(), mention.clone());
        Message {
            id: Id::from_serial(id),
            channel: self.channel.clone(),
            seq,
            sender: self.sender.clone(),
            content,
            mention,
            thread_id: *thread_id,
            reply_count: 0,
            created_at,
            traceparent: self.traceparent,
        }
    }
}
