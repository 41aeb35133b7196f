//! Forming batches: which of the writes that wait go into the next transaction.

use super::{Outcome, Write};
use crate::Result;
use handoff_protocol::{TeamId, TraceParent, ids::Slot, keys::KeyHash};
use std::collections::{BTreeSet, HashSet, VecDeque};
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
    Idempotency(TeamId, KeyHash, String),
    MessageDeletion(TeamId),
    ChannelDeletion(TeamId),
}

fn exclusive_key(write: &Write) -> Option<ExclusiveKey> {
    match write {
        Write::Post(post) => post.idempotency.as_ref().map(|idempotency| {
            let key = idempotency.key.clone();
            ExclusiveKey::Idempotency(post.team, idempotency.key_hash, key)
        }),
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

/// Writes of one transaction, in the order in which they came.
pub(super) struct Batch {
    items: Vec<Queued>,
}

impl Batch {
    /// Takes from the front what fits together; the rest stays, in order. Takes at least one.
    pub(super) fn take(waiting: &mut VecDeque<Queued>, items: usize, bytes: usize) -> Self {
        let mut batch = Vec::with_capacity(waiting.len().min(items));
        let mut batch_bytes = 0;
        let mut taken = HashSet::new();
        let mut unfit = VecDeque::new();
        while let Some(queued) = waiting.pop_front() {
            let full =
                batch.len() == items || (batch_bytes + queued.bytes > bytes && !batch.is_empty());
            if full {
                waiting.push_front(queued);
                break;
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
        assert_eq!(ids(&Batch::take(&mut waiting, 10, 1 << 20)), [10, 12]);
        assert_eq!(ids(&Batch::take(&mut waiting, 10, 1 << 20)), [11]);
        assert_eq!(ids(&Batch::take(&mut waiting, 10, 1 << 20)), [13]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn a_batch_is_bounded_and_never_empty() {
        let teams = || (1..=5).map(|team| deletion(team, team)).collect();
        let mut waiting = queue(teams());
        assert_eq!(Batch::take(&mut waiting, 2, 1 << 20).len(), 2);
        assert_eq!(Batch::take(&mut waiting, 9, 1).len(), 1);
        assert_eq!(Batch::take(&mut waiting, 9, 600).len(), 2);
        assert!(waiting.is_empty());
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
        let slots = Batch::take(&mut waiting, 10, 1 << 20).slots();
        assert_eq!(
            slots.into_iter().map(Slot::index).collect::<Vec<_>>(),
            [3, 6]
        );
    }
}
