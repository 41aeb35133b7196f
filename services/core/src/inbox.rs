//! The inbox: what a caller has not read, over all channels that its key can read.

use crate::{
    Caller, Operation, Relay, Result, TeamGrant,
    ears::{Ears, Heard, LOOK_EVERY},
    unread_cache::Counter,
    unread_hint::counts,
};
use handoff_protocol::{
    ChannelName, ErrorCode, Id, Invalid,
    inbox::{Inbox, InboxRequest},
    messages::Message,
};
use handoff_store::inbox::{ChannelUnread, Counted};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Messages of each kind that an answer shows at most.
const MESSAGES_MAX: usize = 200;
/// Longest session name, in bytes.
const SESSION_MAX: usize = 256;

impl Relay {
    /// What the caller hasn't read. With a wait: as soon as there is something to show, else what
    /// there is when the wait is over.
    ///
    /// # Errors
    /// `SSE_LIMIT_REACHED`: one who waits counts as a stream. `INVALID_API_KEY` when the key
    /// changed meanwhile.
    pub async fn read_inbox(
        self: &Arc<Self>,
        grant: &TeamGrant,
        request: &InboxRequest,
    ) -> Result<Inbox> {
        let caller = grant.caller_for(Operation::ReadInbox)?;
        if request.wait.is_zero() {
            let channels = self.unread_in(caller, request).await?;
            return self.show(caller, request, &channels).await;
        }
        let deadline = Instant::now() + request.wait;
        let place = self.take_stream_slot(caller).await?;
        let end = place.end();
        let mut ears = Ears::new(self.feed.subscribe(caller.team()));
        loop {
            let looked = Instant::now();
            // First the ears, then the look.
            ears.wait_for_channels(true);
            let channels = self.unread_in(caller, request).await?;
            let found = channels.iter().any(|channel| {
                channel.mentions > 0 || (channel.messages > 0 && !request.mentions_only)
            });
            if found || looked >= deadline {
                return self.show(caller, request, &channels).await;
            }
            if ears.follow(channels.iter().map(|channel| channel.id)) {
                // What comes after this is heard; what was before, the next look finds.
                ears.cursor = ears.subscription.settle().await?;
                continue;
            }
            let concerns = |message: &Message| {
                let mention = message.mention.as_ref().map(|mention| mention.as_str());
                message.sender != *caller.sender()
                    && (!request.mentions_only || mention == Some(caller.sender().as_str()))
            };
            tokio::select! {
                biased;
                () = end.cancelled() => return Err(place.ended()),
                () = self.stop.cancelled() => return self.show(caller, request, &channels).await,
                heard = ears.hear(concerns) => {
                    if heard == Heard::Over {
                        ears = Ears::new(self.feed.subscribe(caller.team()));
                    }
                    tokio::time::sleep_until(looked + LOOK_EVERY).await;
                }
                () = tokio::time::sleep_until(deadline) => {}
            }
            place.stands(deadline).await?;
        }
    }

    /// The unread messages that mention the caller and of which this session was not told yet,
    /// oldest first; from now on it was.
    pub async fn announce_mentions(
        self: &Arc<Self>,
        grant: &TeamGrant,
        session: &str,
    ) -> Result<Vec<Message>> {
        let caller = grant.caller_for(Operation::ReadInbox)?;
        check_session(session)?;
        let (team, sender) = (caller.team(), caller.sender());
        // What was told of doesn't take up room, however long it stays unread.
        let told = self.store.announced(team, sender, session).await?;
        let request = InboxRequest {
            after: told,
            channels: None,
            mentions_only: true,
            max_bytes: InboxRequest::DEFAULT_BYTES,
            wait: Duration::ZERO,
        };
        let mut mentions = self.read_inbox(grant, &request).await?.mentions;
        let Some(newest) = mentions.last().map(|message| message.id) else {
            return Ok(mentions);
        };
        let before = self.store.announce(team, sender, session, newest).await?;
        mentions.retain(|message| message.id > before);
        Ok(mentions)
    }

    async fn unread_in(
        &self,
        caller: &Caller,
        request: &InboxRequest,
    ) -> Result<Vec<ChannelUnread>> {
        self.unread_channels(caller, request.channels.as_deref(), request.after)
            .await
    }

    /// What the caller hasn't read of the channels that its key can read, or of those of them that
    /// are wanted; in ascending order of their IDs.
    pub(crate) async fn unread_channels(
        &self,
        caller: &Caller,
        wanted: Option<&[ChannelName]>,
        after: Id,
    ) -> Result<Vec<ChannelUnread>> {
        let readable = caller.readable();
        let channels: Option<Vec<&str>> = match (wanted, &readable) {
            (None, readable) => readable.clone(),
            (Some(wanted), readable) => {
                let may_read = |name: &&str| {
                    let readable = readable.as_ref();
                    readable.is_none_or(|readable| readable.contains(name))
                };
                let names = wanted.iter().map(|channel| channel.as_str());
                Some(names.filter(may_read).collect())
            }
        };
        let look = async |known: &[Counted]| {
            let (team, sender, channels) = (caller.team(), caller.sender(), channels.as_deref());
            self.store
                .unread_channels(team, sender, channels, after, known)
                .await
        };
        // What is remembered are counts of what comes after the ack.
        if after != Id::BEGINNING {
            return Ok(look(&[]).await?);
        }
        let counter = self.counter(caller);
        let known = self.unread.get(&counter);
        let found = look(&known).await?;
        self.unread
            .insert(counter, &known, &found, channels.is_none());
        Ok(found)
    }

    /// Whose messages are counted, and in which epoch.
    pub(crate) fn counter(&self, caller: &Caller) -> Counter {
        Counter {
            epoch: self.epoch(),
            team: caller.team(),
            sender: caller.sender().clone(),
        }
    }

    /// Fills the budget: mentions first.
    async fn show(
        &self,
        caller: &Caller,
        request: &InboxRequest,
        channels: &[ChannelUnread],
    ) -> Result<Inbox> {
        let (team, sender) = (caller.team(), caller.sender());
        let mut budget = Budget {
            bytes: request.max_bytes,
            shown: 0,
            left_out_after: None,
        };
        let (mut mentions, mut messages) = (Vec::new(), Vec::new());
        let calling: Vec<_> = channels.iter().filter(|c| c.mentions > 0).collect();
        if request.max_bytes > 0 && !calling.is_empty() {
            let found = self
                .store
                .unread_mentions(team, sender, &calling, MESSAGES_MAX + 1);
            mentions = budget.cut(found.await?, request.after);
        }
        let others: Vec<_> = channels
            .iter()
            .filter(|channel| channel.messages > channel.mentions || channel.mentions >= 100)
            .collect();
        if request.max_bytes > 0 && !request.mentions_only && !others.is_empty() {
            let found = self
                .store
                .unread_others(team, sender, &others, MESSAGES_MAX + 1);
            messages = budget.cut(found.await?, request.after);
        }
        let newest = mentions.last().into_iter().chain(messages.last());
        let newest = newest.map(|message| message.id).max();
        let unread = counts(channels);
        let nothing_shown = request.max_bytes == 0 && !unread.channels.is_empty();
        Ok(Inbox {
            has_more: budget.left_out_after.is_some() || nothing_shown,
            next_after_id: budget.left_out_after.or(newest).unwrap_or(request.after),
            mentions,
            messages,
            unread,
        })
    }
}

fn check_session(session: &str) -> Result<(), Invalid> {
    let (code, message) = if session.is_empty() {
        return Err(Invalid::missing("session_id"));
    } else if session.len() > SESSION_MAX {
        (
            ErrorCode::FieldTooLarge,
            format!("session_id has {SESSION_MAX} bytes at most"),
        )
    } else if session.contains('\0') {
        (
            ErrorCode::InvalidContent,
            "session_id must not hold U+0000".to_owned(),
        )
    } else {
        return Ok(());
    };
    Err(Invalid::new(code, message))
}

/// Bytes of text that an answer may still show.
struct Budget {
    bytes: usize,
    shown: usize,
    /// The last place after which something was left out.
    left_out_after: Option<Id>,
}

impl Budget {
    /// Keeps what fits, oldest first, and at least one message in all: else a long one would
    /// stand in the way of all others for ever.
    fn cut(&mut self, mut messages: Vec<Message>, after: Id) -> Vec<Message> {
        let mut keep = 0;
        for message in messages.iter().take(MESSAGES_MAX) {
            let bytes = message.content.as_str().len();
            if bytes > self.bytes && self.shown > 0 {
                break;
            }
            self.bytes = self.bytes.saturating_sub(bytes);
            self.shown += 1;
            keep += 1;
        }
        if keep < messages.len() {
            let place = keep.checked_sub(1).map_or(after, |last| messages[last].id);
            let earlier = self.left_out_after.map_or(place, |other| other.min(place));
            self.left_out_after = Some(earlier);
        }
        messages.truncate(keep);
        messages
    }
}
