//! The schedule: a seed, a length and what this machine can do come in; which fault begins when,
//! where, and for how long comes out. The same three give the same schedule. It does nothing.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde::Serialize;

use crate::fleet::REPLICAS;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "`Kind::what` says of each what it does")]
pub enum Kind {
    Kill,
    Pause,
    Rolling,
    Crash,
    Backends,
    Listener,
    Bells,
    PartitionPostgres,
    ResetPostgres,
    PartitionClients,
    ResetClients,
    Delay,
    Loss,
    FullDisk,
    LongTransaction,
    FailoverSync,
    FailoverAsync,
    Clock,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 18] = [
        Kind::Kill,
        Kind::Pause,
        Kind::Rolling,
        Kind::Crash,
        Kind::Backends,
        Kind::Listener,
        Kind::Bells,
        Kind::PartitionPostgres,
        Kind::ResetPostgres,
        Kind::PartitionClients,
        Kind::ResetClients,
        Kind::Delay,
        Kind::Loss,
        Kind::FullDisk,
        Kind::LongTransaction,
        Kind::FailoverSync,
        Kind::FailoverAsync,
        Kind::Clock,
    ];

    /// Its name, in the schedule, the history and the report.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Kill => "kill",
            Kind::Pause => "pause",
            Kind::Rolling => "rolling restart",
            Kind::Crash => "postgres crash",
            Kind::Backends => "backends killed",
            Kind::Listener => "listener cut",
            Kind::Bells => "bells dropped",
            Kind::PartitionPostgres => "partition replica–postgres",
            Kind::ResetPostgres => "resets replica–postgres",
            Kind::PartitionClients => "partition client–replica",
            Kind::ResetClients => "resets client–replica",
            Kind::Delay => "delay",
            Kind::Loss => "loss",
            Kind::FullDisk => "full disk",
            Kind::LongTransaction => "long transaction",
            Kind::FailoverSync => "failover, synchronous",
            Kind::FailoverAsync => "failover, asynchronous",
            Kind::Clock => "clock step",
        }
    }

    /// What is done, for the report.
    pub fn what(self) -> &'static str {
        match self {
            Kind::Kill => "kill -9 of a replica, which is started again",
            Kind::Pause => "SIGSTOP of a replica for longer than any timeout, then SIGCONT",
            Kind::Rolling => "every replica in turn: SIGTERM, its end, a new one until it is ready",
            Kind::Crash => "Postgres is stopped at once (`immediate`) and started again",
            Kind::Backends => "`pg_terminate_backend` of all of a replica's sessions",
            Kind::Listener => "the connection of a replica that listens is cut, no other",
            Kind::Bells => "notifications to all replicas are swallowed on their way",
            Kind::PartitionPostgres => {
                "packets between a replica and Postgres vanish, in both directions"
            }
            Kind::ResetPostgres => "a replica's connections to Postgres are reset, new ones too",
            Kind::PartitionClients => {
                "packets between a replica and its clients vanish, the proxy's too"
            }
            Kind::ResetClients => "connections of clients to a replica are reset, new ones too",
            Kind::Delay => "all links of a replica are slower, in both directions",
            Kind::Loss => "all links of a replica lose packets, in both directions",
            Kind::FullDisk => {
                "the disk of Postgres is filled to the last block, then emptied again"
            }
            Kind::LongTransaction => "a transaction with a snapshot and an XID is held open",
            Kind::FailoverSync => {
                "the first of a synchronous pair is stopped at once, the standby is promoted by hand"
            }
            Kind::FailoverAsync => {
                "the same with a standby that lags, so that what it lacks is lost"
            }
            Kind::Clock => "the clock of a replica steps, and steps back",
        }
    }

    /// Whether it concerns one replica.
    fn has_replica(self) -> bool {
        !matches!(
            self,
            Kind::Rolling
                | Kind::Crash
                | Kind::Bells
                | Kind::FullDisk
                | Kind::LongTransaction
                | Kind::FailoverSync
                | Kind::FailoverAsync
        )
    }

    /// Whether it goes together with another one.
    fn mixes(self) -> bool {
        !matches!(
            self,
            Kind::Rolling
                | Kind::FullDisk
                | Kind::LongTransaction
                | Kind::FailoverSync
                | Kind::FailoverAsync
        )
    }

    /// How long it lasts, in milliseconds: the shortest and the longest.
    fn lasts_ms(self) -> (u64, u64) {
        match self {
            Kind::Kill => (500, 3_000),
            // The longest timeout between a replica and what holds its locks is 2 s, the bound on
            // what it may remember of keys is 5 s.
            Kind::Pause => (6_000, 9_000),
            Kind::Crash => (300, 2_500),
            Kind::Rolling | Kind::Backends | Kind::Listener => (0, 1),
            Kind::Bells | Kind::Delay | Kind::Loss => (5_000, 8_000),
            Kind::PartitionPostgres | Kind::PartitionClients => (4_000, 9_000),
            Kind::ResetPostgres | Kind::ResetClients => (2_000, 5_000),
            Kind::FullDisk => (3_000, 6_000),
            Kind::LongTransaction => (20_000, 30_000),
            // How long the standby lags before the first of the pair is stopped.
            Kind::FailoverAsync => (300, 900),
            Kind::FailoverSync => (0, 1),
            Kind::Clock => (4_000, 8_000),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One fault of the schedule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fault {
    /// What is done.
    pub kind: Kind,
    /// To which replica, where it concerns one.
    pub replica: Option<usize>,
    /// For how long.
    pub lasts: Duration,
    /// How much: milliseconds of a delay, a share of packets in percent, seconds of a clock's step.
    pub amount: i64,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        if let Some(replica) = self.replica {
            write!(f, " of replica {replica}")?;
        }
        match self.kind {
            Kind::Delay => write!(f, " by {} ms", self.amount)?,
            Kind::Loss => write!(f, " of {} %", self.amount)?,
            Kind::Clock => write!(f, " by {:+} s", self.amount)?,
            _ => {}
        }
        if self.lasts > Duration::from_millis(100) {
            write!(f, " for {:.1} s", self.lasts.as_secs_f64())?;
        }
        Ok(())
    }
}

/// Faults that begin together, and the quiet after them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// When they begin, after the begin of the load. Later if what came before isn't over.
    pub at: Duration,
    /// One, or two that are mixed.
    pub faults: Vec<Fault>,
}

impl Step {
    /// The kinds of its faults, as one name.
    pub fn name(&self) -> String {
        let names: Vec<_> = self.faults.iter().map(|fault| fault.kind.name()).collect();
        names.join(" + ")
    }

    fn lasts(&self) -> Duration {
        self.faults
            .iter()
            .map(|fault| fault.lasts)
            .max()
            .unwrap_or_default()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<_> = self.faults.iter().map(Fault::to_string).collect();
        f.write_str(&faults.join(" + "))
    }
}

/// How the run is laid out.
#[derive(Clone, Debug)]
pub struct Pace {
    /// The whole length of the load.
    pub length: Duration,
    /// How long nothing is broken in the beginning, and how long in the end.
    pub calm: (Duration, Duration),
    /// How long nothing is broken after each fault.
    pub quiet: Duration,
    /// How many pairs of faults there are for each round of single ones.
    pub pairs: usize,
    /// What may be broken.
    pub kinds: Vec<Kind>,
}

/// Deals rounds of all kinds, in an order of the seed's, until the time is over.
pub fn plan(seed: u64, pace: &Pace) -> Vec<Step> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut steps = Vec::new();
    let end = pace.length.saturating_sub(pace.calm.1);
    let mut at = pace.calm.0;
    if pace.kinds.is_empty() {
        return steps;
    }
    loop {
        for faults in round(&mut random, pace) {
            let mut step = Step { at, faults };
            let mut next = at + step.lasts() + pace.quiet;
            // A new standby has to be made; three replicas have to be replaced.
            let takes_long = |fault: &Fault| {
                matches!(
                    fault.kind,
                    Kind::FailoverSync | Kind::FailoverAsync | Kind::Rolling
                )
            };
            if step.faults.iter().any(takes_long) {
                next += pace.quiet;
            }
            if next > end {
                return steps;
            }
            step.at = at;
            at = next;
            steps.push(step);
        }
    }
}

/// Each kind once, and some pairs.
fn round(random: &mut StdRng, pace: &Pace) -> Vec<Vec<Fault>> {
    let mut round: Vec<Vec<Kind>> = pace.kinds.iter().map(|kind| vec![*kind]).collect();
    let mut mixing: Vec<Kind> = pace.kinds.clone();
    mixing.retain(|kind| kind.mixes());
    for _ in 0..pace.pairs {
        mixing.shuffle(random);
        if let [one, other, ..] = mixing[..] {
            round.push(vec![one, other]);
        }
    }
    round.shuffle(random);
    round
        .into_iter()
        .map(|kinds| {
            // Two replicas at a time are broken by a pair, never one twice: one serves on.
            let first = random.random_range(0..REPLICAS);
            kinds
                .into_iter()
                .enumerate()
                .map(|(nth, kind)| fault(random, kind, (first + nth) % REPLICAS))
                .collect()
        })
        .collect()
}

fn fault(random: &mut StdRng, kind: Kind, replica: usize) -> Fault {
    let (shortest, longest) = kind.lasts_ms();
    let lasts = Duration::from_millis(random.random_range(shortest..longest));
    let amount = match kind {
        Kind::Delay => random.random_range(10..60),
        Kind::Loss => random.random_range(1..8),
        Kind::Clock => [-3_600, -30, 30, 3_600][random.random_range(0..4)],
        _ => 0,
    };
    Fault {
        kind,
        replica: kind.has_replica().then_some(replica),
        lasts,
        amount,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(seconds: u64) -> Pace {
        Pace {
            length: Duration::from_secs(seconds),
            calm: (Duration::from_secs(180), Duration::from_secs(75)),
            quiet: Duration::from_secs(11),
            pairs: 4,
            kinds: Kind::ALL.to_vec(),
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule_and_another_another() {
        assert_eq!(plan(42, &pace(1_200)), plan(42, &pace(1_200)));
        assert_ne!(plan(42, &pace(1_200)), plan(43, &pace(1_200)));
    }

    #[test]
    fn twenty_minutes_hold_every_kind_twice_within_their_bounds() {
        for seed in 0..200 {
            let pace = pace(1_200);
            let steps = plan(seed, &pace);
            for kind in Kind::ALL {
                let count = steps
                    .iter()
                    .filter(|step| step.faults.iter().any(|fault| fault.kind == kind))
                    .count();
                assert!(count >= 2, "seed {seed}: {kind} {count} times");
            }
            let mut free = pace.calm.0;
            for step in &steps {
                assert!(step.at >= free, "seed {seed}: {step} overlaps");
                free = step.at + step.lasts() + pace.quiet;
                let replicas: Vec<_> = step.faults.iter().map(|fault| fault.replica).collect();
                assert!(replicas.len() < 2 || replicas[0] != replicas[1] || replicas[0].is_none());
            }
            assert!(free <= pace.length - pace.calm.1, "seed {seed}");
        }
    }
}
