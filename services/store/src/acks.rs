//! Acks: how far each sender has read a channel.

use crate::{Result, Store};
use handoff_protocol::{ChannelName, Id, Name, TeamId, messages::Ack};
use time::OffsetDateTime;

/// Moves acks forward, never back; one that lies beyond the newest message is brought down to it,
/// so that nothing yet to come is hidden. Each sender comes once for a channel.
pub(crate) const MOVE: &str = "
    with input as materialized (
        select item.*
        from unnest($1::bigint[], $2::oid[], $3::text[], $4::text[], $5::bigint[])
            with ordinality as item (team_id, sequence, channel, sender, wanted, ord)
    ),
    looked_up as materialized (
        select input.team_id, input.sequence, input.sender, input.ord, channel.channel_id,
            least(input.wanted, coalesce(newest.id, 0)) as wanted,
            standing.last_read_id as standing_id, standing.acked_at as standing_at
        from input
        left join lateral (
            select c.id as channel_id
            from channels c
            where c.team_id = input.team_id and c.name = input.channel and c.deleted_id is null
            limit 1
        ) channel on true
        left join lateral (
            select m.id
            from messages m
            where m.team_id = input.team_id and m.channel_id = channel.channel_id
            order by m.id desc
            limit 1
        ) newest on true
        left join lateral (
            select a.last_read_id, a.acked_at
            from acks a
            where a.team_id = input.team_id and a.channel_id = channel.channel_id
                and a.sender = input.sender
            limit 1
        ) standing on true
        order by ord
    ),
    drawn as materialized (
        select looked_up.*,
            case
                when channel_id is not null and (standing_id is null or wanted > standing_id)
                then nextval(sequence::regclass)
            end as id,
            clock_timestamp() as now
        from looked_up
    ),
    moved as (
        insert into acks (team_id, channel_id, sender, last_read_id, acked_at, id)
        select team_id, channel_id, sender, wanted, now, id
        from drawn
        where id is not null
        on conflict (team_id, channel_id, sender) do update
        set last_read_id = excluded.last_read_id, acked_at = excluded.acked_at, id = excluded.id
    )
    select ord, channel_id, id,
        case when id is null then standing_id else wanted end as last_read_id,
        case when id is null then standing_at else now end as acked_at
    from drawn";

/// The acks of a channel.
pub(crate) const LIST: &str = "
    select a.sender, a.last_read_id, a.acked_at
    from channels c
    cross join lateral (
        select a.sender, a.last_read_id, a.acked_at
        from acks a
        where a.team_id = $1 and a.channel_id = c.id
        order by a.sender
        offset 0
    ) a
    where c.team_id = $1 and c.name = $2 and c.deleted_id is null
    order by a.sender";

impl Store {
    /// The acks of a channel, by sender; none where it doesn't exist.
    pub async fn list_acks(&self, team: TeamId, channel: &ChannelName) -> Result<Vec<Ack>> {
        let (team, name) = (team.serial(), channel.as_str());
        let rows = self.data.query("list acks", LIST, &[&team, &name]).await?;
        rows.iter()
            .map(|row| {
                Ok(Ack {
                    channel: channel.clone(),
                    sender: Name::from_row(row.try_get("sender")?),
                    last_read_id: Id::from_serial(row.try_get("last_read_id")?),
                    acked_at: row.try_get::<_, OffsetDateTime>("acked_at")?.into(),
                })
            })
            .collect()
    }
}
