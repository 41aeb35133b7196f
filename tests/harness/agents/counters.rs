//! How the agents fare: numbers that can be read at any time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

/// A replica that answers no pulse for longer than this is out of service.
const OUTAGE: Duration = Duration::from_millis(500);

/// How many kinds of refusals are told apart.
const REFUSALS: usize = 20;

/// What the agents have done so far.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// The time since the history's start.
    pub at: Duration,
    /// Posts answered 2xx.
    pub posts_acked: u64,
    /// Posts whose outcome is unknown.
    pub posts_unknown: u64,
    /// Posts that were refused.
    pub posts_refused: u64,
    /// Posts that were due and left out, since too many were late.
    pub posts_late: u64,
    /// Attempts of posts beyond the first.
    pub retries: u64,
    /// Messages that streams delivered.
    pub events: u64,
    /// Messages and changes that were read by pages.
    pub read: u64,
    /// Streams that were opened.
    pub streams_opened: u64,
    /// Of these, such that went on where another one had ended.
    pub streams_resumed: u64,
    /// Acks answered 2xx.
    pub acks: u64,
    /// Status entries set or deleted.
    pub status_writes: u64,
    /// Status entries read.
    pub status_reads: u64,
    /// Uses of API keys that change, allowed or refused.
    pub probes: u64,
    /// Changes of API keys.
    pub key_changes: u64,
    /// Requests that were answered 5xx or not at all.
    pub errors: u64,
    /// Answers that no healthy client should get (4xx where none was due), by what they were and how
    /// many.
    pub refusals: BTreeMap<String, u64>,
    /// Each replica, as its pulse found it.
    pub replicas: Vec<ReplicaCounters>,
}

/// A replica, as its pulse found it.
#[derive(Clone, Debug, Default)]
pub struct ReplicaCounters {
    /// Pulses that were answered 2xx.
    pub ok: u64,
    /// Pulses that were not.
    pub failed: u64,
    /// When one was last answered.
    pub last_ok: Option<Duration>,
    /// When one last failed.
    pub last_failed: Option<Duration>,
    /// Spans without an answer of more than half a second that are over: from the last answer before
    /// to the first one after.
    pub outages: Vec<(Duration, Duration)>,
}

/// Times in microseconds since they were last taken.
#[derive(Clone, Debug)]
pub struct Latencies {
    /// From a post's first attempt to its answer.
    pub post: Histogram<u64>,
    /// From a post's first attempt to its arrival on a stream that is not behind.
    pub deliver: Histogram<u64>,
}

/// The longest time that is told apart: two minutes.
const LONGEST: u64 = 120_000_000;

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LONGEST, 3).expect("the bounds are valid")
}

/// A number that only grows.
#[derive(Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn one(&self) {
        self.add(1);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Posts that are under way or were lately, by value: when they began.
const RECENT: usize = 1 << 16;

/// The counters while they count.
pub(super) struct Meter {
    pub(super) posts_acked: Count,
    pub(super) posts_unknown: Count,
    pub(super) posts_refused: Count,
    pub(super) posts_late: Count,
    pub(super) retries: Count,
    pub(super) events: Count,
    pub(super) read: Count,
    pub(super) streams_opened: Count,
    pub(super) streams_resumed: Count,
    pub(super) acks: Count,
    pub(super) status_writes: Count,
    pub(super) status_reads: Count,
    pub(super) probes: Count,
    pub(super) key_changes: Count,
    pub(super) errors: Count,
    refusals: Mutex<BTreeMap<String, u64>>,
    replicas: Vec<Mutex<ReplicaCounters>>,
    post: Mutex<Histogram<u64>>,
    deliver: Mutex<Histogram<u64>>,
    begun: Vec<AtomicU64>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Meter {
    pub(super) fn new(replicas: usize) -> Meter {
        Meter {
            posts_acked: Count::default(),
            posts_unknown: Count::default(),
            posts_refused: Count::default(),
            posts_late: Count::default(),
            retries: Count::default(),
            events: Count::default(),
            read: Count::default(),
            streams_opened: Count::default(),
            streams_resumed: Count::default(),
            acks: Count::default(),
            status_writes: Count::default(),
            status_reads: Count::default(),
            probes: Count::default(),
            key_changes: Count::default(),
            errors: Count::default(),
            refusals: Mutex::default(),
            replicas: (0..replicas).map(|_| Mutex::default()).collect(),
            post: Mutex::new(histogram()),
            deliver: Mutex::new(histogram()),
            begun: (0..RECENT).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// An answer that was not due.
    pub(super) fn refused(&self, what: String) {
        let mut refusals = lock(&self.refusals);
        let what = match refusals.len() < REFUSALS {
            true => what,
            false => "others".to_owned(),
        };
        *refusals.entry(what).or_default() += 1;
    }

    /// A post begins.
    pub(super) fn post_began(&self, value: u64, at: u64) {
        self.begun[value as usize % RECENT].store(at, Ordering::Relaxed);
    }

    /// It was answered.
    pub(super) fn post_answered(&self, took: u64) {
        lock(&self.post).saturating_record(took / 1_000);
    }

    /// Posts arrived on a stream that began to wait for them before they were made.
    pub(super) fn delivered(&self, values: impl Iterator<Item = u64>, at: u64) {
        let mut deliver = lock(&self.deliver);
        for value in values {
            let began = self.begun[value as usize % RECENT].load(Ordering::Relaxed);
            if began != 0 && began <= at {
                deliver.saturating_record((at - began) / 1_000);
            }
        }
    }

    /// A pulse was answered, or not.
    pub(super) fn pulse(&self, replica: usize, at: Duration, ok: bool) {
        let mut replica = lock(&self.replicas[replica]);
        if !ok {
            replica.failed += 1;
            replica.last_failed = Some(at);
            return;
        }
        replica.ok += 1;
        let before = replica.last_ok.replace(at).unwrap_or(at);
        if at.saturating_sub(before) > OUTAGE {
            replica.outages.push((before, at));
        }
    }

    pub(super) fn counters(&self, at: Duration) -> Counters {
        Counters {
            at,
            posts_acked: self.posts_acked.get(),
            posts_unknown: self.posts_unknown.get(),
            posts_refused: self.posts_refused.get(),
            posts_late: self.posts_late.get(),
            retries: self.retries.get(),
            events: self.events.get(),
            read: self.read.get(),
            streams_opened: self.streams_opened.get(),
            streams_resumed: self.streams_resumed.get(),
            acks: self.acks.get(),
            status_writes: self.status_writes.get(),
            status_reads: self.status_reads.get(),
            probes: self.probes.get(),
            key_changes: self.key_changes.get(),
            errors: self.errors.get(),
            refusals: lock(&self.refusals).clone(),
            replicas: self
                .replicas
                .iter()
                .map(|replica| lock(replica).clone())
                .collect(),
        }
    }

    pub(super) fn take_latencies(&self) -> Latencies {
        Latencies {
            post: std::mem::replace(&mut lock(&self.post), histogram()),
            deliver: std::mem::replace(&mut lock(&self.deliver), histogram()),
        }
    }
}
