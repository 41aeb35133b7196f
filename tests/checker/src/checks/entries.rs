//! A status entry is what its newest change says, at every read and in the end.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::Report;
use super::standing::{Sort, Standing};
use crate::facts::{EntryCall, EntryOp, Facts, Item, Outcome, Place};
use crate::history::{Channel, Id, Number, Time, Value};
use crate::verdict::Kind;

pub(super) fn check(facts: &Facts, standing: &Standing<'_>, report: &mut Report) {
    let logs = logs(facts);
    check_final(facts, &logs, report);
    let mut operations: BTreeMap<(Channel, Number), Vec<&EntryOp>> = BTreeMap::new();
    for operation in &facts.entry_ops {
        operations
            .entry((operation.channel, operation.key))
            .or_default()
            .push(operation);
    }
    for ((channel, key), operations) in &operations {
        if !facts
            .table
            .get(&Place::Changes(*channel))
            .is_some_and(|read| read.done)
        {
            continue;
        }
        let log = logs.get(&(*channel, *key)).map_or(&[][..], Vec::as_slice);
        let entry = Entry {
            facts,
            standing,
            channel: *channel,
            key: *key,
            log,
        };
        entry.check_deletions(operations, report);
        // Where an entry is compared and set, the search for an order says more than this.
        let is_compared = |operation: &&EntryOp| matches!(operation.call, EntryCall::Cas(..));
        if !operations.iter().any(is_compared) {
            entry.check_reads(operations, report);
        }
    }
}

/// The changes of each entry, oldest first.
fn logs(facts: &Facts) -> FxHashMap<(Channel, Number), Vec<&Item>> {
    let mut logs: FxHashMap<_, Vec<&Item>> = FxHashMap::default();
    for (place, read) in &facts.table {
        if let Place::Changes(channel) = place {
            for item in &read.items {
                let log = logs.entry((*channel, item.number as Number));
                log.or_default().push(item);
            }
        }
    }
    logs
}

/// In the end each entry is what its newest change says.
fn check_final(
    facts: &Facts,
    logs: &FxHashMap<(Channel, Number), Vec<&Item>>,
    report: &mut Report,
) {
    let mut expected: BTreeMap<(Channel, Number), Option<&Item>> = logs
        .iter()
        .map(|(entry, log)| (*entry, log.last().copied()))
        .collect();
    for (channel, entries) in &facts.entries {
        for (key, _) in entries {
            expected.entry((*channel, *key)).or_default();
        }
    }
    for ((channel, key), newest) in expected {
        let Some(entries) = facts.entries.get(&channel) else {
            continue;
        };
        let place = Place::Changes(channel);
        if !facts.table.get(&place).is_some_and(|read| read.done) {
            report.flaw(format!("{} was not read in the end", facts.place(place)));
            continue;
        }
        report.checked(Kind::TornStatus, 1);
        let entry = entries.iter().find(|(listed, _)| *listed == key);
        let stands = entry.map(|(_, value)| *value);
        if stands != newest.and_then(|newest| newest.value) {
            report.found(Kind::TornStatus, || {
                let name = facts.channel(channel);
                let newest = newest.map_or("none".to_owned(), |newest| facts.item(newest));
                format!("key {key} of {name} is {stands:?}, its newest change: {newest}")
            });
        }
    }
}

struct Entry<'a> {
    facts: &'a Facts,
    standing: &'a Standing<'a>,
    channel: Channel,
    key: Number,
    log: &'a [&'a Item],
}

impl Entry<'_> {
    fn name(&self) -> String {
        format!("key {} of {}", self.key, self.facts.channel(self.channel))
    }

    /// As many deletions as were answered, and no more than were asked for.
    fn check_deletions(&self, operations: &[&EntryOp], report: &mut Report) {
        let unset = |outcome: Outcome| {
            let mut count = 0;
            for operation in operations {
                let lost = self.standing.failover(operation.ended).is_some();
                let counts = operation.call == EntryCall::Unset && operation.outcome == outcome;
                count += usize::from(counts && !lost);
            }
            count
        };
        let lost = operations.iter().filter(|operation| {
            operation.call == EntryCall::Unset
                && operation.outcome == Outcome::Done
                && self.standing.failover(operation.ended).is_some()
        });
        let (done, unknown) = (unset(Outcome::Done), unset(Outcome::Unknown) + lost.count());
        let logged = self.log.iter().filter(|item| item.value.is_none()).count();
        report.checked(Kind::Lost, done);
        if logged < done {
            report.found(Kind::Lost, || {
                format!(
                    "{}: {done} deletions were answered, {logged} are recorded",
                    self.name()
                )
            });
        }
        if logged > done + unknown {
            report.found(Kind::Phantom, || {
                format!(
                    "{}: {logged} deletions are recorded, {done} were answered, {unknown} may have \
                     happened",
                    self.name()
                )
            });
        }
    }

    /// The value after all changes up to an ID.
    fn value_at(&self, id: Id) -> Option<Value> {
        let index = self.log.partition_point(|item| item.id <= id);
        self.log[index.checked_sub(1)?].value
    }

    /// Where in the log a read saw the entry, not before `from`; none: nowhere.
    fn position(&self, read: Option<Value>, from: Id) -> Option<Id> {
        match read {
            None if self.value_at(from).is_none() => Some(from),
            None => {
                let index = self.log.partition_point(|item| item.id <= from);
                let mut later = self.log[index..].iter();
                later.find(|item| item.value.is_none()).map(|item| item.id)
            }
            Some(value) => {
                let item = self.standing.with_value(Sort::Changes, value)?;
                let is_it = |logged: &&&Item| logged.id == item.id;
                let stands = self.log.iter().rfind(is_it).is_some();
                // Still the value at `from`, or set later.
                let current = self.value_at(from) == Some(value);
                match (stands, current) {
                    (true, true) => Some(from),
                    (true, false) if item.id > from => Some(item.id),
                    _ => None,
                }
            }
        }
    }

    /// Each read sees the entry at some place in its log: not before what had been answered or seen
    /// when it was asked for, and nothing that was asked for after it was answered.
    fn check_reads(&self, operations: &[&EntryOp], report: &mut Report) {
        // What is known to have happened, and when that was known.
        let mut known: Vec<(Time, Id)> = Vec::new();
        for operation in operations {
            if let (EntryCall::Set(value), Outcome::Done) = (operation.call, operation.outcome)
                && let Some(item) = self.standing.with_value(Sort::Changes, value)
            {
                known.push((operation.ended, item.id));
            }
        }
        known.sort_unstable();
        let mut reads: Vec<(&EntryOp, Option<Value>)> = operations
            .iter()
            .filter_map(|operation| match (operation.call, operation.outcome) {
                (EntryCall::Get, Outcome::Done) => Some((*operation, operation.read)),
                // 404: there was no entry.
                (EntryCall::Unset, Outcome::Refused) => Some((*operation, None)),
                _ => None,
            })
            .collect();
        reads.sort_by_key(|(operation, _)| operation.began);
        report.checked(Kind::Stale, reads.len());

        let mut known = known.into_iter().peekable();
        let mut newest: Id = 0;
        // What reads have seen, by when they were answered.
        let mut seen: std::collections::BinaryHeap<std::cmp::Reverse<(Time, Id)>> =
            std::collections::BinaryHeap::new();
        for (operation, read) in reads {
            while let Some((_, id)) = known.next_if(|(at, _)| *at < operation.began) {
                newest = newest.max(id);
            }
            while let Some(std::cmp::Reverse((at, id))) = seen.peek().copied() {
                if at >= operation.began {
                    break;
                }
                newest = newest.max(id);
                seen.pop();
            }
            // What was read before a failover that lost it tells nothing of what follows.
            if self.standing.failover(operation.ended).is_none()
                && let Some(id) = self.position(read, newest)
            {
                seen.push(std::cmp::Reverse((operation.ended, id)));
            }
            self.check_read(operation, read, newest, report);
        }
    }

    fn check_read(
        &self,
        operation: &EntryOp,
        read: Option<Value>,
        newest: Id,
        report: &mut Report,
    ) {
        let process = operation.process;
        let writer = read.and_then(|value| self.standing.writer(Sort::Changes, value));
        let from_here = writer.is_some_and(|writer| {
            writer.outcome != Outcome::Refused
                && writer.place == Place::Changes(self.channel)
                && writer.key == self.key
                && writer.began < operation.ended
        });
        if read.is_some() && !from_here {
            report.found(Kind::Phantom, || {
                format!(
                    "process {process} read {read:?} at {} in {}, which nobody had set",
                    operation.ended,
                    self.name()
                )
            });
            return;
        }
        if self.position(read, newest).is_some() {
            return;
        }
        let lost =
            read.is_some_and(|value| self.standing.with_value(Sort::Changes, value).is_none());
        if self.standing.failover(operation.ended).is_some() {
            return; // it may have seen what was lost
        }
        let kind = match lost {
            true => Kind::Phantom, // it was there, and isn't in the log
            false => Kind::Stale,
        };
        report.found(kind, || {
            format!(
                "process {process} asked at {} for {} and read {read:?}; by then change {newest} was \
                 known, which left {:?}",
                operation.began,
                self.name(),
                self.value_at(newest)
            )
        });
    }
}
