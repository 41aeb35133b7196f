//! How many posts a second the relay commits, beside what the same Postgres does with the same
//! rows, one transaction each.
//!
//! The subjects take turns, round by round, so that a slower minute of the machine meets all of
//! them. Each round starts after a checkpoint, so that none pays for what another has written.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use hyper::StatusCode;
use serde_json::json;
use tokio_postgres::Client;

use crate::environment::{Deployment, Server};
use crate::http::{Connection, Prepared};
use crate::options::Options;
use crate::report::{self, Bar, Figures, Row, Scenario};

/// What warms up caches and connections, and is not measured.
const WARM_UP: Duration = Duration::from_secs(2);
/// Rows a statement where Postgres takes them in the batches that suit it best.
const IDEAL_BATCH: usize = 1_000;
/// Connections that insert ideal batches: as many as the relay has lanes.
const IDEAL_CONNECTIONS: u16 = 2;

pub(crate) async fn run(server: &Server, options: &Options) -> Result<Scenario> {
    let deployment = server.deploy("post", options.replicas(1)).await?;
    let mut relay = RelaySubject::new(&deployment, options).await?;
    let sql = SqlSubjects::new(&deployment, options).await?;

    relay.round(&deployment, WARM_UP).await?;
    let mut rounds = [const { Vec::new() }; 4];
    for _ in 0..options.rounds {
        rounds[0].push(relay.round(&deployment, options.duration).await?);
        rounds[1].push(
            sql.round(&deployment, Limit::InsertAndNotify, options.duration)
                .await?,
        );
        rounds[2].push(
            sql.round(&deployment, Limit::Insert, options.duration)
                .await?,
        );
        rounds[3].push(
            sql.round(&deployment, Limit::IdealBatches, options.duration)
                .await?,
        );
    }
    relay.check_nothing_lost(&deployment).await?;
    deployment.stop().await?;

    let medians = rounds.each_ref().map(|rounds| Figures::median(rounds));
    let rate = |figures: &Figures| figures.get("per_s").unwrap_or(f64::NAN);
    let ratio = |limit: &Figures| rate(&medians[0]) / rate(limit);
    let bars = vec![Bar::at_least(
        "relay / one transaction with NOTIFY a message",
        ratio(&medians[1]),
        4.0,
    )];
    let notes = vec![
        format!(
            "relay / one transaction a message: {:.2}",
            ratio(&medians[2])
        ),
        format!("relay / ideal batches: {:.2}", ratio(&medians[3])),
        "per round, posts a second: ".to_owned()
            + &rounds.each_ref().map(|rounds| per_round(rounds)).join("; "),
    ];
    let subjects = [
        "relay",
        "(d) INSERT and pg_notify in one statement, a transaction each",
        "(b) INSERT, a transaction each",
        "(c) INSERT of 1,000 rows a statement, 2 connections",
    ];
    let rows = subjects
        .into_iter()
        .zip(medians)
        .map(|(subject, figures)| Row::new(subject, figures));
    Ok(Scenario {
        name: "post",
        what: format!(
            "{} connections over {} channels of {} teams, closed loop, {} bytes, {} % with an \
             Idempotency-Key; medians of {} rounds of {} s",
            options.connections,
            options.channels,
            options.teams,
            options.size,
            options.idempotency,
            options.rounds,
            options.duration.as_secs_f64()
        ),
        rows: rows.collect(),
        bars,
        notes,
    })
}

fn per_round(rounds: &[Figures]) -> String {
    let rates = rounds.iter().filter_map(|round| round.get("per_s"));
    rates
        .map(|rate| format!("{rate:.0}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The relay with its open connections.
struct RelaySubject {
    posters: Vec<Poster>,
    /// Posts answered 201 since the start.
    accepted: u64,
}

/// One connection that posts to one channel.
struct Poster {
    connection: Connection,
    post: Prepared,
    idempotency_percent: u64,
    name: usize,
    posts: u64,
}

impl RelaySubject {
    async fn new(deployment: &Deployment<'_>, options: &Options) -> Result<Self> {
        let mut teams = Vec::new();
        for team in 0..options.teams {
            teams.push(deployment.sign_up(&format!("team {team}")).await?);
        }
        let mut posters = Vec::new();
        for name in 0..usize::from(options.connections) {
            let channel = name % usize::from(options.channels);
            let key = &teams[channel % teams.len()].key;
            let content = "x".repeat(usize::from(options.size));
            posters.push(Poster {
                connection: Connection::open(deployment.address(name)).await?,
                post: Prepared::post(
                    &format!("/api/channels/bench-{channel}/messages"),
                    key,
                    &json!({"content": content}),
                )?,
                idempotency_percent: u64::from(options.idempotency),
                name,
                posts: 0,
            });
        }
        Ok(Self {
            posters,
            accepted: 0,
        })
    }

    async fn round(&mut self, deployment: &Deployment<'_>, duration: Duration) -> Result<Figures> {
        deployment.sql().await?.batch_execute("checkpoint").await?;
        let cost = Cost::start(deployment)?;
        let start = Instant::now();
        let tally = Arc::new(Mutex::new(report::histogram()));
        let tasks = self
            .posters
            .drain(..)
            .map(|poster| tokio::spawn(poster.post_until(start + duration, Arc::clone(&tally))));
        for poster in try_join_all(tasks).await? {
            self.posters.push(poster?);
        }
        let tally = take(&tally)?;
        self.accepted += tally.len();
        cost.figures(deployment, start, &tally, tally.len())
    }

    /// A figure counts only if what was answered 201 is in the table, once.
    async fn check_nothing_lost(&self, deployment: &Deployment<'_>) -> Result<()> {
        let stored: i64 = deployment
            .sql()
            .await?
            .query_one("select count(*) from messages", &[])
            .await?
            .get(0);
        ensure!(
            stored.cast_unsigned() == self.accepted,
            "{} posts were answered 201, {stored} messages are stored",
            self.accepted
        );
        Ok(())
    }
}

impl Poster {
    async fn post_until(mut self, end: Instant, tally: Arc<Mutex<Histogram<u64>>>) -> Result<Self> {
        let mut sent = Instant::now();
        while sent < end {
            self.posts += 1;
            let answer = if self.posts % 100 < self.idempotency_percent {
                let key = format!("{}-{}", self.name, self.posts);
                let post = self.post.with_header("idempotency-key", &key)?;
                self.connection.send(&post).await?
            } else {
                self.connection.send(&self.post).await?
            };
            let body = answer.expect(StatusCode::CREATED)?;
            ensure!(
                body.starts_with(b"{\"id\":\"") || contains_id(&body),
                "a 201 without an ID"
            );
            let answered = Instant::now();
            record(&tally, answered - sent)?;
            sent = answered;
        }
        Ok(self)
    }
}

/// Whether an ID is anywhere in the answer; it need not come first.
fn contains_id(body: &[u8]) -> bool {
    body.windows(6).any(|window| window == b"\"id\":\"")
}

/// What Postgres does without the relay, on a table of the same shape.
struct SqlSubjects {
    connections: u16,
    /// Where each connection's rows go, and what stands in them.
    rows: Vec<SqlRow>,
}

#[derive(Clone)]
struct SqlRow {
    team_id: i64,
    channel_id: i64,
    content: String,
}

/// The forms in which Postgres gets the rows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Limit {
    InsertAndNotify,
    Insert,
    IdealBatches,
}

impl Limit {
    /// One statement, which is its own transaction: of the forms tried the fastest, since it
    /// takes one round trip and no `begin`. Nobody listens, which is in its favour too.
    fn statement(self) -> &'static str {
        match self {
            Self::InsertAndNotify => {
                "with posted as (
                   insert into bench_messages (team_id, channel_id, id, seq, created_at, sender, content)
                   values ($1, $2, nextval('bench_ids'), nextval('bench_seqs'), clock_timestamp(), 'bench', $3)
                   returning id, created_at
                 )
                 select id, created_at, pg_notify('bench', id::text) from posted"
            }
            Self::Insert => {
                "insert into bench_messages (team_id, channel_id, id, seq, created_at, sender, content)
                 values ($1, $2, nextval('bench_ids'), nextval('bench_seqs'), clock_timestamp(), 'bench', $3)
                 returning id, created_at"
            }
            Self::IdealBatches => {
                "insert into bench_messages (team_id, channel_id, id, seq, created_at, sender, content)
                 select $1, $2, nextval('bench_ids'), nextval('bench_seqs'), clock_timestamp(), 'bench', content
                 from unnest($3::text[]) as content
                 returning id, created_at"
            }
        }
    }

    fn connections(self, asked: u16) -> u16 {
        if self == Self::IdealBatches {
            IDEAL_CONNECTIONS
        } else {
            asked
        }
    }
}

impl SqlSubjects {
    async fn new(deployment: &Deployment<'_>, options: &Options) -> Result<Self> {
        let sql = deployment.sql().await?;
        sql.batch_execute(
            "create table bench_messages (like messages including all);
             create sequence bench_ids;
             create sequence bench_seqs;",
        )
        .await?;
        let row = |channel: u16| SqlRow {
            team_id: i64::from(channel % options.teams) + 1,
            channel_id: i64::from(channel) + 1,
            content: "x".repeat(usize::from(options.size)),
        };
        Ok(Self {
            connections: options.connections,
            rows: (0..options.channels).map(row).collect(),
        })
    }

    /// The connections are there for their own round only.
    async fn round(
        &self,
        deployment: &Deployment<'_>,
        limit: Limit,
        duration: Duration,
    ) -> Result<Figures> {
        let connections = usize::from(limit.connections(self.connections));
        let clients = try_join_all((0..connections).map(|_| deployment.sql())).await?;
        clients[0].batch_execute("checkpoint").await?;
        let cost = Cost::start(deployment)?;
        let start = Instant::now();
        let tally = Arc::new(Mutex::new(report::histogram()));
        let tasks = clients.into_iter().enumerate().map(|(number, client)| {
            let row = self.rows[number % self.rows.len()].clone();
            tokio::spawn(insert_until(
                client,
                limit,
                row,
                start + duration,
                Arc::clone(&tally),
            ))
        });
        let mut inserted = 0;
        for count in try_join_all(tasks).await? {
            inserted += count?;
        }
        let tally = take(&tally)?;
        cost.figures(deployment, start, &tally, inserted)
    }
}

/// Returns how many rows were inserted.
async fn insert_until(
    client: Client,
    limit: Limit,
    row: SqlRow,
    end: Instant,
    tally: Arc<Mutex<Histogram<u64>>>,
) -> Result<u64> {
    let statement = client.prepare(limit.statement()).await?;
    let contents = vec![row.content.clone(); IDEAL_BATCH];
    let mut inserted = 0;
    let mut sent = Instant::now();
    while sent < end {
        let rows = if limit == Limit::IdealBatches {
            client
                .query(&statement, &[&row.team_id, &row.channel_id, &contents])
                .await?
        } else {
            client
                .query(&statement, &[&row.team_id, &row.channel_id, &row.content])
                .await?
        };
        inserted += rows.len() as u64;
        let answered = Instant::now();
        record(&tally, answered - sent)?;
        sent = answered;
    }
    Ok(inserted)
}

/// Processor time at the start of a round.
struct Cost {
    relay: Duration,
    postgres: Option<Duration>,
}

impl Cost {
    fn start(deployment: &Deployment<'_>) -> Result<Self> {
        Ok(Self {
            relay: deployment.relay_processor_time()?,
            postgres: deployment.server.processor_time()?,
        })
    }

    /// The figures of a round that has just ended.
    fn figures(
        self,
        deployment: &Deployment<'_>,
        start: Instant,
        latency: &Histogram<u64>,
        done: u64,
    ) -> Result<Figures> {
        let elapsed = start.elapsed();
        let each = |time: Duration| time.as_secs_f64() * 1e6 / done as f64;
        let mut figures = Figures::default()
            .with("per_s", done as f64 / elapsed.as_secs_f64())
            .with_latency(latency)
            .with(
                "relay_us",
                each(deployment.relay_processor_time()? - self.relay),
            );
        if let (Some(before), Some(now)) = (self.postgres, deployment.server.processor_time()?) {
            figures = figures.with("postgres_us", each(now.saturating_sub(before)));
        }
        Ok(figures)
    }
}

fn record(tally: &Mutex<Histogram<u64>>, latency: Duration) -> Result<()> {
    let mut tally = tally.lock().ok().context("another poster has panicked")?;
    Ok(tally.record(latency.as_nanos() as u64)?)
}

fn take(tally: &Mutex<Histogram<u64>>) -> Result<Histogram<u64>> {
    Ok(tally.lock().ok().context("a poster has panicked")?.clone())
}
