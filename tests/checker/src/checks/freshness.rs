//! What was answered before a read was asked for, that read shows: pages that claim to be the last,
//! and pages of what a sender has not acked.

use rustc_hash::FxHashMap;

use super::Report;
use super::standing::Standing;
use crate::facts::{Facts, Item, NEVER, Outcome, Place, Unread, View};
use crate::history::{Channel, Id, Number, Time};
use crate::verdict::Kind;

/// What was answered, and when, in the order of the answers.
type Answered<'a> = FxHashMap<Place, Vec<(Time, &'a Item)>>;

pub(super) fn check(facts: &Facts, standing: &Standing<'_>, report: &mut Report) {
    let mut answered: Answered<'_> = FxHashMap::default();
    for write in &facts.writes {
        if write.outcome == Outcome::Done
            && let Some(item) = standing.of(write)
        {
            answered
                .entry(item.place)
                .or_default()
                .push((write.ended, item));
        }
    }
    for items in answered.values_mut() {
        items.sort_unstable_by_key(|(ended, item)| (*ended, item.id));
    }
    for view in &facts.views {
        check_view(facts, standing, view, &answered, report);
    }
    check_unread(facts, standing, &answered, report);
}

/// Whoever is told that nothing more is there has been given all that was answered before.
fn check_view(
    facts: &Facts,
    standing: &Standing<'_>,
    view: &View,
    answered: &Answered<'_>,
    report: &mut Report,
) {
    let [place] = view.places[..] else { return };
    let Some(answered) = answered.get(&place) else {
        return;
    };
    let after = view.after.unwrap_or(0);
    // By when each item was given to it, for those that came in order.
    let mut given: FxHashMap<Id, usize> = FxHashMap::default();
    let claims = view.batches.iter().filter(|batch| batch.is_last).count();
    if claims == 0 {
        return;
    }
    for (position, item) in view.items.iter().enumerate() {
        given.entry(item.id).or_insert(position);
    }
    let mut due = answered.iter().peekable();
    for (index, batch) in view.batches.iter().enumerate() {
        if !batch.is_last {
            continue;
        }
        let end = batch.start + view.batch(index).len();
        // A write is first due at the first claim that was asked for after its answer; if it was
        // given by then, it was also given by all later ones. A reader's pages follow one another.
        while let Some((_, item)) = due.next_if(|(ended, _)| *ended < batch.began) {
            if item.id <= after {
                continue;
            }
            report.checked(Kind::Stale, 1);
            let shown = given.get(&item.id).is_some_and(|position| *position < end);
            if !shown && !standing.deleted.contains(&item.id) {
                report.found(Kind::Stale, || {
                    format!(
                        "process {} was told at {} that nothing more is there, without {}",
                        view.process,
                        batch.ended,
                        facts.item(item)
                    )
                });
            }
        }
    }
}

/// The moves of one sender's ack in one channel.
#[derive(Default)]
struct Moves {
    /// Where answers said that it stands, in the order of the answers.
    answered: Vec<(Time, Id)>,
    /// Where it was asked to stand, in the order of the requests.
    asked: Vec<(Time, Id)>,
}

impl Moves {
    /// It stood here at least, at that time.
    fn at_least(&self, at: Time) -> Id {
        largest(&self.answered, at)
    }

    /// It stood here at most, at that time.
    fn at_most(&self, at: Time) -> Id {
        largest(&self.asked, at)
    }
}

/// The largest ID before a time; the IDs are running maxima.
fn largest(ids: &[(Time, Id)], before: Time) -> Id {
    let index = ids.partition_point(|(at, _)| *at < before);
    index.checked_sub(1).map_or(0, |index| ids[index].1)
}

fn running(mut ids: Vec<(Time, Id)>) -> Vec<(Time, Id)> {
    ids.sort_unstable();
    let mut newest = 0;
    for (_, id) in &mut ids {
        newest = newest.max(*id);
        *id = newest;
    }
    ids
}

fn moves(facts: &Facts) -> FxHashMap<(Channel, Number), Moves> {
    let mut moves: FxHashMap<(Channel, Number), Moves> = FxHashMap::default();
    for ack in &facts.acks {
        let moves = moves.entry((ack.channel, ack.sender)).or_default();
        if ack.outcome != Outcome::Refused {
            moves.asked.push((ack.began, ack.id));
        }
        if let (Some(id), true) = (ack.told, ack.ended != NEVER) {
            moves.answered.push((ack.ended, id));
        }
    }
    for moves in moves.values_mut() {
        moves.asked = running(std::mem::take(&mut moves.asked));
        moves.answered = running(std::mem::take(&mut moves.answered));
    }
    moves
}

/// A page of unread messages begins where the ack stands, which is known to lie between what was
/// answered before and what was asked for meanwhile; it leaves nothing out from there on.
fn check_unread(
    facts: &Facts,
    standing: &Standing<'_>,
    answered: &Answered<'_>,
    report: &mut Report,
) {
    if facts.unread.is_empty() {
        return;
    }
    let newest: Answered<'_> = answered
        .iter()
        .map(|(place, answered)| (*place, running_newest(standing, answered)))
        .collect();
    let moves = moves(facts);
    let none = Moves::default();
    for unread in &facts.unread {
        let place = Place::Messages(unread.channel);
        if !facts.table.get(&place).is_some_and(|read| read.done) {
            continue;
        }
        let moves = moves.get(&(unread.channel, unread.sender)).unwrap_or(&none);
        // A failover may have moved acks back.
        let over = facts
            .failovers
            .iter()
            .any(|over| over.since <= unread.ended);
        let at_least = match over {
            true => 0,
            false => moves.at_least(unread.began),
        };
        let at_most = moves.at_most(unread.ended);
        check_unread_page(facts, standing, unread, (at_least, at_most), report);
        if unread.is_last {
            let newest = newest.get(&place).map_or(&[][..], Vec::as_slice);
            check_unread_end(facts, unread, at_most, newest, report);
        }
    }
}

fn check_unread_page(
    facts: &Facts,
    standing: &Standing<'_>,
    unread: &Unread,
    (at_least, at_most): (Id, Id),
    report: &mut Report,
) {
    let process = unread.process;
    report.checked(Kind::Altered, unread.items.len());
    report.checked(Kind::Unasked, unread.items.len());
    let in_failover = standing.failover(unread.ended).is_some();
    for item in &unread.items {
        match standing.with_id(item.id) {
            Some(stands) if stands == item => {}
            Some(stands) => report.found(Kind::Altered, || {
                format!(
                    "process {process} read {} as unread where {} stands",
                    facts.item(item),
                    facts.item(stands)
                )
            }),
            None if standing.deleted.contains(&item.id) || in_failover => {}
            None => report.found(Kind::Phantom, || {
                format!(
                    "process {process} read {} as unread, which doesn't stand",
                    facts.item(item)
                )
            }),
        }
        if item.id <= at_least || item.place != Place::Messages(unread.channel) {
            report.found(Kind::Unasked, || {
                format!(
                    "process {process} read {} as unread, with the ack at {at_least}",
                    facts.item(item)
                )
            });
        }
    }
    let (Some(_), Some(last)) = (unread.items.first(), unread.items.last()) else {
        return;
    };
    // All that stands from past the ack, wherever it may have been, up to the page's end.
    let stands = standing.place(Place::Messages(unread.channel));
    let first = stands.partition_point(|item| item.id <= at_most);
    let end = stands.partition_point(|item| item.id <= last.id);
    let given: Vec<Id> = unread.items.iter().map(|item| item.id).collect();
    // Of what lies between the two places where the ack may have stood, what follows on the page's
    // first item is due as well.
    let from_first = stands.partition_point(|item| item.id < given[0]);
    let due = stands.get(first.min(from_first)..end).unwrap_or_default();
    for item in due {
        report.checked(Kind::Skipped, 1);
        if !given.contains(&item.id) && !standing.deleted.contains(&item.id) {
            report.found(Kind::Skipped, || {
                format!(
                    "process {process} read what is unread up to {} without {}",
                    last.id,
                    facts.item(item)
                )
            });
        }
    }
}

fn check_unread_end(
    facts: &Facts,
    unread: &Unread,
    at_most: Id,
    newest_answered: &[(Time, &Item)],
    report: &mut Report,
) {
    let newest = unread
        .items
        .last()
        .map_or(at_most, |item| item.id.max(at_most));
    report.checked(Kind::Stale, 1);
    let index = newest_answered.partition_point(|(ended, _)| *ended < unread.began);
    let Some(index) = index.checked_sub(1) else {
        return;
    };
    let (_, item) = newest_answered[index];
    if item.id > newest {
        report.found(Kind::Stale, || {
            format!(
                "process {} was told at {} that nothing more is unread, without {}",
                unread.process,
                unread.ended,
                facts.item(item)
            )
        });
    }
}

/// Of what was answered up to each answer and stands, the newest.
fn running_newest<'a>(
    standing: &Standing<'_>,
    answered: &[(Time, &'a Item)],
) -> Vec<(Time, &'a Item)> {
    let mut newest: Option<&Item> = None;
    let mut running = Vec::with_capacity(answered.len());
    for (ended, item) in answered {
        if standing.deleted.contains(&item.id) {
            continue;
        }
        let item = match newest {
            Some(newest) if newest.id > item.id => newest,
            _ => item,
        };
        newest = Some(item);
        running.push((*ended, item));
    }
    running
}
