//! What a test's writers were told and what its readers saw comes in; every way in which the two
//! disagree with the guarantees comes out. Nothing here talks to a relay or looks at a clock, so
//! that the checker itself can be tried on histories made by hand (below).
//!
//! One [`History`] is one team: IDs are compared across its channels.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

/// A moment of a test: only the order of two counts.
pub type Tick = u64;

/// One attempt of a client to have something stored.
#[derive(Clone, Debug)]
pub struct Write {
    /// The channel written to.
    pub channel: String,
    /// What tells this write from every other one: a message's content, a status change's value.
    pub content: String,
    /// Just before its first request was sent.
    pub began: Tick,
    /// Just after its last answer came.
    pub ended: Tick,
    /// What the client was told.
    pub outcome: Outcome,
}

/// What a writer knows of its write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered 2xx: it is there, once, and under these numbers where the answer named them.
    Stored {
        /// The ID the answer named.
        id: Option<u64>,
        /// The place in the channel the answer named.
        seq: Option<u64>,
    },
    /// Answered 5xx, or not at all: it is there once, or not at all.
    Unknown,
    /// Answered 4xx: it is nowhere.
    Refused,
}

/// One message or status change, as a reader saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its ID, unique within the team.
    pub id: u64,
    /// The channel it is in.
    pub channel: String,
    /// Its dense number in the channel, for kinds that have one.
    pub seq: Option<u64>,
    /// The content of the write that made it.
    pub content: String,
}

/// Everything that one reader saw, in the order it saw it, over all its reconnects.
#[derive(Clone, Debug)]
pub struct View {
    /// Who read, for the report.
    pub reader: String,
    /// The channels it read.
    pub channels: BTreeSet<String>,
    /// The cursor it began after.
    pub after: u64,
    /// What it was given.
    pub items: Vec<Item>,
    /// The ID up to which it went on reading: whatever stands before it was due.
    pub until: u64,
    /// The moments at which the relay told it that nothing more was there.
    pub caught_up: Vec<CaughtUp>,
}

/// A read that claimed to be at the end.
#[derive(Clone, Copy, Debug)]
pub struct CaughtUp {
    /// Just before that read was sent: whatever had been answered by then it must have shown.
    pub began: Tick,
    /// How many items the reader had by the end of that read.
    pub items: usize,
}

/// All that happened to one team.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// What was written.
    pub writes: Vec<Write>,
    /// What stands in the end, each channel read from its beginning after the last write.
    pub table: Vec<Item>,
    /// What readers saw meanwhile.
    pub views: Vec<View>,
}

/// One way in which a relay broke its word.
#[allow(missing_docs, reason = "each variant's line names its fields")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A write was answered 2xx and is not there.
    Lost { content: String },
    /// A write is there more than once.
    Doubled { content: String, ids: Vec<u64> },
    /// Something is there that nobody wrote, or whose writer was refused.
    Phantom { seen_by: String, item: Item },
    /// Something is not what its writer was told, or what another reader was shown.
    Altered {
        seen_by: String,
        item: Item,
        instead_of: Item,
    },
    /// A channel's numbers do not go 1, 2, 3 … in the order of its IDs.
    Hole {
        channel: String,
        expected: u64,
        found: Item,
    },
    /// A write that began after another was answered has the smaller ID.
    Backwards { earlier: Item, later: Item },
    /// A reader was given something twice.
    Repeated { reader: String, item: Item },
    /// A reader was given a smaller ID after a larger one.
    OutOfOrder {
        reader: String,
        after: u64,
        item: Item,
    },
    /// A reader was given something from before its cursor, or from a channel it did not read.
    Unasked { reader: String, item: Item },
    /// A reader was never given something that it went past, or was to wait for.
    Skipped { reader: String, item: Item },
    /// A read that claimed to be at the end did not show what had been answered before it began.
    Stale { reader: String, item: Item },
}

const TABLE: &str = "the table";

impl History {
    /// Everything that is wrong, in no particular order.
    pub fn violations(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        self.check_writes(&mut found);
        self.check_numbers(&mut found);
        self.check_commit_order(&mut found);
        for view in &self.views {
            self.check_view(view, &mut found);
        }
        found
    }

    /// Panics, with the first violations and a count of all, unless there are none.
    #[track_caller]
    pub fn assert_sound(&self) {
        let found = self.violations();
        if found.is_empty() {
            return;
        }
        let mut report = format!(
            "{} violations in a history of {} writes, {} items, {} readers:\n",
            found.len(),
            self.writes.len(),
            self.table.len(),
            self.views.len()
        );
        for violation in found.iter().take(20) {
            report.push_str(&format!("  {violation}\n"));
        }
        panic!("{report}");
    }

    /// How many writes have that outcome's kind.
    pub fn unknown(&self) -> usize {
        self.writes
            .iter()
            .filter(|write| write.outcome == Outcome::Unknown)
            .count()
    }

    /// Every write is where its answer said, and nothing else is.
    fn check_writes(&self, found: &mut Vec<Violation>) {
        let mut standing: HashMap<(&str, &str), Vec<&Item>> = HashMap::new();
        for item in &self.table {
            standing
                .entry((&item.channel, &item.content))
                .or_default()
                .push(item);
        }
        for write in &self.writes {
            let items = standing.remove(&(write.channel.as_str(), write.content.as_str()));
            let items = items.unwrap_or_default();
            if items.len() > 1 {
                found.push(Violation::Doubled {
                    content: write.content.clone(),
                    ids: items.iter().map(|item| item.id).collect(),
                });
            }
            match (write.outcome, items.first()) {
                (Outcome::Stored { .. }, None) => {
                    found.push(Violation::Lost {
                        content: write.content.clone(),
                    });
                }
                (Outcome::Stored { id, seq }, Some(item)) => {
                    let told = Item {
                        id: id.unwrap_or(item.id),
                        seq: seq.or(item.seq),
                        channel: write.channel.clone(),
                        content: write.content.clone(),
                    };
                    if items.iter().all(|item| **item != told) {
                        found.push(Violation::Altered {
                            seen_by: TABLE.to_owned(),
                            item: (*item).clone(),
                            instead_of: told,
                        });
                    }
                }
                (Outcome::Refused, Some(item)) => found.push(phantom(TABLE, item)),
                (Outcome::Unknown, _) | (Outcome::Refused, None) => {}
            }
        }
        found.extend(standing.values().flatten().map(|item| phantom(TABLE, item)));
    }

    /// Each channel counts 1, 2, 3 … in the order of its IDs.
    fn check_numbers(&self, found: &mut Vec<Violation>) {
        let mut channels: BTreeMap<&str, Vec<&Item>> = BTreeMap::new();
        for item in self.table.iter().filter(|item| item.seq.is_some()) {
            channels.entry(&item.channel).or_default().push(item);
        }
        for (channel, mut items) in channels {
            items.sort_by_key(|item| item.id);
            for (expected, item) in (1..).zip(items) {
                if item.seq != Some(expected) {
                    found.push(Violation::Hole {
                        channel: channel.to_owned(),
                        expected,
                        found: item.clone(),
                    });
                    break; // everything after it is shifted, and says nothing new
                }
            }
        }
    }

    /// What was answered before another write began has the smaller ID.
    fn check_commit_order(&self, found: &mut Vec<Violation>) {
        let standing: HashMap<&str, &Item> = self
            .table
            .iter()
            .map(|item| (item.content.as_str(), item))
            .collect();
        let placed = |write: &&Write| standing.contains_key(write.content.as_str());
        let item = |write: &Write| standing[write.content.as_str()];

        let mut by_begin: Vec<&Write> = self.writes.iter().filter(placed).collect();
        by_begin.sort_by_key(|write| write.began);
        let mut by_end: Vec<&Write> = by_begin
            .iter()
            .copied()
            .filter(|write| matches!(write.outcome, Outcome::Stored { .. }))
            .collect();
        by_end.sort_by_key(|write| write.ended);

        let mut answered = by_end.into_iter().peekable();
        let mut newest: Option<&Item> = None;
        for later in by_begin {
            while let Some(earlier) = answered.next_if(|earlier| earlier.ended < later.began) {
                if newest.is_none_or(|newest| newest.id < item(earlier).id) {
                    newest = Some(item(earlier));
                }
            }
            if let Some(earlier) = newest.filter(|newest| newest.id > item(later).id) {
                found.push(Violation::Backwards {
                    earlier: earlier.clone(),
                    later: item(later).clone(),
                });
            }
        }
    }

    /// A reader saw what stands after its cursor: all of it, once, in order, and nothing else.
    fn check_view(&self, view: &View, found: &mut Vec<Violation>) {
        let reader = || view.reader.clone();
        let standing: HashMap<u64, &Item> = self
            .table
            .iter()
            .filter(|item| view.channels.contains(&item.channel))
            .map(|item| (item.id, item))
            .collect();

        let mut seen: HashMap<u64, usize> = HashMap::new();
        let mut newest = view.after;
        for (position, item) in view.items.iter().enumerate() {
            match standing.get(&item.id) {
                None if !view.channels.contains(&item.channel) => {
                    found.push(Violation::Unasked {
                        reader: reader(),
                        item: item.clone(),
                    });
                }
                None => found.push(phantom(&view.reader, item)),
                Some(stands) if *stands != item => found.push(Violation::Altered {
                    seen_by: reader(),
                    item: item.clone(),
                    instead_of: (*stands).clone(),
                }),
                Some(_) => {}
            }
            if seen.contains_key(&item.id) {
                found.push(Violation::Repeated {
                    reader: reader(),
                    item: item.clone(),
                });
            } else if item.id <= view.after {
                found.push(Violation::Unasked {
                    reader: reader(),
                    item: item.clone(),
                });
            } else if item.id < newest {
                found.push(Violation::OutOfOrder {
                    reader: reader(),
                    after: newest,
                    item: item.clone(),
                });
            }
            newest = newest.max(item.id);
            seen.entry(item.id).or_insert(position);
        }

        let until = newest.max(view.until);
        let due = |item: &&&Item| item.id > view.after && item.id <= until;
        let mut skipped: Vec<&Item> = standing
            .values()
            .filter(due)
            .copied()
            .filter(|item| !seen.contains_key(&item.id))
            .collect();
        skipped.sort_by_key(|item| item.id);
        found.extend(skipped.into_iter().map(|item| Violation::Skipped {
            reader: reader(),
            item: item.clone(),
        }));
        self.check_freshness(view, &seen, &standing, found);
    }

    /// Whoever is told that nothing more is there has been shown all that was answered before.
    fn check_freshness(
        &self,
        view: &View,
        seen: &HashMap<u64, usize>,
        standing: &HashMap<u64, &Item>,
        found: &mut Vec<Violation>,
    ) {
        let by_content: HashMap<(&str, &str), &Item> = standing
            .values()
            .map(|item| ((item.channel.as_str(), item.content.as_str()), *item))
            .collect();
        let mut answered: Vec<(Tick, &Item)> = self
            .writes
            .iter()
            .filter(|write| matches!(write.outcome, Outcome::Stored { .. }))
            .filter_map(|write| {
                let item = by_content.get(&(write.channel.as_str(), write.content.as_str()))?;
                (item.id > view.after).then_some((write.ended, *item))
            })
            .collect();
        answered.sort_by_key(|(ended, _)| *ended);
        let mut claims = view.caught_up.clone();
        claims.sort_by_key(|claim| claim.began);

        // A write is first due at the first claim that began after its answer; if it was shown
        // by then, it was also shown by all later ones.
        let mut told = HashSet::new();
        let mut due = answered.into_iter().peekable();
        for claim in claims {
            while let Some((_, item)) = due.next_if(|(ended, _)| *ended < claim.began) {
                let shown = seen
                    .get(&item.id)
                    .is_some_and(|position| *position < claim.items);
                if !shown && told.insert(item.id) {
                    found.push(Violation::Stale {
                        reader: view.reader.clone(),
                        item: item.clone(),
                    });
                }
            }
        }
    }
}

fn phantom(seen_by: &str, item: &Item) -> Violation {
    Violation::Phantom {
        seen_by: seen_by.to_owned(),
        item: item.clone(),
    }
}

impl fmt::Display for Item {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} in {}", self.id, self.channel)?;
        if let Some(seq) = self.seq {
            write!(out, " (seq {seq})")?;
        }
        let start: String = self.content.chars().take(60).collect();
        write!(out, " {start:?}")
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { content } => write!(out, "lost: {content:?} was answered 2xx"),
            Self::Doubled { content, ids } => write!(out, "doubled: {content:?} stands at {ids:?}"),
            Self::Phantom { seen_by, item } => write!(out, "phantom: {seen_by} has {item}"),
            Self::Altered {
                seen_by,
                item,
                instead_of,
            } => {
                write!(out, "altered: {seen_by} has {item} instead of {instead_of}")
            }
            Self::Hole {
                channel,
                expected,
                found,
            } => {
                write!(
                    out,
                    "hole: {channel} should go on with seq {expected}, has {found}"
                )
            }
            Self::Backwards { earlier, later } => {
                write!(out, "backwards: {later} began after {earlier} was answered")
            }
            Self::Repeated { reader, item } => write!(out, "repeated: {reader} again got {item}"),
            Self::OutOfOrder {
                reader,
                after,
                item,
            } => {
                write!(out, "out of order: {reader} got {item} after {after}")
            }
            Self::Unasked { reader, item } => write!(out, "unasked: {reader} got {item}"),
            Self::Skipped { reader, item } => write!(out, "skipped: {reader} never got {item}"),
            Self::Stale { reader, item } => {
                write!(
                    out,
                    "stale: {reader} was told that nothing is left, without {item}"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Six messages in two channels, written one after the other, read by a stream from the
    /// beginning and by a walk that began after the second one.
    fn sound() -> History {
        let table: Vec<Item> = (1..=6)
            .map(|n| Item {
                id: 10 + n,
                channel: if n % 2 == 0 { "even" } else { "odd" }.to_owned(),
                seq: Some(n.div_ceil(2)),
                content: format!("message {n}"),
            })
            .collect();
        let writes = (0..)
            .zip(&table)
            .map(|(n, item)| Write {
                channel: item.channel.clone(),
                content: item.content.clone(),
                began: 10 * n,
                ended: 10 * n + 5,
                outcome: Outcome::Stored {
                    id: Some(item.id),
                    seq: item.seq,
                },
            })
            .collect();
        let stream = View {
            reader: "stream".to_owned(),
            channels: ["even", "odd"].map(str::to_owned).into(),
            after: 0,
            items: table.clone(),
            until: 16,
            caught_up: Vec::new(),
        };
        let walk = View {
            reader: "walk".to_owned(),
            channels: ["even"].map(str::to_owned).into(),
            after: 12,
            items: vec![table[3].clone(), table[5].clone()],
            until: 16,
            caught_up: vec![
                CaughtUp {
                    began: 12,
                    items: 0,
                },
                CaughtUp {
                    began: 36,
                    items: 1,
                },
                CaughtUp {
                    began: 90,
                    items: 2,
                },
            ],
        };
        History {
            writes,
            table,
            views: vec![stream, walk],
        }
    }

    /// The violations of the sound history after one thing in it was broken.
    fn violations_after(breaking: impl FnOnce(&mut History)) -> Vec<Violation> {
        let mut history = sound();
        breaking(&mut history);
        history.violations()
    }

    #[test]
    fn a_sound_history_has_no_violations() {
        assert_eq!(sound().violations(), []);
        sound().assert_sound();
    }

    #[test]
    #[should_panic(expected = "lost: \"message 6\"")]
    fn a_violation_panics_with_its_story() {
        let mut history = sound();
        history.table.pop();
        history.assert_sound();
    }

    #[test]
    fn an_answered_write_that_is_not_there_is_lost() {
        let found = violations_after(|history| {
            let item = history.table.pop().unwrap();
            for view in &mut history.views {
                view.items.retain(|seen| seen.id != item.id);
            }
        });
        assert_eq!(
            found,
            [Violation::Lost {
                content: "message 6".to_owned()
            }]
        );
    }

    #[test]
    fn an_unknown_write_may_be_there_or_not_but_not_twice() {
        let unknown = |history: &mut History| history.writes[5].outcome = Outcome::Unknown;
        assert_eq!(violations_after(unknown), []);
        let absent = violations_after(|history| {
            unknown(history);
            let item = history.table.pop().unwrap();
            for view in &mut history.views {
                view.items.retain(|seen| seen.id != item.id);
            }
        });
        assert_eq!(absent, []);
        let twice = violations_after(|history| {
            unknown(history);
            let again = Item {
                id: 17,
                seq: Some(4),
                ..history.table[5].clone()
            };
            history.table.push(again.clone());
            history
                .views
                .iter_mut()
                .for_each(|view| view.items.push(again.clone()));
        });
        assert_eq!(
            twice,
            [Violation::Doubled {
                content: "message 6".to_owned(),
                ids: vec![16, 17]
            }]
        );
    }

    #[test]
    fn what_was_refused_or_never_written_is_a_phantom() {
        let refused = violations_after(|history| history.writes[5].outcome = Outcome::Refused);
        assert!(matches!(&refused[..], [Violation::Phantom { item, .. }] if item.id == 16));
        let unwritten = violations_after(|history| {
            history.writes.pop();
        });
        assert!(matches!(&unwritten[..], [Violation::Phantom { item, .. }] if item.id == 16));
        let seen_only = violations_after(|history| {
            history.views[0].items.push(Item {
                id: 99,
                channel: "odd".to_owned(),
                seq: Some(4),
                content: "rolled back".to_owned(),
            });
        });
        assert!(matches!(
            &seen_only[..],
            [Violation::Phantom { seen_by, item }] if seen_by == "stream" && item.id == 99
        ));
    }

    #[test]
    fn an_answer_or_a_reader_with_other_numbers_is_altered() {
        let answer = violations_after(|history| {
            history.writes[5].outcome = Outcome::Stored {
                id: Some(61),
                seq: Some(3),
            };
        });
        assert!(matches!(&answer[..], [Violation::Altered { seen_by, .. }] if seen_by == TABLE));
        let seen =
            violations_after(|history| history.views[0].items[2].content = "else".to_owned());
        assert!(matches!(&seen[..], [Violation::Altered { seen_by, .. }] if seen_by == "stream"));
    }

    #[test]
    fn numbers_that_are_not_dense_are_a_hole() {
        let found = violations_after(|history| {
            history.table[5].seq = Some(4);
            history.writes[5].outcome = Outcome::Stored {
                id: Some(16),
                seq: Some(4),
            };
            history.views[0].items[5].seq = Some(4);
            history.views[1].items[1].seq = Some(4);
        });
        assert!(
            matches!(&found[..], [Violation::Hole { expected: 3, found, .. }] if found.id == 16)
        );
    }

    #[test]
    fn a_later_write_with_a_smaller_id_is_backwards() {
        let found = violations_after(|history| {
            // The first message's request is sent after the second one was answered.
            history.writes[0].began = 16;
            history.writes[0].ended = 17;
        });
        assert!(matches!(
            &found[..],
            [Violation::Backwards { earlier, later }] if earlier.id == 12 && later.id == 11
        ));
        let overlapping = violations_after(|history| {
            history.writes[0].began = 14;
            history.writes[0].ended = 17;
        });
        assert_eq!(overlapping, []);
    }

    #[test]
    fn an_item_given_twice_is_repeated() {
        let found = violations_after(|history| {
            let again = history.views[0].items[5].clone();
            history.views[0].items.push(again);
        });
        assert!(matches!(&found[..], [Violation::Repeated { item, .. }] if item.id == 16));
    }

    #[test]
    fn a_smaller_id_after_a_larger_one_is_out_of_order() {
        let found = violations_after(|history| history.views[0].items.swap(2, 3));
        assert!(matches!(
            &found[..],
            [Violation::OutOfOrder { after: 14, item, .. }] if item.id == 13
        ));
    }

    #[test]
    fn what_is_before_the_cursor_or_in_another_channel_is_unasked() {
        let before = violations_after(|history| {
            let old = history.table[1].clone();
            history.views[1].items.push(old);
        });
        assert!(matches!(&before[..], [Violation::Unasked { item, .. }] if item.id == 12));
        let elsewhere = violations_after(|history| {
            let odd = history.table[4].clone();
            history.views[1].items.insert(1, odd);
            history.views[1].caught_up.clear();
        });
        assert!(matches!(&elsewhere[..], [Violation::Unasked { item, .. }] if item.id == 15));
    }

    #[test]
    fn an_item_that_a_reader_went_past_is_skipped() {
        let inside = violations_after(|history| {
            history.views[0].until = 0;
            history.views[0].items.remove(2);
        });
        assert!(matches!(&inside[..], [Violation::Skipped { item, .. }] if item.id == 13));
        let at_the_end = violations_after(|history| {
            history.views[0].items.pop();
        });
        assert!(matches!(&at_the_end[..], [Violation::Skipped { item, .. }] if item.id == 16));
        let stopped_early = violations_after(|history| {
            history.views[0].until = 15;
            history.views[0].items.pop();
        });
        assert_eq!(stopped_early, []);
    }

    #[test]
    fn an_end_without_what_was_answered_before_is_stale() {
        let found = violations_after(|history| {
            // Message 4 was answered at 35, before this read, which did not show it.
            history.views[1].caught_up[1] = CaughtUp {
                began: 36,
                items: 0,
            };
        });
        assert!(matches!(
            &found[..],
            [Violation::Stale { reader, item }] if reader == "walk" && item.id == 14
        ));
        let not_yet_answered = violations_after(|history| {
            history.views[1].caught_up[1] = CaughtUp {
                began: 35,
                items: 0,
            };
        });
        assert_eq!(not_yet_answered, []);
    }
}
