//! One order: `seq` counts each channel without a gap, IDs follow the order of commits, and no ID is
//! given at or below one that a client has seen.

use rustc_hash::FxHashMap;

use super::Report;
use super::standing::{Sort, Standing};
use crate::facts::{Facts, Item, NEVER, Outcome, Place};
use crate::history::{Channel, Id, Time};
use crate::verdict::Kind;

pub(super) fn check(facts: &Facts, standing: &Standing<'_>, report: &mut Report) {
    check_seq(facts, standing, report);
    check_ids(facts, standing, report);
}

/// Each channel counts 1, 2, 3 … in the order of its IDs; what is missing was deleted.
fn check_seq(facts: &Facts, standing: &Standing<'_>, report: &mut Report) {
    let deleted = seq_of_deleted(facts, standing);
    for (place, read) in &facts.table {
        let Place::Messages(channel) = place else {
            continue;
        };
        if !read.done {
            continue;
        }
        report.checked(Kind::Gap, read.items.len());
        let mut due = 1;
        for item in &read.items {
            while due < item.number && deleted.contains_key(&(*channel, due)) {
                due += 1;
            }
            if item.number != due {
                report.found(Kind::Gap, || {
                    format!("seq {due} is due, {} is there", facts.item(item))
                });
                break; // everything after it is shifted, and says nothing new
            }
            due += 1;
        }
    }
}

/// Where the messages stood whose deletion was asked for, as far as anybody was told.
fn seq_of_deleted(facts: &Facts, standing: &Standing<'_>) -> FxHashMap<(Channel, u64), Id> {
    let mut deleted = FxHashMap::default();
    if standing.deleted.is_empty() {
        return deleted;
    }
    for write in &facts.writes {
        if let (Place::Messages(channel), Some((id, seq))) = (write.place, write.told)
            && standing.deleted.contains(&id)
        {
            deleted.insert((channel, seq), id);
        }
    }
    for item in facts.views.iter().flat_map(|view| &view.items) {
        if let Place::Messages(channel) = item.place
            && standing.deleted.contains(&item.id)
        {
            deleted.insert((channel, item.number), item.id);
        }
    }
    deleted
}

/// Somebody knew of an ID at that time.
struct Known {
    at: Time,
    id: Id,
    how: How,
}

#[derive(Clone, Copy)]
enum How {
    /// Its writer was answered.
    Answered,
    /// A reader was given it, or was told that it is decided.
    Seen,
}

/// Whoever begins to write after somebody knows of an ID gets a larger one.
fn check_ids(facts: &Facts, standing: &Standing<'_>, report: &mut Report) {
    let mut known = known(facts, standing);
    known.sort_unstable_by_key(|known| known.at);
    let mut begun: Vec<(Time, &Item)> = facts
        .writes
        .iter()
        .filter_map(|write| Some((write.began, standing.of(write)?)))
        .collect();
    begun.sort_unstable_by_key(|(began, item)| (*began, item.id));
    report.checked(Kind::CommitOrder, begun.len());
    report.checked(Kind::LowId, begun.len());

    let mut known = known.into_iter().peekable();
    // The newest that was answered, and the newest that was seen.
    let (mut answered, mut seen) = ((0, 0), (0, 0));
    for (began, item) in begun {
        while let Some(next) = known.next_if(|known| known.at < began) {
            let newest = match next.how {
                How::Answered => &mut answered,
                How::Seen => &mut seen,
            };
            *newest = (*newest).max((next.id, next.at));
        }
        // After a failover it is the new database that gives IDs again.
        let failed_over = |at: Time| {
            let between = |over: Time| at <= over && over <= began;
            facts.failovers.iter().any(|failover| between(failover.at))
        };
        let (newest, at) = answered;
        if newest >= item.id && !failed_over(at) {
            report.found(Kind::CommitOrder, || {
                format!(
                    "{} was asked for at {began}, after {newest} was answered at {at}",
                    facts.item(item)
                )
            });
            continue;
        }
        let (newest, at) = answered.max(seen);
        if newest >= item.id {
            report.found(Kind::LowId, || {
                format!(
                    "{} was asked for at {began}, after {newest} was known at {at}",
                    facts.item(item)
                )
            });
        }
    }
}

fn known(facts: &Facts, standing: &Standing<'_>) -> Vec<Known> {
    let batches: usize = facts.views.iter().map(|view| view.batches.len()).sum();
    let mut known = Vec::with_capacity(facts.writes.len() + batches);
    for write in &facts.writes {
        if write.outcome != Outcome::Done || write.ended == NEVER {
            continue;
        }
        let told = write.told.map(|(id, _)| id);
        // A status entry's answer names no ID; its change does.
        let stands = || standing.with_value(Sort::Changes, write.value);
        let id = match write.place {
            Place::Messages(_) => told,
            Place::Changes(_) => stands().map(|item| item.id),
        };
        if let Some(id) = id {
            known.push(Known {
                at: write.ended,
                id,
                how: How::Answered,
            });
        }
    }
    for view in &facts.views {
        let mut newest = 0;
        for (index, batch) in view.batches.iter().enumerate() {
            let last = view.batch(index).iter().map(|item| item.id).max();
            if let Some(id) = last.filter(|id| *id > newest) {
                newest = id;
                known.push(Known {
                    at: batch.ended,
                    id,
                    how: How::Seen,
                });
            }
        }
    }
    known
}
