//! A lane's transaction: a batch of writes, pipelined in one go.
//!
//! Order of the statements is the order of the IDs: channels are opened, then messages posted,
//! acks moved, statuses set and deleted, messages deleted, channels deleted, denials recorded.
//! Answers hold IDs and numbers only: a backend that blocks on sending ignores every timeout, and
//! would hold its locks.

use super::{
    AckMoved, CreateChannelOutcome, Outcome, SetStatusOutcome, Write,
    batch::{Batch, Queued},
    posts::{Append, Appender, Base, Limited, Posts, SharedHeads},
};
use crate::{
    ChannelId, Error, Result, acks, audit, channels,
    feed::{Event, EventKind},
    messages,
    slots::{self, Sequences},
    statuses,
};
use foldhash::HashMap;
use futures_util::{FutureExt, join};
use handoff_protocol::{Id, TeamId, Timestamp};
use time::OffsetDateTime;
use tokio_postgres::{Client, Row, Statement, types::ToSql};

/// A lane's connection, with its statements prepared.
pub(super) struct LaneSession {
    client: Client,
    sequences: Sequences,
    appender: Appender,
    lock: Statement,
    create_channels: Statement,
    move_acks: Statement,
    set_statuses: Statement,
    delete_statuses: Statement,
    delete_messages: Statement,
    delete_channels: Statement,
    append_denials: Statement,
}

/// What a batch came to.
#[derive(Default)]
pub(super) struct Committed {
    /// For each write; none where its channel must be opened first.
    pub(super) outcomes: Vec<Option<Outcome>>,
    /// An event for each ID that was drawn.
    pub(super) events: Vec<Event>,
}

pub(super) type PgResult<T> = Result<T, tokio_postgres::Error>;

impl LaneSession {
    pub(super) async fn prepare(client: Client, heads: &SharedHeads) -> Result<Self> {
        Ok(Self {
            sequences: slots::sequences(&client).await?,
            appender: Appender::prepare(&client, heads).await?,
            lock: client.prepare(slots::LOCK).await?,
            create_channels: client.prepare(channels::CREATE).await?,
            move_acks: client
                .prepare(planted_sql!(
                    AckBackwards,
                    acks::MOVE,
                    "wanted > standing_id" => "wanted <> standing_id"
                ))
                .await?,
            set_statuses: client
                .prepare(planted_sql!(
                    TornStatus,
                    statuses::SET,
                    "where id is not null" => "where id is not null and ord = 1"
                ))
                .await?,
            delete_statuses: client.prepare(statuses::DELETE).await?,
            delete_messages: client.prepare(messages::DELETE).await?,
            delete_channels: client.prepare(channels::DELETE).await?,
            append_denials: client.prepare(audit::APPEND).await?,
            client,
        })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed() || self.appender.is_outdated()
    }

    fn sequence(&self, team: TeamId) -> u32 {
        self.sequences[team.slot().index()]
    }

    async fn query(&self, on: &Statement, params: &[&(dyn ToSql + Sync)]) -> PgResult<Vec<Row>> {
        self.client.query(on, params).await
    }

    /// Commits the batch. An error means that nothing of it is known to stand: all of it does, or
    /// nothing, and a lost connection doesn't tell which.
    pub(super) async fn run(&mut self, batch: &Batch, channels_per_team: i64) -> Result<Committed> {
        let groups = Groups::of(batch.items());
        let are_all = groups.posts.len() == batch.len() && groups.channels.wanted.is_empty();
        let mut how = self.appender.first_try(&groups.posts, are_all);
        loop {
            let outcome = match &how {
                Append::Alone(base) => self.append_alone(&groups.posts, base).await,
                how => self.transact(batch, &groups, how, channels_per_team).await,
            };
            let refused = matches!(outcome, Err(Error::Rejected(_)));
            match refused
                .then(|| self.appender.refused(&groups.posts, &how))
                .flatten()
            {
                Some(next) => how = next,
                None => return outcome,
            }
        }
    }

    /// Posts and nothing else, by one statement, which is committed when it is answered.
    async fn append_alone(&mut self, posts: &Posts<'_>, base: &Base) -> Result<Committed> {
        let mut committed = Committed::default();
        committed.outcomes.resize_with(posts.len(), || None);
        let created_at = self
            .appender
            .append_alone(&self.client, &self.sequences, posts, base)
            .await?;
        posts.all_posted(base, created_at, &mut committed)?;
        self.appender.learn(&committed.events);
        Ok(committed)
    }

    async fn transact(
        &mut self,
        batch: &Batch,
        groups: &Groups<'_>,
        how: &Append,
        channels_per_team: i64,
    ) -> Result<Committed> {
        let mut committed = Committed::default();
        committed.outcomes.resize_with(batch.len(), || None);
        let slots: Vec<i32> = batch
            .slots()
            .into_iter()
            .map(|slot| slot.index() as i32)
            .collect();
        let lock_params: [&(dyn ToSql + Sync); 1] = [&slots];
        let no_slots: [&(dyn ToSql + Sync); 1] = [&Vec::<i32>::new()];
        let lock_first = if planted!(DrawBeforeLock) {
            &no_slots
        } else {
            &lock_params
        };
        // Each future sends its statement when it is first polled, and join! polls in order: the
        // whole transaction is on its way before the first answer comes.
        let (begun, locked, created, posted, acked, set, unset, deleted, closed, denied, ended) = join!(
            self.client.batch_execute("begin"),
            self.query(&self.lock, lock_first),
            self.create_channels(&groups.channels, channels_per_team),
            self.appender
                .append(&self.client, &self.sequences, &groups.posts, how),
            self.move_acks(&groups.acks),
            self.set_statuses(&groups.statuses),
            self.delete_statuses(&groups.status_deletions),
            self.delete_messages(&groups.message_deletions),
            self.delete_channels(&groups.channel_deletions),
            self.append_denials(&groups.denials),
            self.commit(&lock_params),
        );
        // The first error is the cause, the others follow from it; after any error the commit was
        // a rollback, though it reports success.
        begun?;
        locked?;
        let (created, posted, acked) = (created?, posted?, acked?);
        let (set, unset, deleted) = (set?, unset?, deleted?);
        let (closed, denied) = (closed?, denied?);
        ended?;

        let limited = groups.channels.outcomes(&created, &mut committed)?;
        let missing = groups
            .posts
            .outcomes(how, &posted, &limited, &mut committed)?;
        groups.acks.outcomes(&acked, &mut committed)?;
        groups.statuses.outcomes(&set, &limited, &mut committed)?;
        groups.status_deletions.deletions(&unset, &mut committed)?;
        groups
            .message_deletions
            .deletions(&deleted, &mut committed)?;
        groups
            .channel_deletions
            .deletions(&closed, &mut committed)?;
        groups.denials.outcomes(&denied, &mut committed)?;
        self.appender.learn(&committed.events);
        self.appender.forget(&missing);
        Ok(committed)
    }
}

impl LaneSession {
    async fn commit(&self, lock: &[&(dyn ToSql + Sync)]) -> PgResult<()> {
        if planted!(DrawBeforeLock) {
            // Where it fails, the commit is a rollback.
            let _ = self.query(&self.lock, lock).await;
        }
        let commit = self.client.batch_execute("commit");
        if planted!(AnswerBeforeCommit | DeliverUncommitted) {
            // On its way, and nobody waits for it.
            let _ = commit.now_or_never();
            return Ok(());
        }
        commit.await
    }

    /// Waits until all that was sent is done.
    pub(super) async fn catch_up(&self) -> Result<()> {
        Ok(self.client.batch_execute("").await?)
    }
}

/// A batch's writes by kind, each with its place in the batch.
#[derive(Default)]
struct Groups<'a> {
    channels: WantedChannels<'a>,
    posts: Posts<'a>,
    acks: Acks<'a>,
    statuses: Group<'a, super::SetStatus>,
    status_deletions: Group<'a, super::DeleteStatus>,
    message_deletions: Group<'a, super::DeleteMessage>,
    channel_deletions: Group<'a, super::DeleteChannel>,
    denials: Group<'a, super::Denial>,
}

pub(super) struct Group<'a, T> {
    places: Vec<usize>,
    writes: Vec<&'a T>,
}

impl<T> Default for Group<'_, T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            writes: Vec::new(),
        }
    }
}

impl<'a, T> Group<'a, T> {
    pub(super) fn push(&mut self, place: usize, write: &'a T) {
        self.places.push(place);
        self.writes.push(write);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// A column of the statement's input.
    pub(super) fn column<V>(&self, value: impl Fn(&'a T) -> V) -> Vec<V> {
        self.writes.iter().map(|write| value(write)).collect()
    }

    /// The writes, each with its place in the batch.
    pub(super) fn items(&self) -> impl Iterator<Item = (usize, &'a T)> {
        self.places.iter().copied().zip(self.writes.iter().copied())
    }

    /// The write that a row belongs to, with its place in the batch.
    pub(super) fn of(&self, row: &Row) -> Result<(usize, &'a T)> {
        let ord: i64 = row.try_get("ord")?;
        let index = usize::try_from(ord - 1).unwrap_or(usize::MAX);
        match (self.places.get(index), self.writes.get(index)) {
            (Some(place), Some(write)) => Ok((*place, write)),
            _ => Err(crate::Error::Internal("a row belongs to no write".into())),
        }
    }
}

impl<'a> Groups<'a> {
    fn of(items: &'a [Queued]) -> Self {
        let mut groups = Self::default();
        for (place, queued) in items.iter().enumerate() {
            match &queued.write {
                Write::Post(post) => {
                    if queued.may_create_channel {
                        groups.channels.want(post.team, &post.channel, None, None);
                    }
                    groups.posts.push(place, post);
                }
                Write::SetStatus(status) => {
                    if queued.may_create_channel {
                        groups
                            .channels
                            .want(status.team, &status.channel, None, None);
                    }
                    groups.statuses.push(place, status);
                }
                Write::CreateChannel(channel) => {
                    let description = channel.description.as_ref();
                    groups
                        .channels
                        .want(channel.team, &channel.name, description, Some(place));
                }
                Write::Acks(write) => groups.acks.push(place, &write.acks),
                Write::DeleteStatus(status) => groups.status_deletions.push(place, status),
                Write::DeleteMessage(message) => groups.message_deletions.push(place, message),
                Write::DeleteChannel(channel) => groups.channel_deletions.push(place, channel),
                Write::Audit(denial) => groups.denials.push(place, denial),
            }
        }
        groups
    }
}

/// The time in a column.
pub(super) fn time_in(row: &Row, column: &str) -> Result<Timestamp> {
    Ok(row.try_get::<_, OffsetDateTime>(column)?.into())
}

/// Channels to open, each name once.
#[derive(Default)]
struct WantedChannels<'a> {
    wanted: Vec<WantedChannel<'a>>,
    by_name: HashMap<(TeamId, &'a str), usize>,
}

struct WantedChannel<'a> {
    team: TeamId,
    name: &'a str,
    description: Option<&'a str>,
    /// The places of those who asked for it by name; the first of them opened it.
    asked_by: Vec<usize>,
}

impl<'a> WantedChannels<'a> {
    fn want(
        &mut self,
        team: TeamId,
        name: &'a handoff_protocol::ChannelName,
        description: Option<&'a handoff_protocol::Description>,
        asked_by: Option<usize>,
    ) {
        let name = name.as_str();
        let next = self.wanted.len();
        let index = *self.by_name.entry((team, name)).or_insert(next);
        if index == next {
            let description = description.map(handoff_protocol::Description::as_str);
            self.wanted.push(WantedChannel {
                team,
                name,
                description,
                asked_by: Vec::new(),
            });
        }
        self.wanted[index].asked_by.extend(asked_by);
    }

    fn outcomes(&self, rows: &[Row], committed: &mut Committed) -> Result<Limited<'a>> {
        let mut limited = Vec::new();
        for row in rows {
            let ord: i64 = row.try_get("ord")?;
            let wanted = usize::try_from(ord - 1)
                .ok()
                .and_then(|index| self.wanted.get(index));
            let wanted = wanted
                .ok_or_else(|| crate::Error::Internal("a row belongs to no channel".into()))?;
            let mut opened = None;
            if let Some(id) = row.try_get::<_, Option<i64>>("id")? {
                opened = Some(time_in(row, "created_at")?);
                committed.events.push(Event {
                    team: wanted.team,
                    channel: Some(ChannelId(id)),
                    id,
                    kind: EventKind::ChannelCreated,
                });
            }
            let over_limit: bool = row.try_get("over_limit")?;
            if over_limit {
                limited.push((wanted.team, wanted.name));
            }
            for (index, place) in wanted.asked_by.iter().enumerate() {
                let outcome = match opened {
                    Some(created_at) if index == 0 => CreateChannelOutcome::Created(created_at),
                    _ if over_limit => CreateChannelOutcome::ChannelLimitReached,
                    _ => CreateChannelOutcome::Exists,
                };
                committed.outcomes[*place] = Some(Outcome::CreateChannel(outcome));
            }
        }
        Ok(limited)
    }
}

impl LaneSession {
    async fn create_channels(
        &self,
        wanted: &WantedChannels<'_>,
        channels_per_team: i64,
    ) -> PgResult<Vec<Row>> {
        let wanted = &wanted.wanted;
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let teams: Vec<i64> = wanted.iter().map(|channel| channel.team.serial()).collect();
        let sequences: Vec<u32> = wanted
            .iter()
            .map(|channel| self.sequence(channel.team))
            .collect();
        let names: Vec<&str> = wanted.iter().map(|channel| channel.name).collect();
        let descriptions: Vec<Option<&str>> =
            wanted.iter().map(|channel| channel.description).collect();
        let params: [&(dyn ToSql + Sync); 5] = [
            &teams,
            &sequences,
            &names,
            &descriptions,
            &channels_per_team,
        ];
        self.query(&self.create_channels, &params).await
    }

    async fn move_acks(&self, acks: &Acks<'_>) -> PgResult<Vec<Row>> {
        let acks = &acks.furthest;
        if acks.is_empty() {
            return Ok(Vec::new());
        }
        let params: [&(dyn ToSql + Sync); 5] = [
            &acks.column(|ack| ack.team.serial()),
            &acks.column(|ack| self.sequence(ack.team)),
            &acks.column(|ack| ack.channel.as_str()),
            &acks.column(|ack| ack.sender.as_str()),
            &acks.column(|ack| ack.last_read_id.serial()),
        ];
        self.query(&self.move_acks, &params).await
    }

    async fn set_statuses(&self, statuses: &Group<'_, super::SetStatus>) -> PgResult<Vec<Row>> {
        if statuses.is_empty() {
            return Ok(Vec::new());
        }
        let params: [&(dyn ToSql + Sync); 6] = [
            &statuses.column(|status| status.team.serial()),
            &statuses.column(|status| self.sequence(status.team)),
            &statuses.column(|status| status.channel.as_str()),
            &statuses.column(|status| status.sender.as_str()),
            &statuses.column(|status| status.key.as_str()),
            &statuses.column(|status| status.value.as_str()),
        ];
        self.query(&self.set_statuses, &params).await
    }

    async fn delete_statuses(
        &self,
        statuses: &Group<'_, super::DeleteStatus>,
    ) -> PgResult<Vec<Row>> {
        if statuses.is_empty() {
            return Ok(Vec::new());
        }
        let params: [&(dyn ToSql + Sync); 5] = [
            &statuses.column(|status| status.team.serial()),
            &statuses.column(|status| self.sequence(status.team)),
            &statuses.column(|status| status.channel.as_str()),
            &statuses.column(|status| status.sender.as_str()),
            &statuses.column(|status| status.key.as_str()),
        ];
        self.query(&self.delete_statuses, &params).await
    }

    async fn delete_messages(
        &self,
        messages: &Group<'_, super::DeleteMessage>,
    ) -> PgResult<Vec<Row>> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let params: [&(dyn ToSql + Sync); 4] = [
            &messages.column(|message| message.team.serial()),
            &messages.column(|message| self.sequence(message.team)),
            &messages.column(|message| message.channel.as_str()),
            &messages.column(|message| message.id.serial()),
        ];
        self.query(&self.delete_messages, &params).await
    }

    async fn delete_channels(
        &self,
        channels: &Group<'_, super::DeleteChannel>,
    ) -> PgResult<Vec<Row>> {
        if channels.is_empty() {
            return Ok(Vec::new());
        }
        let params: [&(dyn ToSql + Sync); 3] = [
            &channels.column(|channel| channel.team.serial()),
            &channels.column(|channel| self.sequence(channel.team)),
            &channels.column(|channel| channel.name.as_str()),
        ];
        self.query(&self.delete_channels, &params).await
    }

    async fn append_denials(&self, denials: &Group<'_, super::Denial>) -> PgResult<Vec<Row>> {
        if denials.is_empty() {
            return Ok(Vec::new());
        }
        let params: [&(dyn ToSql + Sync); 6] = [
            &denials.column(|denial| denial.team.serial()),
            &denials.column(|denial| self.sequence(denial.team)),
            &denials.column(|denial| &denial.key_hash.0[..]),
            &denials.column(|denial| denial.sender.as_str()),
            &denials.column(|denial| denial.action.as_str()),
            &denials.column(|denial| denial.channel.as_str()),
        ];
        self.query(&self.append_denials, &params).await
    }
}

/// Acks by who moves which: of several in a batch only the furthest counts.
#[derive(Default)]
struct Acks<'a> {
    /// Their places are those in `answered`.
    furthest: Group<'a, super::MoveAck>,
    by_reader: HashMap<(TeamId, &'a str, &'a str), usize>,
    /// For each of `furthest`, all that it answers: the place in the batch and within its write.
    answered: Vec<Vec<(usize, usize)>>,
    /// The places of the writes, each with how many acks it has.
    writes: Vec<(usize, usize)>,
}

impl<'a> Acks<'a> {
    fn push(&mut self, place: usize, acks: &'a [super::MoveAck]) {
        self.writes.push((place, acks.len()));
        for (within, ack) in acks.iter().enumerate() {
            let next = self.furthest.writes.len();
            let reader = (ack.team, ack.channel.as_str(), ack.sender.as_str());
            let index = *self.by_reader.entry(reader).or_insert(next);
            if index == next {
                self.furthest.push(index, ack);
                self.answered.push(vec![(place, within)]);
                continue;
            }
            self.answered[index].push((place, within));
            if ack.last_read_id > self.furthest.writes[index].last_read_id {
                self.furthest.writes[index] = ack;
            }
        }
    }

    fn outcomes(&self, rows: &[Row], committed: &mut Committed) -> Result<()> {
        for (place, count) in &self.writes {
            committed.outcomes[*place] = Some(Outcome::Acks(vec![None; *count]));
        }
        for row in rows {
            let (index, ack) = self.furthest.of(row)?;
            let channel: Option<i64> = row.try_get("channel_id")?;
            let moved = match channel {
                Some(_) => Some(AckMoved {
                    last_read_id: Id::from_serial(row.try_get("last_read_id")?),
                    acked_at: time_in(row, "acked_at")?,
                }),
                None => None,
            };
            if let Some(id) = row.try_get::<_, Option<i64>>("id")? {
                let channel = channel.map(ChannelId);
                committed.events.push(Event {
                    team: ack.team,
                    channel,
                    id,
                    kind: EventKind::AckMoved,
                });
            }
            for (place, within) in &self.answered[index] {
                if let Some(Outcome::Acks(acks)) = &mut committed.outcomes[*place] {
                    acks[*within] = moved;
                }
            }
        }
        Ok(())
    }
}

impl Group<'_, super::SetStatus> {
    fn outcomes(
        &self,
        rows: &[Row],
        limited: &Limited<'_>,
        committed: &mut Committed,
    ) -> Result<()> {
        for row in rows {
            let (place, status) = self.of(row)?;
            let outcome = match row.try_get::<_, Option<i64>>("id")? {
                Some(id) => {
                    let channel = Some(ChannelId(row.try_get("channel_id")?));
                    let kind = EventKind::StatusChanged;
                    committed.events.push(Event {
                        team: status.team,
                        channel,
                        id,
                        kind,
                    });
                    Some(SetStatusOutcome::Set(time_in(row, "at")?))
                }
                None => limited
                    .contains(&(status.team, status.channel.as_str()))
                    .then_some(SetStatusOutcome::ChannelLimitReached),
            };
            committed.outcomes[place] = outcome.map(Outcome::SetStatus);
        }
        Ok(())
    }
}

/// A deletion: its row holds an ID if there was something to delete.
pub(super) trait Deletion {
    fn team(&self) -> TeamId;
    fn event(&self) -> EventKind;
    fn outcome(deleted: bool) -> Outcome;
}

impl Deletion for super::DeleteStatus {
    fn team(&self) -> TeamId {
        self.team
    }

    fn event(&self) -> EventKind {
        EventKind::StatusChanged
    }

    fn outcome(deleted: bool) -> Outcome {
        Outcome::DeleteStatus(deleted)
    }
}

impl Deletion for super::DeleteMessage {
    fn team(&self) -> TeamId {
        self.team
    }

    fn event(&self) -> EventKind {
        EventKind::MessageDeleted(self.id.serial())
    }

    fn outcome(deleted: bool) -> Outcome {
        Outcome::DeleteMessage(deleted)
    }
}

impl Deletion for super::DeleteChannel {
    fn team(&self) -> TeamId {
        self.team
    }

    fn event(&self) -> EventKind {
        EventKind::ChannelDeleted
    }

    fn outcome(deleted: bool) -> Outcome {
        Outcome::DeleteChannel(deleted)
    }
}

impl<T: Deletion> Group<'_, T> {
    fn deletions(&self, rows: &[Row], committed: &mut Committed) -> Result<()> {
        for row in rows {
            let (place, deletion) = self.of(row)?;
            let id: Option<i64> = row.try_get("id")?;
            if let Some(id) = id {
                let channel = Some(ChannelId(row.try_get("channel_id")?));
                let (team, kind) = (deletion.team(), deletion.event());
                committed.events.push(Event {
                    team,
                    channel,
                    id,
                    kind,
                });
            }
            committed.outcomes[place] = Some(T::outcome(id.is_some()));
        }
        Ok(())
    }
}

impl Group<'_, super::Denial> {
    fn outcomes(&self, rows: &[Row], committed: &mut Committed) -> Result<()> {
        for row in rows {
            let (place, denial) = self.of(row)?;
            let kind = EventKind::Denied;
            let id = row.try_get("id")?;
            committed.events.push(Event {
                team: denial.team,
                channel: None,
                id,
                kind,
            });
            committed.outcomes[place] = Some(Outcome::Audit);
        }
        Ok(())
    }
}
