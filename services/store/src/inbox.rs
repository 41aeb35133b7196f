//! What a sender has not read, over all channels.

use crate::{ChannelId, Result, Store, messages};
use handoff_protocol::{ChannelName, Id, Name, TeamId, messages::Message};

/// Counts go no further: 100 means 100 or more.
const COUNT_MAX: i64 = 100;
/// Messages of a channel that are looked at to count, and to show, those from others.
const LOOK_MAX: i64 = 1_000;

/// The open channels of a team, with what of them a sender hasn't read: messages from others, and
/// those of them that mention it.
pub(crate) const HEADS: &str = "
    select c.id, c.name, floor.id as floor_id, unread.count as messages, called.count as mentions
    from channels c
    cross join lateral (
        select greatest(coalesce(max(a.last_read_id), 0), $4::bigint) as id
        from acks a
        where a.team_id = $1 and a.channel_id = c.id and a.sender = $2
    ) floor
    cross join lateral (
        select count(*) as count
        from (
            select
            from (
                select m.sender, m.deleted_id
                from messages m
                where m.team_id = $1 and m.channel_id = c.id and m.id > floor.id
                order by m.id
                limit $6
            ) m
            where m.sender <> $2 and m.deleted_id is null
            limit $5
        ) found
    ) unread
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
    order by c.name";

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
}

impl Store {
    /// What a sender hasn't read of each channel: of all channels of its team, or those of
    /// `channels` that exist; of what is newer than `after`.
    pub async fn unread_channels(
        &self,
        team: TeamId,
        sender: &Name,
        channels: Option<&[&str]>,
        after: Id,
    ) -> Result<Vec<ChannelUnread>> {
        let (team, sender, after) = (team.serial(), sender.as_str(), after.serial());
        let rows = self
            .data
            .query(
                "count unread messages",
                HEADS,
                &[&team, &sender, &channels, &after, &COUNT_MAX, &LOOK_MAX],
            )
            .await?;
        let count = |count: i64| u64::try_from(count).unwrap_or(0);
        rows.iter()
            .map(|row| {
                Ok(ChannelUnread {
                    id: ChannelId(row.try_get("id")?),
                    name: ChannelName::from_row(row.try_get("name")?),
                    floor: Id::from_serial(row.try_get("floor_id")?),
                    messages: count(row.try_get("messages")?),
                    mentions: count(row.try_get("mentions")?),
                })
            })
            .collect()
    }

    /// The oldest unread messages that mention the sender.
    pub async fn unread_mentions(
        &self,
        team: TeamId,
        sender: &Name,
        channels: &[&ChannelUnread],
        limit: usize,
    ) -> Result<Vec<Message>> {
        let (ids, names, floors) = columns_of(channels);
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
        let (ids, names, floors) = columns_of(channels);
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

fn columns_of<'a>(channels: &[&'a ChannelUnread]) -> (Vec<i64>, Vec<&'a str>, Vec<i64>) {
    let ids = channels.iter().map(|channel| channel.id.0).collect();
    let names = channels.iter().map(|channel| channel.name.as_str());
    let floors = channels.iter().map(|channel| channel.floor.serial());
    (ids, names.collect(), floors.collect())
}
