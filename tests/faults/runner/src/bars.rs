//! The bars: what was seen comes in, whether each of them is met comes out, with the numbers.

use std::time::Duration;

use handoff_checker::Verdict;
use serde::Serialize;

use crate::fleet::REPLICAS;
use crate::load::Totals;
use crate::nemesis::Occurrence;
use crate::probe::{Records, Served};
use crate::sample::{Process, Sample};
use crate::schedule::{Kind, Step};

/// How soon a replica has to serve again after a fault's end.
pub const RECOVERY: Duration = Duration::from_secs(5);

/// How soon the others have to serve again while one replica is down or stopped.
pub const OTHERS: Duration = Duration::from_secs(2);

/// How much more of anything there may be in the end than after the first two minutes.
pub const GROWTH: f64 = 0.10;

/// What a client is told of what an asynchronous failover lost: a message that it replies to, a key
/// that it changes.
const OF_WHAT_WAS_LOST: [&str; 2] = [
    "a post was refused with 404",
    "a change of a key was refused with 404",
];

/// A step of the schedule as it went.
#[derive(Clone, Debug, Serialize)]
pub struct Stepped {
    /// Its faults, as one name.
    pub name: String,
    /// What was done, in words.
    pub what: String,
    /// Its faults.
    pub occurrences: Vec<Occurrence>,
    /// When the first of them began.
    pub began: Duration,
    /// When the last of them was over.
    pub ended: Duration,
    /// How soon each replica served again after that, by a post and on a stream; none: not before
    /// the next fault.
    pub served: [(Option<Duration>, Option<Duration>); REPLICAS],
    /// How soon the load's own team was served again by every replica.
    pub load_served: Option<Duration>,
    /// The longest time that another replica than the one that was hit answered nothing meanwhile,
    /// to a probe or to the load's own team.
    pub others_silence: Option<Duration>,
    /// The largest ID that had been seen before a failover, and the smallest after it.
    pub ids: Option<(u64, u64)>,
}

impl Stepped {
    /// Reads off the records how the fleet came through.
    pub fn new(
        step: &Step,
        occurrences: Vec<Occurrence>,
        records: &Records,
        load_served: Option<Duration>,
        load_silence: impl Fn(usize, Duration, Duration) -> Duration,
    ) -> Stepped {
        let began = occurrences
            .iter()
            .map(|one| one.began)
            .min()
            .unwrap_or_default();
        let ended = occurrences
            .iter()
            .map(|one| one.ended)
            .max()
            .unwrap_or_default();
        let served = std::array::from_fn(|replica| {
            let Served { posts, streams } = records.served(replica, ended);
            (posts, streams)
        });
        let others_silence = match &occurrences[..] {
            [one] if matches!(one.fault.kind, Kind::Kill | Kind::Pause) => {
                let others = (0..REPLICAS).filter(|replica| Some(*replica) != one.fault.replica);
                let silences = others.map(|other| {
                    let of_probes = records.silence(other, began, ended);
                    of_probes.max(load_silence(other, began, ended))
                });
                silences.max()
            }
            _ => None,
        };
        let ids = match occurrences.iter().any(fails_over) {
            true => {
                let (seen, given) = records.ids_around(ended, ended);
                seen.zip(given)
            }
            false => None,
        };
        Stepped {
            name: step.name(),
            what: step.to_string(),
            occurrences,
            began,
            ended,
            served,
            load_served,
            others_silence,
            ids,
        }
    }

    /// Until every replica served again, in every way.
    pub fn recovery(&self) -> Option<Duration> {
        let mut slowest = self.load_served?;
        for (posts, streams) in self.served {
            slowest = slowest.max(posts?).max(streams?);
        }
        Some(slowest)
    }

    /// Whether a standby took over.
    pub fn is_failover(&self) -> bool {
        self.occurrences.iter().any(fails_over)
    }

    /// Whether all of its faults happened.
    pub fn happened(&self) -> bool {
        self.occurrences.iter().all(|one| one.happened)
    }
}

fn fails_over(one: &Occurrence) -> bool {
    matches!(one.fault.kind, Kind::FailoverSync | Kind::FailoverAsync)
}

/// One quantity in the beginning and in the end.
#[derive(Clone, Debug, Serialize)]
pub struct Growth {
    /// What it is.
    pub of: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// The median over the third minute.
    pub early: f64,
    /// The median over the last minute.
    pub late: f64,
}

impl Growth {
    /// By what share there is more of it in the end.
    pub fn share(&self) -> f64 {
        match self.early > 0.0 {
            true => self.late / self.early - 1.0,
            false if self.late > 0.0 => f64::INFINITY,
            false => 0.0,
        }
    }
}

/// Compares two spans of the run; nothing of what was never seen in one of them.
pub fn growth(samples: &[Sample], early: (f64, f64), late: (f64, f64)) -> Vec<Growth> {
    type Of = fn(&Sample) -> Option<f64>;
    fn resident(process: &Process) -> f64 {
        process.resident_bytes as f64 / f64::from(1 << 20)
    }
    let quantities: [(&'static str, &'static str, Of); 4] = [
        ("memory of the replicas", "MiB", |sample| {
            sample.sum(resident)
        }),
        ("file descriptors of the replicas", "", |sample| {
            sample.sum(|process| process.descriptors as f64)
        }),
        ("connections to Postgres", "", |sample| {
            Some(sample.postgres.as_ref()?.connections as f64)
        }),
        ("dead rows, counted", "", |sample| {
            Some(sample.postgres.as_ref()?.counted_dead_rows? as f64)
        }),
    ];
    let median_in = |span: (f64, f64), of: Of| {
        let within = samples
            .iter()
            .filter(|sample| sample.at >= span.0 && sample.at < span.1);
        median(within.filter_map(of).collect())
    };
    quantities
        .into_iter()
        .filter_map(|(name, unit, of)| {
            Some(Growth {
                of: name,
                unit,
                early: median_in(early, of)?,
                late: median_in(late, of)?,
            })
        })
        .collect()
}

/// The middle one; of an even number the larger of the two.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// One bar.
#[derive(Clone, Debug, Serialize)]
pub struct Bar {
    /// What is asked.
    pub asked: String,
    /// What was found.
    pub found: String,
    /// Whether that is enough.
    pub met: bool,
}

/// All bars.
pub fn judge(
    verdict: &Verdict,
    totals: &Totals,
    stepped: &[Stepped],
    growth: Option<&[Growth]>,
    deaths: usize,
) -> Vec<Bar> {
    let mut bars = Vec::new();
    let anomalies: u64 = verdict
        .anomalies
        .values()
        .map(|anomaly| anomaly.count)
        .sum();
    bars.push(Bar {
        asked: "no anomaly, nothing undecided, enough looked at".to_owned(),
        found: format!(
            "{anomalies} anomalies, {} undecided, {} flaws of the history",
            verdict.undecided.len(),
            verdict.flaws.len()
        ),
        met: verdict.is_sound(),
    });
    bars.push(Bar {
        asked: "every reader reaches the end".to_owned(),
        found: format!("{} are behind", totals.behind.len()),
        met: totals.behind.is_empty(),
    });
    let lossy = !verdict.failovers.is_empty();
    let of_what_was_lost = |what: &str| lossy && OF_WHAT_WAS_LOST.contains(&what);
    let refusals = totals.refusals.iter().map(|(what, count)| {
        let why = match of_what_was_lost(what) {
            true => ", of what an asynchronous failover lost",
            false => "",
        };
        format!("{what} ({count}{why})")
    });
    bars.push(Bar {
        asked: "no client is refused what it may do".to_owned(),
        found: match totals.refusals.is_empty() {
            true => "none was".to_owned(),
            false => refusals.collect::<Vec<_>>().join("; "),
        },
        met: totals.refusals.keys().all(|what| of_what_was_lost(what)),
    });
    let happened = stepped.iter().filter(|step| step.happened()).count();
    bars.push(Bar {
        asked: "every fault of the schedule really happened".to_owned(),
        found: format!("{happened} of {} did", stepped.len()),
        met: happened == stepped.len(),
    });

    let slow = |step: &&Stepped| step.recovery().is_none_or(|took| took > RECOVERY);
    let late: Vec<_> = stepped.iter().filter(slow).collect();
    let slowest = stepped.iter().filter_map(Stepped::recovery).max();
    bars.push(Bar {
        asked: "after each fault every replica serves again within 5 s of its end, without help"
            .to_owned(),
        found: match (late.first(), slowest) {
            (Some(first), _) => format!(
                "{} of {} were slower, the first at {:.0} s: {} ({})",
                late.len(),
                stepped.len(),
                first.began.as_secs_f64(),
                first.what,
                seconds(first.recovery())
            ),
            (None, slowest) => format!("the slowest took {}", seconds(slowest)),
        },
        met: late.is_empty(),
    });

    let silences: Vec<_> = stepped
        .iter()
        .filter_map(|step| step.others_silence)
        .collect();
    if let Some(longest) = silences.iter().max() {
        bars.push(Bar {
            asked: "while one replica is killed or stopped the others serve again within 2 s"
                .to_owned(),
            found: format!(
                "the longest that another answered nothing, of {} times: {}",
                silences.len(),
                seconds(Some(*longest))
            ),
            met: *longest <= OTHERS,
        });
    }

    let failovers: Vec<_> = stepped.iter().filter(|step| step.is_failover()).collect();
    if !failovers.is_empty() {
        let fine = |step: &&&Stepped| step.ids.is_some_and(|(seen, given)| given > seen);
        let count = failovers.iter().filter(fine).count();
        bars.push(Bar {
            asked: "after a failover no new ID is at or below one that a client has seen"
                .to_owned(),
            found: format!("so after {count} of {}", failovers.len()),
            met: count == failovers.len(),
        });
    }

    bars.push(Bar {
        asked: "no replica ends by itself".to_owned(),
        found: format!("{deaths} did"),
        met: deaths == 0,
    });

    for growth in growth.unwrap_or_default() {
        bars.push(Bar {
            asked: format!(
                "{}: in the end at most 10 % more than after two minutes",
                growth.of
            ),
            found: format!(
                "{:.0} {unit} then {:.0} {unit} ({:+.1} %)",
                growth.early,
                growth.late,
                growth.share() * 100.0,
                unit = growth.unit
            ),
            met: growth.share() <= GROWTH,
        });
    }
    bars
}

/// A time as the report writes it.
pub fn seconds(time: Option<Duration>) -> String {
    time.map_or_else(
        || "never".to_owned(),
        |time| format!("{:.2} s", time.as_secs_f64()),
    )
}

#[cfg(test)]
mod tests {
    use handoff_checker::Failover;

    use super::*;
    use crate::schedule::Fault;

    const SECOND: Duration = Duration::from_secs(1);

    fn stepped(kind: Kind) -> Stepped {
        let fault = Fault {
            kind,
            replica: Some(0),
            lasts: SECOND,
            amount: 0,
        };
        Stepped {
            name: kind.name().to_owned(),
            what: fault.to_string(),
            occurrences: vec![Occurrence {
                fault,
                began: SECOND,
                ended: 2 * SECOND,
                evidence: String::new(),
                happened: true,
                lossy_since: None,
            }],
            began: SECOND,
            ended: 2 * SECOND,
            served: [(Some(SECOND), Some(SECOND)); REPLICAS],
            load_served: Some(SECOND),
            others_silence: Some(SECOND),
            ids: Some((7, 8)),
        }
    }

    /// The bars that a sound run with this step and growth misses.
    fn missed(step: Stepped, growth: &[Growth], deaths: usize) -> usize {
        let verdict = Verdict {
            sound: true,
            ..Verdict::default()
        };
        let bars = judge(&verdict, &Totals::default(), &[step], Some(growth), deaths);
        bars.iter().filter(|bar| !bar.met).count()
    }

    #[test]
    fn each_bar_is_missed_by_what_it_is_for_and_by_nothing_else() {
        let fine = || stepped(Kind::FailoverSync);
        assert_eq!(missed(fine(), &[], 0), 0);
        assert_eq!(missed(fine(), &[], 1), 1, "a replica ended by itself");

        let mut never = fine();
        never.served[2].1 = None;
        assert_eq!(
            missed(never, &[], 0),
            1,
            "a stream on replica 2 brought nothing"
        );
        let mut slow = fine();
        slow.load_served = Some(RECOVERY + SECOND);
        assert_eq!(missed(slow, &[], 0), 1, "the load was served late");
        let mut silent = fine();
        silent.others_silence = Some(OTHERS + SECOND);
        assert_eq!(missed(silent, &[], 0), 1, "another replica was silent");
        let mut again = fine();
        again.ids = Some((8, 8));
        assert_eq!(missed(again, &[], 0), 1, "an ID was given out again");
        let mut nothing = fine();
        nothing.occurrences[0].happened = false;
        assert_eq!(missed(nothing, &[], 0), 1, "the fault did not happen");

        let growth = |late| Growth {
            of: "memory",
            unit: "MiB",
            early: 100.0,
            late,
        };
        assert_eq!(missed(fine(), &[growth(109.0)], 0), 0);
        assert_eq!(missed(fine(), &[growth(112.0)], 0), 1, "it grew");

        let bars = judge(&Verdict::default(), &Totals::default(), &[fine()], None, 0);
        assert!(!bars[0].met, "a verdict that isn't sound");
    }

    #[test]
    fn only_a_failover_that_may_lose_commits_explains_a_404() {
        let met = |refusal: &str, failovers: &[Failover]| {
            let verdict = Verdict {
                failovers: failovers.to_vec(),
                ..Verdict::default()
            };
            let totals = Totals {
                refusals: [(OF_WHAT_WAS_LOST[0].to_owned(), 3), (refusal.to_owned(), 1)].into(),
                ..Totals::default()
            };
            let bars = judge(&verdict, &totals, &[], None, 0);
            let asked = "no client is refused what it may do";
            bars.iter().find(|bar| bar.asked == asked).unwrap().met
        };
        let lost = Failover {
            at: 2,
            posts: 1,
            changes: 0,
            oldest: 1,
        };
        assert!(met(OF_WHAT_WAS_LOST[1], &[lost]));
        assert!(!met(OF_WHAT_WAS_LOST[1], &[]));
        assert!(!met("a change of a key was refused with 403", &[lost]));
    }

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(Vec::new()), None);
    }
}
