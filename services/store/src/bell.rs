//! The doorbell: what replicas tell each other, by NOTIFY, of what they have committed.
//!
//! A bell says that a slot's IDs up to a number are decided, and which channels were touched;
//! never what was written. The tables are the truth.

use crate::{
    ChannelId,
    feed::{EventKind, SlotCommit},
    replicas::ReplicaId,
};
use handoff_protocol::{ids::Slot, keys::KeyHash};
use std::{collections::BTreeSet, fmt::Write};

/// The channel of LISTEN and NOTIFY for commits.
pub const COMMITS: &str = "handoff_commits";
/// The channel of LISTEN and NOTIFY for changed keys.
pub const KEYS: &str = "handoff_keys";

/// Payloads must be shorter than 8,000 bytes.
const PAYLOAD_MAX: usize = 7_900;
/// Beyond this many channels an entry says "any".
const CHANNELS_MAX: usize = 64;

/// Marks an entry in which a channel was opened; something may have been deleted as well.
const CREATED: &str = "+";
/// Marks an entry in which nothing was deleted, nor a channel opened.
const NOTHING_DELETED: &str = "-";

/// Which channels a range of IDs touches in a way that streams show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touched {
    /// These.
    Channels(BTreeSet<ChannelId>),
    /// Any: there were too many to name.
    Any,
}

/// A range of a slot's IDs that is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BellEntry {
    /// The slot.
    pub slot: Slot,
    /// The first ID of the range.
    pub first: i64,
    /// The last ID of the range.
    pub last: i64,
    /// What it touches.
    pub touched: Touched,
    /// Where acks were moved.
    pub acks: Touched,
    /// Where status entries were set or deleted.
    pub statuses: Touched,
    /// A channel was opened.
    pub channel_created: bool,
    /// A message or a channel may have been deleted.
    pub deletions: bool,
}

impl Touched {
    /// No channel.
    pub const NONE: Self = Self::Channels(BTreeSet::new());

    /// Whether this channel may be among them.
    pub fn includes(&self, channel: ChannelId) -> bool {
        match self {
            Self::Channels(channels) => channels.contains(&channel),
            Self::Any => true,
        }
    }

    fn join(&mut self, others: Self) {
        match (&mut *self, others) {
            (Self::Channels(these), Self::Channels(those)) => these.extend(those),
            _ => *self = Self::Any,
        }
    }

    fn bound(&mut self) {
        if matches!(self, Self::Channels(channels) if channels.len() > CHANNELS_MAX) {
            *self = Self::Any;
        }
    }

    fn encode(&self, kind: &str, text: &mut String) {
        // Writing to a String can't fail.
        match self {
            Self::Any => drop(write!(text, ",{kind}*")),
            Self::Channels(channels) => {
                for channel in channels {
                    let _ = write!(text, ",{kind}{channel}");
                }
            }
        }
    }

    /// Takes in a field of an entry; none if it is not one of ours.
    fn decode(&mut self, field: &str) -> Option<()> {
        match (&mut *self, field) {
            (_, "*") => *self = Self::Any,
            (Self::Channels(channels), channel) => {
                channels.insert(ChannelId(channel.parse().ok()?));
            }
            (Self::Any, _) => {}
        }
        Some(())
    }
}

impl From<&SlotCommit> for BellEntry {
    fn from(commit: &SlotCommit) -> Self {
        let channels_of = |is_of_kind: fn(&EventKind) -> bool| {
            let events = commit.events.iter();
            let of_kind = events.filter(|event| is_of_kind(&event.kind));
            Touched::Channels(of_kind.filter_map(|event| event.channel).collect())
        };
        let mut entry = Self {
            slot: commit.slot,
            first: commit.first,
            last: commit.last,
            touched: channels_of(|kind| {
                use EventKind::{ChannelDeleted, Message, MessageDeleted};
                matches!(kind, Message(_) | MessageDeleted(_) | ChannelDeleted)
            }),
            acks: channels_of(|kind| matches!(kind, EventKind::AckMoved)),
            statuses: channels_of(|kind| matches!(kind, EventKind::StatusChanged)),
            channel_created: commit
                .events
                .iter()
                .any(|event| matches!(event.kind, EventKind::ChannelCreated)),
            deletions: commit.events.iter().any(|event| {
                use EventKind::{ChannelDeleted, MessageDeleted};
                matches!(event.kind, MessageDeleted(_) | ChannelDeleted)
            }),
        };
        entry.bound();
        entry
    }
}

impl BellEntry {
    /// Joins the next entry of the same slot to this one.
    ///
    /// IDs between the two belong to other replicas. They are decided as well, since a slot's IDs
    /// become visible in ascending order; what they touched is unknown.
    fn join(&mut self, next: BellEntry) {
        if next.first == self.last + 1 {
            self.touched.join(next.touched);
            self.acks.join(next.acks);
            self.statuses.join(next.statuses);
            self.deletions |= next.deletions;
        } else {
            self.touched = Touched::Any;
            self.acks = Touched::Any;
            self.statuses = Touched::Any;
            self.deletions = true;
        }
        self.last = self.last.max(next.last);
        self.channel_created |= next.channel_created;
        self.bound();
    }

    fn bound(&mut self) {
        self.touched.bound();
        self.acks.bound();
        self.statuses.bound();
    }

    fn encode(&self, text: &mut String) {
        // An entry with neither mark is an older release's, which says nothing of deletions.
        let mark = match (self.channel_created, self.deletions) {
            (true, _) => CREATED,
            (false, false) => NOTHING_DELETED,
            (false, true) => "",
        };
        // Writing to a String can't fail.
        let _ = write!(text, ";{},{},{},{mark}", self.slot, self.first, self.last);
        self.touched.encode("", text);
        self.acks.encode("a", text);
        self.statuses.encode("s", text);
    }

    fn decode(text: &str) -> Option<Self> {
        let mut fields = text.split(',');
        let slot = Slot::new(fields.next()?.parse().ok()?)?;
        let first = fields.next()?.parse().ok()?;
        let last = fields.next()?.parse().ok()?;
        let mark = fields.next()?;
        let mut entry = Self {
            slot,
            first,
            last,
            touched: Touched::NONE,
            acks: Touched::NONE,
            statuses: Touched::NONE,
            channel_created: mark == CREATED,
            deletions: mark != NOTHING_DELETED,
        };
        for field in fields {
            if let Some(channel) = field.strip_prefix('a') {
                entry.acks.decode(channel)?;
            } else if let Some(channel) = field.strip_prefix('s') {
                entry.statuses.decode(channel)?;
            } else {
                entry.touched.decode(field)?;
            }
        }
        Some(entry)
    }
}

/// Entries that wait to be rung: at most one for each slot, so bounded whatever happens.
#[derive(Debug, Default)]
pub struct PendingBells {
    entries: Vec<BellEntry>,
}

impl PendingBells {
    /// Adds what was committed.
    pub fn add(&mut self, entry: BellEntry) {
        match self
            .entries
            .iter_mut()
            .find(|waiting| waiting.slot == entry.slot)
        {
            Some(waiting) => waiting.join(entry),
            None => self.entries.push(entry),
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes as many entries as one payload holds.
    pub fn take_payload(&mut self, replica: ReplicaId) -> Option<String> {
        let mut payload = replica.to_string();
        let mut taken = 0;
        for entry in &self.entries {
            let length = payload.len();
            entry.encode(&mut payload);
            if payload.len() > PAYLOAD_MAX {
                payload.truncate(length);
                break;
            }
            taken += 1;
        }
        self.entries.drain(..taken);
        (taken > 0).then_some(payload)
    }
}

/// What a replica hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bell {
    /// Another replica committed these.
    Commits(Vec<BellEntry>),
    /// This replica's own ring, back again.
    Own,
    /// This key was narrowed or revoked.
    KeyChanged(KeyHash),
}

impl Bell {
    /// Reads a notification; none if it is not one of ours.
    pub fn parse(channel: &str, payload: &str, own: ReplicaId) -> Option<Self> {
        if channel == KEYS {
            return KeyHash::parse(payload).map(Bell::KeyChanged);
        }
        let mut parts = payload.split(';');
        if parts.next()? == own.to_string() {
            return Some(Bell::Own);
        }
        parts
            .map(BellEntry::decode)
            .collect::<Option<Vec<_>>>()
            .map(Bell::Commits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(slot: u8, first: i64, last: i64, channels: &[i64]) -> BellEntry {
        BellEntry {
            slot: Slot::new(slot).unwrap(),
            first,
            last,
            touched: among(channels),
            acks: Touched::NONE,
            statuses: Touched::NONE,
            channel_created: false,
            deletions: false,
        }
    }

    fn among(channels: &[i64]) -> Touched {
        Touched::Channels(channels.iter().copied().map(ChannelId).collect())
    }

    fn round_trip(pending: &mut PendingBells) -> Vec<BellEntry> {
        let payload = pending.take_payload(ReplicaId(7)).unwrap();
        assert!(payload.len() < 8_000);
        match Bell::parse(COMMITS, &payload, ReplicaId(8)) {
            Some(Bell::Commits(entries)) => entries,
            other => panic!("{payload}: {other:?}"),
        }
    }

    #[test]
    fn neighbours_join_and_come_back() {
        let mut pending = PendingBells::default();
        pending.add(BellEntry {
            acks: among(&[5]),
            statuses: among(&[9]),
            ..entry(3, 10, 12, &[1])
        });
        pending.add(entry(63, 1, 1, &[]));
        pending.add(BellEntry {
            channel_created: true,
            acks: among(&[5, 6]),
            statuses: Touched::Any,
            ..entry(3, 13, 13, &[2])
        });
        let expected = BellEntry {
            channel_created: true,
            // The mark of an opened channel doesn't rule it out.
            deletions: true,
            acks: among(&[5, 6]),
            statuses: Touched::Any,
            ..entry(3, 10, 13, &[1, 2])
        };
        assert_eq!(round_trip(&mut pending), [expected, entry(63, 1, 1, &[])]);
        assert!(pending.is_empty());
    }

    #[test]
    fn deletions_are_told_of_and_nothing_else_rules_them_out() {
        let deleted = BellEntry {
            deletions: true,
            ..entry(3, 13, 13, &[1])
        };
        for (second, expected) in [(entry(3, 13, 13, &[1]), false), (deleted, true)] {
            let mut pending = PendingBells::default();
            pending.add(entry(3, 10, 12, &[1]));
            pending.add(second);
            assert_eq!(round_trip(&mut pending)[0].deletions, expected);
        }
        let older = Bell::parse(COMMITS, "7;3,10,12,,1", ReplicaId(8));
        let Some(Bell::Commits(entries)) = older else {
            panic!("{older:?}");
        };
        assert!(entries[0].deletions);
    }

    #[test]
    fn a_gap_may_touch_anything() {
        let mut pending = PendingBells::default();
        pending.add(entry(3, 10, 12, &[1]));
        pending.add(entry(3, 20, 20, &[1]));
        let entry = &round_trip(&mut pending)[0];
        for touched in [&entry.touched, &entry.acks, &entry.statuses] {
            assert_eq!(*touched, Touched::Any);
        }
        assert!(entry.deletions);
    }

    #[test]
    fn every_payload_fits() {
        let mut pending = PendingBells::default();
        let many: Vec<i64> = (0..64).map(|n| i64::MAX - n).collect();
        for slot in 0..64 {
            pending.add(BellEntry {
                acks: among(&many),
                statuses: among(&many),
                ..entry(slot, 1, i64::MAX, &many)
            });
        }
        let mut heard = 0;
        while !pending.is_empty() {
            heard += round_trip(&mut pending).len();
        }
        assert_eq!(heard, 64);
    }

    #[test]
    fn noise_is_no_bell() {
        for payload in [
            "",
            "x",
            "7;",
            "7;64,1,1,",
            "7;1,1",
            "7;1,1,1,,x",
            "7;1,1,1,,a",
            "7;1,1,1,,s-",
        ] {
            let bell = Bell::parse(COMMITS, payload, ReplicaId(8));
            assert!(
                bell.is_none() || bell == Some(Bell::Commits(vec![])),
                "{payload}"
            );
        }
    }
}
