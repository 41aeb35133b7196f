//! What those who wait look at: status entries and acks of several channels at once. Messages they
//! read by pages.

use crate::{Result, Store};
use handoff_protocol::{
    ChannelName, Id, Name, StatusKey, StatusValue, TeamId, messages::Ack, statuses::Status,
    waits::ACKS_MAX,
};
use time::OffsetDateTime;

/// The entries that stand.
pub(crate) const STATUSES: &str = "
    select wanted.ord, entry.value, entry.updated_by, entry.updated_at, entry.version
    from unnest($2::text[], $3::text[]) with ordinality as wanted (channel, key, ord)
    cross join lateral (
        select c.id
        from channels c
        where c.team_id = $1 and c.name = wanted.channel and c.deleted_id is null
        limit 1
    ) channel
    cross join lateral (
        select s.value, s.updated_by, s.updated_at, s.version
        from status_entries s
        where s.team_id = $1 and s.channel_id = channel.id and s.key = wanted.key
        limit 1
    ) entry";

/// The acks that reach a message, the first of them by sender.
pub(crate) const ACKS: &str = "
    select wanted.ord, ack.sender, ack.last_read_id, ack.acked_at
    from unnest($2::text[], $3::bigint[]) with ordinality as wanted (channel, id, ord)
    cross join lateral (
        select c.id
        from channels c
        where c.team_id = $1 and c.name = wanted.channel and c.deleted_id is null
        limit 1
    ) channel
    cross join lateral (
        select a.sender, a.last_read_id, a.acked_at
        from acks a
        where a.team_id = $1 and a.channel_id = channel.id and a.last_read_id >= wanted.id
        order by a.sender
        limit $4
    ) ack
    order by wanted.ord, ack.sender";

impl Store {
    /// For each of these entries what stands, and the ID of the change that wrote it.
    pub async fn wanted_statuses(
        &self,
        team: TeamId,
        wanted: &[(&ChannelName, &StatusKey)],
    ) -> Result<Vec<Option<(Status, Id)>>> {
        let team = team.serial();
        let channels: Vec<&str> = wanted.iter().map(|(channel, _)| channel.as_str()).collect();
        let keys: Vec<&str> = wanted.iter().map(|(_, key)| key.as_str()).collect();
        let rows = self
            .data
            .query(
                "read awaited statuses",
                STATUSES,
                &[&team, &channels, &keys],
            )
            .await?;
        let mut found = vec![None; wanted.len()];
        for row in &rows {
            let place = place(row.try_get("ord")?);
            let (Some((channel, key)), Some(found)) = (wanted.get(place), found.get_mut(place))
            else {
                continue;
            };
            let status = Status {
                channel: (*channel).clone(),
                key: (*key).clone(),
                value: StatusValue::from_row(row.try_get("value")?),
                updated_by: Name::from_row(row.try_get("updated_by")?),
                updated_at: row.try_get::<_, OffsetDateTime>("updated_at")?.into(),
            };
            *found = Some((status, Id::from_serial(row.try_get("version")?)));
        }
        Ok(found)
    }

    /// For each of these messages the acks that reach it, 100 at most.
    pub async fn wanted_acks(
        &self,
        team: TeamId,
        wanted: &[(&ChannelName, Id)],
    ) -> Result<Vec<Vec<Ack>>> {
        let (team, most) = (team.serial(), i64::from(ACKS_MAX));
        let channels: Vec<&str> = wanted.iter().map(|(channel, _)| channel.as_str()).collect();
        let ids: Vec<i64> = wanted.iter().map(|(_, id)| id.serial()).collect();
        let rows = self
            .data
            .query("read awaited acks", ACKS, &[&team, &channels, &ids, &most])
            .await?;
        let mut found = vec![Vec::new(); wanted.len()];
        for row in &rows {
            let place = place(row.try_get("ord")?);
            if let (Some((channel, _)), Some(found)) = (wanted.get(place), found.get_mut(place)) {
                found.push(Ack {
                    channel: (*channel).clone(),
                    sender: Name::from_row(row.try_get("sender")?),
                    last_read_id: Id::from_serial(row.try_get("last_read_id")?),
                    acked_at: row.try_get::<_, OffsetDateTime>("acked_at")?.into(),
                });
            }
        }
        Ok(found)
    }
}

/// The place in the list that a row belongs to.
fn place(ord: i64) -> usize {
    usize::try_from(ord - 1).unwrap_or(usize::MAX)
}
