//! Pages of a short and of a long channel: they have to cost the same.
//!
//! One connection reads both in turns, request by request, so that whatever else the machine does
//! meets both alike.

use std::time::Instant;

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::environment::{Deployment, Server, Team};
use crate::http::{Connection, Prepared};
use crate::options::Options;
use crate::report::{self, Bar, Figures, Row, Scenario};

/// Messages a page.
const PAGE: u32 = 50;
/// Reads of each kind before those that are measured.
const WARM_UP: u32 = 200;

pub(crate) async fn run(server: &Server, options: &Options) -> Result<Scenario> {
    ensure!(
        options.messages.iter().all(|messages| *messages > 2 * PAGE),
        "a channel to read needs more than {} messages",
        2 * PAGE
    );
    let deployment = server.deploy("read", options.replicas(1)).await?;
    let team = deployment.sign_up("read").await?;
    let mut connection = Connection::open(deployment.address(0)).await?;
    let mut channels = Vec::new();
    for messages in &options.messages {
        channels.push(Channel::fill(&deployment, &mut connection, &team, *messages).await?);
    }
    let sql = deployment.sql().await?;
    sql.batch_execute("vacuum (analyze) messages").await?;
    sql.batch_execute("checkpoint").await?;

    let mut rows = Vec::new();
    let mut bars = Vec::new();
    for kind in [Kind::AfterId, Kind::Newest, Kind::Unread] {
        let latencies = compare(&mut connection, &channels, kind, options.reads).await?;
        let median = |latency: &Histogram<u64>| latency.value_at_quantile(0.5) as f64;
        for (channel, latency) in channels.iter().zip(&latencies) {
            let subject = format!("{} of {} messages", kind.title(), channel.messages);
            rows.push(Row::new(subject, Figures::default().with_latency(latency)));
        }
        for (channel, latency) in channels.iter().zip(&latencies).skip(1) {
            let what = format!(
                "{}, p50 at {} / at {}",
                kind.title(),
                channel.messages,
                channels[0].messages
            );
            bars.push(Bar::at_most(
                what,
                median(latency) / median(&latencies[0]),
                1.2,
            ));
        }
    }
    deployment.stop().await?;
    Ok(Scenario {
        name: "read",
        what: format!(
            "pages of {PAGE}, one connection, channels in turns, {} reads of each; after_id at \
             random places of the whole channel, unread from its middle",
            options.reads
        ),
        rows,
        bars,
        notes: Vec::new(),
    })
}

/// What is read.
#[derive(Clone, Copy)]
enum Kind {
    AfterId,
    Newest,
    Unread,
}

impl Kind {
    fn title(self) -> &'static str {
        match self {
            Self::AfterId => "after_id",
            Self::Newest => "newest",
            Self::Unread => "unread",
        }
    }
}

/// A channel that has been filled.
struct Channel {
    messages: u32,
    path: String,
    key: String,
    /// The ID of the message before the first; they follow each other.
    before_first_id: i64,
}

impl Channel {
    /// Posts the first message through the relay and lays the others beside it in one statement:
    /// their IDs go on from the slot's sequence, which is moved along, their `seq` from the first.
    async fn fill(
        deployment: &Deployment<'_>,
        connection: &mut Connection,
        team: &Team,
        messages: u32,
    ) -> Result<Self> {
        let name = format!("read-{messages}");
        let path = format!("/api/channels/{name}");
        let content = json!({"content": "x".repeat(200)});
        let post = Prepared::post(&format!("{path}/messages"), &team.key, &content)?;
        let first = connection.send(&post).await?.expect(StatusCode::CREATED)?;
        let first: Value = serde_json::from_slice(&first)?;
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
        )?;
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
        let newest = Prepared::get(&format!("{}/messages?limit=1", self.path), &self.key)?;
        let page = connection.send(&newest).await?.expect(StatusCode::OK)?;
        let page: Value = serde_json::from_slice(&page)?;
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

    fn request(&self, kind: Kind, random: &mut Random) -> Result<Prepared> {
        let path = match kind {
            Kind::AfterId => {
                let place = random.below(u64::from(self.messages - PAGE));
                let after_id = self.before_first_id + place.cast_signed();
                format!("{}/messages?limit={PAGE}&after_id={after_id}", self.path)
            }
            Kind::Newest => format!("{}/messages?limit={PAGE}", self.path),
            Kind::Unread => format!("{}/unread?limit={PAGE}", self.path),
        };
        Prepared::get(&path, &self.key)
    }
}

async fn compare(
    connection: &mut Connection,
    channels: &[Channel],
    kind: Kind,
    reads: u32,
) -> Result<Vec<Histogram<u64>>> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut latencies = channels
        .iter()
        .map(|_| report::histogram())
        .collect::<Vec<_>>();
    let mut lengths = vec![0..=0; channels.len()];
    for read in 0..WARM_UP + reads {
        for (number, channel) in channels.iter().enumerate() {
            let request = channel.request(kind, &mut random)?;
            let sent = Instant::now();
            let answer = connection.send(&request).await?;
            let latency = sent.elapsed();
            let body = answer.expect(StatusCode::OK)?;
            if read == 0 {
                let page: Value = serde_json::from_slice(&body)?;
                let count = page["messages"].as_array().map_or(0, Vec::len);
                ensure!(count == PAGE as usize, "a page of {count} messages");
                // Another full page differs by the digits of its numbers at most.
                lengths[number] = body.len() - body.len() / 10..=body.len() + body.len() / 10;
            }
            ensure!(
                lengths[number].contains(&body.len()),
                "a page of {} bytes",
                body.len()
            );
            if read >= WARM_UP {
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
