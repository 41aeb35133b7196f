//! Pages of a short and of a long channel: they have to cost the same.
//!
//! One connection reads them in turns, request by request, so that whatever else the machine does
//! meets all alike. Then many connections read the longest at a time, for what a page costs.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::cost::Cost;
use crate::environment::{Deployment, Server, Team};
use crate::http::{Connection, Prepared};
use crate::options::{Common, ReadOptions};
use crate::report::{self, Bar, Figures, Row, Scenario, Tally};

/// Messages a page.
const PAGE: u32 = 50;
/// Reads of each kind before those that are measured, at most.
const WARM_UP: u32 = 200;

pub(crate) async fn run(
    server: &Server,
    common: &Common,
    options: &ReadOptions,
) -> Result<Scenario> {
    ensure!(
        options.messages.iter().all(|messages| *messages > 2 * PAGE),
        "a channel to read needs more than {} messages",
        2 * PAGE
    );
    let deployment = server.deploy("read", common.replicas(1)).await?;
    let team = deployment.sign_up("read").await?;
    let mut connection = Connection::open(deployment.address(0)).await?;
    let mut channels = Vec::new();
    for messages in &options.messages {
        let filled = Channel::fill(&deployment, &mut connection, &team, *messages).await?;
        filled.set_status(&mut connection, options.entries).await?;
        channels.push(filled);
    }
    let sql = deployment.sql().await?;
    sql.batch_execute("vacuum (analyze) messages").await?;
    sql.batch_execute("checkpoint").await?;

    let mut scenario = Scenario::new(
        "read",
        format!(
            "pages of {PAGE} messages of 200 bytes, a status of {} entries; one connection, \
             channels in turns, {} reads of each; after_id at random places of the whole channel, \
             unread from its middle; then {} connections on the longest, medians of {} rounds of \
             {} s",
            options.entries,
            options.reads,
            options.readers,
            common.rounds(),
            common.duration().as_secs_f64()
        ),
    );
    for kind in KINDS {
        let latencies = compare(&mut connection, &channels, kind, options).await?;
        let median = |latency: &Histogram<u64>| latency.value_at_quantile(0.5) as f64;
        for (channel, latency) in channels.iter().zip(&latencies) {
            let subject = format!("{} of {} messages", kind.title(), channel.messages);
            let figures = Figures::default().with_latency(latency);
            scenario.rows.push(Row::new(subject, figures));
        }
        for (channel, latency) in channels.iter().zip(&latencies).skip(1) {
            let what = format!(
                "{}, p50 at {} / at {}",
                kind.title(),
                channel.messages,
                channels[0].messages
            );
            scenario.bars.push(Bar::at_most(
                what,
                median(latency) / median(&latencies[0]),
                1.2,
            ));
        }
    }
    let longest = channels.iter().max_by_key(|channel| channel.messages);
    if let Some(channel) = longest {
        costs(&deployment, channel, common, options, &mut scenario).await?;
    }
    deployment.stop().await?;
    Ok(scenario)
}

/// What a page costs when many are read at a time.
async fn costs(
    deployment: &Deployment<'_>,
    channel: &Channel,
    common: &Common,
    options: &ReadOptions,
    scenario: &mut Scenario,
) -> Result<()> {
    let mut readers = Readers::open(deployment, options.readers).await?;
    readers
        .round(deployment, channel, Kind::AfterId, common.warm_up())
        .await?;
    let mut rounds = KINDS.map(|_| Vec::new());
    for _ in 0..common.rounds() {
        for (kind, rounds) in KINDS.iter().zip(&mut rounds) {
            let figures = readers.round(deployment, channel, *kind, common.duration());
            rounds.push(figures.await?);
        }
    }
    for (kind, rounds) in KINDS.iter().zip(&rounds) {
        let figures = Figures::median(rounds);
        let subject = format!(
            "{} readers: {} of {} messages",
            options.readers,
            kind.title(),
            channel.messages
        );
        if *kind != Kind::Status {
            scenario.bars.push(Bar::at_most(
                format!(
                    "processor time of relay and Postgres, µs a page, {}",
                    kind.title()
                ),
                figures.value("both_us"),
                120.0,
            ));
        }
        scenario.rows.push(Row::new(subject, figures));
    }
    Ok(())
}

/// Connections that each read again as soon as they have their page.
pub(crate) struct Readers {
    connections: Vec<Connection>,
    /// Pages read since the start.
    pages: u64,
}

impl Readers {
    pub(crate) async fn open(deployment: &Deployment<'_>, count: u16) -> Result<Self> {
        let mut connections = Vec::new();
        for number in 0..usize::from(count) {
            connections.push(Connection::open(deployment.address(number)).await?);
        }
        Ok(Self {
            connections,
            pages: 0,
        })
    }

    /// Pages read since the start.
    pub(crate) fn pages(&self) -> u64 {
        self.pages
    }

    pub(crate) async fn round(
        &mut self,
        deployment: &Deployment<'_>,
        channel: &Channel,
        kind: Kind,
        duration: Duration,
    ) -> Result<Figures> {
        let tally = Tally::default();
        let cost = Cost::start(deployment)?;
        let end = Instant::now() + duration;
        let connections = self.connections.drain(..).enumerate();
        let tasks = connections.map(|(number, connection)| {
            let random = Random(number as u64);
            tokio::spawn(read_until(
                connection,
                channel.clone(),
                kind,
                random,
                end,
                tally.clone(),
            ))
        });
        for connection in try_join_all(tasks).await? {
            self.connections.push(connection?);
        }
        let tally = tally.take()?;
        self.pages += tally.len();
        cost.figures(tally.len(), Some(&tally))
    }
}

async fn read_until(
    mut connection: Connection,
    channel: Channel,
    kind: Kind,
    mut random: Random,
    end: Instant,
    tally: Tally,
) -> Result<Connection> {
    let mut sent = Instant::now();
    while sent < end {
        let request = channel.request(kind, &mut random);
        let body = connection.send(&request).await?.expect(StatusCode::OK)?;
        if kind != Kind::Status {
            let messages = memchr::memmem::find_iter(body, b"{\"id\":\"").count();
            ensure!(messages == PAGE as usize, "a page of {messages} messages");
        }
        let answered = Instant::now();
        tally.record(answered - sent)?;
        sent = answered;
    }
    Ok(connection)
}

/// What is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    AfterId,
    Newest,
    Unread,
    Status,
}

const KINDS: [Kind; 4] = [Kind::AfterId, Kind::Newest, Kind::Unread, Kind::Status];

impl Kind {
    fn title(self) -> &'static str {
        match self {
            Self::AfterId => "after_id",
            Self::Newest => "newest",
            Self::Unread => "unread",
            Self::Status => "status",
        }
    }
}

/// A channel that has been filled.
#[derive(Clone)]
pub(crate) struct Channel {
    messages: u32,
    path: String,
    key: String,
    /// The ID of the message before the first; they follow each other.
    before_first_id: i64,
}

impl Channel {
    /// Posts the first message through the relay and lays the others beside it in one statement:
    /// their IDs go on from the slot's sequence, which is moved along, their `seq` from the first.
    pub(crate) async fn fill(
        deployment: &Deployment<'_>,
        connection: &mut Connection,
        team: &Team,
        messages: u32,
    ) -> Result<Self> {
        let name = format!("read-{messages}");
        let path = format!("/api/channels/{name}");
        let content = json!({"content": "x".repeat(200)});
        let post = Prepared::post(&format!("{path}/messages"), &team.key, &content);
        let first = connection.send(&post).await?.expect(StatusCode::CREATED)?;
        let first: Value = serde_json::from_slice(first)?;
        let first_id: i64 = first["id"].as_str().unwrap_or_default().parse()?;

        let mut sql = deployment.sql().await?;
        let fill = sql.transaction().await?;
        let slot = (team.id % 64) as i32;
        fill.execute("select pg_advisory_xact_lock(72, $1)", &[&slot])
            .await?;
        let added = fill
            .execute(
                "insert into messages (team_id, channel_id, id, seq, created_at, sender, content)
                 select team_id, channel_id, id + number, seq + number, created_at, sender, content
                 from messages, generate_series(1, $3::bigint) as number
                 where team_id = $1 and id = $2",
                &[&team.id, &first_id, &i64::from(messages - 1)],
            )
            .await?;
        ensure!(
            added == u64::from(messages - 1),
            "{added} messages were laid in"
        );
        let last_id = first_id + i64::from(messages) - 1;
        fill.execute(&format!("select setval('slot_{slot}', $1)"), &[&last_id])
            .await?;
        fill.commit().await?;

        let middle = (first_id + i64::from(messages / 2)).to_string();
        let ack = Prepared::post(
            &format!("{path}/ack"),
            &team.key,
            &json!({"last_read_id": middle}),
        );
        connection.send(&ack).await?.expect(StatusCode::OK)?;
        let channel = Self {
            messages,
            path,
            key: team.key.clone(),
            before_first_id: first_id - 1,
        };
        channel.check(connection).await?;
        Ok(channel)
    }

    /// The relay has to see the laid-in messages as its own, or the figures mean nothing.
    async fn check(&self, connection: &mut Connection) -> Result<()> {
        let newest = Prepared::get(&format!("{}/messages?limit=1", self.path), &self.key);
        let page = connection.send(&newest).await?.expect(StatusCode::OK)?;
        let page: Value = serde_json::from_slice(page)?;
        let expected = (self.before_first_id + i64::from(self.messages)).to_string();
        ensure!(
            page["messages"][0]["id"] == expected,
            "the newest page shows {page}"
        );
        ensure!(
            page["messages"][0]["seq"] == self.messages,
            "the newest page shows {page}"
        );
        Ok(())
    }

    /// Sets entries of the channel's status.
    async fn set_status(&self, connection: &mut Connection, entries: u16) -> Result<()> {
        let path = format!("{}/status", self.path);
        for entry in 0..entries {
            let body = json!({"key": format!("agent-{entry}"), "value": "working on a task"});
            let request = Prepared::put(&path, &self.key, &body);
            connection.send(&request).await?.expect(StatusCode::OK)?;
        }
        Ok(())
    }

    fn request(&self, kind: Kind, random: &mut Random) -> Prepared {
        let path = match kind {
            Kind::AfterId => {
                let place = random.below(u64::from(self.messages - PAGE));
                let after_id = self.before_first_id + place.cast_signed();
                format!("{}/messages?limit={PAGE}&after_id={after_id}", self.path)
            }
            Kind::Newest => format!("{}/messages?limit={PAGE}", self.path),
            Kind::Unread => format!("{}/unread?limit={PAGE}", self.path),
            Kind::Status => format!("{}/status", self.path),
        };
        Prepared::get(&path, &self.key)
    }
}

async fn compare(
    connection: &mut Connection,
    channels: &[Channel],
    kind: Kind,
    options: &ReadOptions,
) -> Result<Vec<Histogram<u64>>> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut latencies = channels
        .iter()
        .map(|_| report::histogram())
        .collect::<Vec<_>>();
    let mut lengths = vec![0..=0; channels.len()];
    let warm_up = WARM_UP.min(options.reads);
    for read in 0..warm_up + options.reads {
        for (number, channel) in channels.iter().enumerate() {
            let request = channel.request(kind, &mut random);
            let sent = Instant::now();
            let answer = connection.send(&request).await?;
            let latency = sent.elapsed();
            let body = answer.expect(StatusCode::OK)?;
            if read == 0 {
                let page: Value = serde_json::from_slice(body)?;
                let (list, expected) = match kind {
                    Kind::Status => (&page, usize::from(options.entries)),
                    _ => (&page["messages"], PAGE as usize),
                };
                let count = list.as_array().map_or(0, Vec::len);
                ensure!(count == expected, "a page of {count} instead of {expected}");
                // Another full page differs by the digits of its numbers at most.
                lengths[number] = body.len() - body.len() / 10..=body.len() + body.len() / 10;
            }
            ensure!(
                lengths[number].contains(&body.len()),
                "a page of {} bytes",
                body.len()
            );
            if read >= warm_up {
                latencies[number].record(latency.as_nanos() as u64)?;
            }
        }
    }
    Ok(latencies)
}

/// The same random numbers in every run (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
