//! What stands in the end, and what may be missing from it, to be looked up by value and by ID.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::facts::{Facts, Item, LossyFailover, Outcome, Place, Write};
use crate::history::{Id, Time, Value};

/// Messages and changes have values of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Sort {
    Messages,
    Changes,
}

impl Place {
    pub(super) fn sort(self) -> Sort {
        match self {
            Place::Messages(_) => Sort::Messages,
            Place::Changes(_) => Sort::Changes,
        }
    }
}

pub(super) struct Standing<'a> {
    /// By place, then ID.
    pub(super) places: FxHashMap<Place, &'a [Item]>,
    by_value: FxHashMap<(Sort, Value), &'a Item>,
    /// Further items of a value that stands already.
    pub(super) doubled: Vec<(&'a Item, &'a Item)>,
    by_id: FxHashMap<Id, &'a Item>,
    /// Two items that have one ID.
    pub(super) same_id: Vec<(&'a Item, &'a Item)>,
    /// Whose deletion was asked for and not refused.
    pub(super) deleted: FxHashSet<Id>,
    writes: FxHashMap<(Sort, Value), &'a Write>,
    failovers: &'a [LossyFailover],
}

impl<'a> Standing<'a> {
    pub(super) fn new(facts: &'a Facts) -> Standing<'a> {
        let items = facts.table.values().map(|read| read.items.len()).sum();
        let mut standing = Standing {
            places: FxHashMap::default(),
            by_value: FxHashMap::with_capacity_and_hasher(items, Default::default()),
            doubled: Vec::new(),
            by_id: FxHashMap::with_capacity_and_hasher(items, Default::default()),
            same_id: Vec::new(),
            deleted: FxHashSet::default(),
            writes: FxHashMap::with_capacity_and_hasher(facts.writes.len(), Default::default()),
            failovers: &facts.failovers,
        };
        for (place, read) in &facts.table {
            standing.places.insert(*place, &read.items);
            for item in &read.items {
                if let Some(value) = item.value
                    && let Some(first) = standing.by_value.insert((place.sort(), value), item)
                {
                    standing.by_value.insert((place.sort(), value), first);
                    if first.id != item.id {
                        standing.doubled.push((first, item));
                    }
                }
                if let Some(other) = standing.by_id.insert(item.id, item)
                    && other != item
                {
                    standing.same_id.push((other, item));
                }
            }
        }
        let asked = facts
            .deletions
            .iter()
            .filter(|deletion| deletion.outcome != Outcome::Refused);
        standing.deleted = asked.map(|deletion| deletion.id).collect();
        for write in &facts.writes {
            standing
                .writes
                .insert((write.place.sort(), write.value), write);
        }
        standing
    }

    /// What stands of a place, in ascending order.
    pub(super) fn place(&self, place: Place) -> &'a [Item] {
        self.places.get(&place).copied().unwrap_or_default()
    }

    /// What stands under an ID.
    pub(super) fn with_id(&self, id: Id) -> Option<&'a Item> {
        self.by_id.get(&id).copied()
    }

    /// What stands with a value.
    pub(super) fn with_value(&self, sort: Sort, value: Value) -> Option<&'a Item> {
        self.by_value.get(&(sort, value)).copied()
    }

    /// What stands of a write.
    pub(super) fn of(&self, write: &Write) -> Option<&'a Item> {
        self.with_value(write.place.sort(), write.value)
    }

    /// Who wrote a value.
    pub(super) fn writer(&self, sort: Sort, value: Value) -> Option<&'a Write> {
        self.writes.get(&(sort, value)).copied()
    }

    /// The newest ID that stands before another one; 0 if none does.
    pub(super) fn newest_before(&self, id: Id) -> Id {
        let before = self.places.values().filter_map(|items| {
            let index = items.partition_point(|item| item.id < id);
            Some(items.get(index.checked_sub(1)?)?.id)
        });
        before.max().unwrap_or(0)
    }

    /// The failover that may have lost what was answered, or seen, at that time.
    pub(super) fn failover(&self, time: Time) -> Option<(usize, LossyFailover)> {
        let covers = |failover: &LossyFailover| failover.since <= time && time <= failover.at;
        let index = self.failovers.iter().position(covers)?;
        Some((index, self.failovers[index]))
    }
}
