//! An ack only moves forward, for everyone who looks; it stands where somebody asked it to stand.

use rustc_hash::FxHashMap;

use super::Report;
use super::standing::Standing;
use crate::facts::{Facts, NEVER, Outcome};
use crate::history::{Channel, Id, Number, Time};
use crate::verdict::Kind;

/// Somebody was told where an ack stands.
struct Observed {
    began: Time,
    ended: Time,
    id: Id,
    how: &'static str,
}

pub(super) fn check(facts: &Facts, standing: &Standing<'_>, report: &mut Report) {
    let mut asked: FxHashMap<(Channel, Number), Vec<(Time, Id)>> = FxHashMap::default();
    for ack in &facts.acks {
        if ack.outcome != Outcome::Refused {
            let asked = asked.entry((ack.channel, ack.sender)).or_default();
            asked.push((ack.began, ack.id));
        }
        check_answer(facts, standing, ack, report);
    }
    for asked in asked.values_mut() {
        asked.sort_unstable();
        let mut newest = 0;
        for (_, id) in asked {
            newest = newest.max(*id);
            *id = newest;
        }
    }
    let observed = observed(facts, &asked);
    for ((channel, sender), mut observed) in observed {
        observed.sort_by_key(|observed| observed.began);
        let who = || format!("the ack of sender {sender} in {}", facts.channel(channel));
        report.checked(Kind::AckBackwards, observed.len());
        check_forward(facts, &observed, &who, report);
        let asked = asked.get(&(channel, sender)).map_or(&[][..], Vec::as_slice);
        for seen in &observed {
            let index = asked.partition_point(|(began, _)| *began < seen.ended);
            let most = index.checked_sub(1).map_or(0, |index| asked[index].1);
            if seen.id > most {
                report.found(Kind::Phantom, || {
                    format!(
                        "{} is at {} by {}, nobody moved it past {most}",
                        who(),
                        seen.id,
                        seen.how
                    )
                });
            }
        }
    }
}

/// An answer is at least what was asked for, where that stands.
fn check_answer(
    facts: &Facts,
    standing: &Standing<'_>,
    ack: &crate::facts::Ack,
    report: &mut Report,
) {
    if let Some(told) = ack.told
        && told < ack.id
        && standing.with_id(ack.id).is_some()
        && facts.failovers.is_empty()
    {
        report.found(Kind::AckBackwards, || {
            format!(
                "sender {} acked {} in {} and was answered {told}",
                ack.sender,
                ack.id,
                facts.channel(ack.channel)
            )
        });
    }
}

fn observed(
    facts: &Facts,
    asked: &FxHashMap<(Channel, Number), Vec<(Time, Id)>>,
) -> FxHashMap<(Channel, Number), Vec<Observed>> {
    let mut observed: FxHashMap<(Channel, Number), Vec<Observed>> = FxHashMap::default();
    for ack in &facts.acks {
        if let Some(id) = ack.told {
            observed
                .entry((ack.channel, ack.sender))
                .or_default()
                .push(Observed {
                    began: ack.began,
                    ended: ack.ended,
                    id,
                    how: "an answer",
                });
        }
    }
    let mut look = |channel: Channel, began, ended, acks: &[(Number, Id)], how| {
        // One that the list doesn't name stands at the beginning.
        let senders = asked.keys().filter(|(place, _)| *place == channel);
        for (_, sender) in senders {
            let listed = acks.iter().find(|(listed, _)| listed == sender);
            let id = listed.map_or(0, |(_, id)| *id);
            observed
                .entry((channel, *sender))
                .or_default()
                .push(Observed {
                    began,
                    ended,
                    id,
                    how,
                });
        }
        for (sender, id) in acks {
            if !asked.contains_key(&(channel, *sender)) {
                observed
                    .entry((channel, *sender))
                    .or_default()
                    .push(Observed {
                        began,
                        ended,
                        id: *id,
                        how,
                    });
            }
        }
    };
    for read in &facts.ack_reads {
        look(read.channel, read.began, read.ended, &read.acks, "a read");
    }
    for (channel, acks) in &facts.final_acks {
        look(*channel, NEVER, NEVER, acks, "the final read");
    }
    observed
}

/// Nobody is told of less than somebody was told before.
fn check_forward(
    facts: &Facts,
    observed: &[Observed],
    who: &impl Fn() -> String,
    report: &mut Report,
) {
    let mut by_end: Vec<&Observed> = observed.iter().collect();
    by_end.sort_by_key(|observed| observed.ended);
    let mut told = by_end.into_iter().peekable();
    let mut newest: Option<&Observed> = None;
    for later in observed {
        while let Some(earlier) = told.next_if(|earlier| earlier.ended < later.began) {
            // Moves that a failover may have lost don't count from then on.
            let lost = facts.failovers.iter().any(|over| {
                (over.since..=over.at).contains(&earlier.ended) && later.ended > over.since
            });
            if !lost && newest.is_none_or(|newest| newest.id < earlier.id) {
                newest = Some(earlier);
            }
        }
        if let Some(earlier) = newest.filter(|newest| newest.id > later.id) {
            report.found(Kind::AckBackwards, || {
                format!(
                    "{} is at {} by {} asked for at {}, after it was at {} by {} at {}",
                    who(),
                    later.id,
                    later.how,
                    later.began,
                    earlier.id,
                    earlier.how,
                    earlier.ended
                )
            });
        }
    }
}
