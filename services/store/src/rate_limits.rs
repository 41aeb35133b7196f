//! Rate limits over the fleet: replicas take shares of a bucket's budget from its row.

use crate::{Result, Store};
use std::time::Duration;

/// Takes from buckets' budgets: in a window that has ended, a new one begins. Buckets come in
/// ascending order, so that two replicas never wait for each other in a circle.
pub(crate) const TAKE: &str = "
    insert into rate_limits as r (bucket, window_started_at, used, granted)
    select t.bucket, clock_timestamp(), least(t.wanted, $3::bigint), least(t.wanted, $3::bigint)
    from unnest($1::bytea[], $2::bigint[]) as t (bucket, wanted)
    order by t.bucket
    on conflict (bucket) do update
    set
        used = case
            when r.window_started_at <= clock_timestamp() - $4::float8 * interval '1 millisecond'
                then excluded.used
            else least(r.used + excluded.used, $3::bigint)
        end,
        granted = case
            when r.window_started_at <= clock_timestamp() - $4::float8 * interval '1 millisecond'
                then excluded.used
            else least(r.used + excluded.used, $3::bigint) - r.used
        end,
        window_started_at = case
            when r.window_started_at <= clock_timestamp() - $4::float8 * interval '1 millisecond'
                then clock_timestamp()
            else r.window_started_at
        end
    returning bucket, granted, used,
        greatest(
            $4::float8 - extract(epoch from clock_timestamp() - window_started_at) * 1000, 0
        )::float8 as left_ms";

/// Names a budget: a key's hash, or the hash of an address.
pub type Bucket = [u8; 32];

/// What a replica was given of a budget.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    /// Requests, at most as many as wanted.
    pub granted: u64,
    /// What the fleet has taken in this window, this grant included.
    pub used: u64,
    /// What is left of the window.
    pub window_left: Duration,
}

impl Store {
    /// Takes shares of several budgets in one statement; each bucket comes once.
    pub async fn take_rate_limits(
        &self,
        mut wanted: Vec<(Bucket, u64)>,
        limit: u32,
        window: Duration,
    ) -> Result<Vec<(Bucket, Grant)>> {
        wanted.sort_unstable();
        let buckets: Vec<&[u8]> = wanted.iter().map(|(bucket, _)| &bucket[..]).collect();
        let amounts: Vec<i64> = wanted.iter().map(|(_, amount)| *amount as i64).collect();
        let limit = i64::from(limit);
        let window_ms = window.as_secs_f64() * 1_000.0;
        let rows = self
            .data
            .query(
                "take rate limit",
                TAKE,
                &[&buckets, &amounts, &limit, &window_ms],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let bucket = row
                    .try_get::<_, &[u8]>("bucket")?
                    .try_into()
                    .unwrap_or_default();
                let left_ms: f64 = row.try_get("left_ms")?;
                let grant = Grant {
                    granted: row.try_get::<_, i64>("granted")?.max(0) as u64,
                    used: row.try_get::<_, i64>("used")?.max(0) as u64,
                    window_left: Duration::from_secs_f64(left_ms / 1_000.0),
                };
                Ok((bucket, grant))
            })
            .collect()
    }
}
