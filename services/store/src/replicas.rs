//! Replicas: who serves, and how many streams of which key each holds open.

use crate::{DataPlane, Result, Store};
use handoff_protocol::keys::KeyHash;
use std::{
    fmt,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

/// How long after a heartbeat began a replica may take itself for the only one, if it saw no other.
/// One that starts serves only when this has passed since the last heartbeat of each that does.
pub const ALONE_FOR: Duration = Duration::from_millis(1_500);

/// Names a replica for as long as it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReplicaId(pub i64);

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How often one that starts looks whether another still takes itself for the only one.
const LOOK_EVERY: Duration = Duration::from_millis(50);

const ANNOUNCE: &str = "insert into replicas (alone) values (false) returning id";

const WITHDRAW: &str = "delete from replicas where id = $1";

/// A replica that was taken for dead announces itself again.
const HEARTBEAT: &str = "
    insert into replicas (id, alone)
    values ($1, $2)
    on conflict (id) do update set heartbeat_at = clock_timestamp(), alone = excluded.alone";

const FORGET_DEAD: &str =
    "delete from replicas where heartbeat_at < clock_timestamp() - interval '1 minute'";

const CLOSE_STREAMS: &str = "
    delete from replica_streams
    where replica_id = $1 and not key_hash = any($2::bytea[])";

const OPEN_STREAMS: &str = "
    insert into replica_streams (replica_id, key_hash, streams)
    select $1, t.key_hash, t.streams
    from unnest($2::bytea[], $3::bigint[]) as t (key_hash, streams)
    on conflict (replica_id, key_hash) do update set streams = excluded.streams";

/// Those that hang may go on at any time; so they count among the others for as long as they are
/// in the table.
const FLEET: &str = "
    select
        count(*) filter (where heartbeat_at > clock_timestamp() - interval '5 seconds'),
        count(*) filter (where id <> $1)
    from replicas";

/// Milliseconds since the last heartbeat of another replica that may take itself for the only one,
/// and not one more.
const LAST_HEARTBEAT_ALONE: &str = "
    select floor(extract(epoch from clock_timestamp() - max(heartbeat_at)) * 1000)::bigint
    from replicas
    where id <> $1 and alone";

/// Streams of a key that other live replicas hold open.
pub(crate) const STREAMS_ELSEWHERE: &str = "
    select coalesce(sum(s.streams), 0)::bigint
    from replica_streams s
    join replicas r on r.id = s.replica_id
    where s.key_hash = $1 and s.replica_id <> $2
        and r.heartbeat_at > clock_timestamp() - interval '5 seconds'";

pub(crate) async fn announce(data: &DataPlane) -> Result<ReplicaId> {
    data.run("announce replica", async |client| {
        Ok(ReplicaId(
            client.query_one(ANNOUNCE, &[]).await?.try_get(0)?,
        ))
    })
    .await
}

/// Waits until no other replica takes itself for the only one: each that beats its heart from now on
/// sees this one.
pub(crate) async fn wait_to_be_known(data: &DataPlane, replica: ReplicaId) -> Result<()> {
    let mut deadline = None;
    loop {
        let ago: Option<i64> = data
            .run("look for other replicas", async |client| {
                let row = client
                    .query_one(LAST_HEARTBEAT_ALONE, &[&replica.0])
                    .await?;
                row.try_get(0)
            })
            .await?;
        let Some(ago) = ago else { return Ok(()) };
        // Later heartbeats prolong nothing.
        let deadline = *deadline.get_or_insert_with(|| {
            let ago = Duration::from_millis(ago.max(0).unsigned_abs());
            Instant::now() + ALONE_FOR.saturating_sub(ago)
        });
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        tokio::time::sleep(left.min(LOOK_EVERY)).await;
    }
}

/// The replicas, as a heartbeat found them.
#[derive(Clone, Copy, Debug)]
pub struct Fleet {
    /// How many live, this one included.
    pub live: usize,
    /// There is no other, living or hanging, and those that start know that they have to wait.
    pub is_alone: bool,
    /// Those that start still wait for this one, which is not alone: another heartbeat tells them.
    pub is_waited_for: bool,
}

pub(crate) async fn withdraw(data: &DataPlane, replica: ReplicaId) -> Result<()> {
    data.run("withdraw replica", async |client| {
        client.execute(WITHDRAW, &[&replica.0]).await.map(drop)
    })
    .await
}

impl Store {
    /// Says that this replica lives, with its open streams where they changed; answers who
    /// else does.
    ///
    /// A replica that saw no other says so with its next heartbeat, and takes itself for the only
    /// one when that sees none either.
    pub async fn heartbeat(&self, streams: Option<&[(KeyHash, usize)]>) -> Result<Fleet> {
        let replica = self.replica.0;
        let saw_none = self.saw_no_other.load(Ordering::Relaxed);
        let (live, others) = self
            .data
            .run("heartbeat", async |client| {
                let heartbeat = client.prepare_cached(HEARTBEAT).await?;
                client.execute(&heartbeat, &[&replica, &saw_none]).await?;
                if let Some(streams) = streams {
                    let hashes: Vec<&[u8]> = streams.iter().map(|(hash, _)| &hash.0[..]).collect();
                    let counts: Vec<i64> = streams.iter().map(|(_, count)| *count as i64).collect();
                    let close = client.prepare_cached(CLOSE_STREAMS).await?;
                    let open = client.prepare_cached(OPEN_STREAMS).await?;
                    client.execute(&close, &[&replica, &hashes]).await?;
                    client.execute(&open, &[&replica, &hashes, &counts]).await?;
                }
                let fleet = client.prepare_cached(FLEET).await?;
                let row = client.query_one(&fleet, &[&replica]).await?;
                Ok((row.try_get::<_, i64>(0)?, row.try_get::<_, i64>(1)?))
            })
            .await?;
        let sees_none = others == 0;
        self.saw_no_other.store(sees_none, Ordering::Relaxed);
        Ok(Fleet {
            live: live.max(1) as usize,
            is_alone: saw_none && sees_none,
            is_waited_for: saw_none && !sees_none,
        })
    }

    /// Removes replicas whose heartbeat stopped a minute ago.
    pub async fn forget_dead_replicas(&self) -> Result<u64> {
        self.data
            .run("forget dead replicas", async |client| {
                client.execute(FORGET_DEAD, &[]).await
            })
            .await
    }

    /// How many streams of this key the other replicas hold open, as of their last heartbeat.
    pub async fn streams_elsewhere(&self, key: KeyHash) -> Result<usize> {
        let replica = self.replica.0;
        let rows = self
            .data
            .query(
                "count streams elsewhere",
                STREAMS_ELSEWHERE,
                &[&&key.0[..], &replica],
            )
            .await?;
        let streams: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
        Ok(streams.max(0) as usize)
    }
}
