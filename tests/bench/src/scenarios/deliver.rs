//! From a post on one replica to the event on another, at a steady rate.
//!
//! An open loop: posts are due at fixed times, whether or not those before have been answered, and
//! latency counts from when a post was due. So a stall is seen by all the posts that it delays.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hyper::StatusCode;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use crate::cost::Cost;
use crate::environment::{Deployment, Server, Team};
use crate::http::{Connection, EventStream, Prepared};
use crate::options::{Common, DeliverOptions};
use crate::pace::{Due, Pacer, Schedule};
use crate::report::{Bar, Figures, Row, Scenario, Tally};
use crate::scenarios::listeners::open_streams;

/// Connections that post; more than are ever busy at once unless the relay stalls.
const POSTERS: usize = 32;
/// How long the last events may take.
const STRAGGLERS: Duration = Duration::from_secs(10);
/// Stands before a post's number in its content.
const MARK: &str = "post-number-";
const DIGITS: usize = 10;

pub(crate) async fn run(
    server: &Server,
    common: &Common,
    options: &DeliverOptions,
) -> Result<Scenario> {
    let replicas = common.replicas(2);
    let mut scenario = Scenario::new(
        "deliver",
        format!(
            "posts of {} bytes to the first of {replicas} replicas at a rate, {} streams on the \
             last, open loop, from the time a post was due",
            options.size, options.receivers,
        ),
    );
    let deployment = server.deploy("deliver", replicas).await?;
    let team = deployment.sign_up("deliver").await?;
    for rate in &options.rate {
        let flush = server.flush_cost()?;
        let run = Run {
            deployment: &deployment,
            team: &team,
            rate: *rate,
            receivers: options.receivers,
            size: options.size,
        };
        run.measure(common.warm_up()).await?;
        let duration = common.duration() * u32::from(common.rounds());
        let [delivered, answered] = run.measure(duration).await?;
        bars(
            *rate,
            options.receivers,
            &delivered,
            flush.as_ref(),
            &mut scenario,
        );
        let at = |what: &str| format!("{rate} a second: {what}");
        scenario.rows.push(Row::new(at("post to event"), delivered));
        scenario
            .rows
            .push(Row::new(at("post to its answer"), answered));
        if let Some(flush) = flush {
            scenario
                .rows
                .push(Row::new(at("flush, just before"), flush));
        }
    }
    deployment.stop().await?;
    Ok(scenario)
}

fn bars(
    rate: u32,
    receivers: u32,
    delivered: &Figures,
    flush: Option<&Figures>,
    scenario: &mut Scenario,
) {
    let at = |what: &str| format!("{rate} a second to {receivers} streams: post to event, {what}");
    match rate {
        200 => {
            let (p50, p99) = (delivered.value("p50_ms"), delivered.value("p99_ms"));
            scenario.bars.push(Bar::at_most(at("median ms"), p50, 2.0));
            if let Some(flush) = flush {
                let limit = 5.0 + 10.0 * flush.value("p50_ms");
                let what = at("p99 ms, 5 + 10 flushes");
                scenario.bars.push(Bar::at_most(what, p99, limit));
            }
        }
        1_000 => {
            let p99 = delivered.value("p99_ms");
            scenario.bars.push(Bar::at_most(at("p99 ms"), p99, 20.0));
        }
        _ => {}
    }
}

/// Posts at one rate.
struct Run<'run> {
    deployment: &'run Deployment<'run>,
    team: &'run Team,
    rate: u32,
    receivers: u32,
    size: u16,
}

impl Run<'_> {
    /// The figures of the events, and of the answers.
    async fn measure(&self, duration: Duration) -> Result<[Figures; 2]> {
        // The replica farthest from the one that gets the posts; with one replica, that one.
        let receiving = self.deployment.address(self.deployment.replica_count() - 1);
        let streams = open_streams(
            |_| receiving,
            |_| "/api/channels/deliver/stream".to_owned(),
            &self.team.key,
            self.receivers as usize,
        )
        .await?;
        let mut connections = Vec::new();
        for _ in 0..POSTERS {
            connections.push(Connection::open(self.deployment.address(0)).await?);
        }
        let (delivered, answered) = (Tally::default(), Tally::default());
        let schedule = Schedule::new(self.rate);
        let total = schedule.count(duration);
        let cost = Cost::start(self.deployment)?;
        let pacer = Pacer::start(schedule, total);
        let mut receivers = JoinSet::new();
        for stream in streams {
            let all = receive(stream, schedule, total, delivered.clone());
            receivers.spawn(timeout_at((schedule.due(total) + STRAGGLERS).into(), all));
        }
        let filler = "x".repeat(usize::from(self.size).saturating_sub(MARK.len() + DIGITS));
        let path = "/api/channels/deliver/messages";
        let mut posters = JoinSet::new();
        for connection in connections {
            posters.spawn(post(
                connection,
                Prepared::post(path, &self.team.key, &json!({})),
                filler.clone(),
                pacer.numbers(),
                schedule,
                answered.clone(),
            ));
        }
        while let Some(done) = posters.join_next().await {
            done??;
        }
        pacer.finish()?;
        while let Some(done) = receivers.join_next().await {
            done?.context("a stream has not got all events")??;
        }
        let (delivered, answered) = (delivered.take()?, answered.take()?);
        let expected = u64::from(total) * u64::from(self.receivers);
        ensure!(
            delivered.len() == expected && answered.len() == u64::from(total),
            "{} of {expected} events arrived",
            delivered.len()
        );
        let answers = Figures::default()
            .with("per_s", f64::from(self.rate))
            .with_latency(&answered);
        Ok([cost.figures(expected, Some(&delivered))?, answers])
    }
}

/// Posts what is due, until nothing is any more.
async fn post(
    mut connection: Connection,
    post: Prepared,
    filler: String,
    due: Due,
    schedule: Schedule,
    answered: Tally,
) -> Result<()> {
    while let Some(number) = due.next().await {
        let body = format!(r#"{{"content":"{MARK}{number:0DIGITS$}{filler}"}}"#);
        let answer = connection.send_with_body(&post, body.as_bytes()).await?;
        answer.expect(StatusCode::CREATED)?;
        answered.record(schedule.due(number).elapsed())?;
    }
    Ok(())
}

/// Takes events until all have come, each once.
async fn receive(
    mut stream: EventStream,
    schedule: Schedule,
    total: u32,
    delivered: Tally,
) -> Result<()> {
    let mut seen = vec![false; total as usize];
    let mut missing = total;
    while missing > 0 {
        let mut outcome = Ok(());
        let arrive = |line: &[u8]| {
            if line.starts_with(b"data: ") && outcome.is_ok() {
                outcome = arrived(line, schedule, &mut seen, &delivered);
                missing = missing.saturating_sub(1);
            }
        };
        stream.read(arrive).await?;
        outcome?;
    }
    Ok(())
}

fn arrived(data: &[u8], schedule: Schedule, seen: &mut [bool], delivered: &Tally) -> Result<()> {
    let number = number_in(data).context("an event that nobody posted")?;
    let first = seen
        .get_mut(number as usize)
        .context("an event that nobody posted")?;
    ensure!(
        !std::mem::replace(first, true),
        "the event of post {number} came twice"
    );
    delivered.record(Instant::now() - schedule.due(number))
}

/// The number that a post carries in its content.
fn number_in(data: &[u8]) -> Option<u32> {
    let mark = memchr::memmem::find(data, MARK.as_bytes())?;
    let digits = data.get(mark + MARK.len()..mark + MARK.len() + DIGITS)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
