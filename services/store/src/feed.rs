//! What happened in a slot, as lanes report it and as it is read back from the tables.

use crate::{ChannelId, Result, Store, messages};
use futures_util::try_join;
use handoff_protocol::{TeamId, TraceParent, ids::Slot, messages::SharedMessage};
use tokio_postgres::types::ToSql;

/// Something that happened in a channel, at its place in the team's order.
#[derive(Clone, Debug)]
pub struct Event {
    /// The team.
    pub team: TeamId,
    /// The channel; none for what belongs to the team (a denial).
    pub channel: Option<ChannelId>,
    /// Its ID.
    pub id: i64,
    /// What happened.
    pub kind: EventKind,
}

/// The kinds of events.
#[derive(Clone, Debug)]
pub enum EventKind {
    /// A message was posted.
    Message(SharedMessage),
    /// The message with this ID was deleted.
    MessageDeleted(i64),
    /// The channel was opened.
    ChannelCreated,
    /// The channel was deleted.
    ChannelDeleted,
    /// An ack was moved.
    AckMoved,
    /// A status entry was set or deleted.
    StatusChanged,
    /// A request was denied.
    Denied,
}

/// All that one transaction committed in a slot: its IDs are the slot's next ones, without a hole.
#[derive(Clone, Debug)]
pub struct SlotCommit {
    /// The slot.
    pub slot: Slot,
    /// The first ID drawn.
    pub first: i64,
    /// The last ID drawn.
    pub last: i64,
    /// What happened, by ID.
    pub events: Vec<Event>,
}

impl Event {
    /// The span of its post, where that is traced.
    pub fn traceparent(&self) -> Option<TraceParent> {
        match &self.kind {
            EventKind::Message(message) => message.traceparent,
            _ => None,
        }
    }
}

impl SlotCommit {
    pub(crate) fn new(slot: Slot, event: Event) -> Self {
        Self {
            slot,
            first: event.id,
            last: event.id,
            events: vec![event],
        }
    }

    pub(crate) fn push(&mut self, event: Event) {
        self.first = self.first.min(event.id);
        self.last = self.last.max(event.id);
        self.events.push(event);
    }
}

/// Deletions in a range of IDs.
pub(crate) const DELETED_MESSAGES: &str = "
    select wanted.team_id, wanted.channel_id, deleted.deleted_id, deleted.id
    from unnest($1::bigint[], $2::bigint[]) as wanted (team_id, channel_id)
    cross join lateral (
        select m.deleted_id, m.id
        from messages m
        where m.team_id = wanted.team_id and m.channel_id = wanted.channel_id
            and m.deleted_id is not null and m.deleted_id > $3 and m.deleted_id <= $4
        order by m.deleted_id
        limit $5
    ) deleted";

/// Which of these channels are deleted.
pub(crate) const DELETED_CHANNELS: &str = "
    select wanted.team_id, wanted.channel_id, deleted.deleted_id
    from unnest($1::bigint[], $2::bigint[]) as wanted (team_id, channel_id)
    cross join lateral (
        select c.deleted_id
        from channels c
        where c.team_id = wanted.team_id and c.id = wanted.channel_id
        limit 1
    ) deleted
    where deleted.deleted_id is not null";

/// What a range of IDs holds for some channels.
#[derive(Debug, Default)]
pub struct RangeRead {
    /// The events, by ID. Messages that were deleted since are left out.
    pub events: Vec<Event>,
    /// There is more than a range may hold: these events are not all.
    pub cut_off: bool,
}

/// Events of a channel that one read brings at most.
const RANGE_LIMIT: i64 = 500;

impl Store {
    /// Reads what stands in `(after, up_to]` in the given channels, all of one slot.
    ///
    /// Every ID up to `up_to` must be decided. Without `deletions` nothing was deleted in the
    /// range, and what was before isn't reported; with them a deleted channel is, whatever the
    /// range.
    pub async fn read_range(
        &self,
        channels: &[(TeamId, ChannelId)],
        after: i64,
        up_to: i64,
        deletions: bool,
    ) -> Result<RangeRead> {
        if channels.is_empty() {
            return Ok(RangeRead::default());
        }
        let teams: Vec<i64> = channels.iter().map(|(team, _)| team.serial()).collect();
        let ids: Vec<i64> = channels.iter().map(|(_, channel)| channel.0).collect();
        let limit = RANGE_LIMIT + 1;
        let range: [&(dyn ToSql + Sync); 5] = [&teams, &ids, &after, &up_to, &limit];
        let query = |sql, params| self.data.query("read range", sql, params);
        let deleted = async {
            match deletions {
                true => try_join!(
                    query(DELETED_MESSAGES, &range),
                    query(DELETED_CHANNELS, &range[..2]),
                ),
                false => Ok(Default::default()),
            }
        };
        let (messages, (deleted, channels)) =
            try_join!(query(messages::IN_RANGE, &range), deleted)?;
        let mut read = RangeRead {
            cut_off: messages.len() as i64 > RANGE_LIMIT || deleted.len() as i64 > RANGE_LIMIT,
            ..RangeRead::default()
        };
        for row in &messages {
            let message = messages::from_row(row)?;
            read.events.push(Event {
                team: TeamId::from_row(row.try_get("team_id")?),
                channel: Some(ChannelId(row.try_get("channel_id")?)),
                id: message.id.serial(),
                kind: EventKind::Message(message.into()),
            });
        }
        for row in &deleted {
            read.events.push(Event {
                team: TeamId::from_row(row.try_get(0)?),
                channel: Some(ChannelId(row.try_get(1)?)),
                id: row.try_get(2)?,
                kind: EventKind::MessageDeleted(row.try_get(3)?),
            });
        }
        for row in &channels {
            read.events.push(Event {
                team: TeamId::from_row(row.try_get(0)?),
                channel: Some(ChannelId(row.try_get(1)?)),
                id: row.try_get(2)?,
                kind: EventKind::ChannelDeleted,
            });
        }
        read.events.sort_by_key(|event| event.id);
        Ok(read)
    }
}
