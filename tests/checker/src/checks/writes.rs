//! Every write is where its answer said, once, and nothing else is there: lost, duplicate, phantom,
//! altered. What a failover to an asynchronous standby may lose is counted apart.

use super::Report;
use super::standing::Standing;
use crate::facts::{Facts, Item, Outcome, Place, Write};
use crate::history::Id;
use crate::verdict::Kind;

pub(super) fn check(facts: &Facts, standing: &Standing<'_>, report: &mut Report) {
    let lost = check_writes(facts, standing, report);
    check_lost(facts, standing, &lost, report);
    check_table(facts, standing, report);
    check_deletions(facts, standing, report);
    check_channels(facts, report);
}

/// Each write against what stands; those that are missing though they were answered 2xx.
fn check_writes<'a>(
    facts: &'a Facts,
    standing: &Standing<'_>,
    report: &mut Report,
) -> Vec<&'a Write> {
    let mut lost = Vec::new();
    let done = facts
        .writes
        .iter()
        .filter(|write| write.outcome == Outcome::Done);
    let done = done.count();
    report.checked(Kind::Lost, done);
    report.checked(Kind::Duplicate, facts.writes.len());
    for write in &facts.writes {
        match (write.outcome, standing.of(write)) {
            (Outcome::Done, None) => {
                let deleted = write
                    .told
                    .is_some_and(|(id, _)| standing.deleted.contains(&id));
                if !deleted {
                    lost.push(write);
                }
            }
            (Outcome::Done, Some(item)) => {
                let told = told(write, item);
                if told != *item {
                    report.found(Kind::Altered, || {
                        format!(
                            "{} stands, {} was answered",
                            facts.item(item),
                            facts.item(&told)
                        )
                    });
                }
            }
            (Outcome::Refused, Some(item)) => report.found(Kind::Phantom, || {
                format!("{} stands, and its writer was refused", facts.item(item))
            }),
            (Outcome::Unknown, Some(item)) if item.place != write.place => {
                let told = told(write, item);
                report.found(Kind::Altered, || {
                    format!(
                        "{} stands, {} was asked for",
                        facts.item(item),
                        facts.item(&told)
                    )
                });
            }
            (Outcome::Unknown, _) | (Outcome::Refused, None) => {}
        }
    }
    for (one, other) in &standing.doubled {
        report.found(Kind::Duplicate, || {
            format!("{} stands, and {}", facts.item(one), facts.item(other))
        });
    }
    lost
}

/// What the writer was told, as far as it was told anything.
fn told(write: &Write, item: &Item) -> Item {
    Item {
        id: write.told.map_or(item.id, |(id, _)| id),
        place: write.place,
        number: match (write.place, write.told) {
            (Place::Changes(_), _) => u64::from(write.key),
            (Place::Messages(_), Some((_, seq))) => seq,
            (Place::Messages(_), None) => item.number,
        },
        value: Some(write.value),
    }
}

/// What is missing was lost, unless a failover may have lost it. Such a one loses the end of what was
/// committed: IDs are given in commit order, so nothing that it lost is older than what it kept.
fn check_lost(facts: &Facts, standing: &Standing<'_>, lost: &[&Write], report: &mut Report) {
    let id = |write: &Write| write.told.map(|(id, _)| id);
    let mut newest_lost: Vec<Id> = vec![0; facts.failovers.len()];
    for write in lost {
        if let (Some((failover, _)), Some(id)) = (standing.failover(write.ended), id(write)) {
            newest_lost[failover] = newest_lost[failover].max(id);
        }
    }
    // IDs that the new database gives are above all of these.
    let newest_kept: Vec<Id> = newest_lost
        .iter()
        .map(|newest_lost| standing.newest_before(*newest_lost))
        .collect();
    for write in lost {
        let failover = standing.failover(write.ended);
        let failover =
            failover.filter(|(index, _)| id(write).is_none_or(|id| id > newest_kept[*index]));
        if let Some((index, span)) = failover {
            let told = &mut report.verdict.failovers[index];
            match write.place {
                Place::Messages(_) => told.posts += 1,
                Place::Changes(_) => told.changes += 1,
            }
            told.oldest = told.oldest.max(span.at - write.ended);
            continue;
        }
        report.found(Kind::Lost, || {
            let place = facts.place(write.place);
            let told = match write.told {
                Some((id, seq)) => format!("{id} (seq {seq})"),
                None => "2xx".to_owned(),
            };
            format!(
                "value {} in {place} was answered {told} at {} and is not there",
                write.value, write.ended
            )
        });
    }
}

/// Nothing stands that nobody wrote; no ID twice; each place's last pages in order.
fn check_table(facts: &Facts, standing: &Standing<'_>, report: &mut Report) {
    for (place, read) in &facts.table {
        report.checked(Kind::Phantom, read.items.len());
        report.checked(Kind::Altered, read.items.len());
        for item in &read.items {
            if item.place != *place {
                report.found(Kind::Unasked, || {
                    format!("{} stands in {}", facts.item(item), facts.place(*place))
                });
            }
            let Some(value) = item.value else { continue };
            if standing.writer(place.sort(), value).is_none() {
                report.found(Kind::Phantom, || {
                    format!("{} stands, and nobody wrote it", facts.item(item))
                });
            }
        }
        if let Some((one, next)) = &read.disorder {
            let kind = match one.id == next.id {
                true => Kind::Repeated,
                false => Kind::Disorder,
            };
            report.found(kind, || {
                format!(
                    "in the end {} is read before {}",
                    facts.item(one),
                    facts.item(next)
                )
            });
        }
    }
    for (one, other) in &standing.same_id {
        report.found(Kind::LowId, || {
            format!("{} and {} have one ID", facts.item(one), facts.item(other))
        });
    }
}

/// What was deleted is gone.
fn check_deletions(facts: &Facts, standing: &Standing<'_>, report: &mut Report) {
    for deletion in &facts.deletions {
        if deletion.outcome != Outcome::Done || standing.failover(deletion.ended).is_some() {
            continue;
        }
        report.checked(Kind::Phantom, 1);
        if let Some(item) = standing.with_id(deletion.id)
            && item.place == Place::Messages(deletion.channel)
        {
            report.found(Kind::Phantom, || {
                format!("{} stands, and it was deleted", facts.item(item))
            });
        }
    }
}

/// Channels that were opened are there.
fn check_channels(facts: &Facts, report: &mut Report) {
    let Some(channels) = &facts.final_channels else {
        return;
    };
    report.checked(Kind::Lost, facts.opened_channels.len());
    for channel in &facts.opened_channels {
        if !channels.contains(channel) && facts.failovers.is_empty() {
            report.found(Kind::Lost, || {
                format!("{} was opened and is not there", facts.channel(*channel))
            });
        }
    }
}
