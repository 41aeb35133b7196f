//! The load, as a run sees it: agents that begin, are counted every second, and are ended; their
//! history, and what the checker says of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use handoff_checker::history::{Lossy, Nemesis, Phase, Time};
use handoff_checker::{Options as Bounds, Recorder, Verdict};
use harness::agents::{Agents, Counters, Endpoints, Finished, Plan};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::fleet::Fleet;
use crate::nemesis::{Occurrence, deafens};
use crate::options::Options;
use crate::probe::sign_up;

/// How long readers may take to catch up when the writers have stopped.
const CATCH_UP: Duration = Duration::from_secs(120);

/// What the load did in a second.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Rates {
    /// Posts that were acknowledged.
    pub acked: u64,
    /// Messages that streams delivered.
    pub events: u64,
    /// Requests that were answered 5xx or not at all.
    pub errors: u64,
    /// From a post's first attempt to its answer: p50, p99 and the largest, in milliseconds.
    pub post_ms: [f64; 3],
    /// From there to its arrival on a stream.
    pub deliver_ms: [f64; 3],
}

/// What all agents did together.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Totals {
    /// Posts that were acknowledged.
    pub acked: u64,
    /// Posts whose outcome is unknown.
    pub unknown: u64,
    /// Posts that were left out since too many were late.
    pub late: u64,
    /// Attempts beyond a post's first.
    pub retries: u64,
    /// Messages that streams delivered.
    pub events: u64,
    /// Messages and changes that were read by pages.
    pub read: u64,
    /// Streams that went on where another one had ended.
    pub resumed: u64,
    /// Requests that were answered 5xx or not at all.
    pub errors: u64,
    /// Refusals that no healthy client should get, by what they were and how many.
    pub refusals: BTreeMap<String, u64>,
    /// Readers that were still behind in the end.
    pub behind: Vec<String>,
}

/// A history that was written.
#[derive(Clone, Debug, Serialize)]
pub struct Written {
    /// Where.
    pub path: PathBuf,
    /// Its lines.
    pub lines: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: String,
}

/// Agents at work.
pub struct Load {
    agents: Agents,
    recorder: Recorder,
    last: Mutex<Counters>,
}

impl Load {
    /// Begins; the clock of the run is that of the history.
    pub async fn start(
        fleet: &Fleet,
        options: &Options,
        history: &Path,
        what: &str,
    ) -> Result<(Load, Instant)> {
        let admin_key = sign_up(&fleet.member(0).url(), "load").await?;
        let endpoints = Endpoints {
            balancer: Some(fleet.url().parse()?),
            replicas: fleet
                .members()
                .iter()
                .map(|member| member.url().parse())
                .collect::<Result<_, _>>()?,
            admin_key,
        };
        let plan = Plan {
            seed: options.seed,
            rate: options.rate,
            followers: options.followers,
            ..Plan::default()
        };
        let recorder = Recorder::to_file(history, options.seed, what)
            .with_context(|| format!("make {}", history.display()))?;
        let start = Instant::now() - Duration::from_nanos(recorder.now());
        let agents = Agents::start(plan, endpoints, recorder.clone()).await?;
        let load = Load {
            agents,
            recorder,
            last: Mutex::default(),
        };
        Ok((load, start))
    }

    /// What was done since this was last asked.
    pub fn rates(&self) -> Rates {
        let now = self.agents.counters();
        let latencies = self.agents.take_latencies();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let span = now.at.saturating_sub(last.at).as_secs_f64().max(0.001);
        let a_second =
            |count: u64, before: u64| (count.saturating_sub(before) as f64 / span).round() as u64;
        let milliseconds = |histogram: &hdrhistogram::Histogram<u64>| {
            let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
            [at(0.5), at(0.99), at(1.0)]
        };
        let rates = Rates {
            acked: a_second(now.posts_acked, last.posts_acked),
            events: a_second(now.events, last.events),
            errors: a_second(now.errors, last.errors),
            post_ms: milliseconds(&latencies.post),
            deliver_ms: milliseconds(&latencies.deliver),
        };
        *last = now;
        rates
    }

    /// How many posts were acknowledged so far.
    pub fn acked(&self) -> u64 {
        self.agents.counters().posts_acked
    }

    /// How soon after that moment every replica had answered a post to the load's own team.
    pub fn served_since(&self, since: Duration) -> Option<Duration> {
        let replicas = self.agents.counters().replicas;
        let answered = replicas
            .iter()
            .map(|replica| replica.last_ok?.checked_sub(since));
        // The last answer, not the first: asked often enough, it is near.
        answered.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// The longest time, within two moments, that a replica answered nothing of the load's own
    /// team. Half a second and less is nothing.
    pub fn silence(&self, replica: usize, from: Duration, to: Duration) -> Duration {
        let replicas = self.agents.counters().replicas;
        let outages = replicas.get(replica).map(|replica| &replica.outages[..]);
        let within = outages
            .unwrap_or_default()
            .iter()
            .map(|(began, ended)| (*ended).min(to).saturating_sub((*began).max(from)));
        within.max().unwrap_or_default()
    }

    /// Writes down that a fault begins; before it does.
    pub fn fault_begins(&self, name: &str, target: &str, deaf: bool) {
        self.recorder.nemesis(Nemesis {
            t: self.recorder.now(),
            fault: name.to_owned(),
            phase: Phase::Begin,
            target: target.to_owned(),
            deaf,
            lossy: None,
        });
    }

    /// Writes down that a fault is over, and the fleet serves again.
    pub fn fault_is_over(&self, occurrence: &Occurrence, target: &str) {
        let fault = occurrence.fault.kind.name().to_owned();
        if let Some(since) = occurrence.lossy_since {
            // What was answered later than this moment was answered by the new server.
            for (phase, at) in [(Phase::Begin, since), (Phase::End, occurrence.ended)] {
                self.recorder.nemesis(Nemesis {
                    t: nanoseconds(at),
                    fault: "another database serves".to_owned(),
                    phase,
                    target: String::new(),
                    deaf: false,
                    lossy: (phase == Phase::End).then_some(Lossy {
                        since: nanoseconds(since),
                    }),
                });
            }
        }
        self.recorder.nemesis(Nemesis {
            t: self.recorder.now(),
            fault,
            phase: Phase::End,
            target: target.to_owned(),
            deaf: deafens(occurrence.fault.kind),
            lossy: None,
        });
    }

    /// Ends the agents, has all be read that stands, and ends the history.
    pub async fn finish(self, history: &Path) -> Result<(Totals, Written)> {
        let Finished {
            counters, behind, ..
        } = self.agents.finish(CATCH_UP).await;
        let recorder = self.recorder;
        let lines = tokio::task::spawn_blocking(move || recorder.close()).await??;
        let totals = Totals {
            acked: counters.posts_acked,
            unknown: counters.posts_unknown,
            late: counters.posts_late,
            retries: counters.retries,
            events: counters.events,
            read: counters.read,
            resumed: counters.streams_resumed,
            errors: counters.errors,
            refusals: counters.refusals,
            behind,
        };
        let path = history.to_owned();
        let written = tokio::task::spawn_blocking(move || sum(&path, lines)).await??;
        Ok((totals, written))
    }
}

fn nanoseconds(time: Duration) -> Time {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn sum(path: &Path, lines: u64) -> Result<Written> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            break;
        }
        digest.update(&piece[..read]);
        bytes += read as u64;
    }
    Ok(Written {
        path: path.to_owned(),
        lines,
        bytes,
        sha256: hex::encode(digest.finalize()),
    })
}

/// What the checker says of a history.
pub async fn check(history: &Path) -> Result<Verdict> {
    let file = File::open(history)?;
    let check = move || handoff_checker::check(BufReader::new(file), &Bounds::default());
    Ok(tokio::task::spawn_blocking(check).await??)
}
