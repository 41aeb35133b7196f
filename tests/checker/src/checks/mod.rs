//! The checks, one file for what each looks at. Facts go in, a verdict comes out.

mod acks;
mod entries;
mod freshness;
mod keys;
mod order;
mod registers;
mod standing;
mod views;
mod writes;

use crate::facts::{Facts, NEVER, Outcome, Place};
use crate::verdict::{Failover, Kind, Options, Verdict};

use standing::Standing;

/// Where checks put what they found.
struct Report {
    verdict: Verdict,
    examples: usize,
}

impl Report {
    /// Something is wrong.
    fn found(&mut self, kind: Kind, story: impl FnOnce() -> String) {
        let anomaly = self.verdict.anomalies.entry(kind).or_default();
        anomaly.count += 1;
        if anomaly.examples.len() < self.examples {
            anomaly.examples.push(story());
        }
    }

    /// So many more things were held against a kind.
    fn checked(&mut self, kind: Kind, count: usize) {
        *self.verdict.checked.entry(kind).or_default() += count as u64;
    }

    /// The history proves nothing.
    fn flaw(&mut self, flaw: impl Into<String>) {
        self.verdict.flaws.push(flaw.into());
    }

    /// The checker gave up.
    fn undecided(&mut self, what: String) {
        self.verdict.undecided.push(what);
    }
}

/// Judges a history.
pub(crate) fn judge(facts: &Facts, options: &Options) -> Verdict {
    let mut report = Report {
        verdict: describe(facts),
        examples: options.examples,
    };
    for flaw in &facts.flaws {
        report.flaw(flaw.to_string());
    }
    if facts.more_flaws > 0 {
        report.flaw(format!("… and {} more such things", facts.more_flaws));
    }

    let standing = Standing::new(facts);
    writes::check(facts, &standing, &mut report);
    order::check(facts, &standing, &mut report);
    views::check(facts, &standing, &mut report);
    freshness::check(facts, &standing, &mut report);
    entries::check(facts, &standing, &mut report);
    registers::check(facts, options, &mut report);
    acks::check(facts, &standing, &mut report);
    keys::check(facts, &standing, options, &mut report);

    check_enough(facts, &mut report);
    let Report { mut verdict, .. } = report;
    verdict.sound =
        verdict.anomalies.is_empty() && verdict.undecided.is_empty() && verdict.flaws.is_empty();
    verdict
}

fn describe(facts: &Facts) -> Verdict {
    let mut faults = std::collections::BTreeMap::new();
    for fault in &facts.faults {
        *faults.entry(fault.name.clone()).or_default() += 1;
    }
    let items = facts.views.iter().map(|view| view.items.len());
    let standing = facts.table.values().map(|read| read.items.len());
    Verdict {
        run: facts.run.clone(),
        duration: facts.last_time,
        operations: facts.counts.clone(),
        readers: facts.views.len() as u64,
        read: items.sum::<usize>() as u64,
        standing: standing.sum::<usize>() as u64,
        faults,
        failovers: facts
            .failovers
            .iter()
            .map(|failover| Failover {
                at: failover.at,
                ..Failover::default()
            })
            .collect(),
        ..Verdict::default()
    }
}

/// What nobody looked at can't be called sound.
fn check_enough(facts: &Facts, report: &mut Report) {
    if !facts
        .writes
        .iter()
        .any(|write| write.outcome == Outcome::Done)
    {
        report.flaw("no write was acknowledged");
    }
    if report.verdict.read + report.verdict.standing == 0 {
        report.flaw("nothing was read");
    }
    let mut unread: Vec<Place> = facts.writes.iter().map(|write| write.place).collect();
    unread.sort_unstable();
    unread.dedup();
    unread.retain(|place| !facts.table.get(place).is_some_and(|read| read.done));
    for place in unread {
        let place = facts.place(place);
        report.flaw(format!("{place} was written to and not read in the end"));
    }
    for fault in &facts.faults {
        if fault.until == NEVER {
            report.flaw(format!("{} {} has no end", fault.name, fault.target));
        }
    }
}
