//! Channels.

use crate::{ChannelId, Result, Store};
use handoff_protocol::{ChannelName, Description, TeamId, channels::Channel};
use time::OffsetDateTime;

/// Opens the channels that don't exist, as far as their team's quota goes. Each name comes once.
pub(crate) const CREATE: &str = "
    with input as materialized (
        select item.*
        from unnest($1::bigint[], $2::oid[], $3::text[], $4::text[]) with ordinality
            as item (team_id, sequence, name, description, ord)
    ),
    looked_up as materialized (
        select input.*, standing.id is not null as present, team.open
        from input
        left join lateral (
            select c.id
            from channels c
            where c.team_id = input.team_id and c.name = input.name and c.deleted_id is null
            limit 1
        ) standing on true
        cross join lateral (
            select count(*) as open
            from channels c
            where c.team_id = input.team_id and c.deleted_id is null
        ) team
    ),
    numbered as materialized (
        select looked_up.*,
            not present and open + row_number() over (
                partition by team_id, present order by ord
            ) > $5::bigint as over_limit
        from looked_up
        order by ord
    ),
    drawn as materialized (
        select numbered.*,
            case when not present and not over_limit then nextval(sequence::regclass) end as id,
            clock_timestamp() as created_at
        from numbered
    ),
    created as (
        insert into channels (team_id, id, name, description, created_at)
        select team_id, id, name, description, created_at
        from drawn
        where id is not null
    )
    select ord, id, created_at, over_limit
    from drawn";

/// Marks a channel as deleted: its name is free, what it held is removed in the background.
pub(crate) const DELETE: &str = "
    with input as materialized (
        select item.*
        from unnest($1::bigint[], $2::oid[], $3::text[]) with ordinality
            as item (team_id, sequence, name, ord)
    ),
    looked_up as materialized (
        select input.*, channel.channel_id
        from input
        left join lateral (
            select c.id as channel_id
            from channels c
            where c.team_id = input.team_id and c.name = input.name and c.deleted_id is null
            limit 1
        ) channel on true
        order by ord
    ),
    drawn as materialized (
        select looked_up.*,
            case when channel_id is not null then nextval(sequence::regclass) end as id
        from looked_up
    ),
    marked as (
        update channels c
        set deleted_id = drawn.id
        from drawn
        where drawn.id is not null and c.team_id = drawn.team_id and c.id = drawn.channel_id
    )
    select ord, id, channel_id
    from drawn";

/// A team's channels, all or those named.
pub(crate) const LIST: &str = "
    select name, description, created_at
    from channels
    where team_id = $1 and deleted_id is null and ($2::text[] is null or name = any($2))
    order by name";

/// One channel.
pub(crate) const FIND: &str = "
    select id, name, description, created_at
    from channels
    where team_id = $1 and name = $2 and deleted_id is null";

/// The channels that have these names now.
pub(crate) const RESOLVE: &str = "
    select c.id, c.name
    from unnest($2::text[]) as wanted (name)
    cross join lateral (
        select c.id, c.name
        from channels c
        where c.team_id = $1 and c.name = wanted.name and c.deleted_id is null
        limit 1
    ) c";

/// Which of these channels were deleted.
pub(crate) const DELETED: &str = "
    select c.id
    from unnest($2::bigint[]) as wanted (channel_id)
    cross join lateral (
        select c.id, c.deleted_id
        from channels c
        where c.team_id = $1 and c.id = wanted.channel_id
        limit 1
    ) c
    where c.deleted_id is not null";

impl Store {
    /// A team's channels by name: all, or those of `names` that exist.
    pub async fn list_channels(
        &self,
        team: TeamId,
        names: Option<&[&str]>,
    ) -> Result<Vec<Channel>> {
        let team = team.serial();
        let rows = self
            .data
            .query("list channels", LIST, &[&team, &names])
            .await?;
        rows.iter().map(from_row).collect()
    }

    /// The channel that has this name now.
    pub async fn find_channel(
        &self,
        team: TeamId,
        name: &ChannelName,
    ) -> Result<Option<(ChannelId, Channel)>> {
        let (team, name) = (team.serial(), name.as_str());
        let rows = self
            .data
            .query("find channel", FIND, &[&team, &name])
            .await?;
        let row = rows.first();
        row.map(|row| Ok((ChannelId(row.try_get("id")?), from_row(row)?)))
            .transpose()
    }

    /// The channels that have these names now; names that no channel has are left out.
    pub async fn resolve_channels(
        &self,
        team: TeamId,
        names: &[ChannelName],
    ) -> Result<Vec<(ChannelId, ChannelName)>> {
        let names: Vec<&str> = names.iter().map(ChannelName::as_str).collect();
        let team = team.serial();
        let rows = self
            .data
            .query("find channels", RESOLVE, &[&team, &names])
            .await?;
        rows.iter()
            .map(|row| {
                let name = ChannelName::from_row(row.try_get("name")?);
                Ok((ChannelId(row.try_get("id")?), name))
            })
            .collect()
    }

    /// Whether one of these channels was deleted.
    pub async fn any_channel_deleted(&self, team: TeamId, channels: &[ChannelId]) -> Result<bool> {
        let ids: Vec<i64> = channels.iter().map(|channel| channel.0).collect();
        let team = team.serial();
        let rows = self
            .data
            .query("find deleted channels", DELETED, &[&team, &ids])
            .await?;
        Ok(!rows.is_empty())
    }
}

fn from_row(row: &tokio_postgres::Row) -> Result<Channel> {
    Ok(Channel {
        name: ChannelName::from_row(row.try_get("name")?),
        description: row
            .try_get::<_, Option<&str>>("description")?
            .map(Description::from_row),
        created_at: row.try_get::<_, OffsetDateTime>("created_at")?.into(),
    })
}
