//! What the core counts and measures, through the process's `metrics` recorder.
//!
//! Handles are made once; without a recorder they do nothing. No label says whose data it is.

use crate::Relay;
use metrics::{
    Counter, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

/// What the feed counts.
pub(crate) struct FeedMetrics {
    pub(crate) bells_heard: Counter,
    pub(crate) sweep_catches: Counter,
}

impl FeedMetrics {
    pub(crate) fn new() -> Self {
        describe_counter!(
            "handoff_bells_heard_total",
            Unit::Count,
            "Notifications of other replicas that were heard"
        );
        describe_counter!(
            "handoff_sweep_catches_total",
            Unit::Count,
            "Times that the sweep found commits that no bell had told of"
        );
        describe_gauge!(
            "handoff_feed_lag_seconds",
            Unit::Seconds,
            "How long the slot that is behind the longest has known of something that its streams \
             do not have yet"
        );
        Self {
            bells_heard: counter!("handoff_bells_heard_total"),
            sweep_catches: counter!("handoff_sweep_catches_total"),
        }
    }
}

/// What the relay's operations measure.
pub(crate) struct RelayMetrics {
    pub(crate) key_cache_hits: Counter,
    pub(crate) key_cache_misses: Counter,
    pub(crate) delivery_duration: Histogram,
}

impl RelayMetrics {
    pub(crate) fn new() -> Self {
        describe_counter!(
            "handoff_key_cache_lookups_total",
            Unit::Count,
            "Well-formed keys looked for in the cache, by result"
        );
        describe_histogram!(
            "handoff_delivery_duration_seconds",
            Unit::Seconds,
            "Time from a message's commit, by the database's clock, until it was written to a \
             stream that was open then"
        );
        describe_gauge!(
            "handoff_streams_open",
            Unit::Count,
            "Streams and waits that are open"
        );
        describe_gauge!(
            "handoff_replicas_live",
            Unit::Count,
            "Replicas with a heartbeat, as this one sees them"
        );
        let lookups =
            |result: &'static str| counter!("handoff_key_cache_lookups_total", "result" => result);
        Self {
            key_cache_hits: lookups("hit"),
            key_cache_misses: lookups("miss"),
            delivery_duration: histogram!("handoff_delivery_duration_seconds"),
        }
    }
}

impl Relay {
    /// Sets the gauges, for a scrape.
    pub fn observe(&self) {
        let streams = self.open_streams.counts();
        let open: usize = streams.iter().map(|(_, count)| count).sum();
        gauge!("handoff_streams_open").set(open as f64);
        gauge!("handoff_replicas_live").set(self.budgets.live_replicas() as f64);
        gauge!("handoff_feed_lag_seconds").set(self.feed.lag());
        self.store.observe();
    }

    /// Asks Postgres how it is, for the gauges that say so.
    pub async fn probe_postgres(&self) {
        self.store.probe().await;
    }
}
