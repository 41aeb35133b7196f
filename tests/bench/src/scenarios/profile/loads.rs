//! The loads that are looked into: those of the other scenarios, one operation of each counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;
use hyper::StatusCode;
use serde_json::json;
use tokio::task::JoinSet;

use crate::environment::Deployment;
use crate::http::{Connection, Prepared};
use crate::options::{FanoutOptions, MixedOptions, PostOptions, ReadOptions, ScenarioOptions};
use crate::scenarios::listeners::open_streams;
use crate::scenarios::posters::{Posters, prepare};
use crate::scenarios::read::{Channel, Kind, Readers};
use crate::scenarios::{fanout, mixed};

/// Messages of the channel that is read.
const MESSAGES: u32 = 100_000;
const QUICK_MESSAGES: u32 = 1_000;
/// Streams on which nothing happens.
const IDLE_STREAMS: usize = 5_000;
/// An idle stream gets a keep-alive every 15 seconds.
const IDLE: Duration = Duration::from_secs(16);

/// What the relay is given to do.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Load {
    /// Connections that post
    Post,
    /// Connections that read pages after an ID
    Read,
    /// Connections that read pages of what they have not read
    Unread,
    /// The agent's loop: unread, ack, post, set status
    Mixed,
    /// Posts to many streams
    Fanout,
    /// Streams on which nothing happens but keep-alives
    Idle,
}

impl Load {
    pub(crate) const ALL: [Self; 6] = [
        Self::Post,
        Self::Read,
        Self::Unread,
        Self::Mixed,
        Self::Fanout,
        Self::Idle,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Post => "post",
            Self::Read => "read",
            Self::Unread => "unread",
            Self::Mixed => "mixed",
            Self::Fanout => "fanout",
            Self::Idle => "idle",
        }
    }

    /// What is counted.
    pub(super) fn operation(self) -> &'static str {
        match self {
            Self::Post => "post",
            Self::Read | Self::Unread => "page",
            Self::Mixed => "step",
            Self::Fanout => "delivered event",
            Self::Idle => "keep-alive",
        }
    }

    /// How long its round is.
    pub(super) fn duration(self, asked: Duration) -> Duration {
        match self {
            Self::Idle => asked.max(IDLE),
            _ => asked,
        }
    }

    /// Whether it keeps the processors busy: else there is nothing to draw.
    pub(super) fn is_busy(self) -> bool {
        self != Self::Idle
    }

    /// Opens its connections.
    pub(super) async fn open<'deployment>(
        self,
        deployment: &'deployment Deployment<'deployment>,
        quick: bool,
    ) -> Result<Running<'deployment>> {
        let (what, work) = match self {
            Self::Post => {
                let options = PostOptions::defaults(quick)?;
                let connections = *options.connections.first().context("no connections")?;
                let teams = prepare(deployment, &options.load).await?;
                let address = |number| deployment.address(number);
                let posters = Posters::new(address, &teams, &options.load, connections).await?;
                let what = format!(
                    "{connections} connections post {} bytes to {} channels of {} teams, {} % with \
                     an Idempotency-Key",
                    options.load.size,
                    options.load.channels,
                    options.load.teams,
                    options.load.idempotency
                );
                (what, Work::Post(posters))
            }
            Self::Read => read(deployment, Kind::AfterId, quick).await?,
            Self::Unread => read(deployment, Kind::Unread, quick).await?,
            Self::Mixed => {
                let options = MixedOptions::defaults(quick)?;
                let agents = mixed::enlist(deployment, &options).await?;
                let what = format!(
                    "{} agents over {} channels of {} teams: unread → ack → post → set status",
                    options.agents, options.load.channels, options.load.teams
                );
                (what, Work::Mixed(agents))
            }
            Self::Fanout => {
                let options = FanoutOptions::defaults(quick)?;
                let readers = fanout::Readers::open(deployment, &options).await?;
                let what = format!(
                    "{} streams of one channel get as many posts of {} bytes as they all take, {} \
                     under way at a time",
                    options.readers, options.size, options.window
                );
                (what, Work::Fanout(Box::new(readers)))
            }
            Self::Idle => {
                let streams = if quick { 50 } else { IDLE_STREAMS };
                let idle = Idle::open(deployment, streams).await?;
                let what = format!("{streams} streams on which nothing happens but keep-alives");
                (what, Work::Idle(idle))
            }
        };
        Ok(Running {
            deployment,
            what,
            work,
        })
    }
}

async fn read(deployment: &Deployment<'_>, kind: Kind, quick: bool) -> Result<(String, Work)> {
    let options = ReadOptions::defaults(quick)?;
    let messages = if quick { QUICK_MESSAGES } else { MESSAGES };
    let team = deployment.sign_up("read").await?;
    let mut connection = Connection::open(deployment.address(0)).await?;
    let channel = Channel::fill(deployment, &mut connection, &team, messages).await?;
    let sql = deployment.sql().await?;
    sql.batch_execute("vacuum (analyze) messages").await?;
    let readers = Readers::open(deployment, options.readers).await?;
    let what = format!(
        "{} connections read pages of 50 messages of 200 bytes {} of {messages}",
        options.readers,
        match kind {
            Kind::Unread => "from the middle",
            _ => "at random places",
        }
    );
    let channel = Box::new(channel);
    Ok((
        what,
        Work::Read {
            readers,
            channel,
            kind,
        },
    ))
}

/// A load that can be given any number of times.
pub(super) struct Running<'deployment> {
    deployment: &'deployment Deployment<'deployment>,
    /// In a sentence.
    pub(super) what: String,
    work: Work,
}

enum Work {
    Post(Posters),
    Read {
        readers: Readers,
        channel: Box<Channel>,
        kind: Kind,
    },
    Mixed(Vec<mixed::Agent>),
    Fanout(Box<fanout::Readers>),
    Idle(Idle),
}

/// What was done, and in what time.
#[derive(Clone, Copy)]
pub(super) struct Done {
    pub(super) operations: u64,
    pub(super) seconds: f64,
}

impl Running<'_> {
    /// Works for a while.
    pub(super) async fn work(&mut self, duration: Duration) -> Result<Done> {
        let start = Instant::now();
        let before = self.operations();
        match &mut self.work {
            Work::Post(posters) => {
                posters.post(self.deployment, None, None, duration).await?;
            }
            Work::Read {
                readers,
                channel,
                kind,
            } => {
                let round = readers.round(self.deployment, channel, *kind, duration);
                round.await?;
            }
            Work::Mixed(agents) => {
                mixed::work(self.deployment, agents, None, duration).await?;
            }
            Work::Fanout(readers) => {
                readers.round(self.deployment, duration).await?;
            }
            Work::Idle(idle) => idle.wait(duration).await?,
        }
        Ok(Done {
            operations: self.operations() - before,
            seconds: start.elapsed().as_secs_f64(),
        })
    }

    /// Closes what can only be closed in order.
    pub(super) async fn close(self) -> Result<()> {
        match self.work {
            Work::Fanout(readers) => readers.finish().await,
            _ => Ok(()),
        }
    }

    fn operations(&self) -> u64 {
        match &self.work {
            Work::Post(posters) => posters.accepted(),
            Work::Read { readers, .. } => readers.pages(),
            Work::Mixed(agents) => agents.iter().map(mixed::Agent::steps).sum(),
            Work::Fanout(readers) => readers.events(),
            Work::Idle(idle) => idle.heard.load(Ordering::Relaxed),
        }
    }
}

/// Streams that hear nothing but keep-alives.
struct Idle {
    heard: Arc<AtomicU64>,
    streams: JoinSet<anyhow::Error>,
}

impl Idle {
    async fn open(deployment: &Deployment<'_>, count: usize) -> Result<Self> {
        let team = deployment.sign_up("idle").await?;
        let address = |number| deployment.address(number);
        // Opens the channel.
        let post = json!({"content": "the only message"});
        let post = Prepared::post("/api/channels/idle/messages", &team.key, &post);
        let mut connection = Connection::open(deployment.address(0)).await?;
        connection.send(&post).await?.expect(StatusCode::CREATED)?;
        let path = |_| "/api/channels/idle/stream".to_owned();
        let heard = Arc::new(AtomicU64::new(0));
        let mut streams = JoinSet::new();
        for mut stream in open_streams(address, path, &team.key, count).await? {
            let heard = Arc::clone(&heard);
            streams.spawn(async move {
                loop {
                    // A keep-alive is the place reached, once more.
                    let line = |line: &[u8]| {
                        if line.starts_with(b"id: ") {
                            heard.fetch_add(1, Ordering::Relaxed);
                        }
                    };
                    if let Err(error) = stream.read(line).await {
                        return error;
                    }
                }
            });
        }
        Ok(Self { heard, streams })
    }

    async fn wait(&mut self, duration: Duration) -> Result<()> {
        tokio::select! {
            () = tokio::time::sleep(duration) => Ok(()),
            ended = self.streams.join_next() => {
                let error = ended.context("there are no streams")??;
                Err(error.context("a stream ended that should have stayed open"))
            }
        }
    }
}
