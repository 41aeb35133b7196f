//! What the checks found, counted, with the first examples of each kind, in words and as JSON.
//!
//! A history is sound when nothing in it is wrong, nothing was left undecided, and enough was
//! looked at: one without an acknowledged write that was looked for in the end is not.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::history::{Run, Time};

/// The ways in which a relay can break its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A write was answered 2xx and is not there.
    Lost,
    /// A write is there more than once.
    Duplicate,
    /// Something is there, or was read, that nobody wrote, or whose writer was refused.
    Phantom,
    /// Something is not what its writer was told, or what another reader was shown.
    Altered,
    /// A channel's `seq` does not go 1, 2, 3 … in the order of its IDs.
    Gap,
    /// A write that began after another one was answered has the smaller ID.
    CommitOrder,
    /// A write that began after a client had seen an ID has that ID or a smaller one.
    LowId,
    /// Two readers saw two writes in different orders.
    InconsistentOrder,
    /// Inside a page, or what a stream brought in one go, a smaller ID comes after a larger one.
    Disorder,
    /// A reader's next page, or its resumed stream, goes back to a smaller ID.
    NonMonotonic,
    /// A reader was given something twice.
    Repeated,
    /// A reader was given something from before its cursor, or from where it did not read.
    Unasked,
    /// A reader was never given something that it went past, or waited for.
    Skipped,
    /// A read did not show what had been answered before it was asked for.
    Stale,
    /// An API key was refused what every level that it can have had allows.
    StaleDenial,
    /// An API key was allowed what no level that it can have had allows.
    StalePermission,
    /// A status entry is not what its newest change says.
    TornStatus,
    /// An ack moved back, or not as far as its answer said.
    AckBackwards,
    /// No order of the operations on a status entry explains their answers.
    NonLinearizable,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 19] = [
        Kind::Lost,
        Kind::Duplicate,
        Kind::Phantom,
        Kind::Altered,
        Kind::Gap,
        Kind::CommitOrder,
        Kind::LowId,
        Kind::InconsistentOrder,
        Kind::Disorder,
        Kind::NonMonotonic,
        Kind::Repeated,
        Kind::Unasked,
        Kind::Skipped,
        Kind::Stale,
        Kind::StaleDenial,
        Kind::StalePermission,
        Kind::TornStatus,
        Kind::AckBackwards,
        Kind::NonLinearizable,
    ];

    /// Its name in words.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Lost => "lost write",
            Kind::Duplicate => "duplicate",
            Kind::Phantom => "phantom",
            Kind::Altered => "altered",
            Kind::Gap => "gap in seq",
            Kind::CommitOrder => "commit order",
            Kind::LowId => "ID not above one that was seen",
            Kind::InconsistentOrder => "inconsistent order",
            Kind::Disorder => "internal disorder",
            Kind::NonMonotonic => "non-monotonic poll",
            Kind::Repeated => "repeated",
            Kind::Unasked => "unasked",
            Kind::Skipped => "skipped",
            Kind::Stale => "stale read",
            Kind::StaleDenial => "stale denial",
            Kind::StalePermission => "stale permission",
            Kind::TornStatus => "torn status",
            Kind::AckBackwards => "ack backwards",
            Kind::NonLinearizable => "not linearizable",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The bounds that a history is held against.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long another replica may go on with an API key as it was.
    pub key_bound: Time,
    /// The same while some replica can't hear of changes.
    pub deaf_key_bound: Time,
    /// How much later than that a stream's end may be noticed by its client.
    pub stream_end_slack: Time,
    /// How many steps the search for an order of one entry's operations may take.
    pub search_steps: u64,
    /// How many examples of a kind are kept.
    pub examples: usize,
}

const SECOND: Time = 1_000_000_000;

impl Default for Options {
    fn default() -> Options {
        Options {
            key_bound: SECOND,
            deaf_key_bound: 5 * SECOND,
            stream_end_slack: 2 * SECOND,
            search_steps: 50_000_000,
            examples: 10,
        }
    }
}

/// How the operations of one name ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// How many were begun.
    pub invoked: u64,
    /// How many were answered 2xx.
    pub ok: u64,
    /// How many were refused.
    pub failed: u64,
    /// How many were answered 5xx or not at all.
    pub unknown: u64,
}

/// What was found of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Anomaly {
    /// How many.
    pub count: u64,
    /// The first of them, in words.
    pub examples: Vec<String>,
}

/// What a failover to an asynchronous standby lost. These are no anomalies: it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Failover {
    /// When it was over.
    pub at: Time,
    /// How many acknowledged posts it lost.
    pub posts: u64,
    /// How many acknowledged changes of status it lost.
    pub changes: u64,
    /// The time from the answer to the oldest that was lost until the failover was over.
    pub oldest: Time,
}

/// What the checker says of a history.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// What ran.
    pub run: Run,
    /// Nothing is wrong, nothing is undecided, and enough was looked at.
    pub sound: bool,
    /// When the last thing happened.
    pub duration: Time,
    /// The operations, by name.
    pub operations: BTreeMap<&'static str, Counts>,
    /// Readers that walk or follow.
    pub readers: u64,
    /// Messages and changes that they were given.
    pub read: u64,
    /// Messages and changes that stand in the end.
    pub standing: u64,
    /// How often each fault began.
    pub faults: BTreeMap<String, u64>,
    /// How many things were held against each kind of anomaly; 0: the history says nothing of it.
    pub checked: BTreeMap<Kind, u64>,
    /// What is wrong.
    pub anomalies: BTreeMap<Kind, Anomaly>,
    /// What asynchronous failovers lost.
    pub failovers: Vec<Failover>,
    /// What the checker gave up on: it is neither right nor wrong.
    pub undecided: Vec<String>,
    /// Why the history proves nothing.
    pub flaws: Vec<String>,
}

impl Verdict {
    /// Nothing is wrong, nothing is undecided, and enough was looked at.
    pub fn is_sound(&self) -> bool {
        self.sound
    }

    /// How many anomalies of a kind there are.
    pub fn count(&self, kind: Kind) -> u64 {
        self.anomalies.get(&kind).map_or(0, |anomaly| anomaly.count)
    }

    /// The kinds of anomaly of which the history says nothing.
    pub fn unchecked(&self) -> Vec<Kind> {
        let checked = |kind: &Kind| self.checked.get(kind).is_some_and(|count| *count > 0);
        Kind::ALL
            .into_iter()
            .filter(|kind| !checked(kind))
            .collect()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |time: Time| time as f64 / SECOND as f64;
        writeln!(
            f,
            "{}: {:.1} s, seed {}{}{}",
            if self.sound { "sound" } else { "NOT SOUND" },
            seconds(self.duration),
            self.run.seed,
            if self.run.what.is_empty() { "" } else { ", " },
            self.run.what
        )?;
        writeln!(
            f,
            "{} readers were given {} items; {} stand in the end",
            self.readers, self.read, self.standing
        )?;
        for (name, counts) in &self.operations {
            writeln!(
                f,
                "  {name}: {} ok, {} failed, {} unknown",
                counts.ok, counts.failed, counts.unknown
            )?;
        }
        for (fault, count) in &self.faults {
            writeln!(f, "  fault {fault}: {count} times")?;
        }
        for failover in &self.failovers {
            writeln!(
                f,
                "  the failover over at {:.1} s lost {} posts and {} changes, the oldest {:.3} s \
                 old",
                seconds(failover.at),
                failover.posts,
                failover.changes,
                seconds(failover.oldest)
            )?;
        }
        let total: u64 = self.anomalies.values().map(|anomaly| anomaly.count).sum();
        writeln!(f, "{total} anomalies")?;
        for kind in Kind::ALL {
            let checked = self.checked.get(&kind).copied().unwrap_or(0);
            if checked == 0 && self.count(kind) == 0 {
                writeln!(f, "  {kind}: not checked")?;
                continue;
            }
            writeln!(f, "  {kind}: {} of {checked} checked", self.count(kind))?;
            for example in self
                .anomalies
                .get(&kind)
                .into_iter()
                .flat_map(|anomaly| &anomaly.examples)
            {
                writeln!(f, "    {example}")?;
            }
        }
        for undecided in &self.undecided {
            writeln!(f, "undecided: {undecided}")?;
        }
        for flaw in &self.flaws {
            writeln!(f, "proves nothing: {flaw}")?;
        }
        Ok(())
    }
}
