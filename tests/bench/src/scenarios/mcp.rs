//! Tool calls a second over `/mcp`, without sessions: what a call costs beside the request behind it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::cost::Cost;
use crate::environment::{Deployment, Server, Team};
use crate::http::{Connection, Prepared};
use crate::options::{Common, McpOptions};
use crate::report::{Figures, Row, Scenario, Tally};
use crate::scenarios::posters::{check_nothing_lost, prepare};

/// The revision of the protocol that is spoken.
const REVISION: &str = "2025-11-25";
/// Messages that a call of `read_messages` asks for, and that each channel holds before.
const PAGE: u32 = 50;
const TOOLS: [Tool; 2] = [Tool::PostMessage, Tool::ReadMessages];

/// The tools that are called.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tool {
    PostMessage,
    ReadMessages,
}

impl Tool {
    fn name(self) -> &'static str {
        match self {
            Self::PostMessage => "post_message",
            Self::ReadMessages => "read_messages",
        }
    }
}

pub(crate) async fn run(
    server: &Server,
    common: &Common,
    options: &McpOptions,
) -> Result<Scenario> {
    let deployment = server.deploy("mcp", common.replicas(1)).await?;
    let teams = prepare(&deployment, &options.load).await?;
    let mut agents = Vec::new();
    for number in 0..usize::from(options.connections) {
        agents.push(Agent::new(&deployment, &teams, options, number).await?);
    }
    let mut posted = fill(&mut agents, options).await?;
    let mut rounds = TOOLS.map(|_| Vec::new());
    for round in 0..=common.rounds() {
        for (tool, rounds) in TOOLS.into_iter().zip(&mut rounds) {
            let duration = if round == 0 {
                common.warm_up()
            } else {
                common.duration()
            };
            let (figures, calls) = call(&deployment, &mut agents, tool, duration).await?;
            if tool == Tool::PostMessage {
                posted += calls;
            }
            if round > 0 {
                rounds.push(figures);
            }
        }
    }
    check_nothing_lost(&deployment, posted).await?;
    deployment.stop().await?;

    let mut scenario = Scenario::new(
        "mcp",
        format!(
            "tools/call over /mcp, revision {REVISION}, {} connections over {} channels of {} \
             teams, messages of {} bytes, pages of {PAGE}, closed loop; medians of {} rounds of \
             {} s",
            options.connections,
            options.load.channels,
            options.load.teams,
            options.load.size,
            common.rounds(),
            common.duration().as_secs_f64()
        ),
    );
    for (tool, rounds) in TOOLS.into_iter().zip(&rounds) {
        let row = Row::new(tool.name(), Figures::median(rounds));
        scenario.rows.push(row);
    }
    Ok(scenario)
}

/// Posts a page to each channel, and sees that it is read.
async fn fill(agents: &mut [Agent], options: &McpOptions) -> Result<u64> {
    let channels = usize::from(options.load.channels).min(agents.len());
    for agent in &mut agents[..channels] {
        for _ in 0..PAGE {
            agent.call(Tool::PostMessage).await?;
        }
        let page = agent.call(Tool::ReadMessages).await?;
        let page: Value = serde_json::from_slice(page)?;
        let messages = &page["result"]["structuredContent"]["messages"];
        let count = messages.as_array().map_or(0, Vec::len);
        ensure!(count == PAGE as usize, "read_messages answers {page}");
    }
    Ok(channels as u64 * u64::from(PAGE))
}

/// All agents call a tool, again as soon as they have its result.
async fn call(
    deployment: &Deployment<'_>,
    agents: &mut Vec<Agent>,
    tool: Tool,
    duration: Duration,
) -> Result<(Figures, u64)> {
    let tally = Tally::default();
    let cost = Cost::start(deployment)?;
    let end = Instant::now() + duration;
    let tasks = agents
        .drain(..)
        .map(|agent| tokio::spawn(agent.call_until(tool, end, tally.clone())));
    for agent in try_join_all(tasks).await? {
        agents.push(agent?);
    }
    let tally = tally.take()?;
    Ok((cost.figures(tally.len(), Some(&tally))?, tally.len()))
}

struct Agent {
    connection: Connection,
    post_message: Prepared,
    read_messages: Prepared,
}

impl Agent {
    async fn new(
        deployment: &Deployment<'_>,
        teams: &[Team],
        options: &McpOptions,
        number: usize,
    ) -> Result<Self> {
        let channel = number % usize::from(options.load.channels);
        let key = &teams[channel % teams.len()].key;
        let request = |tool: Tool, arguments: Value| {
            let body = json!({
                "jsonrpc": "2.0", "id": 1, "method": "tools/call",
                "params": {"name": tool.name(), "arguments": arguments},
            });
            Prepared::post("/mcp", key, &body)
                .with_header("accept", "application/json, text/event-stream")
                .with_header("mcp-protocol-version", REVISION)
        };
        let name = format!("mcp-{channel}");
        let content = "x".repeat(usize::from(options.load.size));
        let post = json!({"channel": name, "content": content});
        let read = json!({"channel": name, "limit": PAGE});
        Ok(Self {
            connection: Connection::open(deployment.address(number)).await?,
            post_message: request(Tool::PostMessage, post),
            read_messages: request(Tool::ReadMessages, read),
        })
    }

    async fn call(&mut self, tool: Tool) -> Result<&[u8]> {
        let request = match tool {
            Tool::PostMessage => &self.post_message,
            Tool::ReadMessages => &self.read_messages,
        };
        let answer = self.connection.send(request).await?;
        let body = answer.expect(StatusCode::OK)?;
        let failed = memchr::memmem::find(body, b"\"isError\":true").is_some();
        ensure!(
            !failed && memchr::memmem::find(body, b"\"structuredContent\"").is_some(),
            "{} answers {}",
            tool.name(),
            String::from_utf8_lossy(body)
        );
        Ok(body)
    }

    async fn call_until(mut self, tool: Tool, end: Instant, tally: Tally) -> Result<Self> {
        let mut sent = Instant::now();
        while sent < end {
            self.call(tool).await?;
            let answered = Instant::now();
            tally.record(answered - sent)?;
            sent = answered;
        }
        Ok(self)
    }
}
