//! Limits (b), (c) and (d): what Postgres does without the relay, on a table of the same shape.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::future::try_join_all;
use tokio_postgres::Client;

use crate::cost::Cost;
use crate::environment::Deployment;
use crate::options::PostLoad;
use crate::report::{Figures, Tally};

/// Rows a statement where Postgres takes them in the batches that suit it best.
const IDEAL_BATCH: usize = 1_000;
/// Connections that insert ideal batches: a core each.
const IDEAL_CONNECTIONS: u16 = 2;

/// The forms in which Postgres gets the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// (b)
    Insert,
    /// (c)
    IdealBatches,
    /// (d)
    InsertAndNotify,
}

impl Limit {
    /// One statement, which is its own transaction: of the forms tried the fastest, since it
    /// takes one round trip and no `begin`. Nobody listens, which is in its favour too.
    pub(crate) fn statement(self) -> &'static str {
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

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Insert => "(b) INSERT, a transaction each",
            Self::IdealBatches => "(c) INSERT of 1,000 rows a statement, 2 connections",
            Self::InsertAndNotify => "(d) INSERT and pg_notify, a transaction each",
        }
    }
}

/// The rows that are inserted.
pub(crate) struct SqlLimits {
    /// Where each connection's rows go, and what stands in them.
    rows: Vec<SqlRow>,
}

#[derive(Clone)]
struct SqlRow {
    team_id: i64,
    channel_id: i64,
    content: String,
}

impl SqlLimits {
    pub(crate) async fn new(deployment: &Deployment<'_>, load: &PostLoad) -> Result<Self> {
        let sql = deployment.sql().await?;
        sql.batch_execute(
            "create table bench_messages (like messages including all);
             create sequence bench_ids;
             create sequence bench_seqs;",
        )
        .await?;
        let row = |channel: u16| SqlRow {
            team_id: i64::from(channel % load.teams) + 1,
            channel_id: i64::from(channel) + 1,
            content: "x".repeat(usize::from(load.size)),
        };
        Ok(Self {
            rows: (0..load.channels).map(row).collect(),
        })
    }

    /// Removes the rows that were inserted.
    pub(crate) async fn clear(deployment: &Deployment<'_>) -> Result<()> {
        let sql = deployment.sql().await?;
        sql.batch_execute("truncate bench_messages").await?;
        Ok(())
    }

    /// The connections are there for their own round only.
    pub(crate) async fn round(
        &self,
        deployment: &Deployment<'_>,
        limit: Limit,
        connections: u16,
        duration: Duration,
    ) -> Result<Figures> {
        let connections = match limit {
            Limit::IdealBatches => IDEAL_CONNECTIONS,
            _ => connections,
        };
        let clients = try_join_all((0..connections).map(|_| deployment.sql())).await?;
        clients[0].batch_execute("checkpoint").await?;
        let cost = Cost::start(deployment)?;
        let start = Instant::now();
        let tally = Tally::default();
        let tasks = clients.into_iter().enumerate().map(|(number, client)| {
            let row = self.rows[number % self.rows.len()].clone();
            let tally = tally.clone();
            tokio::spawn(insert_until(client, limit, row, start + duration, tally))
        });
        let mut inserted = 0;
        for count in try_join_all(tasks).await? {
            inserted += count?;
        }
        cost.figures(inserted, Some(&tally.take()?))
    }
}

/// Returns how many rows were inserted.
async fn insert_until(
    client: Client,
    limit: Limit,
    row: SqlRow,
    end: Instant,
    tally: Tally,
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
        tally.record(answered - sent)?;
        sent = answered;
    }
    Ok(inserted)
}
