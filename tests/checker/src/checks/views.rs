//! A reader is given what stands after its cursor: all of it, once, in order, and nothing else, over
//! all its pages, streams and resumes.

use rustc_hash::FxHashSet;

use super::Report;
use super::standing::Standing;
use crate::facts::{Batch, Facts, Item, Outcome, Place, View};
use crate::history::Id;
use crate::verdict::Kind;

pub(super) fn check(facts: &Facts, standing: &Standing<'_>, report: &mut Report) {
    let whole = |view: &View| {
        let done = |place| facts.table.get(place).is_some_and(|read| read.done);
        view.places.iter().all(done)
    };
    for view in &facts.views {
        check_order(facts, view, report);
        if whole(view) {
            check_content(facts, standing, view, report);
            check_complete(facts, standing, view, report);
        } else if !view.items.is_empty() {
            let process = view.process;
            report.flaw(format!(
                "what process {process} read was not read in the end"
            ));
        }
    }
    for unread in &facts.unread {
        report.checked(Kind::Disorder, unread.items.len());
        let mut pairs = unread.items.windows(2);
        if let Some(pair) = pairs.find(|pair| pair[0].id >= pair[1].id) {
            report.found(Kind::Disorder, || {
                let (one, next) = (facts.item(&pair[0]), facts.item(&pair[1]));
                format!(
                    "process {} read {next} as unread after {one}",
                    unread.process
                )
            });
        }
    }
}

/// Each item against the one before it.
fn check_order(facts: &Facts, view: &View, report: &mut Report) {
    report.checked(Kind::NonMonotonic, view.batches.len());
    report.checked(Kind::Disorder, view.items.len());
    report.checked(Kind::Repeated, view.items.len());
    report.checked(Kind::Unasked, view.items.len());
    let after = view.after.unwrap_or(0);
    let mut newest = after;
    // Made only where something goes back: most readers never do.
    let mut seen: Option<FxHashSet<Id>> = None;
    for index in 0..view.batches.len() {
        let start = view.batches[index].start;
        for (offset, item) in view.batch(index).iter().enumerate() {
            let unasked = !view.places.contains(&item.place) || item.id <= after;
            if item.id > newest && !unasked {
                newest = item.id;
                if let Some(seen) = &mut seen {
                    seen.insert(item.id);
                }
                continue;
            }
            let position = start + offset;
            let seen = seen
                .get_or_insert_with(|| view.items[..position].iter().map(|item| item.id).collect());
            let process = view.process;
            let item_text = || facts.item(item);
            if unasked {
                report.found(Kind::Unasked, || {
                    format!(
                        "process {process}, which began after {after}, was given {}",
                        item_text()
                    )
                });
            } else if seen.contains(&item.id) {
                report.found(Kind::Repeated, || {
                    format!("process {process} was given {} again", item_text())
                });
            } else {
                let kind = match offset {
                    0 => Kind::NonMonotonic,
                    _ => Kind::Disorder,
                };
                report.found(kind, || {
                    format!("process {process} was given {} after {newest}", item_text())
                });
            }
            seen.insert(item.id);
        }
    }
}

/// Each item against what stands under its ID.
fn check_content(facts: &Facts, standing: &Standing<'_>, view: &View, report: &mut Report) {
    report.checked(Kind::Altered, view.items.len());
    report.checked(Kind::Phantom, view.items.len());
    report.checked(Kind::InconsistentOrder, view.items.len());
    let process = view.process;
    let mut moved = Vec::new();
    for index in 0..view.batches.len() {
        let batch = view.batches[index];
        let start = batch.start;
        for (offset, item) in view.batch(index).iter().enumerate() {
            if !view.places.contains(&item.place) {
                continue; // not asked for, and told of as such
            }
            let stands = standing.with_id(item.id);
            if stands == Some(item) {
                continue;
            }
            if let Some(other) = stands_elsewhere(standing, item) {
                moved.push((start + offset, other));
            } else if let Some(stands) = stands {
                report.found(Kind::Altered, || {
                    format!(
                        "process {process} was given {} where {} stands",
                        facts.item(item),
                        facts.item(stands)
                    )
                });
            } else {
                check_gone(facts, standing, view, &batch, item, report);
            }
        }
    }
    check_moved(facts, standing, view, &moved, report);
}

/// The same write under another ID than the reader was shown.
fn stands_elsewhere<'a>(standing: &Standing<'a>, item: &Item) -> Option<&'a Item> {
    let other = standing.with_value(item.place.sort(), item.value?)?;
    (other.place == item.place && other.id != item.id).then_some(other)
}

/// Writes that the reader was shown under other IDs than they stand under: either their order is
/// another one as well, or only the IDs are.
fn check_moved(
    facts: &Facts,
    standing: &Standing<'_>,
    view: &View,
    moved: &[(usize, &Item)],
    report: &mut Report,
) {
    if moved.is_empty() {
        return;
    }
    let stands_at =
        |item: &Item| stands_elsewhere(standing, item).map_or(item.id, |other| other.id);
    let ids: Vec<Id> = view.items.iter().map(stands_at).collect();
    let mut smallest_later = vec![Id::MAX; ids.len() + 1];
    for index in (0..ids.len()).rev() {
        smallest_later[index] = smallest_later[index + 1].min(ids[index]);
    }
    let mut moved = moved.iter().peekable();
    let mut largest_before = 0;
    for (index, id) in ids.iter().enumerate() {
        if let Some((_, other)) = moved.next_if(|(position, _)| *position == index) {
            let crossed = largest_before > *id || smallest_later[index + 1] < *id;
            let kind = match crossed {
                true => Kind::InconsistentOrder,
                false => Kind::Altered,
            };
            report.found(kind, || {
                format!(
                    "process {} was given {}, which stands as {}",
                    view.process,
                    facts.item(&view.items[index]),
                    facts.item(other)
                )
            });
        }
        largest_before = largest_before.max(*id);
    }
}

/// Something that doesn't stand any more: it was deleted, lost by a failover, or never there.
fn check_gone(
    facts: &Facts,
    standing: &Standing<'_>,
    view: &View,
    batch: &Batch,
    item: &Item,
    report: &mut Report,
) {
    let (process, seen_at) = (view.process, batch.ended);
    let writer = item
        .value
        .and_then(|value| standing.writer(item.place.sort(), value))
        .filter(|writer| writer.outcome != Outcome::Refused);
    // A stream from before the failover shows what its replica still has in memory, until that
    // has seen that the database is another.
    let lost_with = writer.and_then(|writer| standing.failover(writer.ended));
    let from_before = lost_with.is_some_and(|(_, failover)| batch.asked <= failover.at);
    let excused =
        standing.deleted.contains(&item.id) || standing.failover(seen_at).is_some() || from_before;
    // A deletion of a status entry has no value to be traced by.
    let traced = writer.is_some() || item.value.is_none();
    if !excused || !traced {
        report.found(Kind::Phantom, || {
            format!(
                "process {process} was given {} at {seen_at}, which doesn't stand",
                facts.item(item)
            )
        });
        return;
    }
    let Some(writer) = writer else { return };
    let is_told = match (item.place, writer.told) {
        (Place::Messages(_), Some(told)) => told == (item.id, item.number),
        (Place::Messages(_), None) => true,
        (Place::Changes(_), _) => u64::from(writer.key) == item.number,
    };
    if writer.place != item.place || !is_told {
        report.found(Kind::Altered, || {
            format!(
                "process {process} was given {}, whose writer was told {:?}",
                facts.item(item),
                writer.told
            )
        });
    }
}

/// Everything that stands between where it began and where it is was given to it.
fn check_complete(facts: &Facts, standing: &Standing<'_>, view: &View, report: &mut Report) {
    let Some(after) = view.after else {
        return;
    };
    let newest = view.items.iter().map(|item| item.id).max().unwrap_or(0);
    let until = newest.max(view.due);
    let mut given: Vec<Id> = view.items.iter().map(|item| item.id).collect();
    if !given.is_sorted() {
        given.sort_unstable();
    }
    for place in &view.places {
        let items = standing.place(*place);
        let first = items.partition_point(|item| item.id <= after);
        let end = items.partition_point(|item| item.id <= until);
        let items = items.get(first..end).unwrap_or_default();
        report.checked(Kind::Skipped, items.len());
        // Both ascend: one walk over each.
        let mut given = given.iter().copied().peekable();
        for item in items {
            while given.next_if(|id| *id < item.id).is_some() {}
            if given.peek() == Some(&item.id) || standing.deleted.contains(&item.id) {
                continue;
            }
            // Under another ID, or with another content: told of as altered.
            report.found(Kind::Skipped, || {
                let process = view.process;
                format!("process {process} was never given {}", facts.item(item))
            });
        }
    }
}
