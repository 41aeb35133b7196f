//! The relay: everything of a replica but its doors.

use crate::{
    Caller, Result, Spent,
    feed::Feed,
    key_cache::KeyCache,
    metrics::RelayMetrics,
    rate_limit::{Budget, Budgets},
    signup::network_of,
    streams::OpenStreams,
    tokens::Tokens,
    unread_cache::UnreadCache,
    unread_hint::UnreadHints,
};
use handoff_store::{Notifier, Store, StoreConfig, epochs::Epoch, listener};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Limits and quotas, and where Postgres is.
#[derive(Clone, Debug)]
pub struct RelayConfig {
    /// Postgres.
    pub store: StoreConfig,
    /// Requests of a key in a window.
    pub rate_limit_max: u32,
    /// The window.
    pub rate_limit_window: Duration,
    /// Signups of an address in an hour.
    pub signups_per_hour: u32,
    /// Keys of a team.
    pub keys_per_team: u32,
    /// Streams of a key, over all replicas.
    pub streams_per_key: u32,
}

/// A replica's relay, shared by its doors. It is built once; [`Relay::close`] ends it.
pub struct Relay {
    pub(crate) config: RelayConfig,
    pub(crate) store: Arc<Store>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) notifier: Arc<NotifierSlot>,
    pub(crate) keys: KeyCache,
    pub(crate) tokens: Tokens,
    pub(crate) unread: UnreadCache,
    pub(crate) hints: UnreadHints,
    pub(crate) key_changes_seen: KeyChangesSeen,
    pub(crate) open_streams: OpenStreams,
    pub(crate) budgets: Arc<Budgets>,
    pub(crate) metrics: RelayMetrics,
    /// Ends streams and background tasks.
    pub(crate) stop: CancellationToken,
    tasks: TaskTracker,
}

/// The notifier, until the relay closes.
pub(crate) struct NotifierSlot(Mutex<Option<Notifier>>);

impl NotifierSlot {
    pub(crate) fn set_live_replicas(&self, live: usize) {
        if let Some(notifier) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            notifier.set_live_replicas(live);
        }
    }

    fn take(&self) -> Option<Notifier> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The changes of keys that a sweep has seen; only the newest matter, since a sweep reads the last
/// ten seconds.
#[derive(Default)]
pub(crate) struct KeyChangesSeen(Mutex<BTreeSet<i64>>);

impl KeyChangesSeen {
    const KEPT: usize = 10_000;

    pub(crate) fn is_new(&self, change: i64) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = seen.insert(change);
        while seen.len() > Self::KEPT {
            seen.pop_first();
        }
        new
    }

    pub(crate) fn forget(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

impl Relay {
    /// Connects to Postgres and starts lanes, listener, feed and sweep.
    ///
    /// # Errors
    /// When Postgres can't be reached, or its schema is too old.
    pub async fn open(config: RelayConfig) -> handoff_store::Result<Arc<Self>> {
        let (feed, changed_keys) = Feed::new();
        let (store, notifier) = Store::open(config.store.clone(), feed.clone()).await?;
        let relay = Arc::new(Self {
            budgets: Budgets::new(config.rate_limit_max, config.rate_limit_window),
            store: store.clone(),
            feed: feed.clone(),
            notifier: Arc::new(NotifierSlot(Mutex::new(Some(notifier)))),
            keys: KeyCache::new(),
            tokens: Tokens::new(),
            unread: UnreadCache::new(),
            hints: UnreadHints::new(),
            key_changes_seen: KeyChangesSeen::default(),
            open_streams: OpenStreams::default(),
            metrics: RelayMetrics::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            config,
        });
        let (tasks, stop) = (&relay.tasks, &relay.stop);
        feed.start(&store, tasks, stop);
        let listen_url = relay.config.store.listen_url.clone();
        tasks.spawn(listener::listen(
            listen_url,
            store.replica(),
            feed,
            stop.clone(),
        ));
        tasks.spawn(relay.budgets.clone().take_shares(store, stop.clone()));
        tasks.spawn(relay.clone().hear_of_keys(changed_keys));
        tasks.spawn(relay.clone().hear_of_epochs());
        tasks.spawn(relay.clone().sweep());
        tasks.spawn(relay.clone().clean());
        tasks.close();
        Ok(relay)
    }

    /// The epoch: another one says that the database was restored, or failed over. IDs of before
    /// stay fit to read on from.
    pub fn epoch(&self) -> Option<Epoch> {
        self.feed.epoch().borrow().clone()
    }

    /// Whether Postgres answers.
    pub async fn check_ready(&self) -> Result<()> {
        Ok(self.store.ping().await?)
    }

    /// Counts a request against the caller's key, that of a token too.
    pub async fn spend(&self, caller: &Caller) -> Spent {
        self.budgets.spend(Budget(caller.key.row.hash.0)).await
    }

    /// Counts a request without a good key against its address.
    pub async fn spend_address(&self, address: IpAddr) -> Spent {
        let bucket = Sha256::digest(format!("address {}", network_of(address)));
        self.budgets.spend(Budget(bucket.into())).await
    }

    /// Ends the streams, so that their clients go elsewhere. Requests are still answered.
    pub fn end_streams(&self) {
        self.stop.cancel();
    }

    /// Finishes the writes under way, rings for them, and lets go of Postgres.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
        self.store.close_lanes().await;
        if let Some(notifier) = self.notifier.take() {
            notifier.stop().await;
        }
        self.store.close().await;
    }
}
