//! What idle streams cost: memory, connections and processor time of one replica.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use hyper::StatusCode;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_postgres::Client;

use crate::environment::{Deployment, Server, Team};
use crate::http::{Connection, EventStream, Prepared};
use crate::options::Options;
use crate::processes;
use crate::report::{Bar, Figures, Row, Scenario};

/// Channels that the streams are spread over.
const CHANNELS: u32 = 16;
/// Streams that are opened at once.
const OPENED_AT_ONCE: u32 = 50;
/// After this long without change memory counts as settled.
const SETTLED: Duration = Duration::from_secs(2);
/// A backend that has become idle reports what it did this much later at most.
const STATISTICS_DELAY: Duration = Duration::from_secs(11);
/// How long processor time and statements of the idle relay are counted.
const IDLE: Duration = Duration::from_secs(5);
const MIB: f64 = 1_048_576.0;

pub(crate) async fn run(server: &Server, options: &Options) -> Result<Scenario> {
    let replicas = options.replicas(1);
    let deployment = server.deploy("streams", replicas).await?;
    let team = deployment.sign_up("streams").await?;
    warm_up(&deployment, &team).await?;

    let sql = deployment.sql().await?;
    let before = observe(&deployment, &sql).await?;
    let mut streams = JoinSet::new();
    for first in (0..options.streams).step_by(OPENED_AT_ONCE as usize) {
        let numbers = first..options.streams.min(first + OPENED_AT_ONCE);
        let opened = numbers.map(|number| open(&deployment, &team, number));
        for mut stream in try_join_all(opened).await? {
            // Keep-alives are read as a client would; only the end of a stream ends the task.
            streams.spawn(async move {
                loop {
                    if let Err(error) = stream.read(|_| ()).await {
                        return error;
                    }
                }
            });
        }
    }
    let during = observe(&deployment, &sql).await?;
    if let Some(ended) = streams.try_join_next() {
        return Err(ended?.context("a stream ended that should have stayed open"));
    }
    ensure!(
        streams.len() == options.streams as usize,
        "not all streams are open"
    );
    streams.shutdown().await;
    let after = observe(&deployment, &sql).await?;
    deployment.stop().await?;

    let figure = |figures: &Figures, name: &str| figures.get(name).unwrap_or(f64::NAN);
    let grown = |name: &str| figure(&during, name) - figure(&before, name);
    let count = options.streams;
    let bars = vec![
        Bar::at_most(
            format!("MiB above idle with {count} streams"),
            grown("rss_mib"),
            20.0 * f64::from(count) / 1_000.0,
        ),
        Bar::exactly(
            "connections that LISTEN, a replica",
            figure(&during, "listening") / f64::from(replicas),
            1.0,
        ),
        Bar::at_most(
            "connections to Postgres more than idle",
            grown("connections"),
            0.0,
        ),
        Bar::at_most(
            "processor time of the relay, % of a core",
            figure(&during, "core_percent"),
            2.0,
        ),
    ];
    let note = format!(
        "KiB a stream: {:.1}",
        grown("rss_mib") * 1024.0 / f64::from(count)
    );
    Ok(Scenario {
        name: "streams",
        what: format!(
            "{count} idle streams over {CHANNELS} channels on the first of {replicas} replicas"
        ),
        rows: vec![
            Row::new("idle, before", before),
            Row::new(format!("{count} streams"), during),
            Row::new("all closed", after),
        ],
        bars,
        notes: vec![note],
    })
}

/// Posts to every channel and opens as many streams as will be opened at once: what the relay
/// allocates once, its pool of connections above all, is in "idle".
async fn warm_up(deployment: &Deployment<'_>, team: &Team) -> Result<()> {
    let mut connection = Connection::open(deployment.address(0)).await?;
    for number in 0..CHANNELS {
        let path = format!("/api/channels/streams-{number}/messages");
        let post = Prepared::post(&path, &team.key, &json!({"content": "warm-up"}))?;
        connection.send(&post).await?.expect(StatusCode::CREATED)?;
    }
    let opened = (0..OPENED_AT_ONCE).map(|number| open(deployment, team, number));
    drop(try_join_all(opened).await?);
    Ok(())
}

async fn open(deployment: &Deployment<'_>, team: &Team, number: u32) -> Result<EventStream> {
    let path = format!("/api/channels/streams-{}/stream", number % CHANNELS);
    Connection::open(deployment.address(0))
        .await?
        .stream(&Prepared::get(&path, &team.key)?)
        .await
}

/// What the first replica and Postgres show while nothing happens.
async fn observe(deployment: &Deployment<'_>, sql: &Client) -> Result<Figures> {
    tokio::time::sleep(STATISTICS_DELAY).await;
    let rss = settled_memory(deployment.pid(0)).await?;
    let processor_before = processes::processor_time(deployment.pid(0))?;
    let transactions_before = transactions(sql).await?;
    let start = Instant::now();
    tokio::time::sleep(IDLE).await;
    let seconds = start.elapsed().as_secs_f64();
    let processor = processes::processor_time(deployment.pid(0))?.saturating_sub(processor_before);
    // The look at them is a transaction too.
    let transactions = transactions(sql).await? - transactions_before - 1;
    let counts = sql
        .query_one(
            "select count(*), count(*) filter (where query ilike 'listen%')
             from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid()",
            &[],
        )
        .await?;
    Ok(Figures::default()
        .with("rss_mib", rss as f64 / MIB)
        .with("connections", counts.get::<_, i64>(0) as f64)
        .with("listening", counts.get::<_, i64>(1) as f64)
        .with("core_percent", 100.0 * processor.as_secs_f64() / seconds)
        .with("transactions_per_s", transactions as f64 / seconds))
}

/// The memory of a process once it has stopped changing.
async fn settled_memory(pid: u32) -> Result<u64> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut known = processes::resident_bytes(pid)?;
    let mut since = Instant::now();
    while since.elapsed() < SETTLED {
        ensure!(
            Instant::now() < deadline,
            "the relay's memory does not settle"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = processes::resident_bytes(pid)?;
        // A page here and there is no change.
        if now.abs_diff(known) > 128 * 1024 {
            (known, since) = (now, Instant::now());
        }
    }
    Ok(known)
}

/// Transactions of the whole database so far.
async fn transactions(sql: &Client) -> Result<i64> {
    sql.query_one(
        "select xact_commit + xact_rollback from pg_stat_database where datname = current_database()",
        &[],
    )
    .await?
    .try_get(0)
    .context("no statistics of the database")
}
