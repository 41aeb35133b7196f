//! Removing what nobody can see any more, in small batches: no statement here holds a lock for
//! long, and none runs in a lane.

use crate::{Result, Store};

/// Rows that one statement removes at most.
const BATCH: i64 = 1_000;

const DELETED_CHANNELS: &str = "
    select team_id, id
    from channels
    where deleted_id is not null
    order by team_id, id
    limit 100
    for update skip locked";

/// Removes rows of a deleted channel from `$table`, `BATCH` at a time.
fn remove_rows(table: &str, key: &str) -> String {
    format!(
        "delete from {table} t
        using (
            select team_id, channel_id, {key}
            from {table}
            where team_id = $1 and channel_id = $2
            limit {BATCH}
        ) gone
        where t.team_id = gone.team_id and t.channel_id = gone.channel_id and t.{key} = gone.{key}"
    )
}

/// Mentions go before their messages: they are found through them. Idempotency keys stay until they
/// expire; a post under one whose message is gone takes it over.
const REMOVE_MENTIONS: &str = "
    delete from mentions n
    using (
        select name, id
        from (
            select mention as name, id
            from messages
            where team_id = $1 and channel_id = $2
            limit 1000
        ) emptied
        where name is not null
    ) gone
    where n.team_id = $1 and n.channel_id = $2 and n.name = gone.name and n.id = gone.id";

const REMOVE_CHANNEL: &str = "delete from channels where team_id = $1 and id = $2";

const EXPIRED_IDEMPOTENCY: &str = "
    delete from idempotency_keys
    where ctid = any (array(
        select ctid
        from idempotency_keys
        where created_at < clock_timestamp() - interval '24 hours'
        limit 1000
    ))";

const OLD_KEY_CHANGES: &str =
    "delete from key_changes where changed_at < clock_timestamp() - interval '1 hour'";

const OLD_SIGNUPS: &str =
    "delete from signups where window_started_at < clock_timestamp() - interval '1 hour'";

const OLD_RATE_LIMITS: &str =
    "delete from rate_limits where window_started_at < clock_timestamp() - interval '1 hour'";

const OLD_HOOK_SESSIONS: &str =
    "delete from hook_sessions where updated_at < clock_timestamp() - interval '7 days'";

impl Store {
    /// Removes a batch of everything that is due; answers whether more is waiting.
    pub async fn clean(&self) -> Result<bool> {
        let mut more = self.clean_deleted_channels().await?;
        more |= self
            .data
            .run("clean", async |client| {
                let removed = client.execute(EXPIRED_IDEMPOTENCY, &[]).await?;
                client.execute(OLD_KEY_CHANGES, &[]).await?;
                client.execute(OLD_SIGNUPS, &[]).await?;
                client.execute(OLD_RATE_LIMITS, &[]).await?;
                client.execute(OLD_HOOK_SESSIONS, &[]).await?;
                Ok(removed == BATCH as u64)
            })
            .await?;
        self.forget_dead_replicas().await?;
        self.forget_retired_signing_keys().await?;
        Ok(more)
    }

    /// Removes a batch of rows of deleted channels, and at last the channels. A channel is one
    /// replica's work at a time, since its row is locked.
    async fn clean_deleted_channels(&self) -> Result<bool> {
        self.data
            .run("clean deleted channels", async |client| {
                client.batch_execute("begin").await?;
                let mut more = false;
                for row in client.query(DELETED_CHANNELS, &[]).await? {
                    let (team, channel): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
                    client.execute(REMOVE_MENTIONS, &[&team, &channel]).await?;
                    let mut removed = 0;
                    for (table, key) in [
                        ("messages", "id"),
                        ("acks", "sender"),
                        ("status_entries", "key"),
                        ("status_history", "id"),
                    ] {
                        let statement = client.prepare_cached(&remove_rows(table, key)).await?;
                        removed += client.execute(&statement, &[&team, &channel]).await?;
                    }
                    if removed == 0 {
                        client.execute(REMOVE_CHANNEL, &[&team, &channel]).await?;
                    } else {
                        more = true;
                    }
                }
                client.batch_execute("commit").await?;
                Ok(more)
            })
            .await
    }
}
