//! The nemesis: a fault of the schedule comes in and is carried out on the fleet; what comes out is
//! when it began and ended, and what shows that it really happened. It doesn't judge what the relay
//! made of it.

mod clock;
mod failover;
mod links;
mod postgres;
mod processes;

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use tokio::time::Instant;

use crate::fleet::Fleet;
use crate::probe::Probes;
use crate::schedule::{Fault, Kind};

/// What a fault works on.
#[derive(Clone, Copy)]
pub struct Scene<'run> {
    /// The fleet that is broken.
    pub fleet: &'run Fleet,
    /// Who tries every replica all the time.
    pub probes: &'run Probes,
    /// The time from which all others are counted.
    pub start: Instant,
}

impl Scene<'_> {
    /// The time since the start.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A fault that was carried out.
#[derive(Clone, Debug, Serialize)]
pub struct Occurrence {
    /// What was done.
    pub fault: Fault,
    /// Before it can have begun.
    pub began: Duration,
    /// When it was over: when whatever was broken was whole again, or began to start again.
    pub ended: Duration,
    /// What shows that it happened.
    pub evidence: String,
    /// Whether that shows it.
    pub happened: bool,
    /// Where commits could be lost: those answered between this moment and the end.
    pub lossy_since: Option<Duration>,
}

/// What a fault leaves.
struct Trace {
    ended: Duration,
    evidence: String,
    happened: bool,
    lossy_since: Option<Duration>,
}

impl Trace {
    fn new(ended: Duration, happened: bool, evidence: impl Into<String>) -> Trace {
        Trace {
            ended,
            evidence: evidence.into(),
            happened,
            lossy_since: None,
        }
    }
}

/// Carries a fault out, from its beginning to its end. One that can't be carried out did not happen.
pub async fn strike(scene: Scene<'_>, fault: &Fault) -> Occurrence {
    let began = scene.now();
    let trace = carry_out(scene, fault).await.unwrap_or_else(|error| {
        Trace::new(
            scene.now(),
            false,
            format!("it could not be carried out: {error:#}"),
        )
    });
    Occurrence {
        fault: fault.clone(),
        began,
        ended: trace.ended,
        evidence: trace.evidence,
        happened: trace.happened,
        lossy_since: trace.lossy_since,
    }
}

async fn carry_out(scene: Scene<'_>, fault: &Fault) -> Result<Trace> {
    match fault.kind {
        Kind::Kill => processes::kill(scene, fault).await,
        Kind::Pause => processes::pause(scene, fault).await,
        Kind::Rolling => processes::roll(scene).await,
        Kind::Crash => postgres::crash(scene, fault).await,
        Kind::Backends => postgres::end_backends(scene, fault).await,
        Kind::FullDisk => postgres::fill_disk(scene, fault).await,
        Kind::LongTransaction => postgres::hold_transaction(scene, fault).await,
        Kind::Listener => links::cut_listener(scene, fault).await,
        Kind::Bells => links::drop_bells(scene, fault).await,
        Kind::PartitionPostgres | Kind::PartitionClients => links::partition(scene, fault).await,
        Kind::ResetPostgres | Kind::ResetClients => links::reset(scene, fault).await,
        Kind::Delay => links::delay(scene, fault).await,
        Kind::Loss => links::lose(scene, fault).await,
        Kind::FailoverSync => failover::synchronous(scene).await,
        Kind::FailoverAsync => failover::asynchronous(scene, fault).await,
        Kind::Clock => clock::step(scene, fault).await,
    }
}

/// While such a fault lasts, some replica may not hear of a key that changed.
pub fn deafens(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::LongTransaction | Kind::ResetClients | Kind::PartitionClients
    )
}
