//! How tables and indexes are laid out, by numbers: what a fillfactor does for tables whose rows are
//! updated again and again, and what each index of the messages costs a post and saves a page.
//!
//! Without the relay: one connection sends the lane's own statements, batch by batch. Commits aren't
//! waited for, since a flush costs the same however the tables are laid out.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use handoff_store::statements::hot_statements;
use serde_json::Value;
use tokio_postgres::{Client, Statement};

use crate::environment::Server;
use crate::options::{Common, StorageOptions};
use crate::report::{Figures, Row, Scenario};
use crate::results;

const CHANNELS: i64 = 16;
/// Writes of a batch.
const BATCH: i64 = 32;
/// Of so many messages one has replies.
const REPLIED_TO: i64 = 10;
/// The slot of the one team that there is, as its sequence is named.
const SLOT: &str = "slot_1";
/// Of the messages of the channel that is read every so many is by the sender that is asked for, and
/// as many are replies in the thread that is asked for.
const EVERY: i64 = 100;
/// Pages of which the median is taken.
const PAGES: usize = 50;
/// The page and the section of it that are written.
const PAGE: &str = "PROFILES.md";
const COMMAND: &str = "storage";

/// A table whose rows are updated.
struct Table {
    name: &'static str,
    fill: &'static str,
    writes: Writes,
}

/// What updates them.
#[derive(Clone, Copy)]
enum Writes {
    Acks,
    Statuses,
    /// The part of an append that counts replies.
    Replies,
}

const TABLES: [Table; 3] = [
    Table {
        name: "acks",
        fill: "insert into acks (team_id, channel_id, sender, last_read_id, acked_at, id)
               select 1, channel, 'agent-' || n, n, now(), n
               from generate_series(1, $1::bigint) channel, generate_series(1, $2::bigint) n",
        writes: Writes::Acks,
    },
    Table {
        name: "status_entries",
        fill: "insert into status_entries
                   (team_id, channel_id, key, value, updated_by, updated_at, version)
               select 1, channel, 'agent-' || n, 'working on task 0', 'agent-' || n, now(), n
               from generate_series(1, $1::bigint) channel, generate_series(1, $2::bigint) n",
        writes: Writes::Statuses,
    },
    Table {
        name: "messages",
        fill: "insert into messages (team_id, channel_id, id, seq, created_at, sender, content)
               select 1, channel, n, n, now(), 'agent-' || n, repeat('x', 200)
               from generate_series(1, $1::bigint) channel, generate_series(1, $2::bigint) n
               order by n, channel",
        writes: Writes::Replies,
    },
];

impl Writes {
    fn statement(self) -> Result<String> {
        match self {
            Self::Acks => statement("lane: move acks"),
            Self::Statuses => statement("lane: set statuses"),
            Self::Replies => Ok("update messages m
                 set reply_count = m.reply_count + 1
                 from unnest($1::bigint[], $2::bigint[], $3::bigint[])
                     as reply (team_id, channel_id, id)
                 where m.team_id = reply.team_id and m.channel_id = reply.channel_id
                     and m.id = reply.id"
                .to_owned()),
        }
    }
}

pub(crate) async fn run(
    server: &Server,
    common: &Common,
    options: &StorageOptions,
) -> Result<Scenario> {
    let mut scenario = Scenario::new(
        COMMAND,
        format!(
            "tables whose rows are updated, {CHANNELS} channels with {} rows each, {} updates of \
             rows at random by the lane's statement, {BATCH} a batch (of the messages every \
             {REPLIED_TO}th gets replies, which are counted in its row); then {} messages appended in \
             such batches with all indexes and without one of them, and pages of 50 from a channel \
             of {} messages, every {EVERY}th by the sender and in the thread that is asked for",
            options.agents, options.updates, options.appended, options.messages
        ),
    );
    for table in &TABLES {
        for fillfactor in &options.fillfactors {
            let figures = update(server, options, table, *fillfactor).await;
            let subject = format!("{}, fillfactor {fillfactor}", table.name);
            let figures = figures.with_context(|| subject.clone())?;
            scenario.rows.push(Row::new(subject, figures));
        }
    }
    indexes(server, common, options, &mut scenario).await?;
    if let Some(out) = &options.out {
        results::put_between(&out.join(PAGE), COMMAND, &results::section(&scenario))?;
    }
    Ok(scenario)
}

fn statement(name: &str) -> Result<String> {
    let mut known = hot_statements().into_iter();
    let found = known.find(|(known, _)| known == name);
    let (_, text) = found.with_context(|| format!("the store has no statement {name:?}"))?;
    Ok(text)
}

/// A database with a team, its channels and a message far ahead in each.
async fn prepare(sql: &Client) -> Result<()> {
    sql.batch_execute(&format!(
        "set synchronous_commit = off;
         set plan_cache_mode = force_generic_plan;
         set enable_seqscan = off; set enable_bitmapscan = off;
         set enable_hashjoin = off; set enable_mergejoin = off; set jit = off;
         insert into teams (id, name) values (1, 'bench');
         insert into channels (team_id, id, name, created_at)
         select 1, n, 'channel-' || n, now() from generate_series(1, {CHANNELS}) n;
         insert into messages (team_id, channel_id, id, seq, created_at, sender, content)
         select 1, n, 1000000000000 + n, 1, now(), 'bench', '' from generate_series(1, {CHANNELS}) n;"
    ))
    .await?;
    Ok(())
}

/// Updates rows of a table that is filled up to a fillfactor.
async fn update(
    server: &Server,
    options: &StorageOptions,
    table: &Table,
    fillfactor: u8,
) -> Result<Figures> {
    let deployment = server.deploy(COMMAND, 0).await?;
    let sql = deployment.sql().await?;
    prepare(&sql).await?;
    let name = table.name;
    let rows = i64::from(options.agents);
    sql.batch_execute(&format!(
        "alter table {name} set (fillfactor = {fillfactor})"
    ))
    .await?;
    sql.execute(table.fill, &[&CHANNELS, &rows]).await?;
    // Written anew, as full as it may be: what a table is after a while.
    sql.batch_execute(&format!("vacuum (full, analyze) {name}"))
        .await?;
    sql.batch_execute("checkpoint").await?;
    let before = sizes(&sql, name).await?;
    let statement = sql.prepare(&table.writes.statement()?).await?;
    let sequence = sql
        .query_one("select $1::text::regclass::oid", &[&SLOT])
        .await?;
    let sequence: u32 = sequence.get(0);
    let batches = i64::from(options.updates) / BATCH;
    let wal = wal_position(&sql).await?;
    let mut random = Random(1);
    let mut spent = Duration::ZERO;
    for batch in 1..=batches {
        let batch = Batch::random(&mut random, batch, rows);
        let start = Instant::now();
        batch.send(&sql, &statement, table.writes, sequence).await?;
        spent += start.elapsed();
    }
    let updates = (batches * BATCH) as f64;
    let wal = wal_position(&sql).await? - wal;
    sql.batch_execute("select pg_stat_force_next_flush()")
        .await?;
    let counted = sql
        .query_one(
            "select n_tup_upd::float8, n_tup_hot_upd::float8, n_dead_tup::float8
             from pg_stat_user_tables
             where relname = $1",
            &[&name],
        )
        .await?;
    let [updated, hot, dead]: [f64; 3] = [counted.get(0), counted.get(1), counted.get(2)];
    let after = sizes(&sql, name).await?;
    drop(sql);
    deployment.stop().await?;
    Ok(Figures::default()
        .with("hot_percent", hot / updated * 100.0)
        .with("us_an_update", spent.as_secs_f64() * 1e6 / updates)
        .with("wal_bytes_an_update", wal / updates)
        .with("dead_rows", dead)
        .with("table_kib", before[0])
        .with("then", after[0])
        .with("index_kib", before[1])
        .with("index_then", after[1]))
}

/// Writes that go together.
struct Batch {
    /// Channel and row, both from 1 on.
    places: Vec<(i64, i64)>,
    /// Rows of each channel.
    rows: i64,
    /// Larger in each batch.
    number: i64,
}

impl Batch {
    /// Rows at random, none twice: one of every channel in turn.
    fn random(random: &mut Random, number: i64, rows: i64) -> Self {
        let first = random.below(rows);
        let place = |at: i64| (at % CHANNELS + 1, (first + at / CHANNELS) % rows + 1);
        let places = (0..BATCH).map(place).collect();
        Self {
            places,
            rows,
            number,
        }
    }

    async fn send(
        &self,
        sql: &Client,
        statement: &Statement,
        writes: Writes,
        sequence: u32,
    ) -> Result<()> {
        let count = self.places.len();
        let teams = vec![1_i64; count];
        let sequences = vec![sequence; count];
        let places = self.places.iter();
        let channels: Vec<_> = places.map(|(n, _)| format!("channel-{n}")).collect();
        let places = self.places.iter();
        let agents: Vec<_> = places.map(|(_, n)| format!("agent-{n}")).collect();
        match writes {
            Writes::Acks => {
                let wanted = vec![1_000_000 + self.number; count];
                sql.execute(
                    statement,
                    &[&teams, &sequences, &channels, &agents, &wanted],
                )
                .await?;
            }
            Writes::Statuses => {
                let values = vec![format!("working on task {}", self.number); count];
                sql.execute(
                    statement,
                    &[&teams, &sequences, &channels, &agents, &agents, &values],
                )
                .await?;
            }
            Writes::Replies => {
                let channels: Vec<_> = self.places.iter().map(|(n, _)| *n).collect();
                let parent = |row: i64| row * REPLIED_TO % self.rows + 1;
                let messages: Vec<_> = self.places.iter().map(|(_, n)| parent(*n)).collect();
                sql.execute(statement, &[&teams, &channels, &messages])
                    .await?;
            }
        }
        Ok(())
    }
}

/// Table and indexes, in KiB.
async fn sizes(sql: &Client, table: &str) -> Result<[f64; 2]> {
    let row = sql
        .query_one(
            "select pg_relation_size($1::text::regclass)::float8 / 1024,
                pg_indexes_size($1::text::regclass)::float8 / 1024",
            &[&table],
        )
        .await?;
    Ok([row.get(0), row.get(1)])
}

async fn wal_position(sql: &Client) -> Result<f64> {
    let row = sql
        .query_one(
            "select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::float8",
            &[],
        )
        .await?;
    Ok(row.get(0))
}

/// The messages' secondary indexes, with the page that each is for and what it asks for.
const INDEXES: [(&str, Option<(&str, &str)>); 3] = [
    (
        "messages_by_sender",
        Some((
            "messages page, filters 010, newest true",
            "1, 'channel-1', 9223372036854775807, 51, 'carol'",
        )),
    ),
    (
        "messages_by_thread",
        Some((
            "messages page, filters 100, newest true",
            "1, 'channel-1', 9223372036854775807, 51, 1",
        )),
    ),
    ("messages_deleted", None),
];

async fn indexes(
    server: &Server,
    common: &Common,
    options: &StorageOptions,
    scenario: &mut Scenario,
) -> Result<()> {
    let none = INDEXES.map(|(name, _)| name);
    let variants = [("all indexes".to_owned(), Vec::new())]
        .into_iter()
        .chain(none.map(|name| (format!("without {name}"), vec![name])))
        .chain([("the primary key alone".to_owned(), none.to_vec())]);
    for (subject, dropped) in variants {
        let mut rounds = Vec::new();
        for _ in 0..common.rounds() {
            rounds.push(append(server, options, &dropped).await?);
        }
        let figures = Figures::median(&rounds);
        scenario
            .rows
            .push(Row::new(format!("append, {subject}"), figures));
    }
    let deployment = server.deploy(COMMAND, 0).await?;
    let sql = deployment.sql().await?;
    prepare(&sql).await?;
    sql.execute(
        "insert into messages
             (team_id, channel_id, id, seq, thread_id, created_at, sender, content)
         select 1, 1, n, n, case when n > 1 and n % $2 = 0 then 1 end, now(),
             case when n % $2 = 0 then 'carol' else 'alice' end, repeat('x', 200)
         from generate_series(1, $1::bigint) n",
        &[&i64::from(options.messages), &EVERY],
    )
    .await?;
    sql.batch_execute("vacuum (analyze) messages").await?;
    for (index, page) in INDEXES {
        let Some((name, parameters)) = page else {
            continue;
        };
        let text = statement(name)?;
        let with = page_cost(&sql, &text, parameters).await?;
        scenario
            .rows
            .push(Row::new(format!("page, with {index}"), with));
        sql.batch_execute(&format!("begin; drop index {index}"))
            .await?;
        let without = page_cost(&sql, &text, parameters).await?;
        scenario
            .rows
            .push(Row::new(format!("page, without {index}"), without));
        sql.batch_execute("rollback").await?;
    }
    drop(sql);
    deployment.stop().await
}

/// Appends messages to all channels, one in ten of them a reply.
async fn append(server: &Server, options: &StorageOptions, dropped: &[&str]) -> Result<Figures> {
    let deployment = server.deploy(COMMAND, 0).await?;
    let sql = deployment.sql().await?;
    prepare(&sql).await?;
    for index in dropped {
        sql.batch_execute(&format!("drop index {index}")).await?;
    }
    sql.batch_execute("checkpoint").await?;
    let insert = sql
        .prepare(
            "insert into messages
                 (team_id, channel_id, id, seq, thread_id, created_at, sender, content)
             select 1, n % $1 + 1, n, n, case when n % 10 = 0 then 1 end, clock_timestamp(),
                 'agent-' || n % 32, repeat('x', 200)
             from generate_series($2::bigint, $3::bigint) n",
        )
        .await?;
    let batches = i64::from(options.appended) / BATCH;
    let wal = wal_position(&sql).await?;
    let start = Instant::now();
    for batch in 0..batches {
        let first = batch * BATCH + 1;
        sql.execute(&insert, &[&CHANNELS, &first, &(first + BATCH - 1)])
            .await?;
    }
    let messages = (batches * BATCH) as f64;
    let microseconds = start.elapsed().as_secs_f64() * 1e6;
    let wal = wal_position(&sql).await? - wal;
    let [table, indexes] = sizes(&sql, "messages").await?;
    drop(sql);
    deployment.stop().await?;
    Ok(Figures::default()
        .with("us_a_message", microseconds / messages)
        .with("wal_bytes_a_message", wal / messages)
        .with("table_bytes_a_message", table * 1024.0 / messages)
        .with("index_bytes_a_message", indexes * 1024.0 / messages))
}

/// What a page takes: its time and the blocks that it looks at.
async fn page_cost(sql: &Client, text: &str, parameters: &str) -> Result<Figures> {
    sql.batch_execute(&format!("prepare page as {text}"))
        .await?;
    let mut rounds = Vec::new();
    for _ in 0..PAGES {
        let explain = format!(
            "explain (analyze, buffers, timing off, format json) execute page ({parameters})"
        );
        let found: Value = sql.query_one(&explain, &[]).await?.get(0);
        let found = &found[0];
        let blocks = |kind: &str| found["Plan"][kind].as_f64().unwrap_or(f64::NAN);
        let ms = found["Execution Time"].as_f64().unwrap_or(f64::NAN);
        rounds.push(
            Figures::default()
                .with("us_a_page", ms * 1_000.0)
                .with(
                    "blocks_a_page",
                    blocks("Shared Hit Blocks") + blocks("Shared Read Blocks"),
                )
                .with(
                    "rows_a_page",
                    found["Plan"]["Actual Rows"].as_f64().unwrap_or(f64::NAN),
                ),
        );
    }
    sql.batch_execute("deallocate page").await?;
    Ok(Figures::median(&rounds))
}

/// The same random numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: i64) -> i64 {
        // The constants are Knuth's, for MMIX.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % bound.unsigned_abs()).cast_signed()
    }
}
