//! A batch's posts, and the statements that append them.
//!
//! Nearly always every post of a batch is to stand: its channel exists, so does the message that
//! it replies to, and its idempotency key is new. Such batches are appended all together, by a
//! statement that decides nothing and fails where it would have to. A batch that fails, or whose
//! channels this session doesn't know, goes to the statement that decides post by post. And where
//! nobody else has written to its slots for a while, a batch of posts alone is a single statement.

use super::{
    Idempotency, Outcome, Post, PostOutcome,
    transaction::{Committed, Group, PgResult, time_in},
};
use crate::{
    ChannelId, Result,
    append::{self, Appended, Parts},
    feed::{Event, EventKind},
    messages,
    slots::Sequences,
};
use foldhash::HashMap;
use futures_util::future::try_join_all;
use handoff_protocol::{Id, TeamId, Timestamp, TraceParent, ids::Slot, messages::Message};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_postgres::{Client, Row, Statement, types::ToSql};

/// How the posts of a batch are appended.
pub(super) enum Append {
    /// As `All`, by a statement that is the whole transaction, and fails as well where another
    /// session wrote to their slots: this is known of them as long as none has.
    Alone(Base),
    /// All of them, or the batch fails.
    All,
    /// Each as it may be.
    Each,
}

/// What a batch's posts are added to.
pub(super) struct Base {
    /// The channels' IDs, by [`Posts::to`].
    channel_ids: Vec<i64>,
    /// Their newest `seq`s.
    seqs: Vec<i64>,
    /// What the slots' sequences gave last, by [`Posts::slots`].
    last_ids: Vec<i64>,
}

/// Channels whose posts were refused because their team has too many.
pub(super) type Limited<'a> = Vec<(TeamId, &'a str)>;

/// A session's statements for posts, and what it has learned of channels.
pub(super) struct Appender {
    /// By the [`Parts`]' index.
    alone: Vec<Statement>,
    /// By the [`Parts`]' index.
    all: Vec<Statement>,
    each: Statement,
    heads: SessionHeads,
    /// Batches that are appended post by post, since one failed a moment ago: whoever retries
    /// what was stored, or posts to what is gone, must not make every batch run twice.
    cautious: u8,
}

impl Appender {
    /// How many batches a failed one makes cautious.
    const CAUTION: u8 = 8;

    pub(super) async fn prepare(client: &Client, heads: &SharedHeads) -> PgResult<Self> {
        let server = client.query_one(SERVER, &[]).await?.try_get(0)?;
        let prepare = async |sql: [String; Parts::COUNT]| {
            try_join_all(sql.iter().map(|sql| client.prepare(sql))).await
        };
        Ok(Self {
            alone: prepare(Parts::every().map(append::alone)).await?,
            all: prepare(Parts::every().map(append::all)).await?,
            each: client.prepare(append::EACH).await?,
            heads: heads.on(server),
            cautious: 0,
        })
    }

    /// Whether its session's server is no longer the one that the lane writes to.
    pub(super) fn is_outdated(&self) -> bool {
        self.heads.is_outdated()
    }

    /// How these posts, of a batch of nothing else perhaps, are to be tried first.
    pub(super) fn first_try(&mut self, posts: &Posts<'_>, are_all: bool) -> Append {
        // These bugs are in how the other statement draws.
        if posts.is_empty() || planted!(DrawBeforeLock | SequenceCache) {
            return Append::Each;
        }
        if self.cautious > 0 {
            self.cautious -= 1;
            return Append::Each;
        }
        // These bugs are in how the other transaction ends.
        let are_alone = are_all && !planted!(AnswerBeforeCommit | DeliverUncommitted);
        self.heads.with(|heads| {
            if !posts.to.iter().all(|to| heads.get(*to).is_some()) {
                return Append::Each;
            }
            let base = are_alone.then(|| heads.base(posts)).flatten();
            base.map_or(Append::All, Append::Alone)
        })
    }

    /// Posts were refused that were tried like this; answers how to try them next.
    pub(super) fn refused(&mut self, posts: &Posts<'_>, how: &Append) -> Option<Append> {
        match how {
            Append::Alone(_) => {
                self.heads.with(|heads| {
                    posts
                        .slots
                        .iter()
                        .for_each(|(slot, _)| heads.disturbed(*slot))
                });
                Some(Append::All)
            }
            Append::All => {
                self.cautious = Self::CAUTION;
                Some(Append::Each)
            }
            Append::Each => None,
        }
    }

    /// Appends the posts by a transaction of its own; answers when that was.
    pub(super) async fn append_alone(
        &self,
        client: &Client,
        sequences: &Sequences,
        posts: &Posts<'_>,
        base: &Base,
    ) -> Result<Timestamp> {
        // Everybody takes the locks in ascending order.
        let mut slots: Vec<_> = posts.slots.iter().zip(&base.last_ids).collect();
        slots.sort_unstable_by_key(|((slot, _), _)| *slot);
        let (mut numbers, mut oids) = (Vec::new(), Vec::new());
        let (mut known_last_ids, mut last_ids) = (Vec::new(), Vec::new());
        for ((slot, drawn), last_id) in slots {
            numbers.push(slot.index() as i32);
            oids.push(sequences[slot.index()]);
            known_last_ids.push(*last_id);
            last_ids.push(last_id + i64::from(*drawn));
        }

        let Posts { group, .. } = posts;
        let drawn = posts.drawn(base)?;
        let of_drawn = |of: fn(&Drawn) -> i64| drawn.iter().map(of).collect::<Vec<_>>();
        let teams = group.column(|post| post.team.serial());
        let traceparents = Traceparents::of(group);

        // Only the posts that have a key.
        let (mut key_teams, mut digests, mut body_digests) = (Vec::new(), Vec::new(), Vec::new());
        let (mut key_channels, mut key_ids) = (Vec::new(), Vec::new());
        for ((_, post), drawn) in group.items().zip(&drawn) {
            if let Some(idempotency) = idempotency(post) {
                key_teams.push(post.team.serial());
                digests.push(idempotency.digest);
                body_digests.push(idempotency.body_digest);
                key_channels.push(drawn.channel_id);
                key_ids.push(drawn.id);
            }
        }

        let params: [&(dyn ToSql + Sync); 18] = [
            &numbers,
            &oids,
            &known_last_ids,
            &teams,
            &of_drawn(|drawn| drawn.channel_id),
            &of_drawn(|drawn| drawn.id),
            &of_drawn(|drawn| drawn.seq),
            &group.column(|post| post.message.thread_id.map(Id::serial)),
            &group.column(|post| post.sender.as_str()),
            &group.column(|post| post.message.mention.as_ref().map(|name| name.as_str())),
            &group.column(|post| post.message.content.as_str()),
            &traceparents.column(),
            &key_teams,
            &digests,
            &body_digests,
            &key_channels,
            &key_ids,
            &last_ids,
        ];
        let statement = &self.alone[posts.parts.index()];
        match client.query(statement, &params).await?.as_slice() {
            [row, ..] => time_in(row, "created_at"),
            _ => Err(incomplete()),
        }
    }

    pub(super) async fn append(
        &self,
        client: &Client,
        sequences: &Sequences,
        posts: &Posts<'_>,
        how: &Append,
    ) -> PgResult<Vec<Row>> {
        let Posts { group, to, .. } = posts;
        if group.is_empty() {
            return Ok(Vec::new());
        }
        let teams: Vec<i64> = to.iter().map(|(team, _)| team.serial()).collect();
        let channels: Vec<&str> = to.iter().map(|(_, channel)| *channel).collect();
        let known_id = |heads: &Heads, to| heads.get(to).map_or(0, |head| head.id);
        let known_ids: Vec<i64> = self
            .heads
            .with(|heads| to.iter().map(|to| known_id(heads, *to)).collect());
        let digests = group.column(|post| idempotency(post).map(|key| key.digest));
        let body_digests = group.column(|post| idempotency(post).map(|key| key.body_digest));
        let traceparents = Traceparents::of(group);
        let traceparents = traceparents.column();
        let senders = group.column(|post| post.sender.as_str());
        let contents = group.column(|post| post.message.content.as_str());
        let mentions = group.column(|post| post.message.mention.as_ref().map(|name| name.as_str()));
        let threads = group.column(|post| post.message.thread_id.map(Id::serial));
        let of_posts: [&(dyn ToSql + Sync); 7] = [
            &senders,
            &contents,
            &mentions,
            &threads,
            &digests,
            &body_digests,
            &traceparents,
        ];
        match how {
            Append::Alone(_) | Append::All => {
                let (heads, last_ids): (Vec<Option<Head>>, Vec<i64>) = self.heads.with(|heads| {
                    let in_streak = to.iter().map(|to| heads.in_streak(*to));
                    let last_ids = posts.slots.iter().map(|(slot, _)| heads.last_id(*slot));
                    (in_streak.collect(), last_ids.collect())
                });
                let of_heads = |of: fn(&Head) -> i64| {
                    let column = heads.iter().map(|head| head.as_ref().map(of));
                    column.collect::<Vec<_>>()
                };
                let sequences: Vec<u32> = posts
                    .slots
                    .iter()
                    .map(|(slot, _)| sequences[slot.index()])
                    .collect();
                let drawn: Vec<i32> = posts.slots.iter().map(|(_, drawn)| *drawn).collect();
                let place = |of: fn(&Place) -> i32| posts.places.iter().map(of).collect::<Vec<_>>();
                let params: [&(dyn ToSql + Sync); 13] = [
                    &teams,
                    &channels,
                    &known_ids,
                    &of_heads(|head| head.channel.0),
                    &of_heads(|head| head.seq),
                    &posts.slots_of_channels,
                    &sequences,
                    &last_ids,
                    &drawn,
                    &place(|place| place.channel),
                    &place(|place| place.slot),
                    &place(|place| place.nth_in_slot),
                    &place(|place| place.nth_in_channel),
                ];
                let params = [&params[..], &of_posts[..]].concat();
                client.query(&self.all[posts.parts.index()], &params).await
            }
            Append::Each => {
                let sequences: Vec<u32> = to
                    .iter()
                    .map(|(team, _)| sequences[team.slot().index()])
                    .collect();
                let places: Vec<i32> = posts.places.iter().map(|place| place.channel).collect();
                let params: [&(dyn ToSql + Sync); 5] =
                    [&teams, &sequences, &channels, &known_ids, &places];
                let params = [&params[..], &of_posts[..]].concat();
                client.query(&self.each, &params).await
            }
        }
    }

    /// Takes note of what the batch's events tell of channels.
    pub(super) fn learn(&self, events: &[Event]) {
        self.heads.with(|heads| heads.learn(events));
    }

    /// Forgets channels that posts didn't find.
    pub(super) fn forget(&self, missing: &[(TeamId, &str)]) {
        self.heads.with(|heads| {
            for (team, channel) in missing {
                heads.forget(*team, channel);
            }
        });
    }
}

/// Tells a server, and its database, from any other, and from the same after a restart.
const SERVER: &str = "
    select concat_ws('/', extract(epoch from pg_postmaster_start_time()),
        (select oid from pg_database where datname = current_database()))";

/// What a lane knows of slots and channels. Its sessions share it: only one of them writes to a slot
/// at a time.
#[derive(Clone, Default)]
pub(super) struct SharedHeads(Arc<Mutex<OnServer>>);

#[derive(Default)]
struct OnServer {
    server: String,
    heads: Heads,
}

impl SharedHeads {
    /// For a session with this server. What was learned from another one is forgotten: that may
    /// have been ahead.
    fn on(&self, server: String) -> SessionHeads {
        let mut known = self.lock();
        if known.server != server {
            *known = OnServer {
                server: server.clone(),
                heads: Heads::default(),
            };
        }
        drop(known);
        SessionHeads {
            shared: self.clone(),
            server,
        }
    }

    fn lock(&self) -> MutexGuard<'_, OnServer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a lane knows, for one of its sessions.
struct SessionHeads {
    shared: SharedHeads,
    server: String,
}

impl SessionHeads {
    /// Of another server this session knows nothing, and teaches nothing.
    fn with<T>(&self, use_heads: impl FnOnce(&mut Heads) -> T) -> T {
        let mut known = self.shared.lock();
        match known.server == self.server {
            true => use_heads(&mut known.heads),
            false => use_heads(&mut Heads::default()),
        }
    }

    fn is_outdated(&self) -> bool {
        self.shared.lock().server != self.server
    }
}

/// What is known of slots and channels from one's own commits.
#[derive(Default)]
struct Heads {
    by_team: HashMap<TeamId, HashMap<String, Head>>,
    channels: usize,
    streaks: HashMap<Slot, Streak>,
}

/// The newest message of a channel that this lane has posted. Others may have posted since.
#[derive(Clone, Copy)]
struct Head {
    channel: ChannelId,
    id: i64,
    seq: i64,
}

/// IDs of a slot that this lane drew one after the other, with nobody else's between them.
///
/// Whoever writes draws an ID. So as long as the slot's sequence stands at `last`, a channel's
/// newest message is this lane's if that lies in the streak.
#[derive(Clone, Copy)]
struct Streak {
    first: i64,
    last: i64,
    /// How many batches have followed on each other.
    batches: u32,
}

impl Heads {
    /// Beyond this many channels all are forgotten.
    const CHANNELS_MAX: usize = 20_000;
    /// After so many batches one expects the next to follow on as well. Where several sessions take
    /// turns in a slot it hardly comes to that.
    const CALM_BATCHES: u32 = 32;

    fn get(&self, (team, channel): (TeamId, &str)) -> Option<Head> {
        self.by_team.get(&team)?.get(channel).copied()
    }

    /// The head, if it is the channel's as long as the slot's sequence stands where it stood.
    fn in_streak(&self, to: (TeamId, &str)) -> Option<Head> {
        let streak = self.streaks.get(&to.0.slot())?;
        self.get(to).filter(|head| head.id >= streak.first)
    }

    /// What posts are added to, where this lane is likely the only one that writes there.
    fn base(&self, posts: &Posts<'_>) -> Option<Base> {
        let last_id = |(slot, _): &(Slot, i32)| {
            let is_calm = self.is_calm(*slot);
            is_calm.then(|| self.last_id(*slot))
        };
        let last_ids = posts.slots.iter().map(last_id).collect::<Option<_>>()?;
        let heads = posts.to.iter().map(|to| self.in_streak(*to));
        let heads: Vec<Head> = heads.collect::<Option<_>>()?;
        Some(Base {
            channel_ids: heads.iter().map(|head| head.channel.0).collect(),
            seqs: heads.iter().map(|head| head.seq).collect(),
            last_ids,
        })
    }

    /// Where the slot's sequence stood after this lane's last commit; an ID that none has,
    /// where it has committed nothing.
    fn last_id(&self, slot: Slot) -> i64 {
        self.streaks.get(&slot).map_or(-1, |streak| streak.last)
    }

    /// Whether this lane is likely the only one that writes to the slot.
    fn is_calm(&self, slot: Slot) -> bool {
        let streak = self.streaks.get(&slot);
        streak.is_some_and(|streak| streak.batches >= Self::CALM_BATCHES)
    }

    /// Perhaps somebody else wrote to the slot.
    fn disturbed(&mut self, slot: Slot) {
        if let Some(streak) = self.streaks.get_mut(&slot) {
            streak.batches = 0;
        }
    }

    /// Takes note of all that a transaction committed.
    fn learn(&mut self, events: &[Event]) {
        let mut drawn: Vec<(Slot, Streak)> = Vec::new();
        for event in events {
            let (slot, id) = (event.team.slot(), event.id);
            match drawn.iter_mut().find(|(drawn, _)| *drawn == slot) {
                Some((_, streak)) => {
                    streak.first = streak.first.min(id);
                    streak.last = streak.last.max(id);
                }
                None => drawn.push((
                    slot,
                    Streak {
                        first: id,
                        last: id,
                        batches: 0,
                    },
                )),
            }
        }
        for (slot, drawn) in drawn {
            let streak = self.streaks.entry(slot).or_insert(drawn);
            if drawn.first == streak.last + 1 {
                streak.last = drawn.last;
                streak.batches = streak.batches.saturating_add(1);
            } else {
                *streak = drawn;
            }
        }
        for event in events {
            match &event.kind {
                EventKind::Message(message) => {
                    if let Some(channel) = event.channel {
                        let (id, seq) = (event.id, message.seq);
                        let head = Head { channel, id, seq };
                        self.learn_head(event.team, message.channel.as_str(), head);
                    }
                }
                // A channel of the same name would be another.
                EventKind::ChannelDeleted => {
                    if let Some(streak) = self.streaks.get_mut(&event.team.slot()) {
                        streak.first = streak.last + 1;
                    }
                }
                _ => {}
            }
        }
    }

    fn learn_head(&mut self, team: TeamId, channel: &str, head: Head) {
        let channels = self.by_team.entry(team).or_default();
        if let Some(known) = channels.get_mut(channel) {
            if known.id < head.id {
                *known = head;
            }
            return;
        }
        channels.insert(channel.to_owned(), head);
        self.channels += 1;
        if self.channels > Self::CHANNELS_MAX {
            *self = Self::default();
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

/// What a post draws.
struct Drawn {
    channel_id: i64,
    id: i64,
    seq: i64,
}

/// Posts, with the channels that they go to, each once.
#[derive(Default)]
pub(super) struct Posts<'a> {
    group: Group<'a, Post>,
    to: Vec<(TeamId, &'a str)>,
    by_channel: HashMap<(TeamId, &'a str), i32>,
    /// How many go to each of `to`.
    counts: Vec<i32>,
    /// Which of `slots` each of `to` belongs to.
    slots_of_channels: Vec<i32>,
    /// The slots, each with how many of its IDs these posts draw.
    slots: Vec<(Slot, i32)>,
    places: Vec<Place>,
    parts: Parts,
}

impl<'a> Posts<'a> {
    pub(super) fn push(&mut self, place: usize, post: &'a Post) {
        self.parts.mentions |= post.message.mention.is_some();
        self.parts.replies |= post.message.thread_id.is_some();
        let to = (post.team, post.channel.as_str());
        let next = self.to.len() as i32 + 1;
        let channel = *self.by_channel.entry(to).or_insert(next);
        let slot = post.team.slot();
        let known = self.slots.iter().position(|(known, _)| *known == slot);
        let index = known.unwrap_or_else(|| {
            self.slots.push((slot, 0));
            self.slots.len() - 1
        });
        if channel == next {
            self.to.push(to);
            self.counts.push(0);
            self.slots_of_channels.push(index as i32 + 1);
        }
        let nth_in_channel = &mut self.counts[channel as usize - 1];
        *nth_in_channel += 1;
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

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    fn is_empty(&self) -> bool {
        self.group.is_empty()
    }

    /// What each of them draws.
    fn drawn(&self, base: &Base) -> Result<Vec<Drawn>> {
        let at = |column: &[i64], place: i32| {
            let index = usize::try_from(place - 1).unwrap_or(usize::MAX);
            column.get(index).copied().ok_or_else(incomplete)
        };
        let drawn = |place: &Place| {
            Ok(Drawn {
                channel_id: at(&base.channel_ids, place.channel)?,
                id: at(&base.last_ids, place.slot)? + i64::from(place.nth_in_slot),
                seq: at(&base.seqs, place.channel)? + i64::from(place.nth_in_channel),
            })
        };
        self.places.iter().map(drawn).collect()
    }

    /// All of them stand.
    pub(super) fn all_posted(
        &self,
        base: &Base,
        created_at: Timestamp,
        committed: &mut Committed,
    ) -> Result<()> {
        for (drawn, (index, post)) in self.drawn(base)?.iter().zip(self.group.items()) {
            let message = post.as_message(drawn.id, drawn.seq, created_at);
            let channel = ChannelId(drawn.channel_id);
            committed.outcomes[index] = Some(posted(post, channel, message, &mut committed.events));
        }
        Ok(())
    }

    /// What came of them in a transaction with others; answers the channels that were missing.
    pub(super) fn outcomes(
        &self,
        how: &Append,
        rows: &[Row],
        limited: &Limited<'_>,
        committed: &mut Committed,
    ) -> Result<Vec<(TeamId, &'a str)>> {
        match (how, rows) {
            (Append::Each, rows) => self.each_outcome(rows, limited, committed),
            (_, [row]) => {
                let base = Base {
                    channel_ids: row.try_get("channel_ids")?,
                    seqs: row.try_get("seqs")?,
                    last_ids: row.try_get("last_ids")?,
                };
                self.all_posted(&base, time_in(row, "created_at")?, committed)?;
                Ok(Vec::new())
            }
            _ => Err(incomplete()),
        }
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
            let outcome = match Appended::from_code(row.try_get("outcome")?)? {
                Appended::ChannelMissing => {
                    missing.push(to);
                    limited
                        .contains(&to)
                        .then_some(Outcome::Post(PostOutcome::ChannelLimitReached))
                }
                Appended::ParentMissing => Some(Outcome::Post(PostOutcome::ParentNotFound)),
                Appended::OtherBody => Some(Outcome::Post(PostOutcome::Mismatch)),
                Appended::Earlier => {
                    let (id, seq) = (row.try_get("id")?, row.try_get("seq")?);
                    let mut message = post.as_message(id, seq, time_in(row, "created_at")?);
                    message.reply_count = row.try_get("reply_count")?;
                    message.traceparent = messages::traceparent_in(row)?;
                    Some(Outcome::Post(PostOutcome::Replayed(message.into())))
                }
                Appended::Posted => {
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

fn idempotency(post: &Post) -> Option<&Idempotency> {
    match planted!(ForgetIdempotency) {
        true => None,
        false => post.idempotency.as_ref(),
    }
}

/// The column of the posts' spans, in the form in which they stand in a row.
struct Traceparents(Vec<Option<[u8; TraceParent::ROW_BYTES]>>);

impl Traceparents {
    fn of(group: &Group<'_, Post>) -> Self {
        Self(group.column(|post| post.traceparent.map(TraceParent::to_row)))
    }

    fn column(&self) -> Vec<Option<&[u8]>> {
        let bytes = self.0.iter().map(|row| row.as_ref().map(|row| &row[..]));
        bytes.collect()
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
