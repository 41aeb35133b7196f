//! What idle streams cost: memory, connections and processor time of one replica.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hyper::StatusCode;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_postgres::Client;

use crate::environment::{Deployment, Server, Team};
use crate::http::{Connection, EventStream, Prepared};
use crate::options::{Common, StreamsOptions};
use crate::processes::{self, settled_memory};
use crate::report::{Bar, Figures, Row, Scenario};
use crate::scenarios::listeners::{OPENED_AT_ONCE, open_streams};

/// Channels that the streams are spread over.
const CHANNELS: u32 = 16;
const MIB: f64 = 1_048_576.0;

/// How long idleness is looked at.
#[derive(Clone, Copy)]
struct Waits {
    /// See [`Common::settled`].
    settled: Duration,
    /// A backend that has become idle reports what it did this much later at most.
    statistics: Duration,
    /// How long processor time and transactions of the idle relay are counted.
    idle: Duration,
}

impl Waits {
    fn new(common: &Common) -> Self {
        let (statistics, idle) = if common.quick { (0, 1) } else { (11, 10) };
        Self {
            settled: common.settled(),
            statistics: Duration::from_secs(statistics),
            idle: Duration::from_secs(idle),
        }
    }
}

pub(crate) async fn run(
    server: &Server,
    common: &Common,
    options: &StreamsOptions,
) -> Result<Scenario> {
    let replicas = common.replicas(1);
    let waits = Waits::new(common);
    let deployment = server.deploy("streams", replicas).await?;
    let team = deployment.sign_up("streams").await?;
    warm_up(&deployment, &team).await?;

    let sql = deployment.sql().await?;
    let before = observe(&deployment, &sql, waits).await?;
    let mut streams = JoinSet::new();
    for mut stream in open(&deployment, &team, options.streams as usize).await? {
        // Keep-alives are read as a client would; only the end of a stream ends the task.
        streams.spawn(async move {
            loop {
                if let Err(error) = stream.read(|_| ()).await {
                    return error;
                }
            }
        });
    }
    let during = observe(&deployment, &sql, waits).await?;
    if let Some(ended) = streams.try_join_next() {
        return Err(ended?.context("a stream ended that should have stayed open"));
    }
    ensure!(
        streams.len() == options.streams as usize,
        "not all streams are open"
    );
    streams.shutdown().await;
    let after = observe(&deployment, &sql, waits).await?;
    deployment.stop().await?;

    let grown = |name: &str| during.value(name) - before.value(name);
    let count = options.streams;
    let mut scenario = Scenario::new(
        "streams",
        format!(
            "{count} idle streams over {CHANNELS} channels on the first of {replicas} replicas"
        ),
    );
    scenario.bars = vec![
        Bar::at_most(
            format!("MiB above idle with {count} streams"),
            grown("rss_mib"),
            20.0 * f64::from(count) / 1_000.0,
        ),
        Bar::exactly(
            "connections that LISTEN, a replica",
            during.value("listening") / f64::from(replicas),
            1.0,
        ),
        Bar::at_most(
            "connections to Postgres more than idle",
            grown("connections"),
            0.0,
        ),
        Bar::at_most(
            "processor time of the relay, % of a core",
            during.value("core_percent"),
            2.0,
        ),
        Bar::at_most(
            "transactions a second of an idle replica",
            during.value("transactions_per_s") / f64::from(replicas),
            10.0,
        ),
    ];
    scenario.notes.push(format!(
        "KiB a stream: {:.1}",
        grown("rss_mib") * 1024.0 / f64::from(count)
    ));
    scenario.rows = vec![
        Row::new("idle, before", before),
        Row::new(format!("{count} streams"), during),
        Row::new("all closed", after),
    ];
    Ok(scenario)
}

/// Posts to every channel and opens as many streams as will be opened at once: what the relay
/// allocates once, its pool of connections above all, is in "idle".
async fn warm_up(deployment: &Deployment<'_>, team: &Team) -> Result<()> {
    let mut connection = Connection::open(deployment.address(0)).await?;
    for number in 0..CHANNELS {
        let path = format!("/api/channels/streams-{number}/messages");
        let post = Prepared::post(&path, &team.key, &json!({"content": "warm-up"}));
        connection.send(&post).await?.expect(StatusCode::CREATED)?;
    }
    drop(open(deployment, team, OPENED_AT_ONCE).await?);
    Ok(())
}

async fn open(deployment: &Deployment<'_>, team: &Team, count: usize) -> Result<Vec<EventStream>> {
    let path = |number| {
        let channel = number % CHANNELS as usize;
        format!("/api/channels/streams-{channel}/stream")
    };
    open_streams(|_| deployment.address(0), path, &team.key, count).await
}

/// What the first replica and Postgres show while nothing happens.
async fn observe(deployment: &Deployment<'_>, sql: &Client, waits: Waits) -> Result<Figures> {
    tokio::time::sleep(waits.statistics).await;
    let rss = settled_memory(deployment.pid(0), waits.settled).await?;
    let processor_before = processes::processor_time(deployment.pid(0))?;
    let transactions_before = transactions(sql).await?;
    let start = Instant::now();
    tokio::time::sleep(waits.idle).await;
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
