//! The audit log: what keys were refused.

use crate::{Result, Store};
use handoff_protocol::{
    Id, Name, TeamId,
    keys::{AuditEntry, DENIED, KeyHash},
    pages::{Page, PageRequest},
};
use time::OffsetDateTime;
use tokio_postgres::Row;

/// Records denials in the order given.
pub(crate) const APPEND: &str = "
    with input as materialized (
        select item.*
        from unnest($1::bigint[], $2::oid[], $3::bytea[], $4::text[], $5::text[], $6::text[])
            with ordinality as item (team_id, sequence, key_hash, sender, action, channel, ord)
        order by ord
    ),
    drawn as materialized (
        select input.*, nextval(sequence::regclass) as id
        from input
    ),
    appended as (
        insert into audit_log (team_id, id, key_hash, sender, action, channel, denied_at)
        select team_id, id, key_hash, sender, action, channel, clock_timestamp()
        from drawn
    )
    select ord, id
    from drawn";

/// A page after a cursor.
pub(crate) const AFTER: &str = "
    select id, key_hash, sender, action, channel, denied_at
    from audit_log
    where team_id = $1 and id > $2
    order by id
    limit $3";

/// The newest entries.
pub(crate) const NEWEST: &str = "
    select id, key_hash, sender, action, channel, denied_at
    from audit_log
    where team_id = $1
    order by id desc
    limit $2";

impl Store {
    /// A page of a team's audit log, oldest first.
    pub async fn list_audit(&self, team: TeamId, page: PageRequest) -> Result<Page<AuditEntry>> {
        let team = team.serial();
        let limit = page.limit.get() as i64;
        let rows = match page.after {
            Some(after) => {
                let (after, one_more) = (after.serial(), limit + 1);
                self.data
                    .query("list audit", AFTER, &[&team, &after, &one_more])
                    .await?
            }
            None => {
                let mut rows = self
                    .data
                    .query("list audit", NEWEST, &[&team, &limit])
                    .await?;
                rows.reverse();
                rows
            }
        };
        let entries = rows.iter().map(from_row).collect::<Result<Vec<_>>>()?;
        Ok(Page::from_one_more(entries, page.limit))
    }
}

fn from_row(row: &Row) -> Result<AuditEntry> {
    Ok(AuditEntry {
        id: Id::from_serial(row.try_get("id")?),
        key_hash: KeyHash(
            row.try_get::<_, &[u8]>("key_hash")?
                .try_into()
                .unwrap_or_default(),
        ),
        sender_name: Name::from_row(row.try_get("sender")?),
        action: row.try_get("action")?,
        channel: row.try_get("channel")?,
        result: DENIED,
        timestamp: row.try_get::<_, OffsetDateTime>("denied_at")?.into(),
    })
}
