//! Messages, threads, acks.

use crate::{Caller, ChannelGrant, ChannelsGrant, Error, Operation, Relay, Result, waits::Waiter};
use handoff_protocol::{
    ChannelName, Cursor, ErrorCode, Id, Invalid,
    keys::KeyHash,
    messages::{Ack, Message, MessageFilter, MessagePage, NewMessage, SharedMessage, ThreadPage},
    pages::{PageLimit, PageRequest},
};
use handoff_store::{
    digest::Digest,
    lane::{AckMoved, DeleteMessage, Idempotency, MoveAck, Post, PostOutcome},
    trace,
};
use sha2::{Digest as _, Sha256};
use std::{sync::Arc, time::Duration};

/// Longest idempotency key, in characters.
const IDEMPOTENCY_KEY_MAX: usize = 255;

/// Names a post so that a retry of it posts nothing.
#[derive(Clone, Debug)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Reads the `Idempotency-Key` header: 1 to 255 printable ASCII characters.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.len() > IDEMPOTENCY_KEY_MAX {
            return Err(Invalid::new(
                ErrorCode::FieldTooLarge,
                format!("Idempotency-Key is longer than {IDEMPOTENCY_KEY_MAX} characters"),
            ));
        }
        if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(Invalid::new(
                ErrorCode::InvalidContent,
                "Idempotency-Key holds printable ASCII characters only",
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// Tells it from every other key, and from the same one of somebody else.
    fn digest(&self, scope: KeyHash) -> Digest {
        let scope = Sha256::new().chain_update(scope.0);
        Digest::of(scope.chain_update(&self.0).finalize().into())
    }
}

/// What came of a post.
pub enum Posted {
    /// The message is new.
    New(SharedMessage),
    /// It was posted before, under the same idempotency key.
    Replayed(Box<Message>),
}

impl Relay {
    /// Posts a message; opens the channel if it doesn't exist.
    ///
    /// # Errors
    /// `THREAD_PARENT_NOT_FOUND`, `CHANNEL_LIMIT_REACHED`, `IDEMPOTENCY_MISMATCH`, `OVERLOADED`
    pub async fn post_message(
        &self,
        grant: &ChannelGrant,
        message: NewMessage,
        idempotency_key: Option<IdempotencyKey>,
    ) -> Result<Posted> {
        let (caller, channel) = grant.for_operation(Operation::PostMessage)?;
        let idempotency = idempotency_key.map(|key| Idempotency {
            digest: key.digest(caller.idempotency_scope()),
            body_digest: body_digest(channel.as_str(), &message),
        });
        let mut send = trace::SendSpan::start();
        let post = Post {
            team: caller.team(),
            channel: channel.clone(),
            sender: caller.sender().clone(),
            message,
            idempotency,
            traceparent: send.traceparent(),
        };
        match self.store.post_message(post).await? {
            PostOutcome::Posted(message) => {
                send.posted(message.id);
                Ok(Posted::New(message))
            }
            PostOutcome::Replayed(message) => Ok(Posted::Replayed(message)),
            PostOutcome::Mismatch => Err(Error::new(
                ErrorCode::IdempotencyMismatch,
                "This Idempotency-Key was used for another message: use a new one",
            )),
            PostOutcome::ParentNotFound => Err(Error::new(
                ErrorCode::ThreadParentNotFound,
                format!("thread_id names no message that stands in channel \"{channel}\""),
            )),
            PostOutcome::ChannelLimitReached => {
                Err(Error::channel_limit(self.config.store.channels_per_team))
            }
        }
    }

    /// A page of a channel; with a wait as soon as there is something on it, else an empty one
    /// when the wait is over.
    ///
    /// # Errors
    /// `SSE_LIMIT_REACHED`: one who waits counts as a stream. `INVALID_API_KEY` when the key
    /// changed meanwhile, `TOKEN_EXPIRED`.
    pub async fn list_messages(
        self: &Arc<Self>,
        grant: &ChannelGrant,
        filter: &MessageFilter,
        page: PageRequest,
        wait: Duration,
    ) -> Result<MessagePage> {
        let (caller, channel) = grant.for_operation(Operation::ListMessages)?;
        let mut found = self.find_page(caller, channel, filter, page).await?;
        if found.messages.is_empty() && !wait.is_zero() {
            let concerns = |message: &Message| {
                let mention = message.mention.as_ref().map(|mention| mention.as_str());
                (filter.mention.is_none() || filter.mention.as_deref() == mention)
                    && (filter.sender.as_deref()).is_none_or(|from| from == message.sender.as_str())
                    && (filter.thread_id.is_none() || filter.thread_id == message.thread_id)
            };
            let channels = std::slice::from_ref(channel);
            let mut waiter = Waiter::new(self, caller, channels, wait).await?;
            while found.messages.is_empty() && waiter.next_look(concerns).await? {
                found = self.find_page(caller, channel, filter, page).await?;
            }
        }
        Ok(found)
    }

    async fn find_page(
        &self,
        caller: &Caller,
        channel: &ChannelName,
        filter: &MessageFilter,
        page: PageRequest,
    ) -> Result<MessagePage> {
        let found = self
            .store
            .list_messages(caller.team(), channel, filter, page)
            .await?;
        Ok(MessagePage {
            next_after_id: cursor_after(&found.items, page.after),
            messages: found.items,
            has_more: found.has_more,
            channel: channel.clone(),
        })
    }

    /// What follows the caller's ack; with a wait as [`Self::list_messages`]. Reading moves no ack.
    ///
    /// # Errors
    /// As [`Self::list_messages`].
    pub async fn list_unread(
        self: &Arc<Self>,
        grant: &ChannelGrant,
        limit: PageLimit,
        wait: Duration,
    ) -> Result<MessagePage> {
        let (caller, channel) = grant.for_operation(Operation::ListUnread)?;
        let mut found = self.find_unread(caller, channel, limit).await?;
        if found.messages.is_empty() && !wait.is_zero() {
            let channels = std::slice::from_ref(channel);
            let mut waiter = Waiter::new(self, caller, channels, wait).await?;
            while found.messages.is_empty() && waiter.next_look(|_| true).await? {
                found = self.find_unread(caller, channel, limit).await?;
            }
        }
        Ok(found)
    }

    async fn find_unread(
        &self,
        caller: &Caller,
        channel: &ChannelName,
        limit: PageLimit,
    ) -> Result<MessagePage> {
        let unread = self
            .store
            .list_unread(caller.team(), channel, caller.sender(), limit)
            .await?;
        Ok(MessagePage {
            next_after_id: cursor_after(&unread.page.items, Some(unread.cursor)),
            messages: unread.page.items,
            has_more: unread.page.has_more,
            channel: channel.clone(),
        })
    }

    /// A message and a page of its replies, from the oldest on.
    ///
    /// # Errors
    /// `MESSAGE_NOT_FOUND`
    pub async fn read_thread(
        &self,
        grant: &ChannelGrant,
        id: Id,
        page: PageRequest,
    ) -> Result<ThreadPage> {
        let (caller, channel) = grant.for_operation(Operation::ReadThread)?;
        let filter = MessageFilter {
            thread_id: Some(id),
            ..MessageFilter::default()
        };
        let after = page.after.unwrap_or(Cursor::BEGINNING);
        let page = PageRequest {
            after: Some(after),
            ..page
        };
        let (parent, replies) = tokio::try_join!(
            self.store.find_message(caller.team(), channel, id),
            self.store
                .list_messages(caller.team(), channel, &filter, page),
        )?;
        Ok(ThreadPage {
            parent: parent.ok_or_else(message_not_found)?,
            next_after_id: cursor_after(&replies.items, page.after),
            replies: replies.items,
            has_more: replies.has_more,
        })
    }

    /// Deletes a message from every view.
    ///
    /// # Errors
    /// `MESSAGE_NOT_FOUND`
    pub async fn delete_message(&self, grant: &ChannelGrant, id: Id) -> Result<()> {
        let (caller, channel) = grant.for_operation(Operation::DeleteMessage)?;
        let deletion = DeleteMessage {
            team: caller.team(),
            channel: channel.clone(),
            id,
        };
        if self.store.delete_message(deletion).await? {
            Ok(())
        } else {
            Err(message_not_found())
        }
    }

    /// Moves the caller's ack forward, never back, and never past the newest message.
    ///
    /// # Errors
    /// `CHANNEL_NOT_FOUND`
    pub async fn move_ack(&self, grant: &ChannelGrant, last_read_id: Id) -> Result<Ack> {
        let (caller, channel) = grant.for_operation(Operation::MoveAck)?;
        let ack = MoveAck {
            team: caller.team(),
            channel: channel.clone(),
            sender: caller.sender().clone(),
            last_read_id,
        };
        let moved = self.store.move_acks(caller.team(), vec![ack]).await?;
        let moved = moved.into_iter().flatten().next();
        let moved = moved.ok_or_else(|| Error::channel_not_found(channel))?;
        Ok(ack_of(caller, channel, moved))
    }

    /// Moves the caller's acks in several channels forward, in one transaction.
    ///
    /// # Errors
    /// `CHANNEL_NOT_FOUND`, and none is moved; but where a channel is deleted at this very moment,
    /// the others may be.
    pub async fn move_acks(
        &self,
        grant: &ChannelsGrant,
        acks: Vec<(ChannelName, Id)>,
    ) -> Result<Vec<Ack>> {
        let (caller, granted) = grant.for_operation(Operation::MoveAcks)?;
        if !acks.iter().all(|(channel, _)| granted.contains(channel)) {
            let message = "An ack is for a channel that it has no grant for";
            return Err(Error::new(ErrorCode::Internal, message));
        }
        let there = self.store.resolve_channels(caller.team(), granted).await?;
        let is_there = |channel: &ChannelName| there.iter().any(|(_, name)| name == channel);
        if let Some(missing) = granted.iter().find(|channel| !is_there(channel)) {
            return Err(Error::channel_not_found(missing));
        }
        let (channels, moves): (Vec<_>, Vec<_>) = acks
            .into_iter()
            .map(|(channel, last_read_id)| {
                let ack = MoveAck {
                    team: caller.team(),
                    channel: channel.clone(),
                    sender: caller.sender().clone(),
                    last_read_id,
                };
                (channel, ack)
            })
            .unzip();
        let moved = self.store.move_acks(caller.team(), moves).await?;
        channels
            .iter()
            .zip(moved)
            .map(|(channel, moved)| {
                let moved = moved.ok_or_else(|| Error::channel_not_found(channel))?;
                Ok(ack_of(caller, channel, moved))
            })
            .collect()
    }

    /// Who has read how far, by sender.
    pub async fn list_acks(&self, grant: &ChannelGrant) -> Result<Vec<Ack>> {
        let (caller, channel) = grant.for_operation(Operation::ListAcks)?;
        Ok(self.store.list_acks(caller.team(), channel).await?)
    }
}

fn ack_of(caller: &Caller, channel: &ChannelName, moved: AckMoved) -> Ack {
    Ack {
        channel: channel.clone(),
        sender: caller.sender().clone(),
        last_read_id: moved.last_read_id,
        acked_at: moved.acked_at,
    }
}

fn message_not_found() -> Error {
    Error::new(
        ErrorCode::MessageNotFound,
        "No message with this ID stands in this channel",
    )
}

/// Where the next page starts: after the last item, or where this page started.
fn cursor_after(messages: &[Message], started: Option<Cursor>) -> Cursor {
    messages
        .last()
        .map(|message| message.id)
        .or(started)
        .unwrap_or_default()
}

/// Of everything that a post asks for; each part with its length, so that no two posts look the
/// same.
fn body_digest(channel: &str, message: &NewMessage) -> Digest {
    let thread_id = message.thread_id.map(|id| id.to_string());
    let mention = message.mention.as_ref().map(|mention| mention.as_str());
    let mut hash = Sha256::new();
    for part in [
        Some(channel),
        Some(message.content.as_str()),
        mention,
        thread_id.as_deref(),
    ] {
        let length = part.map_or(u64::MAX, |part| part.len() as u64);
        hash.update(length.to_be_bytes());
        hash.update(part.unwrap_or_default());
    }
    Digest::of(hash.finalize().into())
}
