//! What a sender has not read, over all channels.
//!
//! What was counted once is handed out with the count ([`Counted`]) and taken back at the next
//! look, which then counts only what is newer: messages of a channel don't appear below one that
//! was seen (guarantee G2), and the newest deletion tells whether one of them went.

use crate::{ChannelId, Result, Store, messages};
use handoff_protocol::{ChannelName, Id, Name, TeamId, messages::Message};
use tokio_postgres::Row;

/// Counts go no further: 100 means 100 or more.
pub const COUNT_MAX: u64 = 100;
/// Messages of a channel that a look takes in at first: enough where most are from others.
const LOOK_FIRST: i64 = 200;
/// Messages of a channel that are looked at to count, and to show, those from others.
const LOOK_MAX: i64 = 1_000;

/// The open channels of a team, with what of them a sender hasn't read: messages from others, and
/// those of them that mention it. The former from where they were counted before (`$6` to `$9`, a
/// place a channel, in ascending order of the channels), as long as the ack and the newest deletion
/// are those of then.
pub(crate) const HEADS: &str = "
    select c.id, c.name, floor.id as floor_id, deletion.id as deletion_id,
        looked.count as looked, looked.last_id, looked.messages, looked.first_id,
        called.count as mentions
    from channels c
    cross join lateral (
        select greatest(coalesce(max(a.last_read_id), 0), $4::bigint) as id
        from acks a
        where a.team_id = $1 and a.channel_id = c.id and a.sender = $2
    ) floor
    cross join lateral (
        select coalesce(max(m.deleted_id), 0) as id
        from (
            select m.deleted_id
            from messages m
            where m.team_id = $1 and m.channel_id = c.id and m.deleted_id is not null
            order by m.deleted_id desc
            limit 1
        ) m
    ) deletion
    cross join lateral (
        select width_bucket(c.id, $6::bigint[]) as place
        offset 0
    ) before
    cross join lateral (
        select case
            when ($6::bigint[])[place] = c.id and ($7::bigint[])[place] = floor.id
                and ($8::bigint[])[place] = deletion.id
            then ($9::bigint[])[place]
            else floor.id
        end as id
        offset 0
    ) start
    cross join lateral (
        select count(*) as count, max(m.id) as last_id,
            count(*) filter (where m.counts) as messages, min(m.id) filter (where m.counts) as first_id
        from (
            select m.id, m.sender <> $2 and m.deleted_id is null as counts
            from messages m
            where m.team_id = $1 and m.channel_id = c.id and m.id > start.id
            order by m.id
            limit $10
        ) m
    ) looked
    cross join lateral (
        select count(*) as count
        from (
            select
            from (
                select n.id
                from mentions n
                where n.team_id = $1 and n.name = $2 and n.channel_id = c.id and n.id > floor.id
                order by n.id
                limit $5
            ) n
            cross join lateral (
                select m.sender
                from messages m
                where m.team_id = $1 and m.channel_id = c.id and m.id = n.id
                limit 1
            ) m
            where m.sender <> $2
        ) found
    ) called
    where c.team_id = $1 and c.deleted_id is null and ($3::text[] is null or c.name = any($3))
    order by c.id";

/// Messages that mention the sender, in channels from a place in each, oldest first.
pub(crate) const MENTIONS: &str = concat!(
    "
    select wanted.channel, message.*
    from unnest($3::bigint[], $4::text[], $5::bigint[]) as wanted (channel_id, channel, floor_id)
    cross join lateral (
        select m.*
        from (
            select n.id
            from mentions n
            where n.team_id = $1 and n.name = $2 and n.channel_id = wanted.channel_id
                and n.id > wanted.floor_id
            order by n.id
            limit $6
        ) n
        cross join lateral (
            select ",
    messages::columns!(),
    "
            from messages m
            where m.team_id = $1 and m.channel_id = wanted.channel_id and m.id = n.id
                and coalesce(m.deleted_id, 0) = 0
            limit 1
        ) m
        where m.sender <> $2
    ) message
    order by message.id
    limit $6"
);

/// Messages from others that don't mention the sender, in channels from a place in each, oldest
/// first.
pub(crate) const OTHERS: &str = concat!(
    "
    select wanted.channel, message.*
    from unnest($3::bigint[], $4::text[], $5::bigint[]) as wanted (channel_id, channel, floor_id)
    cross join lateral (
        select m.*
        from (
            select m.deleted_id, ",
    messages::columns!(),
    "
            from messages m
            where m.team_id = $1 and m.channel_id = wanted.channel_id
                and m.id > wanted.floor_id
            order by m.id
            limit $7
        ) m
        where m.sender <> $2 and m.deleted_id is null and coalesce(m.mention, '') <> $2
        order by m.id
        limit $6
    ) message
    order by message.id
    limit $6"
);

/// How far a session was told.
pub(crate) const ANNOUNCED: &str = "
    select announced_id
    from hook_sessions
    where team_id = $1 and sender = $2 and session_id = $3";

/// Moves a session's place forward.
pub(crate) const ANNOUNCE: &str = "
    insert into hook_sessions as session
        (team_id, sender, session_id, announced_id, before_id, updated_at)
    values ($1, $2, $3, $4, 0, clock_timestamp())
    on conflict (team_id, sender, session_id) do update
    set announced_id = greatest(session.announced_id, excluded.announced_id),
        before_id = session.announced_id, updated_at = excluded.updated_at
    returning before_id";

/// How far a channel's unread messages were counted for a sender. It stands for as long as the
/// sender's ack and the channel's newest deletion do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    channel: ChannelId,
    floor: i64,
    /// The newest deletion in the channel; 0: none.
    deletion: i64,
    /// Counted up to here.
    up_to: i64,
    /// Messages from others, of those counted.
    messages: u64,
    /// The first of them.
    first: Option<i64>,
}

impl Counted {
    /// No message is newer: a count that is at its end needs none.
    const ALL: i64 = i64::MAX;

    /// Nothing counted, after no ack and no deletion.
    pub const fn nothing(channel: ChannelId) -> Self {
        Self {
            channel,
            floor: 0,
            deletion: 0,
            up_to: 0,
            messages: 0,
            first: None,
        }
    }

    /// The channel.
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    /// Whether it saves the next look anything.
    pub fn is_of_use(&self) -> bool {
        self.up_to > self.floor
    }
}

/// A channel, and what a sender hasn't read of it.
#[derive(Clone, Debug)]
pub struct ChannelUnread {
    /// The channel.
    pub id: ChannelId,
    /// Its name.
    pub name: ChannelName,
    /// What is newer than this is unread.
    pub floor: Id,
    /// Messages from others; 100 means 100 or more.
    pub messages: u64,
    /// Those of them that mention the sender; 100 means 100 or more.
    pub mentions: u64,
    /// All its messages up to here are counted; none where that can't be said.
    pub seen: Option<Id>,
    /// For the next look.
    pub counted: Counted,
}

impl ChannelUnread {
    /// Reads a row of [`HEADS`], which began where `known` ends if that still stands; answers as
    /// well whether there may be more to count.
    fn from_row(row: &Row, known: &[Counted], limit: i64) -> Result<(Self, bool)> {
        let id = ChannelId(row.try_get("id")?);
        let (floor, deletion) = (row.try_get("floor_id")?, row.try_get("deletion_id")?);
        let place = known.binary_search_by_key(&id, Counted::channel).ok();
        let known = place
            .map(|place| known[place])
            .filter(|known| known.floor == floor && known.deletion == deletion);
        let mut counted = known.unwrap_or(Counted {
            floor,
            deletion,
            up_to: floor,
            ..Counted::nothing(id)
        });
        let count = |count: i64| u64::try_from(count).unwrap_or(0);
        counted.messages = COUNT_MAX.min(counted.messages + count(row.try_get("messages")?));
        counted.first = counted.first.or(row.try_get("first_id")?);
        let last: Option<i64> = row.try_get("last_id")?;
        let looked: i64 = row.try_get("looked")?;
        let is_full = counted.messages == COUNT_MAX;
        counted.up_to = match is_full {
            true => Counted::ALL,
            false => last.unwrap_or(counted.up_to),
        };
        let more = looked == limit && !is_full;
        let channel = Self {
            id,
            seen: (!more && !is_full).then(|| Id::from_serial(counted.up_to)),
            name: ChannelName::from_row(row.try_get("name")?),
            floor: Id::from_serial(floor),
            messages: counted.messages,
            mentions: count(row.try_get("mentions")?),
            counted,
        };
        Ok((channel, more))
    }

    /// Before this none of its unread messages is from others.
    fn others_after(&self) -> i64 {
        let first = self.counted.first.map(|first| first - 1);
        first.unwrap_or(self.counted.floor)
    }
}

impl Store {
    /// What a sender hasn't read of each channel: of all channels of its team, or those of
    /// `channels` that exist; of what is newer than `after`. `known` is what was counted before,
    /// in ascending order of the channels, which is also that of the answer.
    ///
    /// Where a sender left a thousand messages of its own unread, those from others that come
    /// after them may be counted by the looks that follow.
    pub async fn unread_channels(
        &self,
        team: TeamId,
        sender: &Name,
        channels: Option<&[&str]>,
        after: Id,
        known: &[Counted],
    ) -> Result<Vec<ChannelUnread>> {
        let look = self.look(team, sender, channels, after, known, LOOK_FIRST);
        let (found, is_all) = look.await?;
        if is_all {
            return Ok(found);
        }
        let known: Vec<_> = found.iter().map(|channel| channel.counted).collect();
        let look = self.look(team, sender, channels, after, &known, LOOK_MAX);
        let (found, _) = look.await?;
        Ok(found)
    }

    /// Looks at no more than `limit` messages of a channel; answers as well whether these were all.
    async fn look(
        &self,
        team: TeamId,
        sender: &Name,
        channels: Option<&[&str]>,
        after: Id,
        known: &[Counted],
        limit: i64,
    ) -> Result<(Vec<ChannelUnread>, bool)> {
        let (team, sender, after) = (team.serial(), sender.as_str(), after.serial());
        let column = |of: fn(&Counted) -> i64| known.iter().map(of).collect::<Vec<i64>>();
        let rows = self
            .data
            .query(
                "count unread messages",
                HEADS,
                &[
                    &team,
                    &sender,
                    &channels,
                    &after,
                    &(COUNT_MAX as i64),
                    &column(|known| known.channel.0),
                    &column(|known| known.floor),
                    &column(|known| known.deletion),
                    &column(|known| known.up_to),
                    &limit,
                ],
            )
            .await?;
        let mut is_all = true;
        let channels = rows.iter().map(|row| {
            let (channel, more) = ChannelUnread::from_row(row, known, limit)?;
            is_all &= !more;
            Ok(channel)
        });
        let channels = channels.collect::<Result<_>>()?;
        Ok((channels, is_all))
    }

    /// The oldest unread messages that mention the sender.
    pub async fn unread_mentions(
        &self,
        team: TeamId,
        sender: &Name,
        channels: &[&ChannelUnread],
        limit: usize,
    ) -> Result<Vec<Message>> {
        let (ids, names, floors) = columns_of(channels, |channel| channel.floor.serial());
        let (team, sender, limit) = (team.serial(), sender.as_str(), limit as i64);
        let rows = self
            .data
            .query(
                "read unread mentions",
                MENTIONS,
                &[&team, &sender, &ids, &names, &floors, &limit],
            )
            .await?;
        rows.iter().map(messages::from_row).collect()
    }

    /// The oldest unread messages from others that don't mention the sender.
    pub async fn unread_others(
        &self,
        team: TeamId,
        sender: &Name,
        channels: &[&ChannelUnread],
        limit: usize,
    ) -> Result<Vec<Message>> {
        let (ids, names, floors) = columns_of(channels, ChannelUnread::others_after);
        let (team, sender, limit) = (team.serial(), sender.as_str(), limit as i64);
        let rows = self
            .data
            .query(
                "read other unread messages",
                OTHERS,
                &[&team, &sender, &ids, &names, &floors, &limit, &LOOK_MAX],
            )
            .await?;
        rows.iter().map(messages::from_row).collect()
    }

    /// How far a session of an agent was told of messages.
    pub async fn announced(&self, team: TeamId, sender: &Name, session: &str) -> Result<Id> {
        let (team, sender) = (team.serial(), sender.as_str());
        let rows = self
            .data
            .query("read hook session", ANNOUNCED, &[&team, &sender, &session])
            .await?;
        let announced = rows.first().map(|row| row.try_get(0)).transpose()?;
        Ok(Id::from_serial(announced.unwrap_or(0)))
    }

    /// Notes how far a session of an agent was told of messages, and answers how far it had been
    /// told before: of several hooks at once only one tells of a message. Kept for 7 days.
    pub async fn announce(
        &self,
        team: TeamId,
        sender: &Name,
        session: &str,
        up_to: Id,
    ) -> Result<Id> {
        let (team, sender, up_to) = (team.serial(), sender.as_str(), up_to.serial());
        let rows = self
            .data
            .query(
                "move hook session",
                ANNOUNCE,
                &[&team, &sender, &session, &up_to],
            )
            .await?;
        let before = rows
            .first()
            .map(|row| row.try_get("before_id"))
            .transpose()?;
        Ok(Id::from_serial(before.unwrap_or(0)))
    }
}

fn columns_of<'a>(
    channels: &[&'a ChannelUnread],
    floor: fn(&ChannelUnread) -> i64,
) -> (Vec<i64>, Vec<&'a str>, Vec<i64>) {
    let ids = channels.iter().map(|channel| channel.id.0).collect();
    let names = channels.iter().map(|channel| channel.name.as_str());
    let floors = channels.iter().map(|channel| floor(channel));
    (ids, names.collect(), floors.collect())
}
