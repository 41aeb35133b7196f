//! What came of it: who did what, what was refused, how fast messages arrived, and whether all of
//! it was as it should be.

use super::{
    agent::Agent,
    stage::Stage,
    story::{CAST, CHANNELS},
};
use crate::output::{BOLD, DIM, ERROR, GOOD, table};
use handoff_client::{
    Client,
    types::{Message, MessageQuery, PageQuery},
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// How long the last messages may take to reach the last agent.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(5);

/// What came of it.
#[derive(Serialize)]
pub(super) struct Report {
    event: &'static str,
    team_id: String,
    agents: Vec<Line>,
    refused: Vec<Refusal>,
    delivery: Delivery,
    checks: Vec<Check>,
}

/// What one agent did.
#[derive(Serialize)]
struct Line {
    agent: &'static str,
    may: String,
    posts: usize,
    replies: usize,
    acks: usize,
    statuses: usize,
    heard: usize,
    refused: usize,
}

#[derive(Serialize)]
struct Refusal {
    agent: &'static str,
    what: String,
    channel: String,
}

/// From handing a message to the relay to having it from a stream.
#[derive(Serialize)]
struct Delivery {
    messages: usize,
    deliveries: usize,
    median_ms: f64,
    max_ms: f64,
}

/// Something that should be so.
#[derive(Serialize)]
struct Check {
    what: &'static str,
    holds: bool,
}

impl Report {
    /// Gathers what the agents noted and what the relay has.
    pub(super) async fn draw_up(
        admin: &Client,
        team_id: &str,
        stage: &Stage,
        agents: &[Agent],
    ) -> anyhow::Result<Self> {
        let mut stands = BTreeMap::new();
        for (channel, _) in CHANNELS {
            let query = MessageQuery {
                after_id: Some("0".to_owned()),
                limit: Some(100),
                ..MessageQuery::default()
            };
            let page = admin.read_messages(channel, &query).await?;
            stands.insert(channel, page.messages);
        }
        let everybody_heard_all = everybody_heard_all(agents, &stands).await;
        let logged = audit(admin).await?;

        // In the order of the cast, not in that of the tasks' ends.
        let cast = CAST
            .iter()
            .filter_map(|role| agents.iter().find(|agent| agent.role.name == role.name));
        let cast: Vec<&Agent> = cast.collect();
        let refused: Vec<Refusal> = cast
            .iter()
            .flat_map(|agent| agent.refused.iter().map(move |refused| (agent, refused)))
            .map(|(agent, refused)| Refusal {
                agent: agent.role.name,
                what: refused.what.clone(),
                channel: refused.channel.clone(),
            })
            .collect();
        let mut tried: Vec<(String, String)> = refused
            .iter()
            .map(|refusal| (refusal.agent.to_owned(), refusal.channel.clone()))
            .collect();
        tried.sort();
        let messages = stands.values().map(Vec::len).sum();
        let posted: usize = cast
            .iter()
            .map(|agent| agent.deeds.posts + agent.deeds.replies)
            .sum();
        let checks = vec![
            Check {
                what: "every message that was posted stands, once",
                holds: messages == posted,
            },
            Check {
                what: "every agent got every message of its channels, once and in order",
                holds: everybody_heard_all,
            },
            Check {
                what: "every forbidden attempt was refused and stands in the audit log",
                holds: tried.len() == 7 && tried == logged,
            },
        ];
        Ok(Self {
            event: "report",
            team_id: team_id.to_owned(),
            agents: cast.iter().map(|agent| line(agent)).collect(),
            refused,
            delivery: Delivery::measure(messages, stage, agents),
            checks,
        })
    }

    /// What is not as it should be.
    pub(super) fn failed(&self) -> Vec<&'static str> {
        let failed = self.checks.iter().filter(|check| !check.holds);
        failed.map(|check| check.what).collect()
    }

    /// The report for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let head = [
            "agent", "may", "posts", "replies", "acks", "statuses", "heard", "refused",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(self.agents.iter().map(|line| {
            let numbers = [
                line.posts,
                line.replies,
                line.acks,
                line.statuses,
                line.heard,
                line.refused,
            ];
            let mut row = vec![line.agent.to_owned(), line.may.clone()];
            row.extend(numbers.map(|number| match number {
                0 => "·".to_owned(),
                number => number.to_string(),
            }));
            row
        }));
        let mut lines = vec![String::new()];
        lines.extend(table(&rows));
        lines.push(String::new());
        lines.push(format!("{BOLD}Refused{BOLD:#}, as the keys say:"));
        lines.extend(self.refused.iter().map(|refusal| {
            format!(
                "  {ERROR}✗{ERROR:#} {} may not {}",
                refusal.agent, refusal.what
            )
        }));
        let delivery = &self.delivery;
        lines.push(String::new());
        lines.push(format!(
            "{BOLD}Delivered{BOLD:#}: {} messages, {} times to a listener {DIM}(from post to \
             event){DIM:#}: median {:.1} ms, slowest {:.1} ms",
            delivery.messages, delivery.deliveries, delivery.median_ms, delivery.max_ms
        ));
        lines.push(String::new());
        lines.extend(self.checks.iter().map(|check| {
            if check.holds {
                format!("{GOOD}✓{GOOD:#} {}", check.what)
            } else {
                format!("{ERROR}✗ not so: {}{ERROR:#}", check.what)
            }
        }));
        lines
    }
}

fn line(agent: &Agent) -> Line {
    let may = agent.role.may.iter();
    let may = may.map(|(channel, level)| format!("{level} {channel}"));
    Line {
        agent: agent.role.name,
        may: may.collect::<Vec<_>>().join(", "),
        posts: agent.deeds.posts,
        replies: agent.deeds.replies,
        acks: agent.deeds.acks,
        statuses: agent.deeds.statuses,
        heard: agent.heard().len(),
        refused: agent.refused.len(),
    }
}

/// Whether each agent has heard, in the team's order, what stands in its channels. The last
/// messages may still be on their way.
async fn everybody_heard_all(agents: &[Agent], stands: &BTreeMap<&str, Vec<Message>>) -> bool {
    let deadline = Instant::now() + ARRIVAL_LIMIT;
    loop {
        let all = agents.iter().all(|agent| {
            let channels = agent.role.hears.iter();
            let messages = channels.filter_map(|channel| stands.get(channel)).flatten();
            let mut expected: Vec<u64> = messages.map(id).collect();
            expected.sort_unstable();
            let heard = agent.heard();
            heard.iter().map(|(message, _)| id(message)).eq(expected)
        });
        if all || Instant::now() > deadline {
            return all;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn id(message: &Message) -> u64 {
    message.id.parse().unwrap_or(0)
}

/// Who was refused where, as the relay's log has it.
async fn audit(admin: &Client) -> anyhow::Result<Vec<(String, String)>> {
    let query = PageQuery {
        after_id: Some("0".to_owned()),
        limit: Some(100),
    };
    let page = admin.read_audit(&query, None).await?;
    let entries = page.entries.into_iter();
    let mut entries: Vec<_> = entries
        .map(|entry| (entry.sender_name, entry.channel))
        .collect();
    entries.sort();
    Ok(entries)
}

impl Delivery {
    fn measure(messages: usize, stage: &Stage, agents: &[Agent]) -> Self {
        let posted = stage.posted();
        let mut times: Vec<Duration> = Vec::new();
        for agent in agents {
            for (message, arrived) in agent.heard().iter() {
                if let Some(start) = posted.get(&message.id) {
                    times.push(arrived.saturating_duration_since(*start));
                }
            }
        }
        times.sort_unstable();
        let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1_000.0);
        Self {
            messages,
            deliveries: times.len(),
            median_ms: ms(times.get(times.len() / 2)),
            max_ms: ms(times.last()),
        }
    }
}
