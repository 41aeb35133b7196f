//! Limits (b), (c) and (d): what Postgres does without the relay, on tables of the same shape.
//!
//! The rows are those that the relay writes for the same posts: one of the message, and for as many
//! as carry an idempotency key one that remembers it.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::future::try_join_all;
use tokio_postgres::{Client, types::ToSql};

use crate::cost::Cost;
use crate::environment::Deployment;
use crate::options::PostLoad;
use crate::report::{Figures, Tally};
use crate::scenarios::posters::{idempotency_key, new_idempotency_key};

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
    ///
    /// Its parameters are team, channel and content, and of a post with an idempotency key that one
    /// as well, as text of a UUID; where batches are ideal the last two are arrays.
    pub(crate) fn statement(self, with_key: bool) -> String {
        let key = "insert into bench_keys
            (team_id, digest, body_digest, channel_id, message_id, created_at)";
        let key_row = "$1, key::uuid, '00000000-0000-0000-0000-000000000000', $2,
            nextval('bench_ids'), clock_timestamp()";
        let message = "insert into bench_messages
            (team_id, channel_id, id, seq, created_at, sender, content)";
        let row = "$1, $2, nextval('bench_ids'), nextval('bench_seqs'), clock_timestamp(), 'bench',
            content";
        let (key, message) = match self {
            Self::IdealBatches => (
                format!("{key} select {key_row} from unnest($4::text[]) as key"),
                format!("{message} select {row} from unnest($3::text[]) as content"),
            ),
            Self::Insert | Self::InsertAndNotify => (
                format!("{key} values ({})", key_row.replace("key", "($4::text)")),
                format!("{message} values ({})", row.replace("content", "$3")),
            ),
        };
        let remembered = match with_key {
            true => format!("with remembered as ({key})"),
            false => String::new(),
        };
        let notified = match self {
            Self::InsertAndNotify => ", pg_notify('bench', id::text)",
            Self::Insert | Self::IdealBatches => "",
        };
        format!("{remembered} {message} returning id, created_at{notified}")
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
    idempotency_percent: u64,
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
             create table bench_keys (like idempotency_keys including all);
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
            idempotency_percent: u64::from(load.idempotency),
        })
    }

    /// Removes the rows that were inserted.
    pub(crate) async fn clear(deployment: &Deployment<'_>) -> Result<()> {
        let sql = deployment.sql().await?;
        sql.batch_execute("truncate bench_messages, bench_keys")
            .await?;
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
            let inserter = Inserter {
                client,
                limit,
                row,
                idempotency_percent: self.idempotency_percent,
            };
            tokio::spawn(inserter.insert_until(start + duration, tally))
        });
        let mut inserted = 0;
        for count in try_join_all(tasks).await? {
            inserted += count?;
        }
        cost.figures(inserted, Some(&tally.take()?))
    }
}

/// A connection, and what it inserts.
struct Inserter {
    client: Client,
    limit: Limit,
    row: SqlRow,
    idempotency_percent: u64,
}

impl Inserter {
    /// Returns how many messages were inserted.
    async fn insert_until(self, end: Instant, tally: Tally) -> Result<u64> {
        let prepare = async |with_key| {
            let statement = self.limit.statement(with_key);
            self.client.prepare(&statement).await
        };
        let (plain, with_key) = (prepare(false).await?, prepare(true).await?);
        let SqlRow {
            team_id,
            channel_id,
            content,
        } = &self.row;
        let contents = vec![content.as_str(); IDEAL_BATCH];
        let keys_of_batch = IDEAL_BATCH * self.idempotency_percent as usize / 100;
        let (mut statements, mut inserted) = (0, 0);
        let mut sent = Instant::now();
        while sent < end {
            statements += 1;
            let rows = if self.limit == Limit::IdealBatches {
                let keys: Vec<_> = (0..keys_of_batch).map(|_| new_idempotency_key()).collect();
                let batch: [&(dyn ToSql + Sync); 4] = [team_id, channel_id, &contents, &keys];
                self.client.query(&with_key, &batch).await?
            } else if let Some(key) = idempotency_key(statements, self.idempotency_percent) {
                let row: [&(dyn ToSql + Sync); 4] = [team_id, channel_id, content, &key];
                self.client.query(&with_key, &row).await?
            } else {
                let row: [&(dyn ToSql + Sync); 3] = [team_id, channel_id, content];
                self.client.query(&plain, &row).await?
            };
            inserted += rows.len() as u64;
            let answered = Instant::now();
            tally.record(answered - sent)?;
            sent = answered;
        }
        Ok(inserted)
    }
}
