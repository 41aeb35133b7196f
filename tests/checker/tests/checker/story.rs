//! A sound history in which everything happens once, and ways to get at its parts.

use handoff_checker::history::{
    Answer, Call, Change, Close, Completion, Due, End, EndedBy, Events, FORMAT, Failure, Final,
    History, Invoke, Level, Line, Message, Named, Nemesis, Phase, Process, Run, Time, Value,
};
use handoff_checker::{Kind, Verdict};

/// Channels.
pub(crate) const ODD: u32 = 0;
pub(crate) const EVEN: u32 = 1;

/// Processes.
pub(crate) const POSTER: Process = 0;
pub(crate) const STREAM: Process = 1;
pub(crate) const WALK: Process = 2;
pub(crate) const SETTER: Process = 3;
pub(crate) const CHANGES: Process = 4;
pub(crate) const SESSION: Process = 5;
pub(crate) const OWNER: Process = 6;
pub(crate) const PROBE: Process = 7;
pub(crate) const KEY_STREAM: Process = 8;
pub(crate) const RIVAL: Process = 9;

pub(crate) const SECOND: Time = 1_000_000_000;

pub(crate) struct Story {
    pub(crate) lines: Vec<Line>,
}

impl Story {
    pub(crate) fn empty() -> Story {
        let run = Line::Run(Run {
            format: FORMAT,
            seed: 7,
            what: "by hand".to_owned(),
        });
        Story { lines: vec![run] }
    }

    pub(crate) fn invoke(&mut self, p: Process, t: Time, op: Call) {
        self.lines.push(Line::Invoke(Invoke { t, p, op }));
    }

    pub(crate) fn ok(&mut self, p: Process, t: Time, op: Answer) {
        self.lines.push(Line::Ok(Completion { t, p, op }));
    }

    pub(crate) fn done(
        &mut self,
        p: Process,
        (began, ended): (Time, Time),
        call: Call,
        answer: Answer,
    ) {
        self.invoke(p, began, call);
        self.ok(p, ended, answer);
    }

    pub(crate) fn failed(&mut self, p: Process, (began, ended): (Time, Time), call: Call) {
        self.invoke(p, began, call);
        self.lines.push(Line::Fail(Failure {
            t: ended,
            p,
            status: 409,
        }));
    }

    pub(crate) fn unknown(&mut self, p: Process, (began, ended): (Time, Time), call: Call) {
        self.invoke(p, began, call);
        self.lines.push(Line::Info(Failure {
            t: ended,
            p,
            status: 503,
        }));
    }

    pub(crate) fn close(mut self) -> History {
        let lines = self.lines.len() as u64;
        self.lines.push(Line::Close(Close {
            t: 100 * SECOND,
            lines,
        }));
        History { lines: self.lines }
    }
}

pub(crate) fn post(c: u32, v: Value) -> Call {
    Call::Post {
        c,
        v,
        key: false,
        mention: None,
        thread: None,
    }
}

pub(crate) fn message(id: u64) -> Message {
    let n = id - 10;
    Message {
        id,
        channel: if n.is_multiple_of(2) { EVEN } else { ODD },
        seq: n.div_ceil(2),
        value: n,
    }
}

fn change(id: u64, key: u32, value: Option<Value>) -> Change {
    Change {
        id,
        channel: ODD,
        key,
        value,
    }
}

/// Six messages in two channels, one after the other; a stream of both from the beginning and a walk
/// over one from after its first; an entry's life; a sender's acks; an API key's life; a compared
/// entry.
pub(crate) fn sound() -> History {
    let mut story = Story::empty();
    for (n, name) in [(ODD, "odd"), (EVEN, "even")] {
        let name = name.to_owned();
        story.lines.push(Line::Channel(Named { n, name }));
    }
    story.done(
        STREAM,
        (1, 2),
        stream(&[ODD, EVEN], Some(0), None),
        Answer::Done,
    );
    for id in 11..=16 {
        let began = 10 * (id - 11);
        let message = message(id);
        let answer = Answer::Posted {
            id,
            seq: message.seq,
        };
        let call = post(message.channel, message.value);
        story.done(POSTER, (began, began + 5), call, answer);
    }
    for ids in [vec![11], vec![12, 13, 14], vec![15, 16]] {
        let t = 10 * (ids[ids.len() - 1] - 11) + 7;
        let items = ids.into_iter().map(message).collect();
        events(&mut story, STREAM, t, items);
    }
    let page = |after: u64, items: Vec<Message>| {
        let call = Call::Messages { c: EVEN, after };
        (call, Answer::Messages { items, more: false })
    };
    let (call, answer) = page(12, vec![]);
    story.done(WALK, (16, 17), call, answer);
    let (call, answer) = page(12, vec![message(14)]);
    story.done(WALK, (36, 37), call, answer);
    let (call, answer) = page(14, vec![message(16)]);
    story.done(WALK, (90, 91), call, answer);
    for (p, id) in [(STREAM, 16), (WALK, 16)] {
        story.lines.push(Line::Due(Due { t: 95, p, id }));
    }

    entry(&mut story);
    acks(&mut story);
    keys(&mut story);
    compared(&mut story);
    finals(&mut story);
    story.close()
}

pub(crate) fn stream(c: &[u32], after: Option<u64>, key: Option<u32>) -> Call {
    Call::Stream {
        c: c.to_vec(),
        after,
        key,
    }
}

pub(crate) fn events(story: &mut Story, p: Process, t: Time, items: Vec<Message>) {
    story.lines.push(Line::Events(Events {
        t,
        p,
        items,
        cursor: None,
    }));
}

fn entry(story: &mut Story) {
    let (c, k) = (ODD, 0);
    story.done(SETTER, (100, 102), Call::Set { c, k, v: 101 }, Answer::Done);
    story.done(SETTER, (104, 106), Call::Set { c, k, v: 102 }, Answer::Done);
    story.done(
        SETTER,
        (107, 108),
        Call::Get { c, k },
        Answer::Value(Some(102)),
    );
    story.done(SETTER, (110, 112), Call::Unset { c, k }, Answer::Done);
    story.done(SETTER, (113, 114), Call::Get { c, k }, Answer::Value(None));
    story.done(SETTER, (115, 117), Call::Set { c, k, v: 103 }, Answer::Done);
    story.done(
        SETTER,
        (118, 119),
        Call::Get { c, k },
        Answer::Value(Some(103)),
    );
    let items = vec![
        change(21, 0, Some(101)),
        change(22, 0, Some(102)),
        change(23, 0, None),
        change(24, 0, Some(103)),
    ];
    let answer = Answer::Changes { items, more: false };
    story.done(CHANGES, (120, 121), Call::Changes { c, after: 0 }, answer);
}

fn acks(story: &mut Story) {
    let (c, s) = (EVEN, 0);
    let unread = |ids: &[u64]| Answer::Messages {
        items: ids.iter().copied().map(message).collect(),
        more: false,
    };
    story.done(
        SESSION,
        (122, 123),
        Call::Unread { c, s },
        unread(&[12, 14, 16]),
    );
    story.done(
        SESSION,
        (124, 125),
        Call::Ack { c, s, id: 12 },
        Answer::Acked { id: 12 },
    );
    story.done(
        SESSION,
        (126, 127),
        Call::Ack { c, s, id: 14 },
        Answer::Acked { id: 14 },
    );
    story.done(
        SESSION,
        (128, 129),
        Call::Ack { c, s, id: 12 },
        Answer::Acked { id: 14 },
    );
    story.done(
        SESSION,
        (130, 131),
        Call::Acks { c },
        Answer::Acks(vec![(0, 14)]),
    );
    story.done(SESSION, (132, 133), Call::Unread { c, s }, unread(&[16]));
}

fn keys(story: &mut Story) {
    let (key, c) = (0, ODD);
    let grant = |level| Call::Grant { key, c, level };
    let by = |n| Answer::Changed { n: Some(n) };
    let probe = |n, level| Call::Probe {
        key,
        c,
        level,
        n: Some(n),
    };
    let allowed = Answer::Allowed;
    let t = |seconds: u64, rest: u64| (seconds * SECOND + rest, seconds * SECOND + rest + 5);
    story.done(OWNER, t(10, 0), grant(Level::Write), by(0));
    story.done(PROBE, t(12, 0), probe(1, Level::Write), allowed(true));
    story.done(
        KEY_STREAM,
        t(12, 0),
        stream(&[c], Some(0), Some(key)),
        Answer::Done,
    );
    let items = vec![message(11), message(13), message(15)];
    events(story, KEY_STREAM, 12 * SECOND + 20, items);
    story.done(OWNER, t(20, 0), grant(Level::Read), by(0));
    story.done(PROBE, t(20, 6), probe(0, Level::Write), allowed(false));
    story.done(PROBE, t(20, 500), probe(1, Level::Write), allowed(true));
    story.done(PROBE, t(21, 6), probe(1, Level::Write), allowed(false));
    story.done(PROBE, t(22, 0), probe(1, Level::Read), allowed(true));
    story.done(OWNER, t(30, 0), Call::Revoke { key }, by(1));
    story.lines.push(Line::End(End {
        t: 30 * SECOND + 500,
        p: KEY_STREAM,
        by: EndedBy::Relay,
    }));
    story.done(PROBE, t(31, 6), probe(0, Level::Read), allowed(false));
    let nemesis = |t, phase| {
        Line::Nemesis(Nemesis {
            t,
            fault: "kill".to_owned(),
            phase,
            target: "replica 2".to_owned(),
            ..Nemesis::default()
        })
    };
    story.lines.push(nemesis(40 * SECOND, Phase::Begin));
    story.lines.push(nemesis(41 * SECOND, Phase::End));
}

fn compared(story: &mut Story) {
    let (c, k) = (ODD, 9);
    let cas = |old, v| Call::Cas { c, k, old, v };
    story.done(RIVAL, (140, 142), cas(None, 201), Answer::Done);
    story.done(RIVAL, (144, 146), cas(Some(201), 202), Answer::Done);
    story.failed(RIVAL, (148, 150), cas(Some(201), 203));
    story.done(
        RIVAL,
        (152, 154),
        Call::Get { c, k },
        Answer::Value(Some(202)),
    );
}

fn finals(story: &mut Story) {
    let part = |part| Line::Final(part);
    for (c, ids) in [(ODD, [11, 13, 15]), (EVEN, [12, 14, 16])] {
        story.lines.push(part(Final::Messages {
            c,
            items: ids.into_iter().map(message).collect(),
            done: true,
        }));
    }
    story.lines.push(part(Final::Changes {
        c: ODD,
        items: vec![
            change(21, 0, Some(101)),
            change(22, 0, Some(102)),
            change(23, 0, None),
            change(24, 0, Some(103)),
            change(31, 9, Some(201)),
            change(32, 9, Some(202)),
        ],
        done: true,
    }));
    story.lines.push(part(Final::Entries {
        c: ODD,
        entries: vec![(0, 103), (9, 202)],
    }));
    story.lines.push(part(Final::Acks {
        c: EVEN,
        acks: vec![(0, 14)],
    }));
    story.lines.push(part(Final::Channels(vec![ODD, EVEN])));
}

/// The verdict on the sound history after one thing in it was broken.
pub(crate) fn after(breaking: impl FnOnce(&mut Vec<Line>)) -> Verdict {
    let mut history = sound();
    history.lines.pop();
    breaking(&mut history.lines);
    Story {
        lines: history.lines,
    }
    .close()
    .verdict()
}

/// Panics unless exactly one kind of anomaly was found, so many times, and nothing else is wrong.
#[track_caller]
pub(crate) fn assert_only(verdict: &Verdict, kind: Kind, count: u64) {
    let kinds: Vec<Kind> = verdict.anomalies.keys().copied().collect();
    assert_eq!(kinds, [kind], "{verdict}");
    assert_eq!(verdict.count(kind), count, "{verdict}");
    assert!(verdict.flaws.is_empty() && !verdict.is_sound(), "{verdict}");
    assert!(!verdict.anomalies[&kind].examples.is_empty());
}

/// What a process's requests were, and when it was answered what.
pub(crate) fn calls(lines: &mut [Line], process: Process) -> Vec<&mut Invoke> {
    lines
        .iter_mut()
        .filter_map(|line| match line {
            Line::Invoke(invoke) if invoke.p == process => Some(invoke),
            _ => None,
        })
        .collect()
}

pub(crate) fn answers(lines: &mut [Line], process: Process) -> Vec<&mut Completion> {
    lines
        .iter_mut()
        .filter_map(|line| match line {
            Line::Ok(completion) if completion.p == process => Some(completion),
            _ => None,
        })
        .collect()
}

/// What a process's stream brought, block by block.
pub(crate) fn blocks(lines: &mut [Line], process: Process) -> Vec<&mut Vec<Message>> {
    lines
        .iter_mut()
        .filter_map(|line| match line {
            Line::Events(events) if events.p == process => Some(&mut events.items),
            _ => None,
        })
        .collect()
}

/// What stands of a channel's messages.
pub(crate) fn stands(lines: &mut [Line], channel: u32) -> &mut Vec<Message> {
    lines
        .iter_mut()
        .find_map(|line| match line {
            Line::Final(Final::Messages { c, items, .. }) if *c == channel => Some(items),
            _ => None,
        })
        .unwrap()
}

/// What stands of the status changes.
pub(crate) fn log(lines: &mut [Line]) -> &mut Vec<Change> {
    lines
        .iter_mut()
        .find_map(|line| match line {
            Line::Final(Final::Changes { items, .. }) => Some(items),
            _ => None,
        })
        .unwrap()
}

/// Takes an item out of everything that anybody read.
pub(crate) fn forget(lines: &mut [Line], id: u64) {
    for line in lines {
        match line {
            Line::Events(events) => events.items.retain(|item| item.id != id),
            Line::Final(Final::Messages { items, .. })
            | Line::Ok(Completion {
                op: Answer::Messages { items, .. },
                ..
            }) => items.retain(|item| item.id != id),
            Line::Final(Final::Changes { items, .. })
            | Line::Ok(Completion {
                op: Answer::Changes { items, .. },
                ..
            }) => items.retain(|item| item.id != id),
            _ => {}
        }
    }
}

/// Turns an answer into one of unknown outcome, or a refusal.
pub(crate) fn unanswer(lines: &mut [Line], process: Process, index: usize, refused: bool) {
    let mut answers = lines
        .iter_mut()
        .filter(|line| matches!(line, Line::Ok(completion) if completion.p == process));
    let line = answers.nth(index).unwrap();
    let Line::Ok(Completion { t, p, .. }) = *line else {
        unreachable!("only answers are left")
    };
    *line = match refused {
        true => Line::Fail(Failure { t, p, status: 400 }),
        false => Line::Info(Failure { t, p, status: 503 }),
    };
}
