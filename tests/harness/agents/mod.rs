//! The load of a long run. A [`Plan`], the relay's [`Endpoints`] and a recorder come in; the
//! history of all that the agents were told goes to the recorder, and [`Counters`] tell meanwhile
//! how they fare. It judges nothing, injects no fault, and no fault makes it panic: whatever a
//! replica does, the agents go on as good clients would, each wait bounded.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use handoff_checker::Recorder;
//! # use harness::agents::{Agents, Endpoints, Plan};
//! # async fn run(admin_key: String) -> Result<(), Box<dyn std::error::Error>> {
//! let recorder = Recorder::to_file("history.jsonl".as_ref(), 7, "handoff-relay 0.1.0")?;
//! let endpoints = Endpoints {
//!     balancer: Some("http://127.0.0.1:8080".parse()?),
//!     replicas: vec!["http://127.0.0.1:3001".parse()?, "http://127.0.0.1:3002".parse()?],
//!     admin_key,
//! };
//! let agents = Agents::start(Plan::default(), endpoints, recorder.clone()).await?;
//! // Each second: agents.counters(), agents.take_latencies(). Around each fault:
//! // recorder.nemesis(Nemesis { t: recorder.now(), fault: "kill".into(), phase, target, .. }).
//! let finished = agents.finish(Duration::from_secs(60)).await;
//! // finish() has read what stands; closing the history is the caller's.
//! let lines = recorder.close()?;
//! # Ok(()) }
//! ```
//!
//! **Who does what.** Every agent is a task with a connection of its own, which it opens anew after
//! an error:
//! - *posters* post at a common rate in an open loop (a late post is made up for, up to
//!   [`Plan::backlog`]), most with idempotency keys, which they retry on any replica until they are
//!   answered or [`Plan::patience`] is over; some reply in threads and mention others;
//! - *walkers* follow a channel's messages or status changes by pages from the beginning;
//! - *followers* hold streams of one, several or all channels, from the beginning or from now on,
//!   and resume with `Last-Event-ID`, wherever they are let in; some leave by themselves again and
//!   again;
//! - *sessions* read what is unread, ack it, sometimes an older ID, and read acks; two share a
//!   sender;
//! - *setters* set, delete and read the entries of a few status keys;
//! - *holders* narrow, widen and revoke an API key on one replica, use it on every replica by
//!   itself, before and after, and hold a stream open with it;
//! - *pulses*, one a replica, post directly to their replica every [`Plan::pulse`]: what
//!   [`Counters::replicas`] says of a replica's last success comes from them alone.
//!
//! **Where requests go.** To the balancer if there is one, else to the replicas in turn; a request
//! that failed goes to the next one. Probes of API keys and pulses always go to their replica. A
//! replica that comes back at another address is told of by [`Agents::move_replica`].
//!
//! **What the relay has to be set to.** `RATE_LIMIT_MAX`, `HANDOFF_STREAMS_PER_KEY` and
//! `HANDOFF_KEYS_PER_TEAM` so high that they refuse nothing (429s are counted as errors), and a team
//! for the load alone: IDs are compared across a team.
//!
//! **Nemesis lines.** A fault that may keep a replica from hearing of key changes (bells dropped, the
//! listener cut, Postgres down or out of reach, the replica stopped) is recorded with `deaf: true`.
//! A failover to an asynchronous standby is recorded at its end with `lossy: Some(Lossy { since })`,
//! `since` being a time before which everything answered was certainly on the standby.

mod content;
mod counters;
mod finish;
mod holders;
mod link;
mod plan;
mod posters;
mod pulses;
mod readers;
mod seat;
mod sessions;
mod setters;
mod setup;
mod streams;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use handoff_checker::Recorder;
use handoff_checker::history::{Channel, Id};
use hyper::Uri;
use hyper::header::HeaderValue;
use hyper::http::uri::Authority;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use counters::{Counters, Latencies, ReplicaCounters};
pub use finish::Finished;
pub use plan::{Endpoints, Plan};
pub use setup::SetupError;

use counters::Meter;

/// Agents at work. Dropping them stops them at once, and leaves the history unfinished.
pub struct Agents {
    shared: Arc<Shared>,
    /// Whoever writes: they end when they are told to stop.
    writers: JoinSet<()>,
    /// Whoever reads: they end when they have reached what they are told to reach, and tell what they
    /// did not reach.
    readers: JoinSet<Option<String>>,
}

/// What all agents hold in common.
struct Shared {
    plan: Plan,
    recorder: Recorder,
    meter: Meter,
    balancer: Option<Authority>,
    replicas: RwLock<Vec<Authority>>,
    admin: HeaderValue,
    /// The channels, as the history numbers them.
    channels: Vec<Place>,
    /// The number of channels by their names.
    numbers: HashMap<String, Channel>,
    /// The next write's value.
    values: AtomicU64,
    /// Posts that are due, by number: the open loop's schedule.
    tickets: AtomicU64,
    /// Held by [`Agents`]: writers stop when it says so.
    stop: watch::Sender<bool>,
    /// Held by [`Agents`]: readers stop when they have what it names, or it is told to give up.
    ends: watch::Sender<Ends>,
}

/// A channel of the load.
struct Place {
    name: String,
    number: Channel,
    /// The newest ID in it that a writer was told.
    newest: AtomicU64,
}

/// How far readers have to read.
#[derive(Clone, Debug, Default)]
struct Ends {
    /// By channel: the last message, the last status change. None as long as the load goes on.
    last: Option<Arc<HashMap<Channel, (Id, Id)>>>,
    /// Whoever has not got there goes no further.
    give_up: bool,
}

impl Agents {
    /// Makes API keys and channels, and sets the agents to work.
    ///
    /// # Errors
    /// An endpoint is no `http` URL with an address, or the relay does not do what is asked of it.
    pub async fn start(
        plan: Plan,
        endpoints: Endpoints,
        recorder: Recorder,
    ) -> Result<Agents, SetupError> {
        setup::start(plan, endpoints, recorder).await
    }

    /// What they have done so far.
    pub fn counters(&self) -> Counters {
        self.shared.counters()
    }

    /// The latencies since this was last called.
    pub fn take_latencies(&self) -> Latencies {
        self.shared.meter.take_latencies()
    }

    /// A replica is somewhere else now.
    ///
    /// # Panics
    /// There is no such replica, or the URL has no address.
    pub fn move_replica(&self, replica: usize, url: &Uri) {
        let authority = url.authority().expect("a replica's URL has an address");
        let mut replicas = self
            .shared
            .replicas
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        replicas[replica] = authority.clone();
    }

    /// Stops the writers, lets the readers read to the end, for that long at most, and reads what
    /// stands. The history is left open: closing it is the recorder's.
    ///
    /// # Panics
    /// An agent panicked.
    pub async fn finish(self, patience: Duration) -> Finished {
        finish::finish(self, patience).await
    }
}

impl Shared {
    fn counters(&self) -> Counters {
        self.meter.counters(self.elapsed())
    }

    /// The time since the history's start.
    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.recorder.now())
    }

    fn replica(&self, replica: usize) -> Authority {
        let replicas = self.replicas.read().unwrap_or_else(PoisonError::into_inner);
        replicas[replica % replicas.len()].clone()
    }

    /// Where a request goes, by turn.
    fn host(&self, turn: usize) -> Authority {
        match &self.balancer {
            Some(balancer) => balancer.clone(),
            None => self.replica(turn),
        }
    }

    fn replica_count(&self) -> usize {
        self.replicas
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }
}
