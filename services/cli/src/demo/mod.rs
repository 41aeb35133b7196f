//! `handoff demo`: seven agents ship a release over a relay, each a task of its own with its own
//! key and its own stream, knowing only what it reads there. Shows what happens as it happens, and
//! in the end who did what, what was refused, and how fast messages arrived.

mod agent;
mod relay;
mod report;
mod stage;
mod story;

use crate::{
    args::Demo,
    output::{DIM, Output},
};
use agent::{Agent, Inbound};
use anyhow::{Context, bail};
use handoff_client::Client;
use relay::OwnRelay;
use report::Report;
use stage::Stage;
use std::{sync::Arc, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::timeout,
};

/// How long the story may take, beside its pauses for people.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Runs the demo, on a relay of its own if none is named.
pub(crate) async fn run(demo: Demo, output: &Output) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut own_relay = None;
    let outcome = tokio::select! {
        outcome = play(&demo, &mut own_relay, output) => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow::anyhow!("told to stop")),
    };
    if let Some(relay) = own_relay {
        relay.stop().await?;
    }
    let report = outcome?;
    if output.json {
        output.json(&report)?;
    } else {
        for line in report.lines() {
            output.line(line)?;
        }
    }
    let failed = report.failed();
    if failed.is_empty() {
        return Ok(());
    }
    bail!("not as expected: {}", failed.join("; "))
}

async fn play(
    demo: &Demo,
    own_relay: &mut Option<OwnRelay>,
    output: &Output,
) -> anyhow::Result<Report> {
    let url = match &demo.relay {
        Some(url) => url.clone(),
        None => {
            output.remark("Starting a relay …");
            own_relay.insert(OwnRelay::spawn()?).url().await?
        }
    };
    let signed_up = Client::connect(&url, None)?
        .signup("demo", "orchestrator")
        .await
        .with_context(|| format!("no team could be made at {url}"))?;
    let admin = Client::connect(&url, Some(&signed_up.api_key))?;
    output.remark(format!(
        "Team {} at {url}: seven agents, each with its own key and stream.",
        signed_up.team.id
    ));
    for (channel, description) in story::CHANNELS {
        admin.create_channel(channel, Some(description)).await?;
    }
    let keys = admin.list_keys().await?;
    let hash = keys.first().context("the new team has no key")?.key.clone();

    let stage = Arc::new(Stage::new(demo.speed, output.json));
    let mut cast: Vec<(Agent, Inbound)> = Vec::new();
    for role in &story::CAST {
        let (client, hash) = if role.name == "orchestrator" {
            (admin.clone(), hash.clone())
        } else {
            let created = admin
                .create_key(role.name, Some(&role.permissions()))
                .await?;
            (Client::connect(&url, Some(&created.api_key))?, created.key)
        };
        cast.push(Agent::enter(role, client, hash, Arc::clone(&stage)).await?);
    }
    output.remark("All streams are open. Curtain up.");
    if !output.json {
        output.line(format!("{DIM}    time  channel     agent{DIM:#}"))?;
    }

    let mut tasks = JoinSet::new();
    for (agent, inbound) in cast {
        tasks.spawn(story::play(agent, inbound));
    }
    let limit = TIME_LIMIT + stage.pauses();
    let agents = timeout(limit, async {
        let mut agents = Vec::new();
        while let Some(done) = tasks.join_next().await {
            agents.push(done??);
        }
        anyhow::Ok(agents)
    });
    let agents = agents
        .await
        .with_context(|| format!("the agents were not done after {} s", limit.as_secs()))??;
    Report::draw_up(&admin, &signed_up.team.id, &stage, &agents).await
}
