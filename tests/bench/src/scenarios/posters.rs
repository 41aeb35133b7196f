//! Connections that post: the load of `post`, and what `growth` grows.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use hyper::StatusCode;
use serde_json::json;

use crate::cost::Cost;
use crate::environment::{Deployment, Team};
use crate::http::{Connection, Prepared};
use crate::options::PostLoad;
use crate::pace::{Due, Pacer, Schedule};
use crate::report::{Figures, Tally};

/// Opens the teams that a load is spread over.
pub(crate) async fn prepare(deployment: &Deployment<'_>, load: &PostLoad) -> Result<Vec<Team>> {
    let mut teams = Vec::new();
    for team in 0..load.teams {
        teams.push(deployment.sign_up(&format!("team {team}")).await?);
    }
    Ok(teams)
}

/// A post to one of the load's channels.
pub(crate) fn request(channel: usize, key: &str, load: &PostLoad) -> Prepared {
    let content = "x".repeat(usize::from(load.size));
    Prepared::post(
        &format!("/api/channels/bench-{channel}/messages"),
        key,
        &json!({"content": content}),
    )
}

/// A figure counts only if what was answered 201 is in the table, once.
pub(crate) async fn check_nothing_lost(deployment: &Deployment<'_>, accepted: u64) -> Result<()> {
    let sql = deployment.sql().await?;
    let stored = sql.query_one("select count(*) from messages", &[]).await?;
    let stored: i64 = stored.get(0);
    ensure!(
        stored.cast_unsigned() == accepted,
        "{accepted} posts were answered 201, {stored} messages are stored"
    );
    Ok(())
}

/// A new one, of random digits as UUIDs are, if that is what the post of this number is to carry.
pub(crate) fn idempotency_key(number: u64, percent: u64) -> Option<String> {
    (number * percent % 100 < percent).then(new_idempotency_key)
}

pub(crate) fn new_idempotency_key() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Open connections. Each posts to one channel, or in turns to several where there are more channels
/// than connections.
pub(crate) struct Posters {
    posters: Vec<Poster>,
    /// Posts answered 201 since the start.
    accepted: u64,
}

struct Poster {
    connection: Connection,
    /// What it posts in turns.
    requests: Vec<Prepared>,
    idempotency_percent: u64,
    posts: u64,
}

impl Posters {
    pub(crate) async fn new(
        address: impl Fn(usize) -> SocketAddr,
        teams: &[Team],
        load: &PostLoad,
        connections: u16,
    ) -> Result<Self> {
        let key = |channel: usize, _| teams[channel % teams.len()].key.clone();
        Self::with_keys(address, key, load, connections).await
    }

    /// `key` is that of a channel and a connection.
    pub(crate) async fn with_keys(
        address: impl Fn(usize) -> SocketAddr,
        key: impl Fn(usize, usize) -> String,
        load: &PostLoad,
        connections: u16,
    ) -> Result<Self> {
        let (count, channels) = (usize::from(connections), usize::from(load.channels));
        let mut posters = Vec::new();
        for number in 0..count {
            let first = number % channels;
            let requests = (first..channels)
                .step_by(count)
                .map(|channel| request(channel, &key(channel, number), load))
                .collect();
            posters.push(Poster {
                connection: Connection::open(address(number)).await?,
                requests,
                idempotency_percent: u64::from(load.idempotency),
                posts: 0,
            });
        }
        Ok(Self {
            posters,
            accepted: 0,
        })
    }

    /// Posts answered 201 since the start.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Posts for a while: as much as is taken, or at a rate. `stand_in` is the process that answers
    /// in the place of the replicas.
    pub(crate) async fn round(
        &mut self,
        deployment: &Deployment<'_>,
        stand_in: Option<u32>,
        rate: Option<u32>,
        duration: Duration,
    ) -> Result<Figures> {
        deployment.sql().await?.batch_execute("checkpoint").await?;
        self.post(deployment, stand_in, rate, duration).await
    }

    /// A round without the checkpoint before it.
    pub(crate) async fn post(
        &mut self,
        deployment: &Deployment<'_>,
        stand_in: Option<u32>,
        rate: Option<u32>,
        duration: Duration,
    ) -> Result<Figures> {
        let tally = Tally::default();
        let paced = rate.map(|rate| {
            let schedule = Schedule::new(rate);
            (schedule, Pacer::start(schedule, schedule.count(duration)))
        });
        let cost = Cost::start_with(deployment, stand_in)?;
        let end = Instant::now() + duration;
        let tasks = self.posters.drain(..).map(|poster| {
            let tally = tally.clone();
            match &paced {
                None => tokio::spawn(poster.post_until(end, tally)),
                Some((schedule, pacer)) => {
                    tokio::spawn(poster.post_when_due(*schedule, pacer.numbers(), tally))
                }
            }
        });
        for poster in try_join_all(tasks).await? {
            self.posters.push(poster?);
        }
        if let Some((_, pacer)) = paced {
            pacer.finish()?;
        }
        let tally = tally.take()?;
        self.accepted += tally.len();
        cost.figures(tally.len(), Some(&tally))
    }
}

impl Poster {
    /// The closed loop: posts again as soon as it has its answer.
    async fn post_until(mut self, end: Instant, tally: Tally) -> Result<Self> {
        let mut sent = Instant::now();
        while sent < end {
            self.post().await?;
            let answered = Instant::now();
            tally.record(answered - sent)?;
            sent = answered;
        }
        Ok(self)
    }

    /// The open loop.
    async fn post_when_due(mut self, schedule: Schedule, due: Due, tally: Tally) -> Result<Self> {
        while let Some(number) = due.next().await {
            self.post().await?;
            tally.record(schedule.due(number).elapsed())?;
        }
        Ok(self)
    }

    async fn post(&mut self) -> Result<()> {
        let request = &self.requests[self.posts as usize % self.requests.len()];
        self.posts += 1;
        let answer = if let Some(key) = idempotency_key(self.posts, self.idempotency_percent) {
            let headers = [("idempotency-key", key.as_str())];
            self.connection.send_with_headers(request, &headers).await?
        } else {
            self.connection.send(request).await?
        };
        let body = answer.expect(StatusCode::CREATED)?;
        ensure!(
            body.starts_with(b"{\"id\":\""),
            "a 201 without an ID: {}",
            String::from_utf8_lossy(body)
        );
        Ok(())
    }
}
