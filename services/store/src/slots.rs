//! Slots: the 64 locks and sequences that order all writes.

use crate::{DataPlane, Error, Result, Store, epochs::Epoch};
use handoff_protocol::ids::{SLOTS, Slot};
use tokio_postgres::types::ToSql;

/// The class of the slots' advisory locks (two-integer form); the second integer is the slot.
pub const LOCK_CLASS: i32 = 72;

const SEQUENCES: &str = "
    select s.seqrelid as sequence, s.seqcache as cache
    from generate_series(0, 63) slot
    join pg_sequence s on s.seqrelid = ('slot_' || slot)::regclass
    order by slot";

/// Takes the slots' locks in ascending order, in a statement of its own: a statement's snapshot
/// is older than its wait.
pub(crate) const LOCK: &str = "select pg_advisory_xact_lock(72, slot) from unnest($1::int[]) slot";

const LAST_VALUES: &str = "
    select
        coalesce(pg_sequence_last_value(('slot_' || slot)::regclass), 0) as last_value,
        (select e.id::text from epochs e order by e.number desc limit 1) as epoch
    from generate_series(0, 63) slot
    order by slot";

const LOCK_SHARED: &str = "select pg_advisory_xact_lock_shared(72, $1::int)";

const LAST_VALUE: &str =
    "select coalesce(pg_sequence_last_value(('slot_' || $1::int)::regclass), 0)";

/// The sequences' object IDs, by slot.
pub(crate) type Sequences = [u32; SLOTS];

/// Reads the sequences of the slots.
pub(crate) async fn sequences(
    client: &tokio_postgres::Client,
) -> Result<Sequences, tokio_postgres::Error> {
    let mut sequences = [0; SLOTS];
    for (slot, row) in client.query(SEQUENCES, &[]).await?.iter().enumerate() {
        sequences[slot] = row.try_get("sequence")?;
    }
    Ok(sequences)
}

/// Refuses to start on sequences that hand out IDs from a session's cache: those come late, and
/// commit order would no longer be ID order (guarantee G2).
pub(crate) async fn check_sequences(data: &DataPlane) -> Result<()> {
    if planted!(SequenceCache) {
        return cache_sequences(data).await;
    }
    let caches = data
        .run("check sequences", async |client| {
            let rows = client.query(SEQUENCES, &[]).await?;
            rows.iter()
                .map(|row| row.try_get::<_, i64>("cache"))
                .collect::<Result<Vec<_>, _>>()
        })
        .await?;
    if caches.len() != SLOTS || caches.iter().any(|cache| *cache != 1) {
        let reason = "the sequences slot_0 to slot_63 must exist with `cache 1`";
        return Err(Error::Internal(reason.into()));
    }
    Ok(())
}

/// What [`check_sequences`] is there to prevent.
async fn cache_sequences(data: &DataPlane) -> Result<()> {
    const CACHE: &str = "
        do $$
        begin
            for slot in 0..63 loop
                execute format('alter sequence slot_%s cache 10', slot);
            end loop;
        end
        $$";
    let cached = data.run("cache sequences", async |client| {
        client.batch_execute(CACHE).await
    });
    cached.await
}

impl Store {
    /// The last ID drawn in each slot, decided or not, and the epoch; none before the first.
    pub async fn last_values(&self) -> Result<(Vec<i64>, Option<Epoch>)> {
        let rows = self.data.query("read last IDs", LAST_VALUES, &[]).await?;
        let epoch: Option<&str> = rows.first().map_or(Ok(None), |row| row.try_get("epoch"))?;
        let values = rows.iter().map(|row| row.try_get("last_value"));
        Ok((
            values.collect::<Result<_, _>>()?,
            epoch.map(Epoch::from_row),
        ))
    }

    /// The last ID drawn in a slot such that it and all before it are decided: visible to every
    /// later read, or never to appear.
    ///
    /// Waits for the writes under way (at most 2 s): without the shared lock the sequence's value
    /// would be that of a write which has not committed.
    pub async fn settled_value(&self, slot: Slot) -> Result<i64> {
        self.data
            .run("settle slot", async |client| {
                let lock = client.prepare_cached(LOCK_SHARED).await?;
                let read = client.prepare_cached(LAST_VALUE).await?;
                let number = slot.index() as i32;
                let slot: [&(dyn ToSql + Sync); 1] = [&number];
                let (begun, locked, row, ended) = futures_util::join!(
                    client.batch_execute("begin read only"),
                    client.query(&lock, &slot),
                    client.query_one(&read, &slot),
                    client.batch_execute("rollback"),
                );
                begun?;
                locked?;
                ended?;
                row?.try_get(0)
            })
            .await
    }
}
