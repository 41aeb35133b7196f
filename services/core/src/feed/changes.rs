//! What happened in a slot of late, as far as this replica has heard: for whoever read the tables a
//! moment ago and wants to know whether anything is new.
//!
//! It says less than the feed and costs less: nothing is read, nothing waits for its turn, and
//! what it can't tell it calls unclear. What other replicas commit comes with their bells; should a
//! bell be lost, the sweep makes everything unclear for as long as the slot moves. So an answer is
//! behind the tables by no more than a bell's way, and without bells by the time of two sweeps.

use handoff_protocol::{TeamId, messages::SharedMessage};
use handoff_store::{
    ChannelId,
    bell::BellEntry,
    feed::{Event, EventKind, SlotCommit},
};
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Changes that are remembered of a slot at most.
const CHANGES_MAX: usize = 1_024;
/// Sweeps, one a second, for which changes are noted after somebody last asked.
const ASKED_FOR: u32 = 120;
/// Sweeps for which a slot counts as moving after an ID was drawn: longer than its transaction can
/// take, which becomes visible only then.
const MOVES_FOR: u32 = 15;

/// Something that happened.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// A message that this replica posted.
    Posted {
        team: TeamId,
        channel: ChannelId,
        id: i64,
        /// Its sender, and whom it calls.
        sender: handoff_protocol::Name,
        mention: Option<handoff_protocol::MentionName>,
    },
    /// Something else that this replica did in a team.
    InTeam(TeamId),
    /// What another replica did.
    Heard(BellEntry),
    /// It may be anything.
    Unclear,
}

/// A place in a slot's changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(u64);

#[derive(Default)]
struct Log {
    /// The place of the first change that is remembered.
    first: u64,
    changes: VecDeque<Change>,
    /// Sweeps for which changes are still noted.
    asked_for: u32,
    last_value: i64,
    moves_for: u32,
}

/// The changes of a slot.
#[derive(Default)]
pub(crate) struct Changes(Mutex<Log>);

impl Changes {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This replica committed.
    pub(crate) fn committed(&self, commit: &SlotCommit) {
        let mut log = self.log();
        if log.asked_for > 0 {
            commit
                .events
                .iter()
                .filter_map(change)
                .for_each(|change| log.note(change));
        }
    }

    /// Another replica rang.
    pub(crate) fn heard(&self, bell: &BellEntry) {
        let mut log = self.log();
        if log.asked_for > 0 {
            log.note(Change::Heard(bell.clone()));
        }
    }

    /// Something may have happened that nobody told of.
    pub(crate) fn unclear(&self) {
        self.log().note(Change::Unclear);
    }

    /// The sweep read the slot's sequence.
    pub(crate) fn swept(&self, last_value: i64) {
        let mut log = self.log();
        if log.last_value != last_value {
            log.last_value = last_value;
            log.moves_for = MOVES_FOR;
        }
        if log.moves_for > 0 {
            log.moves_for -= 1;
            log.note(Change::Unclear);
        }
        log.asked_for = log.asked_for.saturating_sub(1);
        if log.asked_for == 0 {
            log.forget();
        }
    }

    /// The place now: everything before it can be read in the tables.
    pub(crate) fn place(&self) -> Place {
        let mut log = self.log();
        log.asked_for = ASKED_FOR;
        Place(log.end())
    }

    /// Passes over the changes since a place, up to the place that is answered. None where they are
    /// not known, or one of them is refused.
    pub(crate) fn since(
        &self,
        place: Place,
        mut take: impl FnMut(&Change) -> bool,
    ) -> Option<Place> {
        let mut log = self.log();
        log.asked_for = ASKED_FOR;
        let known = usize::try_from(place.0.checked_sub(log.first)?).ok()?;
        let taken = log.changes.iter().skip(known).all(&mut take);
        taken.then(|| Place(log.end()))
    }
}

impl Log {
    fn end(&self) -> u64 {
        self.first + self.changes.len() as u64
    }

    fn note(&mut self, change: Change) {
        if matches!(change, Change::Unclear) {
            return self.forget();
        }
        if self.changes.len() >= CHANGES_MAX {
            self.changes.pop_front();
            self.first += 1;
        }
        self.changes.push_back(change);
    }

    /// No place of before is known any more.
    fn forget(&mut self) {
        self.first = self.end() + 1;
        self.changes.clear();
    }
}

fn change(event: &Event) -> Option<Change> {
    match (&event.kind, event.channel) {
        (EventKind::Message(message), Some(channel)) => Some(posted(event, channel, message)),
        (EventKind::StatusChanged | EventKind::Denied, _) => None,
        _ => Some(Change::InTeam(event.team)),
    }
}

fn posted(event: &Event, channel: ChannelId, message: &SharedMessage) -> Change {
    Change::Posted {
        team: event.team,
        channel,
        id: event.id,
        sender: message.sender.clone(),
        mention: message.mention.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use handoff_protocol::ids::Slot;
    use handoff_store::bell::Touched;

    const TEAM: TeamId = TeamId::from_row(3);

    fn commit(id: i64, kind: EventKind) -> SlotCommit {
        let event = Event {
            team: TEAM,
            channel: Some(ChannelId(1)),
            id,
            kind,
        };
        SlotCommit {
            slot: TEAM.slot(),
            first: id,
            last: id,
            events: vec![event],
        }
    }

    fn count(changes: &Changes, place: Place) -> Option<usize> {
        let mut count = 0;
        let counted = changes.since(place, |_| {
            count += 1;
            true
        });
        counted.map(|_| count)
    }

    #[test]
    fn what_is_heard_since_a_place_is_told() {
        let changes = Changes::default();
        let start = changes.place();
        assert_eq!(count(&changes, start), Some(0));
        changes.committed(&commit(1, EventKind::AckMoved));
        changes.committed(&commit(2, EventKind::StatusChanged));
        changes.heard(&BellEntry {
            slot: Slot::new(3).unwrap(),
            first: 3,
            last: 3,
            touched: Touched::Any,
            acks: Touched::NONE,
            statuses: Touched::NONE,
            channel_created: false,
            deletions: false,
        });
        assert_eq!(count(&changes, start), Some(2), "a status is no news");
        let end = changes.since(start, |_| true).unwrap();
        assert_eq!(count(&changes, end), Some(0));
        assert_eq!(changes.since(start, |_| false), None);
    }

    #[test]
    fn what_is_not_known_is_unclear() {
        let changes = Changes::default();
        let start = changes.place();
        changes.unclear();
        assert_eq!(count(&changes, start), None);

        let start = changes.place();
        for id in 0..=CHANGES_MAX as i64 {
            changes.committed(&commit(id, EventKind::AckMoved));
        }
        assert_eq!(count(&changes, start), None, "more than is remembered");
    }

    #[test]
    fn a_slot_that_moves_is_unclear_at_each_sweep() {
        let changes = Changes::default();
        changes.swept(7);
        for _ in 1..MOVES_FOR {
            let start = changes.place();
            changes.swept(7);
            assert_eq!(count(&changes, start), None);
        }
        let start = changes.place();
        changes.swept(7);
        assert_eq!(count(&changes, start), Some(0));
        changes.swept(8);
        assert_eq!(count(&changes, start), None);
    }

    #[test]
    fn nothing_is_noted_while_nobody_asks() {
        let changes = Changes::default();
        let start = changes.place();
        for _ in 0..ASKED_FOR {
            changes.swept(0);
        }
        changes.committed(&commit(1, EventKind::AckMoved));
        assert_eq!(count(&changes, start), None);
        assert_eq!(changes.log().changes.len(), 0);
    }
}
