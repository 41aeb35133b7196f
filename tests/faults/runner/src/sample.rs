//! What can be read of the fleet once a second: the load's counters, the replicas' processes,
//! Postgres' own views. It goes into the plots, and into the comparison of the run's beginning with
//! its end. Nothing here judges.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_postgres::Client;

use crate::fleet::Fleet;
use crate::load::{Load, Rates};

/// How long Postgres may take to tell of itself.
const PATIENCE: Duration = Duration::from_millis(800);

/// How often dead rows are counted, where they are counted.
const DEAD_ROWS_EVERY: u32 = 10;

/// One second of the run.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Seconds since the start.
    pub at: f64,
    /// What the load did in this second.
    pub rates: Rates,
    /// The replicas that run.
    pub replicas: Vec<Option<Process>>,
    /// Postgres, unless it didn't answer.
    pub postgres: Option<Postgres>,
}

/// What the kernel tells of a replica.
#[derive(Clone, Debug, Serialize)]
pub struct Process {
    /// Its process.
    pub pid: i32,
    /// For how many seconds it has run.
    pub age_s: f64,
    /// Its memory in RAM.
    pub resident_bytes: u64,
    /// Its open file descriptors.
    pub descriptors: usize,
    /// Its threads.
    pub threads: u64,
}

/// What Postgres tells of itself.
#[derive(Clone, Debug, Serialize)]
pub struct Postgres {
    /// Sessions of clients, without the one that asks.
    pub connections: i64,
    /// Dead rows of each table by Postgres' statistics, which a crash sets back to nothing.
    pub dead_rows: BTreeMap<String, i64>,
    /// Dead rows of all tables, counted in the tables themselves; not every second.
    pub counted_dead_rows: Option<i64>,
    /// How the standby follows, if it does.
    pub standby: Option<String>,
    /// How far it is behind.
    pub standby_lag_bytes: Option<i64>,
}

impl Sample {
    /// The sum over the replicas, if all of them run.
    pub fn sum(&self, of: impl Fn(&Process) -> f64) -> Option<f64> {
        self.replicas
            .iter()
            .map(|process| Some(of(process.as_ref()?)))
            .sum()
    }
}

/// The samples of a run.
#[derive(Clone, Default)]
pub struct Samples {
    taken: Arc<Mutex<Vec<Sample>>>,
}

impl Samples {
    /// What was taken so far.
    pub fn taken(&self) -> Vec<Sample> {
        self.lock().clone()
    }

    /// The last one.
    pub fn last(&self) -> Option<Sample> {
        self.lock().last().cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Sample>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one every second, until it is aborted. Dead rows are counted in these spans alone: to
    /// count them means to read all tables.
    pub async fn take(
        self,
        fleet: Arc<Fleet>,
        load: Arc<Load>,
        start: Instant,
        count_dead_rows_in: Vec<(Duration, Duration)>,
    ) {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut client = None;
        let mut turn = 0_u32;
        loop {
            ticks.tick().await;
            let at = start.elapsed();
            let counted = count_dead_rows_in
                .iter()
                .any(|(from, to)| at >= *from && at < *to);
            turn += 1;
            let count = counted && turn.is_multiple_of(DEAD_ROWS_EVERY);
            let asked = timeout(
                PATIENCE + if count { 5 * PATIENCE } else { Duration::ZERO },
                postgres(&fleet, &mut client, count),
            );
            let postgres = match asked.await {
                Ok(Ok(postgres)) => Some(postgres),
                _ => {
                    // Another server may serve by now.
                    client = None;
                    None
                }
            };
            let members = fleet.members().iter();
            let sample = Sample {
                at: at.as_secs_f64(),
                rates: load.rates(),
                replicas: members
                    .map(|member| {
                        let (pid, age) = member.age()?;
                        process(pid, age)
                    })
                    .collect(),
                postgres,
            };
            self.lock().push(sample);
        }
    }
}

async fn postgres(fleet: &Fleet, client: &mut Option<Client>, count: bool) -> Result<Postgres> {
    if client.as_ref().is_none_or(Client::is_closed) {
        let new = fleet.postgres().connect().await?;
        new.batch_execute("create extension if not exists pgstattuple")
            .await
            .ok();
        *client = Some(new);
    }
    let Some(client) = client else {
        anyhow::bail!("no connection");
    };
    let sql = "select count(*) from pg_stat_activity
        where backend_type = 'client backend' and pid <> pg_backend_pid()";
    let connections = client.query_one(sql, &[]).await?.get(0);
    let sql = "select relname::text, n_dead_tup from pg_stat_user_tables where n_dead_tup > 0";
    let rows = client.query(sql, &[]).await?;
    let dead_rows = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let sql = "select sync_state, pg_wal_lsn_diff(pg_current_wal_lsn(), flush_lsn)::int8
        from pg_stat_replication where application_name = 'standby' and state = 'streaming'";
    let standby = client.query_opt(sql, &[]).await?;
    let counted_dead_rows = match count {
        true => {
            let sql = "select sum((pgstattuple(oid)).dead_tuple_count)::int8 from pg_class
                where relkind = 'r' and relnamespace = 'public'::regnamespace";
            client
                .query_one(sql, &[])
                .await
                .ok()
                .and_then(|row| row.get(0))
        }
        false => None,
    };
    Ok(Postgres {
        connections,
        dead_rows,
        counted_dead_rows,
        standby: standby.as_ref().map(|row| row.get(0)),
        standby_lag_bytes: standby.as_ref().and_then(|row| row.get(1)),
    })
}

/// Nothing of a process that has just ended.
fn process(pid: i32, age: Duration) -> Option<Process> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let number = |label: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(label))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some(Process {
        pid,
        age_s: age.as_secs_f64(),
        resident_bytes: number("VmRSS:")? * 1024,
        descriptors: fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count(),
        threads: number("Threads:")?,
    })
}
