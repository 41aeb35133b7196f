//! Forming batches: which of the writes that wait go into the next transaction.

use super::{Outcome, Write};
use crate::{Result, digest::Digest};
use foldhash::HashSet;
use handoff_protocol::{TeamId, TraceParent, ids::Slot};
use std::collections::{BTreeSet, VecDeque};
use tokio::sync::oneshot;

/// A write that waits, and who waits for its outcome.
pub(super) struct Queued {
    pub(super) write: Write,
    pub(super) reply: oneshot::Sender<Result<Outcome>>,
    pub(super) bytes: usize,
    /// The lane found its channel missing: the next transaction opens it first. Most posts go to
    /// channels that exist, and pay nothing for this.
    pub(super) may_create_channel: bool,
}

/// Of the writes with the same key, a transaction takes one: its statements see what stood before
/// them, not each other's rows.
#[derive(PartialEq, Eq, Hash)]
enum ExclusiveKey {
    Idempotency(TeamId, Digest),
    MessageDeletion(TeamId),
    ChannelDeletion(TeamId),
}

fn exclusive_key(write: &Write) -> Option<ExclusiveKey> {
    match write {
        Write::Post(post) => {
            let idempotency = post.idempotency.as_ref();
            idempotency.map(|key| ExclusiveKey::Idempotency(post.team, key.digest))
        }
        // It also lowers its parent's count: that row must not be touched twice in a statement.
        Write::DeleteMessage(message) => Some(ExclusiveKey::MessageDeletion(message.team)),
        Write::DeleteChannel(channel) => Some(ExclusiveKey::ChannelDeletion(channel.team)),
        Write::Acks(_)
        | Write::SetStatus(_)
        | Write::DeleteStatus(_)
        | Write::CreateChannel(_)
        | Write::Audit(_) => None,
    }
}

/// Some of the 64 slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SlotSet(u64);

impl SlotSet {
    pub(super) fn contains(self, slot: Slot) -> bool {
        self.0 & Self::from(slot).0 != 0
    }

    pub(super) fn add(&mut self, others: impl Into<Self>) {
        self.0 |= others.into().0;
    }

    pub(super) fn remove(&mut self, others: Self) {
        self.0 &= !others.0;
    }
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<T: IntoIterator<Item = Slot>>(slots: T) -> Self {
        let mut set = Self::default();
        slots.into_iter().for_each(|slot| set.add(slot));
        set
    }
}

impl From<Slot> for SlotSet {
    fn from(slot: Slot) -> Self {
        Self(1 << slot.index())
    }
}

/// What a batch may take.
#[derive(Clone, Copy)]
pub(super) struct Room {
    /// Writes at most.
    pub(super) items: usize,
    /// Bytes of text at most, but for a single write that has more.
    pub(super) bytes: usize,
    /// The slots that it may write to.
    pub(super) slots: SlotSet,
}

/// Slots that writes wait for, each with how many.
pub(super) struct Waiting(Vec<(Slot, usize)>);

impl Waiting {
    /// Of the writes that go to other slots than these.
    pub(super) fn elsewhere(writes: &VecDeque<Queued>, busy: SlotSet) -> Self {
        let mut counts: Vec<(Slot, usize)> = Vec::new();
        for queued in writes {
            let slot = queued.write.team().slot();
            match counts.iter_mut().find(|(known, _)| *known == slot) {
                Some((_, count)) => *count += 1,
                None if busy.contains(slot) => {}
                None => counts.push((slot, 1)),
            }
        }
        Self(counts)
    }

    pub(super) fn writes(&self) -> usize {
        self.0.iter().map(|(_, count)| count).sum()
    }

    pub(super) fn slots(&self) -> SlotSet {
        self.0.iter().map(|(slot, _)| *slot).collect()
    }

    /// Slots with up to half of the writes; the first one in any case.
    pub(super) fn half_of_the_slots(&self) -> SlotSet {
        let half = self.writes() / 2;
        let (mut slots, mut covered) = (SlotSet::default(), 0);
        for (slot, count) in &self.0 {
            if covered == 0 || covered + count <= half {
                slots.add(*slot);
                covered += count;
            }
        }
        slots
    }
}

/// Writes of one transaction, in the order in which they came.
pub(super) struct Batch {
    items: Vec<Queued>,
}

impl Batch {
    /// Takes from the front what fits together; the rest stays, in order. Takes at least one, if one
    /// goes to the slots.
    pub(super) fn take(waiting: &mut VecDeque<Queued>, room: Room) -> Self {
        let mut batch = Vec::with_capacity(waiting.len().min(room.items));
        let mut batch_bytes = 0;
        let mut taken = HashSet::default();
        let mut unfit = VecDeque::new();
        while let Some(queued) = waiting.pop_front() {
            let full = batch.len() == room.items
                || (batch_bytes + queued.bytes > room.bytes && !batch.is_empty());
            if full {
                waiting.push_front(queued);
                break;
            }
            if !room.slots.contains(queued.write.team().slot()) {
                unfit.push_back(queued);
                continue;
            }
            let is_taken = exclusive_key(&queued.write).is_some_and(|key| !taken.insert(key));
            if is_taken && !planted!(ForgetExclusive) {
                unfit.push_back(queued);
                continue;
            }
            batch_bytes += queued.bytes;
            batch.push(queued);
        }
        while let Some(queued) = unfit.pop_back() {
            waiting.push_front(queued);
        }
        Self { items: batch }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn items(&self) -> &[Queued] {
        &self.items
    }

    pub(super) fn into_items(self) -> Vec<Queued> {
        self.items
    }

    pub(super) fn text_bytes(&self) -> usize {
        self.items.iter().map(|queued| queued.bytes).sum()
    }

    /// The spans of its posts that are traced.
    pub(super) fn traced(&self) -> Vec<TraceParent> {
        let traced = self.items.iter().filter_map(|queued| match &queued.write {
            Write::Post(post) => post.traceparent,
            _ => None,
        });
        traced.collect()
    }

    /// The slots written to, ascending: the order in which their locks are taken.
    pub(super) fn slots(&self) -> BTreeSet<Slot> {
        self.items
            .iter()
            .map(|queued| queued.write.team().slot())
            .collect()
    }

    /// The slots written to.
    pub(super) fn slot_set(&self) -> SlotSet {
        let slots = self.items.iter().map(|queued| queued.write.team().slot());
        slots.collect()
    }

    pub(super) fn halves(mut self) -> (Self, Self) {
        let second = self.items.split_off(self.items.len() / 2);
        (self, Self { items: second })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::{DeleteChannel, DeleteMessage};
    use handoff_protocol::{ChannelName, Id};

    fn queue(writes: Vec<Write>) -> VecDeque<Queued> {
        let queued = |write: Write| Queued {
            bytes: write.text_bytes(),
            write,
            reply: oneshot::channel().0,
            may_create_channel: false,
        };
        writes.into_iter().map(queued).collect()
    }

    fn deletion(team: i64, id: i64) -> Write {
        Write::DeleteMessage(DeleteMessage {
            team: TeamId::from_row(team),
            channel: ChannelName::from_row("ops"),
            id: Id::from_serial(id),
        })
    }

    fn room(items: usize, bytes: usize) -> Room {
        Room {
            items,
            bytes,
            slots: Slot::all().collect(),
        }
    }

    fn ids(batch: &Batch) -> Vec<i64> {
        let id = |queued: &Queued| match &queued.write {
            Write::DeleteMessage(message) => message.id.serial(),
            _ => 0,
        };
        batch.items().iter().map(id).collect()
    }

    #[test]
    fn exclusive_writes_go_one_after_the_other_and_hold_nobody_else_back() {
        let mut waiting = queue(vec![
            deletion(1, 10),
            deletion(1, 11),
            deletion(2, 12),
            deletion(1, 13),
        ]);
        assert_eq!(ids(&Batch::take(&mut waiting, room(10, 1 << 20))), [10, 12]);
        assert_eq!(ids(&Batch::take(&mut waiting, room(10, 1 << 20))), [11]);
        assert_eq!(ids(&Batch::take(&mut waiting, room(10, 1 << 20))), [13]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn a_batch_is_bounded_and_never_empty() {
        let teams = || (1..=5).map(|team| deletion(team, team)).collect();
        let mut waiting = queue(teams());
        assert_eq!(Batch::take(&mut waiting, room(2, 1 << 20)).len(), 2);
        assert_eq!(Batch::take(&mut waiting, room(9, 1)).len(), 1);
        assert_eq!(Batch::take(&mut waiting, room(9, 600)).len(), 2);
        assert!(waiting.is_empty());
    }

    #[test]
    fn two_batches_share_the_slots_and_leave_busy_ones_alone() {
        let slot = |team| TeamId::from_row(team).slot();
        let only = |slots| Room {
            slots,
            ..room(10, 1 << 20)
        };
        let mut waiting = queue([2, 3, 1, 3, 2, 3].map(|team| deletion(team, team)).into());
        let all = Waiting::elsewhere(&waiting, SlotSet::default());
        assert_eq!(all.writes(), 6);
        let half = all.half_of_the_slots();
        assert_eq!(half, [slot(2), slot(1)].into_iter().collect());
        assert_eq!(ids(&Batch::take(&mut waiting, only(half))), [2, 1]);

        let rest = Waiting::elsewhere(&waiting, half);
        assert_eq!((rest.writes(), rest.slots()), (3, slot(3).into()));
        assert_eq!(rest.half_of_the_slots(), slot(3).into());
        assert_eq!(ids(&Batch::take(&mut waiting, only(rest.slots()))), [3]);
        let nothing = only(slot(9).into());
        assert_eq!(Batch::take(&mut waiting, nothing).len(), 0);
        let left = Batch::take(&mut waiting, room(10, 1 << 20));
        assert_eq!(ids(&left), [3, 2], "what is left waits on, in order");
    }

    #[test]
    fn slots_ascend() {
        let delete = |team| {
            let name = ChannelName::from_row("ops");
            Write::DeleteChannel(DeleteChannel {
                team: TeamId::from_row(team),
                name,
            })
        };
        let mut waiting = queue(vec![delete(70), delete(3), delete(67)]);
        let slots = Batch::take(&mut waiting, room(10, 1 << 20)).slots();
        assert_eq!(
            slots.into_iter().map(Slot::index).collect::<Vec<_>>(),
            [3, 6]
        );
    }
}
