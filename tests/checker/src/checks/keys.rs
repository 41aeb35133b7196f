//! What is taken from an API key, every replica refuses within the bound of G5; what it is given,
//! every replica grants within the same bound; its streams end.
//!
//! A use of a key may have met any level that can have been in force while it was under way: a level
//! comes into force no earlier than its change was asked for, and goes out of force no later than the
//! bound after the next one was answered (on the replica that answered: with the answer). A change
//! whose outcome is unknown, or that a failover may have lost, puts no end to the level before it, and
//! one of unknown outcome may come into force at any later time.

use std::collections::BTreeMap;

use super::Report;
use super::standing::Standing;
use crate::facts::{Facts, Item, KeyChange, KeyStream, LossyFailover, NEVER, Outcome, Probe};
use crate::history::{Channel, Level, Number, Time};
use crate::verdict::{Kind, Options};

pub(super) fn check(
    facts: &Facts,
    standing: &Standing<'_>,
    options: &Options,
    report: &mut Report,
) {
    let keys = Keys::new(facts, options);
    for probe in &facts.probes {
        keys.check_probe(probe, report);
    }
    for stream in &facts.key_streams {
        keys.check_stream(stream, standing, report);
    }
}

struct Keys<'a> {
    facts: &'a Facts,
    options: &'a Options,
    /// The changes of each key, in the order in which they were asked for.
    changes: BTreeMap<Number, Vec<&'a KeyChange>>,
}

impl<'a> Keys<'a> {
    fn new(facts: &'a Facts, options: &'a Options) -> Keys<'a> {
        let mut changes: BTreeMap<Number, Vec<&KeyChange>> = BTreeMap::new();
        for change in &facts.key_changes {
            if change.outcome != Outcome::Refused {
                changes.entry(change.key).or_default().push(change);
            }
        }
        for changes in changes.values_mut() {
            changes.sort_by_key(|change| change.began);
        }
        Keys {
            facts,
            options,
            changes,
        }
    }

    /// The changes of a key on a channel.
    fn on(&self, key: Number, channel: Channel) -> Vec<&'a KeyChange> {
        let changes = self.changes.get(&key).map_or(&[][..], Vec::as_slice);
        let there = |change: &&&KeyChange| change.channel.is_none_or(|named| named == channel);
        changes.iter().filter(there).copied().collect()
    }

    /// The failover that may have lost it.
    fn loser(&self, change: &KeyChange) -> Option<&'a LossyFailover> {
        let mut failovers = self.facts.failovers.iter();
        failovers.find(|failover| (failover.since..=failover.at).contains(&change.ended))
    }

    /// By when a change holds on a replica; never if it may not have happened.
    fn holds_by(&self, change: &KeyChange, replica: Option<Number>) -> Time {
        if change.outcome != Outcome::Done || self.loser(change).is_some() {
            return NEVER;
        }
        if change.replica.is_some() && change.replica == replica {
            return change.ended;
        }
        change.ended.saturating_add(self.bound(change))
    }

    /// The longer one where some replica may not have heard of the change.
    fn bound(&self, change: &KeyChange) -> Time {
        let until = change.ended.saturating_add(self.options.key_bound);
        let deaf = self
            .facts
            .faults
            .iter()
            .any(|fault| fault.deaf && fault.from <= until && fault.until >= change.began);
        match deaf {
            true => self.options.deaf_key_bound,
            false => self.options.key_bound,
        }
    }

    /// Every level that the use may have met; none where nothing is known of the key.
    fn levels(&self, probe: &Probe) -> Vec<Level> {
        let changes = self.on(probe.key, probe.channel);
        let Some(first) = changes.first() else {
            return Vec::new();
        };
        // Its level before is not part of the history; there may have been no key at all. A failover
        // that loses its first change brings that back, until a later change holds.
        let back_until = self.loser(first).map_or(0, |failover| {
            let holds = changes
                .iter()
                .map(|change| self.holds_by(change, probe.replica));
            match failover.began <= probe.ended {
                true => holds.min().unwrap_or(NEVER),
                false => 0,
            }
        });
        if probe.began < first.ended.max(back_until) {
            return Vec::new();
        }
        let mut levels = Vec::new();
        for (index, change) in changes.iter().enumerate() {
            let later = &changes[index + 1..];
            // One of unknown outcome may still come, after any other.
            let until = match change.outcome {
                Outcome::Unknown => NEVER,
                _ => later
                    .iter()
                    .map(|later| self.holds_by(later, probe.replica))
                    .min()
                    .unwrap_or(NEVER),
            };
            if change.began <= probe.ended && probe.began <= until {
                levels.push(change.level);
            }
        }
        levels
    }

    fn check_probe(&self, probe: &Probe, report: &mut Report) {
        let levels = self.levels(probe);
        if levels.is_empty() {
            return;
        }
        let kind = match probe.allowed {
            true => Kind::StalePermission,
            false => Kind::StaleDenial,
        };
        report.checked(kind, 1);
        let explained = |level: &Level| (*level >= probe.level) == probe.allowed;
        if !levels.iter().any(explained) {
            report.found(kind, || {
                let replica = probe
                    .replica
                    .map_or(String::new(), |replica| format!(" on replica {replica}"));
                format!(
                    "process {} was {} {:?} in {}{replica} with key {} (asked at {}, answered at \
                     {}), which had {levels:?}",
                    probe.process,
                    if probe.allowed { "allowed" } else { "refused" },
                    probe.level,
                    self.facts.channel(probe.channel),
                    probe.key,
                    probe.began,
                    probe.ended
                )
            });
        }
    }

    /// What the stream brought though it was posted after that.
    fn posted_later(
        &self,
        stream: &KeyStream,
        by: Time,
        standing: &Standing<'_>,
    ) -> Option<&'a Item> {
        let mut views = self.facts.views.iter();
        let view = views.find(|view| view.process == stream.process)?;
        let items = view
            .items
            .get(stream.first..stream.last.min(view.items.len()))?;
        items.iter().find(|item| {
            let writer = item
                .value
                .and_then(|value| standing.writer(item.place.sort(), value));
            writer.is_some_and(|writer| writer.began > by)
        })
    }

    /// A stream ends when the right to read it is taken, and shows nothing that was posted later.
    fn check_stream(&self, stream: &KeyStream, standing: &Standing<'_>, report: &mut Report) {
        let taken = stream.channels.iter().flat_map(|channel| {
            let changes = self.on(stream.key, *channel);
            let takes =
                |change: &&KeyChange| change.level < Level::Read && change.ended > stream.opened;
            changes.into_iter().filter(takes)
        });
        let holds_by = |change: &KeyChange| (self.holds_by(change, None), change.ended);
        let Some((by, taken_at)) = taken.map(holds_by).min() else {
            return;
        };
        if by == NEVER {
            return;
        }
        report.checked(Kind::StalePermission, 1);
        let who = || {
            format!(
                "the stream of process {} with key {}",
                stream.process, stream.key
            )
        };
        if let Some(item) = self.posted_later(stream, by, standing) {
            report.found(Kind::StalePermission, || {
                let item = self.facts.item(item);
                format!("{}, taken at {taken_at}, was given {item}", who())
            });
            return;
        }
        // A replica that is stopped or cut off ends nothing; one that goes on does.
        let until = by.saturating_add(self.options.stream_end_slack);
        let mut faults = self.facts.faults.iter();
        let troubled = faults.any(|fault| fault.from <= until && fault.until >= taken_at);
        let ended = stream.ended.min(self.facts.last_time);
        if !troubled && ended > until {
            report.found(Kind::StalePermission, || {
                format!("{}, taken at {taken_at}, was still open at {ended}", who())
            });
        }
    }
}
