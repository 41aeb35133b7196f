//! The agent's loop: read what is unread, acknowledge it, post, set one's status.
//!
//! Nothing may be lost on the way: an agent has to meet every message of its channel once and in
//! order, each post answered 201 has to be stored, and each status has to say what was set last.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::cost::Cost;
use crate::environment::{Deployment, Server};
use crate::http::{Connection, Prepared};
use crate::options::{Common, MixedOptions};
use crate::pace::{Due, Pacer, Schedule};
use crate::report::{Bar, Figures, Row, Scenario, Tally};
use crate::scenarios::posters::{check_nothing_lost, idempotency_key, prepare};

/// Messages that an agent reads at a time.
const PAGE: u32 = 50;
const STEPS: [Step; 4] = [Step::Unread, Step::Ack, Step::Post, Step::SetStatus];

/// What an agent does next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Unread,
    Ack,
    Post,
    SetStatus,
}

impl Step {
    fn title(self) -> &'static str {
        match self {
            Self::Unread => "unread",
            Self::Ack => "ack",
            Self::Post => "post",
            Self::SetStatus => "set status",
        }
    }
}

pub(crate) async fn run(
    server: &Server,
    common: &Common,
    options: &MixedOptions,
) -> Result<Scenario> {
    let deployment = server.deploy("mixed", common.replicas(1)).await?;
    let mut agents = enlist(&deployment, options).await?;
    round(&deployment, &mut agents, options.rate, common.warm_up()).await?;
    let mut rounds = [const { Vec::new() }; 5];
    for _ in 0..common.rounds() {
        let figures = round(&deployment, &mut agents, options.rate, common.duration()).await?;
        for (rounds, figures) in rounds.iter_mut().zip(figures) {
            rounds.push(figures);
        }
    }
    check(&deployment, &mut agents).await?;
    deployment.stop().await?;

    let mut scenario = Scenario::new(
        "mixed",
        format!(
            "{} agents over {} channels of {} teams, unread → ack → post → set status, {} bytes, \
             {} % of the posts with an Idempotency-Key, {}; medians of {} rounds of {} s",
            options.agents,
            options.load.channels,
            options.load.teams,
            options.load.size,
            options.load.idempotency,
            match options.rate {
                Some(rate) => format!("open loop, {rate} operations a second"),
                None => "closed loop".to_owned(),
            },
            common.rounds(),
            common.duration().as_secs_f64()
        ),
    );
    let medians = rounds.each_ref().map(|rounds| Figures::median(rounds));
    if options.rate.is_none() {
        scenario.bars.push(Bar::at_least(
            format!("operations a second of {} agents", options.agents),
            medians[0].value("per_s"),
            15_000.0,
        ));
    }
    let subjects = ["all four"].into_iter().chain(STEPS.map(Step::title));
    for (subject, figures) in subjects.zip(medians) {
        scenario.rows.push(Row::new(subject, figures));
    }
    Ok(scenario)
}

/// Gives each agent a key and a channel.
pub(crate) async fn enlist(
    deployment: &Deployment<'_>,
    options: &MixedOptions,
) -> Result<Vec<Agent>> {
    let teams = prepare(deployment, &options.load).await?;
    let mut agents = Vec::new();
    for number in 0..usize::from(options.agents) {
        let channel = number % usize::from(options.load.channels);
        let name = format!("agent-{number}");
        let key = deployment
            .add_key(&teams[channel % teams.len()], &name)
            .await?;
        let path = format!("/api/channels/mixed-{channel}");
        let content = "x".repeat(usize::from(options.load.size));
        agents.push(Agent {
            connection: Connection::open(deployment.address(number)).await?,
            unread: Prepared::get(&format!("{path}/unread?limit={PAGE}"), &key),
            ack: Prepared::post(&format!("{path}/ack"), &key, &json!({})),
            post: Prepared::post(
                &format!("{path}/messages"),
                &key,
                &json!({"content": content}),
            ),
            set_status: Prepared::put(&format!("{path}/status"), &key, &json!({})),
            status: Prepared::get(&format!("{path}/status?key={name}"), &key),
            channel,
            name,
            idempotency_percent: u64::from(options.load.idempotency),
            next: 0,
            newest_id: "0".to_owned(),
            newest_seq: 0,
            posts: 0,
            statuses: 0,
        });
    }
    // Acks need a channel that exists.
    for agent in &mut agents {
        agent.take(Step::Post).await?;
    }
    Ok(agents)
}

/// The figures of all steps together, then of each.
async fn round(
    deployment: &Deployment<'_>,
    agents: &mut Vec<Agent>,
    rate: Option<u32>,
    duration: Duration,
) -> Result<[Figures; 5]> {
    deployment.sql().await?.batch_execute("checkpoint").await?;
    work(deployment, agents, rate, duration).await
}

/// A round without the checkpoint before it.
pub(crate) async fn work(
    deployment: &Deployment<'_>,
    agents: &mut Vec<Agent>,
    rate: Option<u32>,
    duration: Duration,
) -> Result<[Figures; 5]> {
    let tallies = [(); 4].map(|()| Tally::default());
    let paced = rate.map(|rate| {
        let schedule = Schedule::new(rate);
        (schedule, Pacer::start(schedule, schedule.count(duration)))
    });
    let cost = Cost::start(deployment)?;
    let start = Instant::now();
    let tasks = agents.drain(..).map(|agent| {
        let tallies = tallies.clone();
        match &paced {
            None => tokio::spawn(agent.work_until(start + duration, tallies)),
            Some((schedule, pacer)) => {
                tokio::spawn(agent.work_when_due(*schedule, pacer.numbers(), tallies))
            }
        }
    });
    for agent in try_join_all(tasks).await? {
        agents.push(agent?);
    }
    if let Some((_, pacer)) = paced {
        pacer.finish()?;
    }
    let seconds = start.elapsed().as_secs_f64();
    let mut all = crate::report::histogram();
    for tally in &tallies {
        all.add(tally.take()?)?;
    }
    let mut figures = [cost.figures(all.len(), Some(&all))?]
        .into_iter()
        .collect::<Vec<_>>();
    for tally in &tallies {
        let latency = tally.take()?;
        let rate = latency.len() as f64 / seconds;
        figures.push(
            Figures::default()
                .with("per_s", rate)
                .with_latency(&latency),
        );
    }
    figures
        .try_into()
        .ok()
        .context("there are four steps, and all of them")
}

/// Reads on until nothing is unread, and holds what everybody has seen against what was done.
async fn check(deployment: &Deployment<'_>, agents: &mut [Agent]) -> Result<()> {
    check_nothing_lost(deployment, agents.iter().map(|agent| agent.posts).sum()).await?;
    let posted_to = |agents: &[Agent], channel| -> u64 {
        let there = agents.iter().filter(|agent| agent.channel == channel);
        there.map(|agent| agent.posts).sum()
    };
    for number in 0..agents.len() {
        let posted = posted_to(agents, agents[number].channel);
        let agent = &mut agents[number];
        // It may have stopped between the two.
        agent.take(Step::Ack).await?;
        while agent.newest_seq < posted {
            let before = agent.newest_seq;
            agent.take(Step::Unread).await?;
            agent.take(Step::Ack).await?;
            ensure!(
                agent.newest_seq > before,
                "{} has read {before} of {posted} messages, and no more are unread",
                agent.name
            );
        }
        ensure!(agent.newest_seq == posted, "a message that nobody posted");
        if agent.statuses > 0 {
            let body = agent.connection.send(&agent.status).await?;
            let entries: Value = serde_json::from_slice(body.expect(StatusCode::OK)?)?;
            ensure!(
                entries[0]["value"] == agent.status_value(),
                "{}'s status says {entries}",
                agent.name
            );
        }
    }
    Ok(())
}

/// One agent with its connection.
pub(crate) struct Agent {
    connection: Connection,
    unread: Prepared,
    ack: Prepared,
    post: Prepared,
    set_status: Prepared,
    status: Prepared,
    channel: usize,
    name: String,
    idempotency_percent: u64,
    /// The number of its next step.
    next: usize,
    /// The newest message it has read.
    newest_id: String,
    newest_seq: u64,
    /// What was answered so far.
    posts: u64,
    statuses: u64,
}

impl Agent {
    /// The steps it has taken.
    pub(crate) fn steps(&self) -> u64 {
        self.next as u64
    }

    async fn work_until(mut self, end: Instant, tallies: [Tally; 4]) -> Result<Self> {
        let mut sent = Instant::now();
        while sent < end {
            let step = self.next % STEPS.len();
            self.take(STEPS[step]).await?;
            self.next += 1;
            let answered = Instant::now();
            tallies[step].record(answered - sent)?;
            sent = answered;
        }
        Ok(self)
    }

    async fn work_when_due(
        mut self,
        schedule: Schedule,
        due: Due,
        tallies: [Tally; 4],
    ) -> Result<Self> {
        while let Some(number) = due.next().await {
            let step = self.next % STEPS.len();
            self.take(STEPS[step]).await?;
            self.next += 1;
            tallies[step].record(schedule.due(number).elapsed())?;
        }
        Ok(self)
    }

    async fn take(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Unread => self.read().await,
            Step::Ack => {
                let body = format!(r#"{{"last_read_id":"{}"}}"#, self.newest_id);
                let answer = self
                    .connection
                    .send_with_body(&self.ack, body.as_bytes())
                    .await?;
                answer.expect(StatusCode::OK)?;
                Ok(())
            }
            Step::Post => {
                self.posts += 1;
                let key = idempotency_key(self.posts, self.idempotency_percent);
                let answer = if let Some(key) = key {
                    let headers = [("idempotency-key", key.as_str())];
                    self.connection
                        .send_with_headers(&self.post, &headers)
                        .await?
                } else {
                    self.connection.send(&self.post).await?
                };
                answer.expect(StatusCode::CREATED)?;
                Ok(())
            }
            Step::SetStatus => {
                self.statuses += 1;
                let body = format!(
                    r#"{{"key":"{}","value":"{}"}}"#,
                    self.name,
                    self.status_value()
                );
                let answer = self
                    .connection
                    .send_with_body(&self.set_status, body.as_bytes())
                    .await?;
                answer.expect(StatusCode::OK)?;
                Ok(())
            }
        }
    }

    fn status_value(&self) -> String {
        format!("working on task {}", self.statuses)
    }

    /// Reads a page, every message of which follows the one before.
    async fn read(&mut self) -> Result<()> {
        let answer = self.connection.send(&self.unread).await?;
        let page = answer.expect(StatusCode::OK)?;
        for seq in values(page, b"\"seq\":") {
            let seq: u64 = std::str::from_utf8(seq)?.parse()?;
            ensure!(
                seq == self.newest_seq + 1,
                "{} has read message {} and then {seq}",
                self.name,
                self.newest_seq
            );
            self.newest_seq = seq;
        }
        if let Some(id) = values(page, b"{\"id\":\"").last() {
            self.newest_id = std::str::from_utf8(id)?.to_owned();
        }
        Ok(())
    }
}

/// The digits after each of these labels. A parse of the whole page would cost the load more than
/// the request does; what is posted here holds no such label.
fn values<'page>(page: &'page [u8], label: &'static [u8]) -> impl Iterator<Item = &'page [u8]> {
    memchr::memmem::find_iter(page, label).map(move |place| {
        let rest = &page[place + label.len()..];
        let digits = rest.iter().position(|sign| !sign.is_ascii_digit());
        &rest[..digits.unwrap_or(rest.len())]
    })
}

#[cfg(test)]
mod tests {
    use super::values;

    #[test]
    fn numbers_are_found_in_a_page() {
        let page = br#"{"messages":[{"id":"17","seq":1},{"id":"19","seq":2}],"next":"19"}"#;
        let found = |label| values(page, label).collect::<Vec<_>>();
        assert_eq!(found(b"{\"id\":\""), [b"17", b"19"]);
        assert_eq!(found(b"\"seq\":"), [b"1", b"2"]);
        assert!(found(b"\"none\":").is_empty());
    }
}
