//! Keys that were looked up, for as long as this replica can be sure that nothing changed.
//!
//! A change rings on every replica, and each reads the last ten seconds of changes every second.
//! A replica whose last such sweep is over four seconds old (it may have been stopped, or cut off)
//! trusts nothing here and asks Postgres; its streams deliver nothing until the next good sweep, which
//! looks at their keys too (guarantee G5).

use handoff_protocol::{Timestamp, keys::KeyHash};
use handoff_store::keys::KeyRow;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// Keys remembered at most.
const CAPACITY: u64 = 100_000;
/// How old the last good sweep may be.
const TRUSTED_FOR: Duration = Duration::from_secs(4);

/// A key as it was looked up.
pub(crate) struct CachedKey {
    pub(crate) row: KeyRow,
}

impl CachedKey {
    fn is_expired(&self) -> bool {
        self.row.expires_at.is_some_and(|at| at <= Timestamp::now())
    }
}

pub(crate) struct KeyCache {
    keys: moka::sync::Cache<KeyHash, Arc<CachedKey>, foldhash::fast::RandomState>,
    /// Counts drops: a look-up that began before one isn't stored.
    drops: AtomicU64,
    began: Instant,
    /// When the last good sweep began, in milliseconds since `began`.
    swept_at: AtomicU64,
    sweeps: Notify,
}

impl KeyCache {
    pub(crate) fn new() -> Self {
        Self {
            keys: moka::sync::Cache::builder()
                .max_capacity(CAPACITY)
                .time_to_idle(Duration::from_secs(3_600))
                .build_with_hasher(foldhash::fast::RandomState::default()),
            drops: AtomicU64::new(0),
            began: Instant::now(),
            swept_at: AtomicU64::new(0),
            sweeps: Notify::new(),
        }
    }

    /// The key, if it is remembered and the memory can be trusted.
    pub(crate) fn get(&self, hash: &KeyHash) -> Option<Arc<CachedKey>> {
        let key = self.keys.get(hash)?;
        (self.is_trusted() && !key.is_expired()).then_some(key)
    }

    /// To be asked for before a look-up begins.
    pub(crate) fn drops(&self) -> u64 {
        self.drops.load(Ordering::SeqCst)
    }

    /// Remembers a key, unless something was dropped since `drops`; answers the one to use.
    pub(crate) fn insert(&self, row: KeyRow, drops: u64) -> Arc<CachedKey> {
        let hash = row.hash;
        let key = Arc::new(CachedKey { row });
        if self.drops() == drops {
            self.keys.insert(hash, key.clone());
            // Dropped in between: whoever dropped it may have done so before it was there.
            if self.drops() != drops {
                self.keys.invalidate(&hash);
            }
        }
        key
    }

    /// The key as it is remembered, to be compared with what stands.
    pub(crate) fn peek(&self, hash: &KeyHash) -> Option<Arc<CachedKey>> {
        self.keys.get(hash)
    }

    /// Forgets a key that was changed.
    pub(crate) fn drop_key(&self, hash: &KeyHash) {
        self.drops.fetch_add(1, Ordering::SeqCst);
        self.keys.invalidate(hash);
    }

    /// Forgets everything, after a time in which changes may have gone unseen.
    pub(crate) fn drop_all(&self) {
        self.drops.fetch_add(1, Ordering::SeqCst);
        self.keys.invalidate_all();
    }

    /// Whether the last good sweep is young enough.
    pub(crate) fn is_trusted(&self) -> bool {
        let swept_at = Duration::from_millis(self.swept_at.load(Ordering::SeqCst));
        self.began.elapsed().saturating_sub(swept_at) < TRUSTED_FOR
    }

    /// Resolves when the last good sweep is young enough.
    pub(crate) async fn trusted(&self) {
        loop {
            let swept = self.sweeps.notified();
            if self.is_trusted() {
                return;
            }
            swept.await;
        }
    }

    /// A sweep that began then has seen every change up to then.
    pub(crate) fn swept(&self, began: Instant) {
        let swept_at = began.saturating_duration_since(self.began).as_millis();
        self.swept_at.store(swept_at as u64, Ordering::SeqCst);
        self.sweeps.notify_waiters();
    }
}
