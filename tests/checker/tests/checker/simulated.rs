//! Histories of a simulated relay that keeps its word: always sound. With one thing in them broken,
//! wherever that is: always found.

use std::collections::BTreeMap;

use handoff_checker::history::{
    Answer, Call, Change, End, EndedBy, Events, Final, History, Id, Line, Message, Process, Time,
};
use handoff_checker::{Kind, Verdict};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::story::{Story, post};

const CHANNELS: u32 = 3;
const KEYS: u32 = 2;
const SENDERS: u32 = 2;

/// A relay whose every operation takes effect at one moment between its request and its answer.
struct Relay {
    random: StdRng,
    story: Story,
    now: Time,
    next_id: Id,
    next_value: u64,
    messages: BTreeMap<u32, Vec<Message>>,
    changes: BTreeMap<u32, Vec<Change>>,
    entries: BTreeMap<(u32, u32), u64>,
    acks: BTreeMap<(u32, u32), Id>,
    /// Until when each process is busy.
    busy: BTreeMap<Process, Time>,
    /// Where each reader is.
    cursors: BTreeMap<Process, Option<Id>>,
    /// Whose stream is open.
    open: BTreeMap<Process, bool>,
}

impl Relay {
    fn new(seed: u64) -> Relay {
        Relay {
            random: StdRng::seed_from_u64(seed),
            story: Story::empty(),
            now: 1_000,
            next_id: 1,
            next_value: 1,
            messages: BTreeMap::new(),
            changes: BTreeMap::new(),
            entries: BTreeMap::new(),
            acks: BTreeMap::new(),
            busy: BTreeMap::new(),
            cursors: BTreeMap::new(),
            open: BTreeMap::new(),
        }
    }

    fn id(&mut self) -> Id {
        self.next_id += 1 + u64::from(self.random.random_bool(0.1));
        self.next_id
    }

    fn value(&mut self) -> u64 {
        self.next_value += 1;
        self.next_value
    }

    /// When the process asked for what takes effect now, and when it is answered.
    fn span(&mut self, process: Process) -> (Time, Time) {
        let free = self.busy.get(&process).copied().unwrap_or(0) + 1;
        let began = free.max(self.now - self.random.random_range(0..40));
        let ended = self.now + self.random.random_range(1..40);
        self.busy.insert(process, ended);
        (began, ended)
    }

    fn is_free(&self, process: Process) -> bool {
        self.busy
            .get(&process)
            .is_none_or(|busy| *busy + 1 < self.now)
    }

    fn step(&mut self) {
        self.now += self.random.random_range(1..6);
        let process = self.random.random_range(0..24);
        if !self.is_free(process) {
            return;
        }
        match process {
            0..8 => self.write(process),
            8..12 => self.set(process),
            12..16 => self.page(process),
            16..20 => self.follow(process),
            _ => self.attend(process),
        }
    }

    fn write(&mut self, process: Process) {
        let channel = self.random.random_range(0..CHANNELS);
        let value = self.value();
        let span = self.span(process);
        match self.random.random_range(0..10) {
            0 => return self.story.failed(process, span, post(channel, value)),
            1 => return self.story.unknown(process, span, post(channel, value)),
            _ => {}
        }
        let id = self.id();
        let messages = self.messages.entry(channel).or_default();
        let seq = messages.len() as u64 + 1;
        messages.push(Message {
            id,
            channel,
            seq,
            value,
        });
        if self.random.random_bool(0.1) {
            return self.story.unknown(process, span, post(channel, value));
        }
        let answer = Answer::Posted { id, seq };
        self.story.done(process, span, post(channel, value), answer);
    }

    fn set(&mut self, process: Process) {
        let (c, k) = (
            self.random.random_range(0..CHANNELS),
            self.random.random_range(0..KEYS),
        );
        let span = self.span(process);
        let standing = self.entries.get(&(c, k)).copied();
        match self.random.random_range(0..4) {
            0 => {
                let answer = Answer::Value(standing);
                self.story.done(process, span, Call::Get { c, k }, answer);
            }
            1 if standing.is_none() => self.story.failed(process, span, Call::Unset { c, k }),
            1 => {
                self.entries.remove(&(c, k));
                self.record(c, k, None);
                self.story
                    .done(process, span, Call::Unset { c, k }, Answer::Done);
            }
            _ => {
                let v = self.value();
                let (happens, known) = (self.random.random_bool(0.9), self.random.random_bool(0.9));
                if happens {
                    self.entries.insert((c, k), v);
                    self.record(c, k, Some(v));
                }
                match happens && known {
                    true => self
                        .story
                        .done(process, span, Call::Set { c, k, v }, Answer::Done),
                    false => self.story.unknown(process, span, Call::Set { c, k, v }),
                }
            }
        }
    }

    fn record(&mut self, channel: u32, key: u32, value: Option<u64>) {
        let id = self.id();
        self.changes.entry(channel).or_default().push(Change {
            id,
            channel,
            key,
            value,
        });
    }

    fn page(&mut self, process: Process) {
        let channel = process % CHANNELS;
        let of_changes = process == 15;
        let cursor = self.cursors.entry(process).or_insert(Some(0));
        let after = cursor.unwrap_or(0);
        let limit = self.random.random_range(1..8);
        let span = self.span(process);
        if of_changes {
            let call = Call::Changes { c: channel, after };
            let rest = self.changes.get(&channel).map_or(&[][..], Vec::as_slice);
            let rest: Vec<Change> = rest
                .iter()
                .filter(|item| item.id > after)
                .copied()
                .collect();
            let items = rest[..limit.min(rest.len())].to_vec();
            let more = items.len() < rest.len();
            self.go_on(process, items.last().map(|item| item.id));
            let answer = Answer::Changes { items, more };
            return self.story.done(process, span, call, answer);
        }
        let call = Call::Messages { c: channel, after };
        if self.random.random_bool(0.05) {
            return self.story.unknown(process, span, call);
        }
        let (items, more) = self.after(&[channel], after, limit);
        self.go_on(process, items.last().map(|item| item.id));
        self.story
            .done(process, span, call, Answer::Messages { items, more });
    }

    fn go_on(&mut self, process: Process, last: Option<Id>) {
        if let Some(last) = last {
            self.cursors.insert(process, Some(last));
        }
    }

    /// What stands after a cursor, and whether there is more.
    fn after(&self, channels: &[u32], after: Id, limit: usize) -> (Vec<Message>, bool) {
        let mut items: Vec<Message> = channels
            .iter()
            .flat_map(|channel| self.messages.get(channel).into_iter().flatten())
            .filter(|item| item.id > after)
            .copied()
            .collect();
        items.sort_by_key(|item| item.id);
        let more = items.len() > limit;
        items.truncate(limit);
        (items, more)
    }

    fn followed(process: Process) -> Vec<u32> {
        match process % 2 {
            0 => (0..CHANNELS).collect(),
            _ => vec![process % CHANNELS],
        }
    }

    /// A stream is opened, brings something, or ends.
    fn follow(&mut self, process: Process) {
        let from_now = process >= 18;
        let start = if from_now { None } else { Some(0) };
        let cursor = *self.cursors.entry(process).or_insert(start);
        let (began, ended) = self.span(process);
        let is_open = self.open.get(&process).copied().unwrap_or(false);
        if !is_open {
            let call = Call::Stream {
                c: Relay::followed(process),
                after: cursor,
                key: None,
            };
            if self.random.random_bool(0.2) {
                return self.story.unknown(process, (began, ended), call);
            }
            self.story.done(process, (began, ended), call, Answer::Done);
            self.open.insert(process, true);
            let place = cursor.unwrap_or(self.next_id);
            self.cursors.insert(process, Some(place));
            return self.bring(process, ended, Vec::new(), Some(place));
        }
        if self.random.random_bool(0.1) {
            self.open.insert(process, false);
            return self.story.lines.push(Line::End(End {
                t: ended,
                p: process,
                by: EndedBy::Loss,
            }));
        }
        let limit = self.random.random_range(1..20);
        let (items, more) = self.after(&Relay::followed(process), cursor.unwrap_or(0), limit);
        // With everything read, the stream may tell how far that is.
        let place = (!more && self.random.random_bool(0.2)).then_some(self.next_id);
        self.go_on(process, place.or(items.last().map(|item| item.id)));
        self.bring(process, ended, items, place);
    }

    fn bring(&mut self, process: Process, t: Time, items: Vec<Message>, cursor: Option<Id>) {
        self.story.lines.push(Line::Events(Events {
            t,
            p: process,
            items,
            cursor,
        }));
    }

    fn attend(&mut self, process: Process) {
        let (c, s) = (self.random.random_range(0..CHANNELS), process % SENDERS);
        let span = self.span(process);
        let stands = self.acks.get(&(c, s)).copied().unwrap_or(0);
        match self.random.random_range(0..3) {
            0 => {
                let (items, more) = self.after(&[c], stands, 10);
                let answer = Answer::Messages { items, more };
                self.story
                    .done(process, span, Call::Unread { c, s }, answer);
            }
            1 => {
                let Some(messages) = self.messages.get(&c) else {
                    return self.story.failed(process, span, Call::Ack { c, s, id: 1 });
                };
                let id = messages[self.random.random_range(0..messages.len())].id;
                let known = self.random.random_bool(0.9);
                self.acks.insert((c, s), stands.max(id));
                let call = Call::Ack { c, s, id };
                match known {
                    true => {
                        let answer = Answer::Acked { id: stands.max(id) };
                        self.story.done(process, span, call, answer);
                    }
                    false => self.story.unknown(process, span, call),
                }
            }
            _ => {
                let acks = (0..SENDERS)
                    .filter_map(|s| Some((s, *self.acks.get(&(c, s))?)))
                    .collect();
                self.story
                    .done(process, span, Call::Acks { c }, Answer::Acks(acks));
            }
        }
    }

    fn finish(mut self) -> History {
        for c in 0..CHANNELS {
            let parts = [
                Final::Messages {
                    c,
                    items: self.messages.remove(&c).unwrap_or_default(),
                    done: true,
                },
                Final::Changes {
                    c,
                    items: self.changes.remove(&c).unwrap_or_default(),
                    done: true,
                },
                Final::Entries {
                    c,
                    entries: (0..KEYS)
                        .filter_map(|k| Some((k, *self.entries.get(&(c, k))?)))
                        .collect(),
                },
                Final::Acks {
                    c,
                    acks: (0..SENDERS)
                        .filter_map(|s| Some((s, *self.acks.get(&(c, s))?)))
                        .collect(),
                },
            ];
            self.story.lines.extend(parts.map(Line::Final));
        }
        self.story.close()
    }
}

fn simulate(seed: u64, steps: usize) -> History {
    let mut relay = Relay::new(seed);
    // Something to be found, however short it is.
    relay.now += 100;
    while relay.messages.values().map(Vec::len).sum::<usize>() < 10 {
        relay.now += 50;
        relay.write(0);
    }
    for _ in 0..steps {
        relay.step();
    }
    relay.finish()
}

/// What can be broken, and what of it must be found.
#[derive(Clone, Copy, Debug)]
enum Breaking {
    DropFinal,
    DoubleFinal,
    DropRead,
    SwapRead,
    RepeatRead,
    AlterRead,
    AlterAnswer,
    AlterEntry,
    RefuseStanding,
    SpeedUpClaim,
}

const BREAKINGS: [Breaking; 10] = [
    Breaking::DropFinal,
    Breaking::DoubleFinal,
    Breaking::DropRead,
    Breaking::SwapRead,
    Breaking::RepeatRead,
    Breaking::AlterRead,
    Breaking::AlterAnswer,
    Breaking::AlterEntry,
    Breaking::RefuseStanding,
    Breaking::SpeedUpClaim,
];

/// All that readers were given, batch by batch.
fn batches(lines: &mut [Line]) -> Vec<(Process, &mut Vec<Message>)> {
    let mut walks = BTreeMap::new();
    for line in lines.iter() {
        if let Line::Invoke(invoke) = line {
            let is_walk = matches!(invoke.op, Call::Messages { .. } | Call::Stream { .. });
            walks.insert(invoke.p, is_walk);
        }
    }
    lines
        .iter_mut()
        .filter_map(|line| match line {
            Line::Events(events) => Some((events.p, &mut events.items)),
            Line::Ok(done) if walks.get(&done.p) == Some(&true) => match &mut done.op {
                Answer::Messages { items, .. } => Some((done.p, items)),
                _ => None,
            },
            _ => None,
        })
        .collect()
}

/// Those among a reader's batches that are followed by something.
fn pick<'a>(
    random: &mut StdRng,
    lines: &'a mut [Line],
    least: usize,
) -> Option<(&'a mut Vec<Message>, usize)> {
    let mut all = batches(lines);
    all.retain(|(_, items)| items.len() >= least);
    if all.is_empty() {
        return None;
    }
    let (_, items) = all.swap_remove(random.random_range(0..all.len()));
    let index = random.random_range(0..items.len() + 1 - least);
    Some((items, index))
}

/// Breaks one thing; none where there is nothing of the kind. The kinds of which one must be found.
fn break_one(
    history: &mut History,
    breaking: Breaking,
    random: &mut StdRng,
) -> Option<&'static [Kind]> {
    let lines = &mut history.lines;
    Some(match breaking {
        Breaking::DropFinal => {
            let answered: Vec<Id> = lines.iter().filter_map(posted).collect();
            let id = answered[random.random_range(0..answered.len())];
            for items in lines.iter_mut().filter_map(stands) {
                items.retain(|item| item.id != id);
            }
            &[Kind::Lost]
        }
        Breaking::DoubleFinal => {
            let mut all: Vec<&mut Vec<Message>> = lines.iter_mut().filter_map(stands).collect();
            all.retain(|items| !items.is_empty());
            let index = random.random_range(0..all.len());
            let items = &mut all[index];
            let again = items[random.random_range(0..items.len())];
            let seq = items.len() as u64 + 1;
            items.push(Message {
                id: 1_000_000,
                seq,
                ..again
            });
            &[Kind::Duplicate]
        }
        Breaking::DropRead => {
            // Something after it in the same batch shows that it was passed.
            let (items, index) = pick(random, lines, 2)?;
            items.remove(index);
            &[Kind::Skipped]
        }
        Breaking::SwapRead => {
            let (items, index) = pick(random, lines, 2)?;
            items.swap(index, index + 1);
            // Where it was the batch's end, the cursor that the client goes on from is another one.
            &[Kind::Disorder]
        }
        Breaking::RepeatRead => {
            let (items, index) = pick(random, lines, 1)?;
            let again = items[index];
            items.insert(index, again);
            &[Kind::Repeated]
        }
        Breaking::AlterRead => {
            let (items, index) = pick(random, lines, 1)?;
            items[index].value += 1_000_000;
            &[Kind::Altered]
        }
        Breaking::AlterAnswer => {
            let mut all: Vec<&mut Id> = lines.iter_mut().filter_map(posted_mut).collect();
            let index = random.random_range(0..all.len());
            *all[index] += 1_000_000;
            &[Kind::Altered]
        }
        Breaking::AlterEntry => {
            let of = |line: &mut Line| match line {
                Line::Final(Final::Entries { entries, .. }) if !entries.is_empty() => {
                    entries[0].1 += 1_000_000;
                    Some(())
                }
                _ => None,
            };
            lines.iter_mut().find_map(of)?;
            &[Kind::TornStatus]
        }
        Breaking::RefuseStanding => {
            let index = {
                let mut all: Vec<usize> = (0..lines.len()).collect();
                all.retain(|index| posted(&lines[*index]).is_some());
                all[random.random_range(0..all.len())]
            };
            let Line::Ok(done) = &lines[index] else {
                return None;
            };
            lines[index] = Line::Fail(handoff_checker::history::Failure {
                t: done.t,
                p: done.p,
                status: 400,
            });
            &[Kind::Phantom]
        }
        Breaking::SpeedUpClaim => {
            // A page that claims to be the last, asked for after everything, without the end.
            let mut newest = 0;
            for items in lines.iter_mut().filter_map(stands) {
                newest = newest.max(items.iter().map(|item| item.channel + 1).max().unwrap_or(0));
            }
            let channel = newest.checked_sub(1)?;
            let answered = lines.iter().filter_map(posted);
            let standing: Vec<Id> = {
                let answered: Vec<Id> = answered.collect();
                let mut ids = Vec::new();
                for items in lines.iter_mut().filter_map(stands) {
                    ids.extend(
                        items
                            .iter()
                            .filter(|item| item.channel == channel && answered.contains(&item.id))
                            .map(|item| item.id),
                    );
                }
                ids
            };
            if standing.is_empty() {
                return None;
            }
            let close = lines.pop()?;
            let mut story = Story {
                lines: std::mem::take(lines),
            };
            let call = Call::Messages {
                c: channel,
                after: 0,
            };
            let answer = Answer::Messages {
                items: vec![],
                more: false,
            };
            story.done(77, (1_000_000_000, 1_000_000_001), call, answer);
            *lines = story.close().lines;
            drop(close);
            &[Kind::Stale]
        }
    })
}

fn posted(line: &Line) -> Option<Id> {
    match line {
        Line::Ok(done) => match done.op {
            Answer::Posted { id, .. } => Some(id),
            _ => None,
        },
        _ => None,
    }
}

fn posted_mut(line: &mut Line) -> Option<&mut Id> {
    match line {
        Line::Ok(done) => match &mut done.op {
            Answer::Posted { id, .. } => Some(id),
            _ => None,
        },
        _ => None,
    }
}

fn stands(line: &mut Line) -> Option<&mut Vec<Message>> {
    match line {
        Line::Final(Final::Messages { items, .. }) => Some(items),
        _ => None,
    }
}

fn found(verdict: &Verdict, kinds: &[Kind]) -> bool {
    kinds.iter().any(|kind| verdict.count(*kind) > 0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_relay_that_keeps_its_word_is_sound(seed in any::<u64>(), steps in 0_usize..2_000) {
        let verdict = simulate(seed, steps).verdict();
        prop_assert!(verdict.is_sound(), "{}", verdict);
    }

    #[test]
    fn one_thing_broken_is_found(
        seed in any::<u64>(),
        steps in 400_usize..1_500,
        which in 0..BREAKINGS.len(),
    ) {
        let mut history = simulate(seed, steps);
        let mut random = StdRng::seed_from_u64(seed ^ 1);
        let breaking = BREAKINGS[which];
        let kinds = break_one(&mut history, breaking, &mut random);
        prop_assume!(kinds.is_some());
        let verdict = history.verdict();
        prop_assert!(!verdict.is_sound(), "{:?}: {}", breaking, verdict);
        prop_assert!(found(&verdict, kinds.unwrap_or_default()), "{:?}: {}", breaking, verdict);
    }
}
