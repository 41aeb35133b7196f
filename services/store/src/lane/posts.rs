//! A batch's posts, and the two statements that append them.
//!
//! Nearly always every post of a batch is to stand: its channel exists, so does the message that
//! it replies to, and its idempotency key is new. Such batches are appended all together, by a
//! statement that decides nothing and fails where it would have to. A batch that fails, or whose
//! channels this session doesn't know, goes to the statement that decides post by post.

use super::{
    Outcome, Post, PostOutcome,
    transaction::{Committed, Group, PgResult, time_in},
};
use crate::{
    ChannelId, Result,
    feed::{Event, EventKind},
    messages,
    slots::Sequences,
};
use handoff_protocol::{Id, TeamId, TraceParent, ids::Slot, messages::Message};
use std::{collections::HashMap, sync::Arc};
use tokio_postgres::{Client, Row, Statement, types::ToSql};

/// How the posts of a batch are appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Append {
    /// All of them, or the batch fails.
    All,
    /// Each as it may be.
    Each,
}

/// Channels whose posts were refused because their team has too many.
pub(super) type Limited<'a> = Vec<(TeamId, &'a str)>;

/// A session's statements for posts, and what it has learned of channels.
pub(super) struct Appender {
    all: Statement,
    each: Statement,
    known_ids: KnownIds,
    /// Batches that are appended post by post, since one failed a moment ago: whoever retries
    /// what was stored, or posts to what is gone, must not make every batch run twice.
    cautious: u8,
}

impl Appender {
    /// How many batches a failed one makes cautious.
    const CAUTION: u8 = 8;

    pub(super) async fn prepare(client: &Client) -> PgResult<Self> {
        Ok(Self {
            all: client.prepare(messages::APPEND_ALL).await?,
            each: client.prepare(messages::APPEND).await?,
            known_ids: KnownIds::default(),
            cautious: 0,
        })
    }

    /// How these posts are to be tried first.
    pub(super) fn first_try(&mut self, posts: &Posts<'_>) -> Append {
        // These bugs are in how the other statement draws.
        if posts.is_empty() || planted!(DrawBeforeLock | SequenceCache) {
            return Append::Each;
        }
        if self.cautious > 0 {
            self.cautious -= 1;
            return Append::Each;
        }
        match posts.to.iter().all(|to| self.known_ids.get(*to).is_some()) {
            true => Append::All,
            false => Append::Each,
        }
    }

    /// Posts that were appended all together were refused.
    pub(super) fn refused(&mut self) {
        self.cautious = Self::CAUTION;
    }

    pub(super) async fn append(
        &self,
        client: &Client,
        sequences: &Sequences,
        posts: &Posts<'_>,
        how: Append,
    ) -> PgResult<Vec<Row>> {
        let Posts { group, to, .. } = posts;
        if group.is_empty() {
            return Ok(Vec::new());
        }
        let teams: Vec<i64> = to.iter().map(|(team, _)| team.serial()).collect();
        let channels: Vec<&str> = to.iter().map(|(_, channel)| *channel).collect();
        let known_ids: Vec<i64> = to
            .iter()
            .map(|to| self.known_ids.get(*to).unwrap_or(0))
            .collect();
        let idempotency = group.column(|post| match planted!(ForgetIdempotency) {
            true => None,
            false => post.idempotency.as_ref(),
        });
        let key_hashes: Vec<Option<&[u8]>> = idempotency
            .iter()
            .map(|idempotency| idempotency.map(|idempotency| &idempotency.key_hash.0[..]))
            .collect();
        let keys: Vec<Option<&str>> = idempotency
            .iter()
            .map(|idempotency| idempotency.map(|idempotency| idempotency.key.as_str()))
            .collect();
        let body_hashes: Vec<Option<&[u8]>> = idempotency
            .iter()
            .map(|idempotency| idempotency.map(|idempotency| &idempotency.body_hash[..]))
            .collect();
        let traceparents = group.column(|post| post.traceparent.map(TraceParent::to_row));
        let traceparents: Vec<Option<&[u8]>> = traceparents
            .iter()
            .map(|traceparent| traceparent.as_ref().map(|bytes| &bytes[..]))
            .collect();
        let senders = group.column(|post| post.sender.as_str());
        let contents = group.column(|post| post.message.content.as_str());
        let mentions = group.column(|post| post.message.mention.as_ref().map(|name| name.as_str()));
        let threads = group.column(|post| post.message.thread_id.map(Id::serial));
        match how {
            Append::All => {
                let sequences: Vec<u32> = posts
                    .slots
                    .iter()
                    .map(|(slot, _)| sequences[slot.index()])
                    .collect();
                let drawn: Vec<i32> = posts.slots.iter().map(|(_, drawn)| *drawn).collect();
                let place = |of: fn(&Place) -> i32| posts.places.iter().map(of).collect::<Vec<_>>();
                let params: [&(dyn ToSql + Sync); 17] = [
                    &teams,
                    &channels,
                    &known_ids,
                    &sequences,
                    &drawn,
                    &place(|place| place.channel),
                    &place(|place| place.slot),
                    &place(|place| place.nth_in_slot),
                    &place(|place| place.nth_in_channel),
                    &senders,
                    &contents,
                    &mentions,
                    &threads,
                    &key_hashes,
                    &keys,
                    &body_hashes,
                    &traceparents,
                ];
                client.query(&self.all, &params).await
            }
            Append::Each => {
                let sequences: Vec<u32> = to
                    .iter()
                    .map(|(team, _)| sequences[team.slot().index()])
                    .collect();
                let places: Vec<i32> = posts.places.iter().map(|place| place.channel).collect();
                let params: [&(dyn ToSql + Sync); 13] = [
                    &teams,
                    &sequences,
                    &channels,
                    &known_ids,
                    &places,
                    &senders,
                    &contents,
                    &mentions,
                    &threads,
                    &key_hashes,
                    &keys,
                    &body_hashes,
                    &traceparents,
                ];
                client.query(&self.each, &params).await
            }
        }
    }

    /// Takes note of what the batch's events tell of channels.
    pub(super) fn learn(&mut self, events: &[Event]) {
        self.known_ids.learn(events);
    }

    /// Forgets channels that posts didn't find.
    pub(super) fn forget(&mut self, missing: &[(TeamId, &str)]) {
        for (team, channel) in missing {
            self.known_ids.forget(*team, channel);
        }
    }
}

/// The newest message of each channel that this session has posted to, as far as it knows: where
/// the search for a channel's newest row may end. Others may have posted since.
#[derive(Default)]
struct KnownIds {
    by_team: HashMap<TeamId, HashMap<String, i64>>,
    channels: usize,
}

impl KnownIds {
    /// Beyond this many channels all are forgotten.
    const CHANNELS_MAX: usize = 20_000;

    fn get(&self, (team, channel): (TeamId, &str)) -> Option<i64> {
        self.by_team.get(&team)?.get(channel).copied()
    }

    fn learn(&mut self, events: &[Event]) {
        for event in events {
            let EventKind::Message(message) = &event.kind else {
                continue;
            };
            let channels = self.by_team.entry(event.team).or_default();
            if let Some(known_id) = channels.get_mut(message.channel.as_str()) {
                *known_id = event.id;
                continue;
            }
            channels.insert(message.channel.as_str().to_owned(), event.id);
            self.channels += 1;
            if self.channels > Self::CHANNELS_MAX {
                *self = Self::default();
            }
        }
    }

    fn forget(&mut self, team: TeamId, channel: &str) {
        let channels = self.by_team.get_mut(&team);
        if channels.is_some_and(|channels| channels.remove(channel).is_some()) {
            self.channels -= 1;
        }
    }
}

/// Where a post stands in its batch; all count from 1.
struct Place {
    /// Which of [`Posts::to`] it goes to.
    channel: i32,
    /// Which of [`Posts::slots`] its team belongs to.
    slot: i32,
    /// Which of that slot's posts it is.
    nth_in_slot: i32,
    /// Which of its channel's posts it is.
    nth_in_channel: i32,
}

/// Posts, with the channels that they go to, each once.
#[derive(Default)]
pub(super) struct Posts<'a> {
    group: Group<'a, Post>,
    to: Vec<(TeamId, &'a str)>,
    by_channel: HashMap<(TeamId, &'a str), i32>,
    /// How many go to each of `to`.
    counts: Vec<i32>,
    /// The slots, each with how many of its IDs these posts draw.
    slots: Vec<(Slot, i32)>,
    places: Vec<Place>,
}

impl<'a> Posts<'a> {
    pub(super) fn push(&mut self, place: usize, post: &'a Post) {
        let to = (post.team, post.channel.as_str());
        let next = self.to.len() as i32 + 1;
        let channel = *self.by_channel.entry(to).or_insert(next);
        if channel == next {
            self.to.push(to);
            self.counts.push(0);
        }
        let nth_in_channel = &mut self.counts[channel as usize - 1];
        *nth_in_channel += 1;
        let slot = post.team.slot();
        let known = self.slots.iter().position(|(known, _)| *known == slot);
        let index = known.unwrap_or_else(|| {
            self.slots.push((slot, 0));
            self.slots.len() - 1
        });
        let nth_in_slot = &mut self.slots[index].1;
        *nth_in_slot += 1;
        self.places.push(Place {
            channel,
            slot: index as i32 + 1,
            nth_in_slot: *nth_in_slot,
            nth_in_channel: *nth_in_channel,
        });
        self.group.push(place, post);
    }

    fn is_empty(&self) -> bool {
        self.group.is_empty()
    }

    /// What came of them; answers the channels that were missing.
    pub(super) fn outcomes(
        &self,
        how: Append,
        rows: &[Row],
        limited: &Limited<'_>,
        committed: &mut Committed,
    ) -> Result<Vec<(TeamId, &'a str)>> {
        match how {
            Append::All => self.all_posted(rows, committed).map(|()| Vec::new()),
            Append::Each => self.each_outcome(rows, limited, committed),
        }
    }

    fn all_posted(&self, rows: &[Row], committed: &mut Committed) -> Result<()> {
        let [row] = rows else {
            return Err(incomplete());
        };
        let channel_ids: Vec<i64> = row.try_get("channel_ids")?;
        let seqs: Vec<i64> = row.try_get("seqs")?;
        let last_ids: Vec<i64> = row.try_get("last_ids")?;
        let created_at = time_in(row, "created_at")?;
        let at = |column: &[i64], place: i32| {
            let index = usize::try_from(place - 1).unwrap_or(usize::MAX);
            column.get(index).copied().ok_or_else(incomplete)
        };
        for (place, (index, post)) in self.places.iter().zip(self.group.items()) {
            let id = at(&last_ids, place.slot)? + i64::from(place.nth_in_slot);
            let seq = at(&seqs, place.channel)? + i64::from(place.nth_in_channel);
            let channel = ChannelId(at(&channel_ids, place.channel)?);
            let message = post.as_message(id, seq, created_at);
            committed.outcomes[index] = Some(posted(post, channel, message, &mut committed.events));
        }
        Ok(())
    }

    fn each_outcome(
        &self,
        rows: &[Row],
        limited: &Limited<'_>,
        committed: &mut Committed,
    ) -> Result<Vec<(TeamId, &'a str)>> {
        let mut missing = Vec::new();
        for row in rows {
            let (place, post) = self.group.of(row)?;
            let to = (post.team, post.channel.as_str());
            let outcome = match messages::Appended::from_code(row.try_get("outcome")?)? {
                messages::Appended::ChannelMissing => {
                    missing.push(to);
                    limited
                        .contains(&to)
                        .then_some(Outcome::Post(PostOutcome::ChannelLimitReached))
                }
                messages::Appended::ParentMissing => {
                    Some(Outcome::Post(PostOutcome::ParentNotFound))
                }
                messages::Appended::OtherBody => Some(Outcome::Post(PostOutcome::Mismatch)),
                messages::Appended::Earlier => {
                    let (id, seq) = (row.try_get("id")?, row.try_get("seq")?);
                    let mut message = post.as_message(id, seq, time_in(row, "created_at")?);
                    message.reply_count = row.try_get("reply_count")?;
                    message.traceparent = messages::traceparent_in(row)?;
                    Some(Outcome::Post(PostOutcome::Replayed(message)))
                }
                messages::Appended::Posted => {
                    let (id, seq) = (row.try_get("id")?, row.try_get("seq")?);
                    let message = post.as_message(id, seq, time_in(row, "created_at")?);
                    let channel = ChannelId(row.try_get("channel_id")?);
                    Some(posted(post, channel, message, &mut committed.events))
                }
            };
            committed.outcomes[place] = outcome;
        }
        Ok(missing)
    }
}

fn posted(post: &Post, channel: ChannelId, message: Message, events: &mut Vec<Event>) -> Outcome {
    let message = Arc::new(message);
    events.push(Event {
        team: post.team,
        channel: Some(channel),
        id: message.id.serial(),
        kind: EventKind::Message(message.clone()),
    });
    Outcome::Post(PostOutcome::Posted(message))
}

fn incomplete() -> crate::Error {
    crate::Error::Internal("the answer to a batch of posts is incomplete".into())
}
