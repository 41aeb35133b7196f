//! Shared status and its history, written in the same transaction.

use crate::{Result, Store};
use handoff_protocol::{
    ChannelName, Id, Name, StatusKey, StatusValue, TeamId,
    pages::{Page, PageRequest},
    statuses::{Status, StatusChange},
};
use time::OffsetDateTime;
use tokio_postgres::Row;

/// Sets entries in the order given. Every write goes into the history; of several to the same
/// entry the last one stands.
pub(crate) const SET: &str = "
    with input as materialized (
        select item.*
        from unnest($1::bigint[], $2::oid[], $3::text[], $4::text[], $5::text[], $6::text[])
            with ordinality as item (team_id, sequence, channel, sender, key, value, ord)
    ),
    looked_up as materialized (
        select input.*, channel.channel_id
        from input
        left join lateral (
            select c.id as channel_id
            from channels c
            where c.team_id = input.team_id and c.name = input.channel and c.deleted_id is null
            limit 1
        ) channel on true
        order by ord
    ),
    drawn as materialized (
        select looked_up.*,
            case when channel_id is not null then nextval(sequence::regclass) end as id,
            clock_timestamp() as at
        from looked_up
    ),
    recorded as (
        insert into status_history
            (team_id, channel_id, id, key, value, changed_by, changed_at, deleted)
        select team_id, channel_id, id, key, value, sender, at, false
        from drawn
        where id is not null
    ),
    set_entries as (
        insert into status_entries
            (team_id, channel_id, key, value, updated_by, updated_at, version)
        select distinct on (team_id, channel_id, key)
            team_id, channel_id, key, value, sender, at, id
        from drawn
        where id is not null
        order by team_id, channel_id, key, id desc
        on conflict (team_id, channel_id, key) do update
        set value = excluded.value, updated_by = excluded.updated_by,
            updated_at = excluded.updated_at, version = excluded.version
    )
    select ord, id, channel_id, at
    from drawn";

/// Deletes entries and records it with an empty value. Of several deletions of one entry the
/// first finds it.
pub(crate) const DELETE: &str = "
    with input as materialized (
        select item.*
        from unnest($1::bigint[], $2::oid[], $3::text[], $4::text[], $5::text[])
            with ordinality as item (team_id, sequence, channel, sender, key, ord)
    ),
    looked_up as materialized (
        select input.*, entry.channel_id,
            row_number() over (partition by input.team_id, channel, input.key order by ord) as nth
        from input
        left join lateral (
            select c.id
            from channels c
            where c.team_id = input.team_id and c.name = input.channel and c.deleted_id is null
            limit 1
        ) channel on true
        left join lateral (
            select s.channel_id
            from status_entries s
            where s.team_id = input.team_id and s.channel_id = channel.id and s.key = input.key
            limit 1
        ) entry on true
        order by ord
    ),
    drawn as materialized (
        select looked_up.*,
            case when channel_id is not null and nth = 1 then nextval(sequence::regclass) end as id,
            clock_timestamp() as at
        from looked_up
    ),
    recorded as (
        insert into status_history
            (team_id, channel_id, id, key, value, changed_by, changed_at, deleted)
        select team_id, channel_id, id, key, '', sender, at, true
        from drawn
        where id is not null
    ),
    removed as (
        delete from status_entries s
        using drawn
        where drawn.id is not null and s.team_id = drawn.team_id
            and s.channel_id = drawn.channel_id and s.key = drawn.key
    )
    select ord, id, channel_id
    from drawn";

/// A page of entries over a team's channels, by channel, then key, after an entry: all channels or
/// those named, all keys or one.
pub(crate) const LIST: &str = "
    select c.name as channel, s.key, s.value, s.updated_by, s.updated_at
    from channels c
    cross join lateral (
        select e.key, e.value, e.updated_by, e.updated_at
        from status_entries e
        where e.team_id = $1 and e.channel_id = c.id and ($3::text is null or e.key = $3)
            and e.key > case when c.name = $4 then $5::text else '' end
        order by e.key
        limit $6
    ) s
    where c.team_id = $1 and c.deleted_id is null and ($2::text[] is null or c.name = any($2))
        and c.name >= $4
    order by c.name, s.key
    limit $6";

/// A page of changes after a cursor.
pub(crate) const CHANGES_AFTER: &str = "
    select change.*
    from channels c
    cross join lateral (
        select h.id, h.key, h.value, h.changed_by, h.changed_at, h.deleted
        from status_history h
        where h.team_id = $1 and h.channel_id = c.id and h.id > $3
        order by h.id
        limit $4
    ) change
    where c.team_id = $1 and c.name = $2 and c.deleted_id is null
    order by change.id";

/// The newest changes.
pub(crate) const NEWEST_CHANGES: &str = "
    select change.*
    from channels c
    cross join lateral (
        select h.id, h.key, h.value, h.changed_by, h.changed_at, h.deleted
        from status_history h
        where h.team_id = $1 and h.channel_id = c.id
        order by h.id desc
        limit $3
    ) change
    where c.team_id = $1 and c.name = $2 and c.deleted_id is null
    order by change.id";

impl Store {
    /// A page of entries by channel, then key, after the entry `after`: of all channels or those of
    /// `channels` that exist.
    pub async fn list_statuses(
        &self,
        team: TeamId,
        channels: Option<&[&str]>,
        key: Option<&str>,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> Result<Vec<Status>> {
        let (team, limit) = (team.serial(), limit as i64);
        let (after_channel, after_key) = after.unwrap_or_default();
        let rows = self
            .data
            .query(
                "list statuses",
                LIST,
                &[&team, &channels, &key, &after_channel, &after_key, &limit],
            )
            .await?;
        rows.iter().map(entry_from_row).collect()
    }

    /// A page of a channel's changes; empty where the channel doesn't exist.
    pub async fn list_status_changes(
        &self,
        team: TeamId,
        channel: &ChannelName,
        page: PageRequest,
    ) -> Result<Page<StatusChange>> {
        let (team, name) = (team.serial(), channel.as_str());
        let limit = page.limit.get() as i64;
        let rows = match page.after {
            Some(after) => {
                let (after, one_more) = (after.serial(), limit + 1);
                self.data
                    .query(
                        "list status changes",
                        CHANGES_AFTER,
                        &[&team, &name, &after, &one_more],
                    )
                    .await?
            }
            None => {
                self.data
                    .query(
                        "list status changes",
                        NEWEST_CHANGES,
                        &[&team, &name, &limit],
                    )
                    .await?
            }
        };
        let changes = rows
            .iter()
            .map(|row| change_from_row(channel, row))
            .collect::<Result<Vec<_>>>()?;
        Ok(Page::from_one_more(changes, page.limit))
    }
}

fn entry_from_row(row: &Row) -> Result<Status> {
    Ok(Status {
        channel: ChannelName::from_row(row.try_get("channel")?),
        key: StatusKey::from_row(row.try_get("key")?),
        value: StatusValue::from_row(row.try_get("value")?),
        updated_by: Name::from_row(row.try_get("updated_by")?),
        updated_at: row.try_get::<_, OffsetDateTime>("updated_at")?.into(),
    })
}

fn change_from_row(channel: &ChannelName, row: &Row) -> Result<StatusChange> {
    Ok(StatusChange {
        id: Id::from_serial(row.try_get("id")?),
        channel: channel.clone(),
        key: StatusKey::from_row(row.try_get("key")?),
        value: StatusValue::from_row(row.try_get("value")?),
        changed_by: Name::from_row(row.try_get("changed_by")?),
        changed_at: row.try_get::<_, OffsetDateTime>("changed_at")?.into(),
        deleted: row.try_get("deleted")?,
    })
}
