//! Entries that are compared and set: is there an order of all operations on an entry, each between
//! its request and its answer, that explains every answer? Each entry by itself, since a history is
//! linearizable if its parts are.
//!
//! The search is Lowe's just-in-time variant of Wing and Gong's ("Testing for linearizability", 2017):
//! the answers are gone through in the order of their times, with all configurations that explain the
//! ones before: the entry's value, and which of the operations still under way have taken effect. Where
//! an operation is answered, every configuration in which it has not yet taken effect is extended by
//! operations under way until it has. An operation of unknown outcome stays under way for ever; of two
//! configurations that differ in nothing but that one of them has used up more of those, only the
//! other one is kept.
//!
//! The number of configurations can explode. The search counts its steps and gives up at a bound;
//! that is a verdict of its own, and never "sound".

use std::collections::BTreeMap;

use rustc_hash::{FxHashMap, FxHashSet};

use super::Report;
use crate::facts::{EntryCall, EntryOp, Facts, NEVER, Outcome};
use crate::history::{Channel, Number, Time, Value};
use crate::verdict::{Kind, Options};

pub(super) fn check(facts: &Facts, options: &Options, report: &mut Report) {
    let mut entries: BTreeMap<(Channel, Number), Vec<Operation>> = BTreeMap::new();
    for operation in &facts.entry_ops {
        let entry = entries.entry((operation.channel, operation.key));
        entry.or_default().extend(Operation::of(operation));
    }
    for ((channel, key), mut operations) in entries {
        let is_compared = |operation: &Operation| matches!(operation.call, EntryCall::Cas(..));
        if !operations.iter().any(is_compared) {
            continue;
        }
        let name = format!("key {key} of {}", facts.channel(channel));
        if let Some(over) = facts.failovers.first() {
            // What a failover lost happened and did not: no order explains that.
            report.undecided(format!("{name}: commits may have been lost at {}", over.at));
            continue;
        }
        // The final read is one more operation, after all others.
        if let Some(entries) = facts.entries.get(&channel) {
            let entry = entries.iter().find(|(listed, _)| *listed == key);
            operations.push(Operation {
                call: EntryCall::Get,
                began: NEVER - 1,
                ended: NEVER - 1,
                result: Result::Read(entry.map(|(_, value)| *value)),
            });
        }
        report.checked(Kind::NonLinearizable, operations.len());
        match search(&operations, options.search_steps) {
            Found::Order => {}
            Found::None(index) => {
                let operation = &operations[index];
                report.found(Kind::NonLinearizable, || {
                    format!(
                        "{name}: no order explains {:?} from {} to {} with {:?}, and all that was \
                         answered before",
                        operation.call, operation.began, operation.ended, operation.result
                    )
                });
            }
            Found::GaveUp => report.undecided(format!(
                "{name}: no order of {} operations was found in {} steps",
                operations.len(),
                options.search_steps
            )),
        }
    }
}

/// What an operation's process was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Result {
    /// It was done.
    Done,
    /// The entry was not as it should have been.
    Failed,
    /// The value that was read.
    Read(Option<Value>),
    /// Nothing: it may take effect at any later time, or never.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
struct Operation {
    call: EntryCall,
    began: Time,
    ended: Time,
    result: Result,
}

impl Operation {
    /// None for what says nothing: reads without an answer, writes that were refused outright.
    fn of(operation: &EntryOp) -> Option<Operation> {
        let result = match (operation.call, operation.outcome) {
            (EntryCall::Get, Outcome::Done) => Result::Read(operation.read),
            (EntryCall::Get, _) | (EntryCall::Set(_), Outcome::Refused) => return None,
            (_, Outcome::Done) => Result::Done,
            (_, Outcome::Refused) => Result::Failed,
            (_, Outcome::Unknown) => Result::Unknown,
        };
        Some(Operation {
            call: operation.call,
            began: operation.began,
            ended: operation.ended,
            result,
        })
    }

    /// The entry after it, if it can happen on such an entry with such a result.
    fn apply(&self, value: Option<Value>) -> Option<Option<Value>> {
        let holds = match self.call {
            EntryCall::Set(new) => return Some(Some(new)),
            EntryCall::Get => return (self.result == Result::Read(value)).then_some(value),
            EntryCall::Unset => value.is_some(),
            EntryCall::Cas(old, _) => value == old,
        };
        let after = match self.call {
            EntryCall::Cas(_, new) => Some(new),
            _ => None,
        };
        match self.result {
            Result::Failed => (!holds).then_some(value),
            _ => holds.then_some(after),
        }
    }
}

enum Found {
    /// There is one.
    Order,
    /// There is none that explains this operation and those answered before.
    None(usize),
    /// Too many steps.
    GaveUp,
}

/// The entry's value, and which operations under way have taken effect, ascending.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Configuration {
    value: Option<Value>,
    effective: Vec<u32>,
}

impl Configuration {
    fn has(&self, operation: u32) -> bool {
        self.effective.binary_search(&operation).is_ok()
    }

    fn with(&self, operation: u32, value: Option<Value>) -> Configuration {
        let mut effective = self.effective.clone();
        let index = effective.partition_point(|other| *other < operation);
        effective.insert(index, operation);
        Configuration { value, effective }
    }
}

/// Something happens: operations begin before others end at the same time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Begin(u32),
    End(u32),
}

fn search(operations: &[Operation], limit: u64) -> Found {
    let mut events: Vec<(Time, Event)> = Vec::with_capacity(2 * operations.len());
    for (index, operation) in (0..).zip(operations) {
        events.push((operation.began, Event::Begin(index)));
        if operation.result != Result::Unknown {
            events.push((operation.ended, Event::End(index)));
        }
    }
    events.sort_unstable();

    let start = Configuration {
        value: None,
        effective: Vec::new(),
    };
    let mut configurations: FxHashSet<Configuration> = [start].into_iter().collect();
    let mut under_way: Vec<u32> = Vec::new();
    let mut steps = 0;
    for (_, event) in events {
        let ending = match event {
            Event::Begin(index) => {
                under_way.push(index);
                continue;
            }
            Event::End(index) => index,
        };
        let mut explained: FxHashSet<Configuration> = FxHashSet::default();
        let mut tried: FxHashSet<Configuration> = configurations.clone();
        let mut left: Vec<Configuration> = configurations.into_iter().collect();
        while let Some(configuration) = left.pop() {
            if configuration.has(ending) {
                // Its place is taken: nobody has to remember that.
                let mut configuration = configuration;
                configuration.effective.retain(|other| *other != ending);
                explained.insert(configuration);
                continue;
            }
            for index in &under_way {
                steps += 1;
                if steps > limit {
                    return Found::GaveUp;
                }
                if configuration.has(*index) {
                    continue;
                }
                let Some(value) = operations[*index as usize].apply(configuration.value) else {
                    continue;
                };
                let next = configuration.with(*index, value);
                if tried.insert(next.clone()) {
                    left.push(next);
                }
            }
        }
        if explained.is_empty() {
            return Found::None(ending as usize);
        }
        under_way.retain(|index| *index != ending);
        configurations = without_dominated(explained, operations);
    }
    Found::Order
}

/// Leaves out each configuration of which another one can do all that it can.
fn without_dominated(
    configurations: FxHashSet<Configuration>,
    operations: &[Operation],
) -> FxHashSet<Configuration> {
    let is_unknown = |index: &u32| operations[*index as usize].result == Result::Unknown;
    // Only such with the same value and the same operations that are still to be answered compare.
    type Alike = (Option<Value>, Vec<u32>);
    let mut groups: FxHashMap<Alike, Vec<Vec<u32>>> = FxHashMap::default();
    for configuration in configurations {
        let (unknown, answered): (Vec<u32>, Vec<u32>) =
            configuration.effective.into_iter().partition(is_unknown);
        groups
            .entry((configuration.value, answered))
            .or_default()
            .push(unknown);
    }
    let mut kept = FxHashSet::default();
    for ((value, answered), mut sets) in groups {
        sets.sort_by_key(Vec::len);
        let mut smallest: Vec<Vec<u32>> = Vec::new();
        for set in sets {
            let covers =
                |small: &Vec<u32>| small.iter().all(|index| set.binary_search(index).is_ok());
            if !smallest.iter().any(covers) {
                smallest.push(set);
            }
        }
        for unknown in smallest {
            let mut effective = answered.clone();
            effective.extend(unknown);
            effective.sort_unstable();
            kept.insert(Configuration { value, effective });
        }
    }
    kept
}
