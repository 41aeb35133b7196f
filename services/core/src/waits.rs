//! Waiting: the relay watches what a caller waits for, and answers as soon as it is there.
//!
//! One who waits listens to the feed first and looks at the tables second, like a stream. It looks
//! again only when it hears of something that may concern it, of that kind alone, and not more
//! often than every 20 ms. It counts as one of its key's streams, so there are never more of them
//! than of streams.

use crate::{
    Caller, ChannelsGrant, Error, Operation, Relay, Result,
    ears::{Ears, Heard, LOOK_EVERY, News},
    feed::slot::Stirs,
    streams::StreamSlot,
};
use handoff_protocol::{
    ChannelName, Cursor, ErrorCode, Id, Name,
    messages::{Message, MessageFilter},
    pages::{PageLimit, PageRequest},
    waits::{Condition, ConditionState, Wait, WaitOutcome},
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

impl Relay {
    /// Waits for what others do.
    ///
    /// # Errors
    /// `SSE_LIMIT_REACHED`. `INVALID_API_KEY` when the key changed meanwhile, `TOKEN_EXPIRED`.
    /// `UNAVAILABLE` when the wait ends before this replica can know whether the key still stands.
    pub async fn wait(self: &Arc<Self>, grant: &ChannelsGrant, wait: &Wait) -> Result<WaitOutcome> {
        let (caller, granted) = grant.for_operation(Operation::Wait)?;
        let named = |condition: &Condition| granted.contains(condition.channel());
        if !wait.conditions.iter().all(named) {
            let message = "A wait looks at a channel that it has no grant for";
            return Err(Error::new(ErrorCode::Internal, message));
        }
        let mut conditions = Conditions::new(wait);
        let mut waiter = Waiter::new(self, caller, granted, wait.timeout).await?;
        waiter.watched = conditions.watched();
        while !conditions.are_satisfied()
            && waiter
                .next_look(|message| conditions.concern(message))
                .await?
        {
            conditions.look(&waiter).await?;
        }
        Ok(conditions.outcome())
    }
}

/// One who waits: says when to look.
pub(crate) struct Waiter<'a> {
    relay: &'a Arc<Relay>,
    caller: &'a Caller,
    channels: &'a [ChannelName],
    /// What matters in which channels beside messages.
    watched: Vec<(&'a ChannelName, Stirs)>,
    deadline: Instant,
    place: Arc<StreamSlot>,
    ears: Ears,
    /// What to look for.
    news: News,
    /// When the last look began.
    looked: Option<Instant>,
    /// Messages that are posted from now on come after this.
    begins_after: Option<Cursor>,
}

impl<'a> Waiter<'a> {
    /// Waits for messages in these channels.
    pub(crate) async fn new(
        relay: &'a Arc<Relay>,
        caller: &'a Caller,
        channels: &'a [ChannelName],
        wait: Duration,
    ) -> Result<Self> {
        let deadline = Instant::now() + wait;
        Ok(Self {
            relay,
            caller,
            channels,
            watched: Vec::new(),
            deadline,
            place: relay.take_stream_slot(caller).await?,
            ears: Ears::new(relay.feed.subscribe(caller.team())),
            news: News::ANYTHING,
            looked: None,
            begins_after: None,
        })
    }

    /// Waits until it is worth to look (the first time, at once); false when the wait is over.
    pub(crate) async fn next_look(&mut self, concerns: impl Fn(&Message) -> bool) -> Result<bool> {
        if let Some(looked) = self.looked {
            if looked >= self.deadline {
                return Ok(false);
            }
            let end = self.place.end();
            let heard = tokio::select! {
                biased;
                () = end.cancelled() => return Err(self.place.ended()),
                () = self.relay.stop.cancelled() => return Ok(false),
                heard = self.ears.hear(concerns) => heard,
                () = tokio::time::sleep_until(self.deadline) => Heard::News(News::ANYTHING),
            };
            self.news = match heard {
                Heard::News(news) => news,
                Heard::Over => {
                    self.listen_anew();
                    News::ANYTHING
                }
            };
            tokio::time::sleep_until(self.deadline.min(looked + LOOK_EVERY)).await;
            self.place.stands(self.deadline).await?;
        }
        self.looked = Some(Instant::now());
        while self.news.channels && !self.follow().await? {
            self.listen_anew();
        }
        Ok(true)
    }

    fn listen_anew(&mut self) {
        self.ears = Ears::new(self.relay.feed.subscribe(self.caller.team()));
    }

    /// Follows the channels that exist by now. False where one was deleted before its deletion
    /// could be heard of: then all begins anew.
    async fn follow(&mut self) -> Result<bool> {
        let (team, ears) = (self.caller.team(), &mut self.ears);
        ears.wait_for_channels(true);
        loop {
            let store = &self.relay.store;
            let found = store.resolve_channels(team, self.channels).await?;
            let is_new = ears.follow(found.iter().map(|(id, _)| *id));
            for (id, name) in &found {
                let watched = self.watched.iter().find(|(watched, _)| *watched == name);
                if let Some((_, stirs)) = watched {
                    ears.subscription.watch(*id, *stirs);
                }
            }
            if is_new || self.begins_after.is_none() {
                // What comes after this is heard; what was before, the look finds.
                ears.cursor = ears.subscription.settle().await?;
                self.begins_after
                    .get_or_insert(Id::from_serial(ears.cursor));
            }
            if !is_new {
                ears.wait_for_channels(found.len() < self.channels.len());
                return Ok(ears.subscription.channel_ids().len() == found.len());
            }
        }
    }
}

/// What is waited for, and how it stood at the last look.
struct Conditions<'a> {
    wanted: &'a [Condition],
    needs_all: bool,
    states: Vec<ConditionState>,
}

impl<'a> Conditions<'a> {
    fn new(wait: &'a Wait) -> Self {
        let state = |(index, condition): (usize, &Condition)| ConditionState {
            index,
            satisfied: false,
            message: None,
            status: None,
            acks: matches!(condition, Condition::Acks { .. }).then(Vec::new),
            next_after_id: None,
        };
        Self {
            wanted: &wait.conditions,
            needs_all: wait.needs_all,
            states: wait.conditions.iter().enumerate().map(state).collect(),
        }
    }

    /// What matters in which channels beside messages.
    fn watched(&self) -> Vec<(&'a ChannelName, Stirs)> {
        let mut watched: Vec<(&ChannelName, Stirs)> = Vec::new();
        for condition in self.wanted {
            let stirs = match condition {
                Condition::Status { .. } => Stirs::STATUSES,
                Condition::Acks { .. } => Stirs::ACKS,
                Condition::Reply { .. } | Condition::Message { .. } => continue,
            };
            let channel = condition.channel();
            match watched.iter_mut().find(|(known, _)| *known == channel) {
                Some((_, known)) => *known = known.and(stirs),
                None => watched.push((channel, stirs)),
            }
        }
        watched
    }

    /// Whether a message may make a condition true.
    fn concern(&self, message: &Message) -> bool {
        let open = self.wanted.iter().zip(&self.states);
        let mut open = open.filter(|(_, state)| !state.satisfied);
        open.any(|(condition, _)| {
            *condition.channel() == message.channel
                && match condition {
                    Condition::Reply { id, by, .. } => {
                        message.thread_id == Some(*id)
                            && by.as_ref().is_none_or(|by| *by == message.sender)
                    }
                    Condition::Message {
                        mention, sender, ..
                    } => {
                        (mention.is_none() || *mention == message.mention)
                            && sender.as_ref().is_none_or(|from| *from == message.sender)
                    }
                    Condition::Status { .. } | Condition::Acks { .. } => false,
                }
        })
    }

    fn are_satisfied(&self) -> bool {
        let mut states = self.states.iter();
        if self.needs_all {
            states.all(|state| state.satisfied)
        } else {
            states.any(|state| state.satisfied)
        }
    }

    fn outcome(self) -> WaitOutcome {
        WaitOutcome {
            satisfied: self.are_satisfied(),
            conditions: self.states,
        }
    }

    /// Looks at what may have changed.
    async fn look(&mut self, waiter: &Waiter<'_>) -> Result<()> {
        let (relay, caller, news) = (waiter.relay, waiter.caller, waiter.news);
        if news.messages {
            let begins_after = waiter.begins_after.unwrap_or_default();
            self.look_at_messages(relay, caller, begins_after).await?;
        }
        if news.stirs.has(Stirs::STATUSES) {
            self.look_at_statuses(relay, caller).await?;
        }
        if news.stirs.has(Stirs::ACKS) {
            self.look_at_acks(relay, caller).await?;
        }
        Ok(())
    }

    /// A message that was found stays found.
    async fn look_at_messages(
        &mut self,
        relay: &Relay,
        caller: &Caller,
        begins_after: Cursor,
    ) -> Result<()> {
        for (condition, state) in self.wanted.iter().zip(&mut self.states) {
            let text = |name: &Option<Name>| name.as_ref().map(ToString::to_string);
            let (filter, after) = match condition {
                _ if state.satisfied => continue,
                Condition::Reply { id, by, after, .. } => {
                    let filter = MessageFilter {
                        sender: text(by),
                        thread_id: Some(*id),
                        mention: None,
                    };
                    (filter, *after)
                }
                Condition::Message {
                    mention,
                    sender,
                    after,
                    ..
                } => {
                    let filter = MessageFilter {
                        mention: mention.as_ref().map(ToString::to_string),
                        sender: text(sender),
                        thread_id: None,
                    };
                    (filter, after.unwrap_or(begins_after))
                }
                Condition::Status { .. } | Condition::Acks { .. } => continue,
            };
            let page = PageRequest {
                after: Some(after),
                limit: PageLimit::ONE,
            };
            let found = relay
                .store
                .list_messages(caller.team(), condition.channel(), &filter, page)
                .await?;
            state.message = found.items.into_iter().next();
            state.satisfied = state.message.is_some();
            state.next_after_id = Some(state.message.as_ref().map_or(after, |found| found.id));
        }
        Ok(())
    }

    /// Entries may change back: they all are as one look saw them.
    async fn look_at_statuses(&mut self, relay: &Relay, caller: &Caller) -> Result<()> {
        let (wanted, open): (Vec<_>, Vec<_>) = self
            .wanted
            .iter()
            .zip(&mut self.states)
            .filter_map(|(condition, state)| match condition {
                Condition::Status {
                    channel,
                    key,
                    value,
                    after,
                } => Some(((channel, key), (value, *after, state))),
                _ => None,
            })
            .unzip();
        if wanted.is_empty() {
            return Ok(());
        }
        let found = relay.store.wanted_statuses(caller.team(), &wanted).await?;
        for ((value, after, state), found) in open.into_iter().zip(found) {
            let (status, change) = found.unzip();
            state.satisfied = change.is_some_and(|change| change > after)
                && status.as_ref().is_some_and(|status| {
                    value.as_ref().is_none_or(|value| *value == status.value)
                });
            state.status = status;
            state.next_after_id = Some(change.map_or(after, |change| change.max(after)));
        }
        Ok(())
    }

    async fn look_at_acks(&mut self, relay: &Relay, caller: &Caller) -> Result<()> {
        let (wanted, open): (Vec<_>, Vec<_>) = self
            .wanted
            .iter()
            .zip(&mut self.states)
            .filter_map(|(condition, state)| match condition {
                Condition::Acks { channel, id, count } => Some(((channel, *id), (*count, state))),
                _ => None,
            })
            .unzip();
        if wanted.is_empty() {
            return Ok(());
        }
        let found = relay.store.wanted_acks(caller.team(), &wanted).await?;
        for ((count, state), acks) in open.into_iter().zip(found) {
            state.satisfied = acks.len() >= count as usize;
            state.acks = Some(acks);
        }
        Ok(())
    }
}
