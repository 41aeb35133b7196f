//! What the store counts and measures, through the process's `metrics` recorder.
//!
//! Handles are made once, by whoever uses them; without a recorder they do nothing. No label says
//! whose data it is.

use crate::{Result, Store};
use metrics::{
    Counter, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};
use std::time::Duration;

/// How long Postgres may take to say that it is there.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a lane measures.
#[derive(Clone)]
pub(crate) struct LaneMetrics {
    pub(crate) commit_duration: Histogram,
    pub(crate) batch_writes: Histogram,
    pub(crate) batch_failures: Counter,
    pub(crate) refusals: Counter,
}

impl LaneMetrics {
    pub(crate) fn new() -> Self {
        describe_histogram!(
            "handoff_lane_commit_duration_seconds",
            Unit::Seconds,
            "Time that Postgres took to commit a batch of writes"
        );
        describe_histogram!(
            "handoff_lane_batch_writes",
            Unit::Count,
            "Writes in a batch that was committed"
        );
        describe_counter!(
            "handoff_lane_batch_failures_total",
            Unit::Count,
            "Batches that failed: Postgres out of reach, too slow, or refusing"
        );
        describe_counter!(
            "handoff_lane_refusals_total",
            Unit::Count,
            "Writes refused because their lane was full"
        );
        describe_gauge!(
            "handoff_lane_queued_writes",
            Unit::Count,
            "Writes that wait in the queues of the lanes"
        );
        describe_gauge!(
            "handoff_lane_queued_bytes",
            Unit::Bytes,
            "Text of the writes that wait in lanes or are being committed"
        );
        Self {
            commit_duration: histogram!("handoff_lane_commit_duration_seconds"),
            batch_writes: histogram!("handoff_lane_batch_writes"),
            batch_failures: counter!("handoff_lane_batch_failures_total"),
            refusals: counter!("handoff_lane_refusals_total"),
        }
    }
}

/// What the notifier counts.
pub(crate) struct BellMetrics {
    pub(crate) rung: Counter,
    pub(crate) failures: Counter,
}

impl BellMetrics {
    pub(crate) fn new() -> Self {
        describe_counter!(
            "handoff_bells_rung_total",
            Unit::Count,
            "Notifications sent to the other replicas"
        );
        describe_counter!(
            "handoff_bell_failures_total",
            Unit::Count,
            "Notifications that could not be sent"
        );
        Self {
            rung: counter!("handoff_bells_rung_total"),
            failures: counter!("handoff_bell_failures_total"),
        }
    }
}

/// What the pool of readers measures.
#[derive(Clone)]
pub(crate) struct PoolMetrics {
    pub(crate) wait_duration: Histogram,
    pub(crate) failures: Counter,
}

impl PoolMetrics {
    pub(crate) fn new() -> Self {
        describe_histogram!(
            "handoff_pool_wait_duration_seconds",
            Unit::Seconds,
            "Time that a read waited for a connection of the pool"
        );
        describe_counter!(
            "handoff_pool_failures_total",
            Unit::Count,
            "Reads that got no connection in time"
        );
        describe_gauge!(
            "handoff_pool_connections",
            Unit::Count,
            "Connections of a pool, by what they do"
        );
        describe_gauge!(
            "handoff_pool_connections_max",
            Unit::Count,
            "Connections that a pool may have"
        );
        describe_gauge!(
            "handoff_pool_waiting_reads",
            Unit::Count,
            "Reads that wait for a connection"
        );
        Self {
            wait_duration: histogram!("handoff_pool_wait_duration_seconds"),
            failures: counter!("handoff_pool_failures_total"),
        }
    }
}

impl Store {
    /// Sets the gauges of pools and lanes.
    pub fn observe(&self) {
        let (writes, bytes) = self.lanes.queued();
        gauge!("handoff_lane_queued_writes").set(writes as f64);
        gauge!("handoff_lane_queued_bytes").set(bytes as f64);
        let data = self.data.usage();
        gauge!("handoff_pool_waiting_reads").set(data.waiting as f64);
        let (control_size, control_idle) = (self.control.size() as usize, self.control.num_idle());
        for (pool, size, idle, max) in [
            ("data", data.size, data.idle, data.max_size),
            (
                "control",
                control_size,
                control_idle,
                self.control.options().get_max_connections() as usize,
            ),
        ] {
            let used = size.saturating_sub(idle);
            gauge!("handoff_pool_connections", "pool" => pool, "state" => "idle").set(idle as f64);
            gauge!("handoff_pool_connections", "pool" => pool, "state" => "used").set(used as f64);
            gauge!("handoff_pool_connections_max", "pool" => pool).set(max as f64);
        }
    }

    /// Asks Postgres how full its queue of notifications is, and notes whether it answered.
    pub async fn probe(&self) {
        describe_gauge!(
            "handoff_postgres_up",
            Unit::Count,
            "1 where Postgres answered when it was last asked, else 0"
        );
        describe_gauge!(
            "handoff_notify_queue_usage_ratio",
            Unit::Count,
            "How full Postgres' queue of notifications is, from 0 to 1"
        );
        let usage = tokio::time::timeout(PROBE_TIMEOUT, self.notify_queue_usage()).await;
        match usage {
            Ok(Ok(usage)) => {
                gauge!("handoff_postgres_up").set(1);
                gauge!("handoff_notify_queue_usage_ratio").set(usage);
            }
            Ok(Err(_)) | Err(_) => gauge!("handoff_postgres_up").set(0),
        }
    }

    async fn notify_queue_usage(&self) -> Result<f64> {
        let rows = self
            .data
            .query(
                "probe",
                "select pg_notification_queue_usage() as usage",
                &[],
            )
            .await?;
        Ok(rows.first().map_or(Ok(0.0), |row| row.try_get("usage"))?)
    }
}
