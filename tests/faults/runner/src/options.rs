//! What the command is told.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::fleet::false_clock;
use crate::schedule::{Kind, Pace};

/// Breaks a fleet of relays in a seeded order while agents load it, and reports what survived
///
/// Three replicas behind HAProxy, on a durable Postgres and its standby, all started here. The
/// history of what the agents were told is checked when they are done. The exit code is 1 when an
/// anomaly was found or a bar was missed. Root can do more than others: drop packets, fill a disk.
#[derive(Clone, Debug, Parser)]
#[command(name = "handoff-faults", version, max_term_width = 100)]
pub struct Options {
    /// Decides the schedule of faults and the choices of the load
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// How long the load runs, in minutes
    #[arg(long, default_value_t = 20.0)]
    pub minutes: f64,

    /// Posts a second, of all agents together
    #[arg(long, default_value_t = 1000.0)]
    pub rate: f64,

    /// Agents that follow everything by streams
    #[arg(long, default_value_t = 6)]
    pub followers: usize,

    /// The folder that the report goes to
    #[arg(long, default_value = "target/faults-report")]
    pub report: PathBuf,

    /// The file that the history goes to [default: one in the temporary folder]
    #[arg(long)]
    pub history: Option<PathBuf>,

    /// The folder for logs and data of the fleet, which stays [default: a temporary one]
    #[arg(long)]
    pub work: Option<PathBuf>,

    /// The relay's binary [default: HANDOFF_RELAY_BIN, or beside this one, built if need be]
    #[arg(long)]
    pub relay: Option<PathBuf>,

    /// Which faults [default: all that can be done here]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<KindName>,

    /// How closely faults follow one another
    #[arg(long, value_enum, default_value_t = Tempo::Long)]
    pub tempo: Tempo,

    /// Print the schedule and do nothing
    #[arg(long)]
    pub schedule: bool,

    /// Print the summary as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

/// How closely faults follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Tempo {
    /// Three minutes of calm first, then a fault and eleven seconds of quiet, in turn
    Long,
    /// A few seconds of calm, a fault and two seconds of quiet, in turn: for runs of minutes
    Short,
}

/// A kind of fault, as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindName(pub Kind);

impl ValueEnum for KindName {
    fn value_variants<'a>() -> &'a [Self] {
        const NAMES: [KindName; Kind::ALL.len()] = {
            let mut names = [KindName(Kind::Kill); Kind::ALL.len()];
            let mut index = 0;
            while index < names.len() {
                names[index] = KindName(Kind::ALL[index]);
                index += 1;
            }
            names
        };
        &NAMES
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        let name = match self.0 {
            Kind::Kill => "kill",
            Kind::Pause => "pause",
            Kind::Rolling => "rolling",
            Kind::Crash => "crash",
            Kind::Backends => "backends",
            Kind::Listener => "listener",
            Kind::Bells => "bells",
            Kind::PartitionPostgres => "partition-postgres",
            Kind::ResetPostgres => "reset-postgres",
            Kind::PartitionClients => "partition-clients",
            Kind::ResetClients => "reset-clients",
            Kind::Delay => "delay",
            Kind::Loss => "loss",
            Kind::FullDisk => "full-disk",
            Kind::LongTransaction => "long-transaction",
            Kind::FailoverSync => "failover-sync",
            Kind::FailoverAsync => "failover-async",
            Kind::Clock => "clock",
        };
        Some(clap::builder::PossibleValue::new(name).help(self.0.what()))
    }
}

impl Options {
    /// The layout of the run. What can't be done here is left out, and named.
    pub fn pace(&self, own_namespace: bool) -> (Pace, Vec<(Kind, &'static str)>) {
        let mut left_out = Vec::new();
        let mut kinds: Vec<Kind> = self.only.iter().map(|name| name.0).collect();
        if kinds.is_empty() {
            kinds = Kind::ALL.into();
        }
        kinds.retain(|kind| {
            let missing = match kind {
                Kind::FullDisk if !own_namespace => "only root can mount a disk of its own",
                Kind::Clock if false_clock().is_none() => "needs libfaketime",
                _ => return true,
            };
            left_out.push((*kind, missing));
            false
        });
        let seconds = Duration::from_secs;
        let (calm, quiet, pairs) = match self.tempo {
            Tempo::Long => ((seconds(180), seconds(75)), seconds(11), 4),
            Tempo::Short => ((seconds(5), seconds(4)), seconds(2), 1),
        };
        let pace = Pace {
            length: Duration::from_secs_f64(self.minutes * 60.0),
            calm,
            quiet,
            pairs,
            kinds,
        };
        (pace, left_out)
    }
}
