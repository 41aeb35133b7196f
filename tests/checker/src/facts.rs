//! The lines of a history come in, one by one; what the checks look at comes out: operations with
//! both of their ends, the walk of each reader, and what stands in the end. It judges the history's
//! form ([`Flaw`]), never the relay.

use std::collections::BTreeMap;
use std::fmt;

use rustc_hash::FxHashMap;

use crate::history::{
    Answer, Call, Change, Channel, Completion, Events, FORMAT, Failure, Final, Id, Invoke, Level,
    Line, Lossy, Message, Nemesis, Number, Phase, Process, Run, Time, Value,
};
use crate::verdict::Counts;

/// A time that never comes: an operation of unknown outcome may take effect up to then.
pub(crate) const NEVER: Time = Time::MAX;

/// Why a history proves nothing, whatever it says of the relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw(pub String);

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an operation's process learnt of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Refused,
    Unknown,
}

/// A channel's messages, or its status changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Place {
    Messages(Channel),
    Changes(Channel),
}

/// A message or a status change, as somebody was given it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) id: Id,
    pub(crate) place: Place,
    /// A message's `seq`, a change's key.
    pub(crate) number: u64,
    /// None: a status entry was deleted.
    pub(crate) value: Option<Value>,
}

impl From<Message> for Item {
    fn from(message: Message) -> Item {
        Item {
            id: message.id,
            place: Place::Messages(message.channel),
            number: message.seq,
            value: Some(message.value),
        }
    }
}

impl From<Change> for Item {
    fn from(change: Change) -> Item {
        Item {
            id: change.id,
            place: Place::Changes(change.channel),
            number: u64::from(change.key),
            value: change.value,
        }
    }
}

/// A post, or a status entry that was set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write {
    pub(crate) place: Place,
    /// A change's key; 0 for a message.
    pub(crate) key: Number,
    pub(crate) value: Value,
    pub(crate) began: Time,
    /// [`NEVER`] unless it was answered.
    pub(crate) ended: Time,
    pub(crate) outcome: Outcome,
    /// ID and `seq`, where the answer named them.
    pub(crate) told: Option<(Id, u64)>,
}

impl Write {
    pub(crate) fn is_unknown(&self) -> bool {
        self.outcome == Outcome::Unknown
    }
}

/// A message's deletion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deletion {
    pub(crate) id: Id,
    pub(crate) channel: Channel,
    pub(crate) outcome: Outcome,
    pub(crate) ended: Time,
}

/// What came at once: a page, or what a stream brought in one go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    /// Where its items begin.
    pub(crate) start: usize,
    /// When the page or the stream was asked for.
    pub(crate) asked: Time,
    /// When the page was asked for; for a stream's batch, when it came.
    pub(crate) began: Time,
    pub(crate) ended: Time,
    /// It claims that nothing more is there.
    pub(crate) is_last: bool,
}

/// All that one process read, over all its pages or streams.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) process: Process,
    pub(crate) places: Vec<Place>,
    /// Where it began; none while that isn't known.
    pub(crate) after: Option<Id>,
    /// Where it is to go on.
    pub(crate) cursor: Option<Id>,
    pub(crate) items: Vec<Item>,
    pub(crate) batches: Vec<Batch>,
    /// Everything up to here was due.
    pub(crate) due: Id,
}

impl View {
    pub(crate) fn batch(&self, index: usize) -> &[Item] {
        let end = self.batches.get(index + 1).map(|next| next.start);
        &self.items[self.batches[index].start..end.unwrap_or(self.items.len())]
    }
}

/// A page of what a sender had not acked.
#[derive(Clone, Debug)]
pub(crate) struct Unread {
    pub(crate) process: Process,
    pub(crate) channel: Channel,
    pub(crate) sender: Number,
    pub(crate) began: Time,
    pub(crate) ended: Time,
    pub(crate) items: Vec<Item>,
    pub(crate) is_last: bool,
}

/// A request to move an ack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ack {
    pub(crate) channel: Channel,
    pub(crate) sender: Number,
    pub(crate) id: Id,
    pub(crate) began: Time,
    pub(crate) ended: Time,
    /// Where the answer said that it stands.
    pub(crate) told: Option<Id>,
    pub(crate) outcome: Outcome,
}

/// A read of a channel's acks.
#[derive(Clone, Debug)]
pub(crate) struct AckRead {
    pub(crate) channel: Channel,
    pub(crate) began: Time,
    pub(crate) ended: Time,
    pub(crate) acks: Vec<(Number, Id)>,
}

/// What an operation does to a status entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryCall {
    Set(Value),
    Unset,
    Cas(Option<Value>, Value),
    Get,
}

/// An operation on a status entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryOp {
    pub(crate) process: Process,
    pub(crate) channel: Channel,
    pub(crate) key: Number,
    pub(crate) call: EntryCall,
    pub(crate) began: Time,
    pub(crate) ended: Time,
    pub(crate) outcome: Outcome,
    /// What a `Get` was told.
    pub(crate) read: Option<Value>,
}

/// A change of what an API key may do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyChange {
    pub(crate) key: Number,
    /// None: all of them, for ever.
    pub(crate) channel: Option<Channel>,
    pub(crate) level: Level,
    pub(crate) began: Time,
    pub(crate) ended: Time,
    pub(crate) outcome: Outcome,
    /// The replica that made it.
    pub(crate) replica: Option<Number>,
}

/// A use of an API key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub(crate) process: Process,
    pub(crate) key: Number,
    pub(crate) channel: Channel,
    pub(crate) level: Level,
    pub(crate) replica: Option<Number>,
    pub(crate) began: Time,
    pub(crate) ended: Time,
    pub(crate) allowed: bool,
}

/// A stream that was opened with an API key that changes.
#[derive(Clone, Debug)]
pub(crate) struct KeyStream {
    pub(crate) process: Process,
    pub(crate) key: Number,
    pub(crate) channels: Vec<Channel>,
    /// When its headers had come.
    pub(crate) opened: Time,
    /// [`NEVER`] while it is open.
    pub(crate) ended: Time,
    /// Where its items are in its process's view.
    pub(crate) first: usize,
    pub(crate) last: usize,
}

/// A span of a fault.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) name: String,
    pub(crate) target: String,
    pub(crate) from: Time,
    pub(crate) until: Time,
    pub(crate) deaf: bool,
}

/// A failover that may have lost what was answered from `since` to `at`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LossyFailover {
    pub(crate) since: Time,
    /// Before it began, the old database gave all IDs.
    pub(crate) began: Time,
    pub(crate) at: Time,
}

/// A place's final read.
#[derive(Clone, Debug, Default)]
pub(crate) struct FinalRead {
    /// In ascending order, whatever order they were read in.
    pub(crate) items: Vec<Item>,
    pub(crate) done: bool,
    /// Two that were read in the wrong order, or one that was read twice.
    pub(crate) disorder: Option<(Item, Item)>,
}

/// Everything that a history says.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) run: Run,
    pub(crate) channels: FxHashMap<Channel, String>,
    pub(crate) counts: BTreeMap<&'static str, Counts>,
    pub(crate) writes: Vec<Write>,
    pub(crate) deletions: Vec<Deletion>,
    pub(crate) opened_channels: Vec<Channel>,
    pub(crate) views: Vec<View>,
    pub(crate) unread: Vec<Unread>,
    pub(crate) acks: Vec<Ack>,
    pub(crate) ack_reads: Vec<AckRead>,
    pub(crate) entry_ops: Vec<EntryOp>,
    pub(crate) key_changes: Vec<KeyChange>,
    pub(crate) probes: Vec<Probe>,
    pub(crate) key_streams: Vec<KeyStream>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) failovers: Vec<LossyFailover>,
    pub(crate) table: BTreeMap<Place, FinalRead>,
    pub(crate) entries: BTreeMap<Channel, Vec<(Number, Value)>>,
    pub(crate) final_acks: BTreeMap<Channel, Vec<(Number, Id)>>,
    pub(crate) final_channels: Option<Vec<Channel>>,
    pub(crate) flaws: Vec<Flaw>,
    /// How many flaws there are beyond those that are kept.
    pub(crate) more_flaws: u64,
    pub(crate) last_time: Time,

    lines: u64,
    closed: bool,
    in_flight: FxHashMap<Process, Invoke>,
    view_of: FxHashMap<Process, usize>,
    stream_of: FxHashMap<Process, OpenStream>,
}

/// A stream that is open.
#[derive(Debug)]
struct OpenStream {
    /// When it was asked for.
    asked: Time,
    /// Its place among the streams whose API key changes.
    keyed: Option<usize>,
}

const FLAWS_KEPT: usize = 20;

impl Facts {
    fn flaw(&mut self, flaw: impl FnOnce() -> String) {
        if self.flaws.len() < FLAWS_KEPT {
            self.flaws.push(Flaw(flaw()));
        } else {
            self.more_flaws += 1;
        }
    }

    /// Takes the next line.
    pub(crate) fn take(&mut self, line: Line) {
        let number = self.lines;
        self.lines += 1;
        if self.closed {
            self.flaw(|| format!("line {} stands after the last one", number + 1));
        }
        if number == 0 && !matches!(line, Line::Run(_)) {
            self.flaw(|| "the first line doesn't say what ran".to_owned());
        }
        match line {
            Line::Run(run) => {
                if number != 0 {
                    self.flaw(|| format!("line {} begins another run", number + 1));
                }
                if run.format != FORMAT {
                    let format = run.format;
                    self.flaw(|| format!("format {format} is not {FORMAT}"));
                }
                self.run = run;
            }
            Line::Channel(named) => drop(self.channels.insert(named.n, named.name)),
            Line::Invoke(invoke) => self.invoke(invoke),
            Line::Ok(completion) => self.complete_ok(completion),
            Line::Fail(failure) => self.complete_failed(failure, Outcome::Refused),
            Line::Info(failure) => self.complete_failed(failure, Outcome::Unknown),
            Line::Events(events) => self.events(events),
            Line::End(end) => self.end(end.p, end.t),
            Line::Due(due) => match self.view_of.get(&due.p) {
                Some(view) => self.views[*view].due = self.views[*view].due.max(due.id),
                None => self
                    .flaw(|| format!("process {} waits for {} but reads nothing", due.p, due.id)),
            },
            Line::Nemesis(nemesis) => self.nemesis(nemesis),
            Line::Final(part) => self.stands(part),
            Line::Close(close) => {
                self.closed = true;
                self.last_time = self.last_time.max(close.t);
                if close.lines != number {
                    self.flaw(|| format!("{} lines were written, {number} are there", close.lines));
                }
            }
        }
    }

    /// After the last line: what was still asked for is of unknown outcome.
    pub(crate) fn complete(mut self) -> Facts {
        let mut left: Vec<Invoke> = self.in_flight.drain().map(|(_, invoke)| invoke).collect();
        left.sort_by_key(|invoke| (invoke.t, invoke.p));
        for invoke in left {
            self.done(invoke, NEVER, Outcome::Unknown, None);
        }
        if !self.closed {
            self.flaw(|| "the history was cut short: its last line is missing".to_owned());
        }
        for read in self.table.values_mut() {
            let mut pairs = read.items.windows(2);
            read.disorder = pairs
                .find(|pair| pair[0].id >= pair[1].id)
                .map(|pair| (pair[0], pair[1]));
            read.items.sort_by_key(|item| item.id);
        }
        self
    }

    fn invoke(&mut self, invoke: Invoke) {
        self.counts.entry(name_of(&invoke.op)).or_default().invoked += 1;
        if self.stream_of.contains_key(&invoke.p) {
            self.flaw(|| format!("process {} asks while its stream is open", invoke.p));
        }
        match &invoke.op {
            Call::Messages { c, after } => {
                self.goes_on(invoke.p, &[Place::Messages(*c)], Some(*after));
            }
            Call::Changes { c, after } => {
                self.goes_on(invoke.p, &[Place::Changes(*c)], Some(*after));
            }
            Call::Stream { c, after, .. } => {
                let places: Vec<Place> = c.iter().map(|c| Place::Messages(*c)).collect();
                self.goes_on(invoke.p, &places, *after);
            }
            _ => {}
        }
        if let Some(before) = self.in_flight.insert(invoke.p, invoke) {
            let process = before.p;
            self.flaw(|| format!("process {process} asks before it was answered"));
            self.done(before, NEVER, Outcome::Unknown, None);
        }
    }

    /// A reader begins, or goes on where it was.
    fn goes_on(&mut self, process: Process, places: &[Place], after: Option<Id>) {
        let Some(index) = self.view_of.get(&process) else {
            self.view_of.insert(process, self.views.len());
            self.views.push(View {
                process,
                places: places.to_vec(),
                after,
                cursor: after,
                items: Vec::new(),
                batches: Vec::new(),
                due: 0,
            });
            return;
        };
        let view = &self.views[*index];
        if view.places != places {
            self.flaw(|| format!("process {process} reads more than one thing"));
        } else if view.cursor != after {
            let cursor = view.cursor;
            self.flaw(|| format!("process {process} is at {cursor:?} and goes on after {after:?}"));
        }
    }

    fn complete_ok(&mut self, completion: Completion) {
        self.last_time = self.last_time.max(completion.t);
        let Some(invoke) = self.in_flight.remove(&completion.p) else {
            self.flaw(|| format!("process {} was answered without asking", completion.p));
            return;
        };
        self.counts.entry(name_of(&invoke.op)).or_default().ok += 1;
        self.done(invoke, completion.t, Outcome::Done, Some(completion.op));
    }

    fn complete_failed(&mut self, failure: Failure, outcome: Outcome) {
        self.last_time = self.last_time.max(failure.t);
        let Some(invoke) = self.in_flight.remove(&failure.p) else {
            self.flaw(|| format!("process {} was answered without asking", failure.p));
            return;
        };
        let counts = self.counts.entry(name_of(&invoke.op)).or_default();
        let ended = match outcome {
            Outcome::Unknown => NEVER,
            _ => failure.t,
        };
        match outcome {
            Outcome::Unknown => counts.unknown += 1,
            _ => counts.failed += 1,
        }
        self.done(invoke, ended, outcome, None);
    }

    /// An operation with both of its ends.
    #[allow(clippy::too_many_lines, reason = "one arm for each kind of operation")]
    fn done(&mut self, invoke: Invoke, ended: Time, outcome: Outcome, answer: Option<Answer>) {
        let (process, began) = (invoke.p, invoke.t);
        if ended < began {
            self.flaw(|| format!("process {process} was answered at {ended}, asked at {began}"));
        }
        let fits = match (invoke.op, answer) {
            (Call::OpenChannel { c }, answer) => {
                if outcome == Outcome::Done {
                    self.opened_channels.push(c);
                }
                matches!(answer, None | Some(Answer::Done))
            }
            (Call::Post { c, v, .. }, answer) => {
                let told = match answer {
                    Some(Answer::Posted { id, seq }) => Some((id, seq)),
                    _ => None,
                };
                self.writes.push(Write {
                    place: Place::Messages(c),
                    key: 0,
                    value: v,
                    began,
                    ended,
                    outcome,
                    told,
                });
                told.is_some() == (outcome == Outcome::Done)
            }
            (Call::DeleteMessage { c, id }, answer) => {
                self.deletions.push(Deletion {
                    id,
                    channel: c,
                    outcome,
                    ended,
                });
                matches!(answer, None | Some(Answer::Done))
            }
            (Call::Messages { .. }, Some(Answer::Messages { items, more })) => {
                self.batch(process, began, (began, ended), items, !more);
                true
            }
            (Call::Changes { .. }, Some(Answer::Changes { items, more })) => {
                self.batch(process, began, (began, ended), items, !more);
                true
            }
            (Call::Unread { c, s }, Some(Answer::Messages { items, more })) => {
                self.unread.push(Unread {
                    process,
                    channel: c,
                    sender: s,
                    began,
                    ended,
                    items: items.into_iter().map(Item::from).collect(),
                    is_last: !more,
                });
                true
            }
            (Call::Stream { c, key, .. }, Some(Answer::Done)) => {
                let keyed = key.map(|key| {
                    let first = self
                        .view_of
                        .get(&process)
                        .map_or(0, |view| self.views[*view].items.len());
                    self.key_streams.push(KeyStream {
                        process,
                        key,
                        channels: c,
                        opened: ended,
                        ended: NEVER,
                        first,
                        last: usize::MAX,
                    });
                    self.key_streams.len() - 1
                });
                self.stream_of.insert(
                    process,
                    OpenStream {
                        asked: began,
                        keyed,
                    },
                );
                true
            }
            (Call::Ack { c, s, id }, answer) => {
                let told = match answer {
                    Some(Answer::Acked { id }) => Some(id),
                    _ => None,
                };
                self.acks.push(Ack {
                    channel: c,
                    sender: s,
                    id,
                    began,
                    ended,
                    told,
                    outcome,
                });
                told.is_some() == (outcome == Outcome::Done)
            }
            (Call::Acks { c }, Some(Answer::Acks(acks))) => {
                self.ack_reads.push(AckRead {
                    channel: c,
                    began,
                    ended,
                    acks,
                });
                true
            }
            (Call::Set { c, k, v }, answer) => {
                self.set(c, k, v, began, ended, outcome);
                self.entry_op(
                    process,
                    c,
                    k,
                    EntryCall::Set(v),
                    began,
                    ended,
                    outcome,
                    None,
                );
                matches!(answer, None | Some(Answer::Done))
            }
            (Call::Cas { c, k, old, v }, answer) => {
                self.set(c, k, v, began, ended, outcome);
                let call = EntryCall::Cas(old, v);
                self.entry_op(process, c, k, call, began, ended, outcome, None);
                matches!(answer, None | Some(Answer::Done))
            }
            (Call::Unset { c, k }, answer) => {
                self.entry_op(process, c, k, EntryCall::Unset, began, ended, outcome, None);
                matches!(answer, None | Some(Answer::Done))
            }
            (Call::Get { c, k }, Some(Answer::Value(read))) => {
                self.entry_op(process, c, k, EntryCall::Get, began, ended, outcome, read);
                true
            }
            (Call::Grant { key, c, level }, answer) => {
                let replica = match answer {
                    Some(Answer::Changed { n }) => n,
                    _ => None,
                };
                self.key_changes.push(KeyChange {
                    key,
                    channel: Some(c),
                    level,
                    began,
                    ended,
                    outcome,
                    replica,
                });
                matches!(answer, None | Some(Answer::Changed { .. }))
            }
            (Call::Revoke { key }, answer) => {
                let replica = match answer {
                    Some(Answer::Changed { n }) => n,
                    _ => None,
                };
                self.key_changes.push(KeyChange {
                    key,
                    channel: None,
                    level: Level::None,
                    began,
                    ended,
                    outcome,
                    replica,
                });
                matches!(answer, None | Some(Answer::Changed { .. }))
            }
            (Call::Probe { key, c, level, n }, Some(Answer::Allowed(allowed))) => {
                self.probes.push(Probe {
                    process,
                    key,
                    channel: c,
                    level,
                    replica: n,
                    began,
                    ended,
                    allowed,
                });
                true
            }
            // A read that was refused or not answered says nothing.
            (_, None) => true,
            (_, Some(_)) => false,
        };
        if !fits {
            self.flaw(|| format!("process {process} was answered what it did not ask for"));
        }
    }

    fn set(
        &mut self,
        channel: Channel,
        key: Number,
        value: Value,
        began: Time,
        ended: Time,
        outcome: Outcome,
    ) {
        self.writes.push(Write {
            place: Place::Changes(channel),
            key,
            value,
            began,
            ended,
            outcome,
            told: None,
        });
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of what it makes")]
    fn entry_op(
        &mut self,
        process: Process,
        channel: Channel,
        key: Number,
        call: EntryCall,
        began: Time,
        ended: Time,
        outcome: Outcome,
        read: Option<Value>,
    ) {
        self.entry_ops.push(EntryOp {
            process,
            channel,
            key,
            call,
            began,
            ended,
            outcome,
            read,
        });
    }

    fn batch<T: Into<Item>>(
        &mut self,
        process: Process,
        asked: Time,
        (began, ended): (Time, Time),
        items: Vec<T>,
        is_last: bool,
    ) {
        // An invoke made the view.
        let Some(view) = self.view_of.get(&process) else {
            return;
        };
        let view = &mut self.views[*view];
        view.batches.push(Batch {
            start: view.items.len(),
            asked,
            began,
            ended,
            is_last,
        });
        view.items.extend(items.into_iter().map(Into::into));
        if let Some(last) = view.items[view.batches[view.batches.len() - 1].start..].last() {
            view.cursor = Some(last.id);
            // A stream from now on whose place was not told before its first event.
            view.after.get_or_insert(last.id.saturating_sub(1));
        }
    }

    fn events(&mut self, events: Events) {
        self.last_time = self.last_time.max(events.t);
        let asked = match self.stream_of.get(&events.p) {
            Some(stream) => stream.asked,
            None => {
                self.flaw(|| format!("process {} has no stream open", events.p));
                events.t
            }
        };
        if let (Some(view), Some(first)) = (self.view_of.get(&events.p), events.items.first()) {
            self.views[*view]
                .after
                .get_or_insert(first.id.saturating_sub(1));
        }
        if !events.items.is_empty() {
            self.batch(events.p, asked, (events.t, events.t), events.items, false);
        }
        if let (Some(view), Some(cursor)) = (self.view_of.get(&events.p), events.cursor) {
            let view = &mut self.views[*view];
            view.after.get_or_insert(cursor);
            view.cursor = Some(cursor);
            view.due = view.due.max(cursor);
        }
    }

    fn end(&mut self, process: Process, t: Time) {
        self.last_time = self.last_time.max(t);
        let Some(stream) = self.stream_of.remove(&process) else {
            self.flaw(|| format!("process {process} ends a stream that it has not"));
            return;
        };
        if let Some(keyed) = stream.keyed {
            let items = self
                .view_of
                .get(&process)
                .map_or(0, |view| self.views[*view].items.len());
            self.key_streams[keyed].last = items;
            self.key_streams[keyed].ended = t;
        }
    }

    fn nemesis(&mut self, nemesis: Nemesis) {
        self.last_time = self.last_time.max(nemesis.t);
        let is_same =
            |fault: &&mut Fault| fault.name == nemesis.fault && fault.target == nemesis.target;
        let mut began = nemesis.t;
        match nemesis.phase {
            Phase::Begin => self.faults.push(Fault {
                name: nemesis.fault,
                target: nemesis.target,
                from: nemesis.t,
                until: NEVER,
                deaf: nemesis.deaf,
            }),
            Phase::End => {
                let mut open = self.faults.iter_mut().filter(|fault| fault.until == NEVER);
                match open.find(is_same) {
                    Some(fault) => {
                        fault.until = nemesis.t;
                        began = fault.from;
                        fault.deaf |= nemesis.deaf;
                    }
                    None => self.flaw(|| {
                        format!(
                            "{} {} ends without a beginning",
                            nemesis.fault, nemesis.target
                        )
                    }),
                }
            }
        }
        if let Some(Lossy { since }) = nemesis.lossy {
            self.failovers.push(LossyFailover {
                since,
                began,
                at: nemesis.t,
            });
            self.failovers.sort_by_key(|failover| failover.at);
        }
    }

    fn stands(&mut self, part: Final) {
        match part {
            Final::Messages { c, items, done } => {
                let read = self.table.entry(Place::Messages(c)).or_default();
                read.items.extend(items.into_iter().map(Item::from));
                read.done |= done;
            }
            Final::Changes { c, items, done } => {
                let read = self.table.entry(Place::Changes(c)).or_default();
                read.items.extend(items.into_iter().map(Item::from));
                read.done |= done;
            }
            Final::Entries { c, entries } => drop(self.entries.insert(c, entries)),
            Final::Acks { c, acks } => drop(self.final_acks.insert(c, acks)),
            Final::Channels(channels) => self.final_channels = Some(channels),
        }
    }

    /// A channel's name, else its number.
    pub(crate) fn channel(&self, channel: Channel) -> String {
        match self.channels.get(&channel) {
            Some(name) => name.clone(),
            None => format!("channel {channel}"),
        }
    }

    /// A place's name.
    pub(crate) fn place(&self, place: Place) -> String {
        match place {
            Place::Messages(channel) => self.channel(channel),
            Place::Changes(channel) => format!("{} (status)", self.channel(channel)),
        }
    }

    /// An item in words.
    pub(crate) fn item(&self, item: &Item) -> String {
        let place = self.place(item.place);
        let what = match item.place {
            Place::Messages(_) => format!("seq {}", item.number),
            Place::Changes(_) => format!("key {}", item.number),
        };
        match item.value {
            Some(value) => format!("{} in {place} ({what}, value {value})", item.id),
            None => format!("{} in {place} ({what}, deleted)", item.id),
        }
    }
}

fn name_of(call: &Call) -> &'static str {
    match call {
        Call::OpenChannel { .. } => "open_channel",
        Call::Post { .. } => "post",
        Call::DeleteMessage { .. } => "delete_message",
        Call::Messages { .. } => "messages",
        Call::Changes { .. } => "changes",
        Call::Unread { .. } => "unread",
        Call::Stream { .. } => "stream",
        Call::Ack { .. } => "ack",
        Call::Acks { .. } => "acks",
        Call::Set { .. } => "set",
        Call::Unset { .. } => "unset",
        Call::Cas { .. } => "cas",
        Call::Get { .. } => "get",
        Call::Grant { .. } => "grant",
        Call::Revoke { .. } => "revoke",
        Call::Probe { .. } => "probe",
    }
}
