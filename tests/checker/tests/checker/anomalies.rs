//! For every anomaly a history that shows it and nothing else, and sound ones close by.

use handoff_checker::Kind;
use handoff_checker::history::{
    Answer, Call, Completion, End, Final, Level, Line, Message, Nemesis, Phase,
};

use crate::story::{
    CHANGES, EVEN, KEY_STREAM, ODD, OWNER, POSTER, PROBE, SECOND, SESSION, SETTER, STREAM, Story,
    WALK, after, answers, assert_only, blocks, calls, events, forget, log, message, post, sound,
    stands, stream, unanswer,
};

#[test]
fn a_sound_history_is_sound_and_leaves_nothing_unchecked() {
    let verdict = sound().verdict();
    assert!(verdict.is_sound(), "{verdict}");
    assert_eq!(verdict.unchecked(), []);
    assert_eq!(verdict.operations["post"].ok, 6);
    assert_eq!(verdict.faults["kill"], 1);
}

#[test]
#[should_panic(expected = "NOT SOUND")]
fn what_is_not_sound_panics_with_its_story() {
    let mut history = sound();
    forget(&mut history.lines, 16);
    history.assert_sound();
}

#[test]
fn lost() {
    assert_only(&after(|lines| forget(lines, 16)), Kind::Lost, 1);
    // A set that was answered, and a deletion.
    assert_only(&after(|lines| forget(lines, 21)), Kind::Lost, 1);
    // A read saw that, and has nothing to be explained by.
    let deletion = after(|lines| forget(lines, 23));
    assert_eq!(deletion.count(Kind::Lost), 1, "{deletion}");
    let unopened = after(|lines| {
        let mut story = Story {
            lines: std::mem::take(lines),
        };
        story.done(90, (1, 2), Call::OpenChannel { c: 5 }, Answer::Done);
        *lines = story.lines;
    });
    assert_only(&unopened, Kind::Lost, 1);
}

#[test]
fn what_is_unknown_may_be_there_or_not() {
    let there = after(|lines| unanswer(lines, POSTER, 5, false));
    assert!(there.is_sound(), "{there}");
    let not_there = after(|lines| {
        unanswer(lines, POSTER, 5, false);
        forget(lines, 16);
    });
    assert!(not_there.is_sound(), "{not_there}");
    // Not answered at all by the end of the run.
    let in_flight = after(|lines| {
        let answer = |line: &Line| {
            matches!(
                line,
                Line::Ok(Completion {
                    op: Answer::Posted { id: 16, .. },
                    ..
                })
            )
        };
        lines.retain(|line| !answer(line));
    });
    assert!(in_flight.is_sound(), "{in_flight}");
}

#[test]
fn duplicate() {
    let twice = after(|lines| {
        let again = Message {
            id: 41,
            seq: 4,
            ..message(16)
        };
        stands(lines, EVEN).push(again);
    });
    assert_only(&twice, Kind::Duplicate, 1);
    let unknown_twice = after(|lines| {
        unanswer(lines, POSTER, 5, false);
        let again = Message {
            id: 41,
            seq: 4,
            ..message(16)
        };
        stands(lines, EVEN).push(again);
    });
    assert_only(&unknown_twice, Kind::Duplicate, 1);
}

#[test]
fn phantom() {
    let refused = after(|lines| unanswer(lines, POSTER, 5, true));
    assert_only(&refused, Kind::Phantom, 1);
    let unwritten = after(|lines| {
        let strange = Message {
            id: 41,
            channel: EVEN,
            seq: 4,
            value: 999,
        };
        stands(lines, EVEN).push(strange);
    });
    assert_only(&unwritten, Kind::Phantom, 1);
    let seen_only = after(|lines| {
        let rolled_back = Message {
            id: 17,
            channel: ODD,
            seq: 4,
            value: 998,
        };
        blocks(lines, STREAM)[2].push(rolled_back);
    });
    assert_only(&seen_only, Kind::Phantom, 1);
    let read_only = after(|lines| answers(lines, SETTER)[2].op = Answer::Value(Some(7_000)));
    assert_only(&read_only, Kind::Phantom, 1);
    // An ack past everything that anybody acked.
    let ack = after(|lines| {
        for line in lines {
            if let Line::Final(Final::Acks { acks, .. }) = line {
                acks[0].1 = 16;
            }
        }
    });
    assert_only(&ack, Kind::Phantom, 1);
    let undead = after(|lines| delete(lines, 16, true));
    assert_only(&undead, Kind::Phantom, 1);
}

/// A message is deleted after everybody has read.
fn delete(lines: &mut Vec<Line>, id: u64, stays: bool) {
    let call = Call::DeleteMessage { c: EVEN, id };
    let mut story = Story {
        lines: std::mem::take(lines),
    };
    story.done(50, (97, 98), call, Answer::Done);
    *lines = story.lines;
    if !stays {
        stands(lines, EVEN).retain(|item| item.id != id);
    }
}

#[test]
fn what_was_deleted_need_not_be_anywhere() {
    // One by which the walk went on can't be forgotten as well.
    for id in [12, 16] {
        let gone = after(|lines| delete(lines, id, false));
        assert!(gone.is_sound(), "{gone}");
        let nowhere = after(|lines| {
            delete(lines, id, false);
            forget(lines, id);
        });
        assert!(nowhere.is_sound(), "{nowhere}");
    }
}

#[test]
fn altered() {
    let answer = after(|lines| answers(lines, POSTER)[5].op = Answer::Posted { id: 17, seq: 3 });
    assert_only(&answer, Kind::Altered, 1);
    let seq = after(|lines| answers(lines, POSTER)[5].op = Answer::Posted { id: 16, seq: 4 });
    assert_only(&seq, Kind::Altered, 1);
    let seen = after(|lines| blocks(lines, STREAM)[1][1].value = 997);
    assert_only(&seen, Kind::Altered, 1);
    let seen_seq = after(|lines| blocks(lines, STREAM)[1][1].seq = 9);
    assert_only(&seen_seq, Kind::Altered, 1);
    let change = after(|lines| {
        if let Answer::Changes { items, .. } = &mut answers(lines, CHANGES)[0].op {
            items[1].key = 5;
        }
    });
    assert_only(&change, Kind::Altered, 1);
    let unread = after(|lines| {
        if let Answer::Messages { items, .. } = &mut answers(lines, SESSION)[0].op {
            items[1].value = 997;
        }
    });
    assert_only(&unread, Kind::Altered, 1);
}

#[test]
fn gap() {
    let found = after(|lines| {
        answers(lines, POSTER)[5].op = Answer::Posted { id: 16, seq: 4 };
        for line in lines.iter_mut() {
            let items = match line {
                Line::Events(events) => &mut events.items,
                Line::Final(Final::Messages { items, .. })
                | Line::Ok(Completion {
                    op: Answer::Messages { items, .. },
                    ..
                }) => items,
                _ => continue,
            };
            for item in items.iter_mut().filter(|item| item.id == 16) {
                item.seq = 4;
            }
        }
    });
    assert_only(&found, Kind::Gap, 1);
}

#[test]
fn commit_order() {
    // The first message's request is sent after the second one was answered.
    let found = after(|lines| {
        calls(lines, POSTER)[0].t = 16;
        answers(lines, POSTER)[0].t = 17;
    });
    assert_only(&found, Kind::CommitOrder, 1);
    let overlapping = after(|lines| {
        calls(lines, POSTER)[0].t = 14;
        answers(lines, POSTER)[0].t = 17;
    });
    assert_eq!(overlapping.count(Kind::CommitOrder), 0, "{overlapping}");
}

#[test]
fn low_id() {
    // Its writer asks after a reader has seen it; nobody was answered a larger ID.
    let found = after(|lines| {
        let mut all = calls(lines, POSTER);
        all[5].t = 58;
        answers(lines, POSTER)[5].t = 59;
    });
    assert_only(&found, Kind::LowId, 1);
    let two_of_one = after(|lines| {
        let mut story = Story {
            lines: std::mem::take(lines),
        };
        story.unknown(51, (0, 1), post(7, 800));
        story.lines.push(Line::Final(Final::Messages {
            c: 7,
            items: vec![Message {
                id: 31,
                channel: 7,
                seq: 1,
                value: 800,
            }],
            done: true,
        }));
        *lines = story.lines;
    });
    assert_only(&two_of_one, Kind::LowId, 1);
}

#[test]
fn inconsistent_order() {
    let found = after(|lines| {
        let blocks = &mut blocks(lines, STREAM)[1];
        // 12, 13, 14 are value 2, 3, 4: of those of one channel, the later one comes first.
        (blocks[0].value, blocks[2].value) = (4, 2);
        (blocks[0].seq, blocks[2].seq) = (1, 2);
    });
    assert_only(&found, Kind::InconsistentOrder, 2);
}

#[test]
fn disorder() {
    let found = after(|lines| blocks(lines, STREAM)[1].swap(1, 2));
    assert_only(&found, Kind::Disorder, 1);
    let unread = after(|lines| {
        if let Answer::Messages { items, .. } = &mut answers(lines, SESSION)[0].op {
            items.swap(0, 1);
        }
    });
    assert_only(&unread, Kind::Disorder, 1);
    let in_the_end = after(|lines| stands(lines, ODD).swap(0, 1));
    assert_only(&in_the_end, Kind::Disorder, 1);
}

#[test]
fn non_monotonic() {
    let found = after(|lines| {
        // All of it came after everything was posted.
        for line in lines.iter_mut() {
            if let Line::Events(events) = line
                && events.p == STREAM
            {
                events.t = 60;
            }
        }
        let mut blocks = blocks(lines, STREAM);
        let first = blocks[0].remove(0);
        let second = blocks[1].remove(0);
        blocks[0].push(second);
        blocks[1].insert(0, first);
    });
    assert_only(&found, Kind::NonMonotonic, 1);
}

#[test]
fn repeated() {
    let found = after(|lines| {
        let mut blocks = blocks(lines, STREAM);
        let again = blocks[0][0];
        blocks[1].insert(0, again);
    });
    assert_only(&found, Kind::Repeated, 1);
    // By a resumed stream.
    let resumed = after(|lines| {
        let mut story = Story {
            lines: std::mem::take(lines),
        };
        story.lines.push(Line::End(End {
            t: 96,
            p: STREAM,
            by: handoff_checker::history::EndedBy::Loss,
        }));
        let again = stream(&[ODD, EVEN], Some(16), None);
        story.done(STREAM, (97, 98), again, Answer::Done);
        events(&mut story, STREAM, 99, vec![message(16)]);
        *lines = story.lines;
    });
    assert_only(&resumed, Kind::Repeated, 1);
}

#[test]
fn unasked() {
    let before = after(|lines| {
        if let Answer::Messages { items, .. } = &mut answers(lines, WALK)[1].op {
            items.insert(0, message(12));
        }
    });
    assert_only(&before, Kind::Unasked, 1);
    let elsewhere = after(|lines| {
        if let Answer::Messages { items, .. } = &mut answers(lines, WALK)[2].op {
            items.insert(0, message(15));
        }
    });
    assert_only(&elsewhere, Kind::Unasked, 1);
    // What is acked is not unread.
    let acked = after(|lines| {
        if let Answer::Messages { items, .. } = &mut answers(lines, SESSION)[5].op {
            items.insert(0, message(14));
        }
    });
    assert_only(&acked, Kind::Unasked, 1);
}

#[test]
fn skipped() {
    let inside = after(|lines| blocks(lines, STREAM)[1].retain(|item| item.id != 13));
    assert_only(&inside, Kind::Skipped, 1);
    let at_the_end = after(|lines| blocks(lines, STREAM)[2].truncate(1));
    assert_only(&at_the_end, Kind::Skipped, 1);
    let stopped_early = after(|lines| {
        blocks(lines, STREAM)[2].pop();
        lines.retain(|line| !matches!(line, Line::Due(due) if due.p == STREAM));
    });
    assert!(stopped_early.is_sound(), "{stopped_early}");
    let unread = after(|lines| {
        if let Answer::Messages { items, .. } = &mut answers(lines, SESSION)[0].op {
            items.remove(1);
        }
    });
    assert_only(&unread, Kind::Skipped, 1);
}

#[test]
fn stale() {
    // Message 16 was answered at 55, before this page was asked for.
    let page = after(|lines| {
        if let Answer::Messages { items, .. } = &mut answers(lines, WALK)[2].op {
            items.clear();
        }
        lines.retain(|line| !matches!(line, Line::Due(due) if due.p == WALK));
    });
    assert_only(&page, Kind::Stale, 1);
    let not_yet_answered = after(|lines| {
        if let Answer::Messages { items, .. } = &mut answers(lines, WALK)[2].op {
            items.clear();
        }
        calls(lines, WALK)[2].t = 55;
        lines.retain(|line| !matches!(line, Line::Due(due) if due.p == WALK));
    });
    assert!(not_yet_answered.is_sound(), "{not_yet_answered}");
    let unread = after(|lines| {
        if let Answer::Messages { items, .. } = &mut answers(lines, SESSION)[5].op {
            items.clear();
        }
    });
    assert_only(&unread, Kind::Stale, 1);
    let entry = after(|lines| answers(lines, SETTER)[6].op = Answer::Value(Some(102)));
    assert_only(&entry, Kind::Stale, 1);
    // What another read had seen before, though its writer was not answered.
    let back = after(|lines| {
        unanswer(lines, SETTER, 5, false);
        let mut story = Story {
            lines: std::mem::take(lines),
        };
        let get = Call::Get { c: ODD, k: 0 };
        story.done(52, (125, 126), get, Answer::Value(None));
        *lines = story.lines;
    });
    assert_only(&back, Kind::Stale, 1);
}

#[test]
fn stale_denial_and_stale_permission() {
    let denied = after(|lines| answers(lines, PROBE)[0].op = Answer::Allowed(false));
    assert_only(&denied, Kind::StaleDenial, 1);
    // On the replica that made the change it holds at once, on the others within a second.
    for index in [1, 3] {
        let allowed = after(|lines| answers(lines, PROBE)[index].op = Answer::Allowed(true));
        assert_only(&allowed, Kind::StalePermission, 1);
    }
    let within = after(|lines| {
        answers(lines, PROBE)[3].op = Answer::Allowed(true);
        calls(lines, PROBE)[3].t = 21 * SECOND + 5;
    });
    assert!(within.is_sound(), "{within}");
    // While a replica can't hear of it, the bound is longer.
    let deaf = |until: u64| {
        after(move |lines| {
            answers(lines, PROBE)[3].op = Answer::Allowed(true);
            let (t, phase) = (19 * SECOND, Phase::Begin);
            let cut = Nemesis {
                t,
                phase,
                fault: "cut".to_owned(),
                deaf: true,
                ..Nemesis::default()
            };
            let over = Nemesis {
                t: until,
                phase: Phase::End,
                ..cut.clone()
            };
            lines.extend([Line::Nemesis(cut), Line::Nemesis(over)]);
        })
    };
    assert!(deaf(21 * SECOND).is_sound(), "{}", deaf(21 * SECOND));
    assert_only(&deaf(19 * SECOND + 1), Kind::StalePermission, 1);
    // A change that was not answered may have happened, or may not, or may still.
    let unknown = after(|lines| {
        unanswer(lines, OWNER, 1, false);
        answers(lines, PROBE)[1].op = Answer::Allowed(true);
        answers(lines, PROBE)[3].op = Answer::Allowed(false);
    });
    assert!(unknown.is_sound(), "{unknown}");
}

#[test]
fn a_stream_outlives_its_key() {
    let open = after(|lines| lines.retain(|line| !matches!(line, Line::End(_))));
    assert_only(&open, Kind::StalePermission, 1);
    // A message that was posted long after the key was revoked.
    let told = after(|lines| {
        let mut story = Story {
            lines: std::mem::take(lines),
        };
        let t = 33 * SECOND;
        story.done(
            POSTER,
            (t, t + 5),
            post(ODD, 500),
            Answer::Posted { id: 60, seq: 4 },
        );
        *lines = story.lines;
        let late = Message {
            id: 60,
            channel: ODD,
            seq: 4,
            value: 500,
        };
        stands(lines, ODD).push(late);
        lines.retain(|line| !matches!(line, Line::End(_)));
        let mut story = Story {
            lines: std::mem::take(lines),
        };
        events(&mut story, KEY_STREAM, t_late(), vec![late]);
        *lines = story.lines;
    });
    assert_only(&told, Kind::StalePermission, 1);
}

/// After the post that a revoked key is shown.
fn t_late() -> u64 {
    34 * SECOND
}

#[test]
fn torn_status() {
    let entry = |lines: &mut Vec<Line>, new: Vec<(u32, u64)>| {
        for line in lines {
            if let Line::Final(Final::Entries { entries, .. }) = line {
                entries.clone_from(&new);
            }
        }
    };
    let other = after(|lines| entry(lines, vec![(0, 102), (9, 202)]));
    assert_only(&other, Kind::TornStatus, 1);
    let gone = after(|lines| entry(lines, vec![(9, 202)]));
    assert_only(&gone, Kind::TornStatus, 1);
    let more = after(|lines| entry(lines, vec![(0, 103), (3, 103), (9, 202)]));
    assert_only(&more, Kind::TornStatus, 1);
    // Values and changes that were made in another order.
    let swapped = after(|lines| {
        let log = log(lines);
        let (one, other) = (log[0].value, log[1].value);
        (log[0].value, log[1].value) = (other, one);
        if let Answer::Changes { items, .. } = &mut answers(lines, CHANGES)[0].op {
            items[0].value = Some(102);
            items[1].value = Some(101);
        }
    });
    assert!(
        !swapped.is_sound() && swapped.count(Kind::CommitOrder) == 1,
        "{swapped}"
    );
}

#[test]
fn ack_backwards() {
    let answer = after(|lines| answers(lines, SESSION)[3].op = Answer::Acked { id: 12 });
    assert_only(&answer, Kind::AckBackwards, 1);
    let read = after(|lines| answers(lines, SESSION)[4].op = Answer::Acks(vec![(0, 12)]));
    assert_only(&read, Kind::AckBackwards, 1);
    let unlisted = after(|lines| answers(lines, SESSION)[4].op = Answer::Acks(vec![]));
    assert_only(&unlisted, Kind::AckBackwards, 1);
    let in_the_end = after(|lines| {
        for line in lines {
            if let Line::Final(Final::Acks { acks, .. }) = line {
                acks[0].1 = 12;
            }
        }
    });
    assert_only(&in_the_end, Kind::AckBackwards, 1);
    // One that was asked for before the second ack was answered may see the first.
    let concurrent = after(|lines| {
        let mut story = Story {
            lines: std::mem::take(lines),
        };
        let (call, answer) = (Call::Acks { c: EVEN }, Answer::Acks(vec![(0, 12)]));
        story.done(53, (126, 140), call, answer);
        *lines = story.lines;
    });
    assert!(concurrent.is_sound(), "{concurrent}");
}

#[test]
fn not_linearizable() {
    use crate::story::RIVAL;
    let read = after(|lines| answers(lines, RIVAL)[2].op = Answer::Value(Some(201)));
    // The final read stands against it as well, but it is the first answer that is told of.
    assert_only(&read, Kind::NonLinearizable, 1);
}

#[test]
fn levels_are_ordered() {
    assert!(Level::None < Level::Read && Level::Read < Level::Write && Level::Write < Level::Admin);
}
