//! The notifier: rings for the other replicas, after the commit and never inside a write.
//!
//! NOTIFY holds a lock of the whole database until its commit is done, so bells are merged: one
//! at once when nothing was rung lately, else one every (live replicas) milliseconds, which keeps
//! a fleet near 1,000 a second; a lone replica rings every 20. A bell that is lost costs a little delay: the sweep finds it.

use crate::{
    DatabaseUrl, Result,
    bell::{self, BellEntry, PendingBells},
    connection::{SessionKind, session},
    metrics::BellMetrics,
    replicas::ReplicaId,
    trace::UnrungPosts,
};
use handoff_protocol::TraceParent;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};
use tokio_postgres::types::ToSql;
use tokio_util::sync::CancellationToken;

#[derive(Default)]
struct Pending {
    bells: PendingBells,
    traced: UnrungPosts,
}

struct Shared {
    pending: Mutex<Pending>,
    wake: Notify,
    live_replicas: AtomicU64,
    stop: CancellationToken,
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The ringing end, for lanes.
#[derive(Clone)]
pub(crate) struct NotifierHandle {
    shared: Arc<Shared>,
}

impl NotifierHandle {
    /// One whose bells nobody rings.
    #[cfg(test)]
    pub(crate) fn silent() -> Self {
        let shared = Shared {
            pending: Mutex::default(),
            wake: Notify::new(),
            live_replicas: AtomicU64::new(1),
            stop: CancellationToken::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Leaves a bell to be rung; never waits. At most one entry a slot is kept.
    pub(crate) fn ring(&self, entry: BellEntry, traced: impl Iterator<Item = TraceParent>) {
        {
            let mut pending = self.shared.pending();
            pending.bells.add(entry);
            pending.traced.add(traced);
        }
        self.shared.wake.notify_one();
    }
}

/// The task that rings, on a connection of its own.
pub struct Notifier {
    handle: NotifierHandle,
    task: tokio::task::JoinHandle<()>,
}

impl Notifier {
    pub(crate) fn start(url: DatabaseUrl, replica: ReplicaId) -> Self {
        let shared = Arc::new(Shared {
            pending: Mutex::default(),
            wake: Notify::new(),
            live_replicas: AtomicU64::new(1),
            stop: CancellationToken::new(),
        });
        let task = tokio::spawn(run(shared.clone(), url, replica));
        Self {
            handle: NotifierHandle { shared },
            task,
        }
    }

    pub(crate) fn handle(&self) -> NotifierHandle {
        self.handle.clone()
    }

    /// Learns how many replicas share the fleet's budget of bells.
    pub fn set_live_replicas(&self, live: usize) {
        self.handle
            .shared
            .live_replicas
            .store(live as u64, Ordering::Relaxed);
    }

    /// Rings what waits, and stops.
    pub async fn stop(self) {
        self.handle.shared.stop.cancel();
        let _ = self.task.await;
    }
}

/// How long after a bell the next one may ring.
fn spacing(live_replicas: u64) -> Duration {
    match live_replicas {
        // Nobody listens, but for one that has just started and isn't counted yet.
        0 | 1 => Duration::from_millis(20),
        live => Duration::from_millis(live.min(1_000)),
    }
}

async fn run(shared: Arc<Shared>, url: DatabaseUrl, replica: ReplicaId) {
    let metrics = BellMetrics::new();
    let mut client = None;
    let mut next_ring = Instant::now();
    loop {
        let stopping = shared.stop.is_cancelled();
        let idle = shared.pending().bells.is_empty();
        if idle {
            if stopping {
                return;
            }
            tokio::select! {
                () = shared.wake.notified() => {}
                () = shared.stop.cancelled() => {}
            }
            continue;
        }
        tokio::time::sleep_until(next_ring).await;
        next_ring = Instant::now() + spacing(shared.live_replicas.load(Ordering::Relaxed));
        let (payload, traced) = {
            let mut pending = shared.pending();
            let payload = pending.bells.take_payload(replica);
            (payload, std::mem::take(&mut pending.traced))
        };
        let Some(payload) = payload else { continue };
        if let Err(error) = ring(&mut client, &url, &payload).await {
            // The sweep of the others makes up for it; ringing late would help nobody.
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "A bell was not rung"
            );
            metrics.failures.increment(1);
            client = None;
            next_ring = Instant::now() + Duration::from_millis(200);
            if stopping {
                return;
            }
        } else {
            metrics.rung.increment(1);
            traced.rung();
        }
    }
}

struct Ringer {
    client: tokio_postgres::Client,
    notify: tokio_postgres::Statement,
}

async fn ring(ringer: &mut Option<Ringer>, url: &DatabaseUrl, payload: &str) -> Result<()> {
    let ringer = match ringer {
        Some(ringer) if !ringer.client.is_closed() => ringer,
        _ => {
            let client = session(url, "handoff notifier", SessionKind::Bell)
                .await?
                .client;
            // A bell needs no durability, and must not wait for a flush.
            client
                .batch_execute("set synchronous_commit = off; set statement_timeout = '5s'")
                .await?;
            let notify = client.prepare("select pg_notify($1, $2)").await?;
            ringer.insert(Ringer { client, notify })
        }
    };
    let params: [&(dyn ToSql + Sync); 2] = [&bell::COMMITS, &payload];
    let rung = ringer.client.query(&ringer.notify, &params);
    match tokio::time::timeout(Duration::from_secs(6), rung).await {
        Ok(rung) => Ok(rung.map(drop)?),
        Err(_) => Err(crate::Error::unavailable("a bell was not rung in time")),
    }
}
