//! A failover to an asynchronous standby may lose the end of what was committed, and nothing else.

use handoff_checker::history::{
    Answer, Call, Change, Final, Line, Lossy, Message, Nemesis, Phase, Time,
};
use handoff_checker::{Kind, Verdict};

use crate::story::{
    EVEN, POSTER, PROBE, SECOND, STREAM, Story, after, answers, assert_only, calls, events, forget,
    post, stands,
};

/// A failover that is over at 96, and may have lost what was answered since 30.
fn fail_over(lines: &mut Vec<Line>) {
    fail_over_at(lines, 30, 60, 96);
}

fn fail_over_at(lines: &mut Vec<Line>, since: Time, began: Time, over: Time) {
    let begin = Nemesis {
        t: began,
        fault: "failover".to_owned(),
        phase: Phase::Begin,
        ..Nemesis::default()
    };
    let end = Nemesis {
        t: over,
        phase: Phase::End,
        lossy: Some(Lossy { since }),
        ..begin.clone()
    };
    lines.extend([Line::Nemesis(begin), Line::Nemesis(end)]);
    // Comparing and setting is another matter.
    lines.retain(|line| !matches!(line, Line::Invoke(invoke) if invoke.p == crate::story::RIVAL));
    lines.retain(|line| !matches!(line, Line::Ok(done) if done.p == crate::story::RIVAL));
    lines.retain(|line| !matches!(line, Line::Fail(failure) if failure.p == crate::story::RIVAL));
    forget(lines, 31);
    forget(lines, 32);
    for line in lines {
        if let Line::Final(handoff_checker::history::Final::Entries { entries, .. }) = line {
            entries.retain(|(key, _)| *key != 9);
        }
    }
}

/// These messages don't stand in the end; who had read them keeps them.
fn after_losing(ids: &[u64], more: impl FnOnce(&mut Vec<Line>)) -> Verdict {
    after(|lines| {
        fail_over(lines);
        for channel in [crate::story::ODD, EVEN] {
            stands(lines, channel).retain(|item| !ids.contains(&item.id));
        }
        // Sessions and walks that read later are of another story.
        lines.retain(|line| match line {
            Line::Invoke(invoke) => !matches!(invoke.p, 2 | 5 | 6 | 7 | 8),
            Line::Ok(done) => !matches!(done.p, 2 | 5 | 6 | 7 | 8),
            Line::Due(due) => due.p != 2,
            Line::Events(events) => events.p != 8,
            Line::End(end) => end.p != 8,
            Line::Final(handoff_checker::history::Final::Acks { .. }) => false,
            _ => true,
        });
        more(lines);
    })
}

#[test]
fn the_last_commits_may_be_lost_and_are_counted() {
    let none = after_losing(&[], |_| {});
    assert!(none.is_sound(), "{none}");
    assert_eq!(none.failovers[0].posts, 0);
    let two = after_losing(&[15, 16], |_| {});
    assert!(two.is_sound(), "{two}");
    assert_eq!(
        (two.failovers[0].posts, two.failovers[0].oldest),
        (2, 96 - 45)
    );
}

#[test]
fn a_stream_from_before_still_shows_what_was_lost_and_a_later_page_does_not() {
    let late = after_losing(&[16], |lines| {
        for line in lines {
            if let Line::Events(events) = line
                && events.p == STREAM
                && events.items.iter().any(|item| item.id == 16)
            {
                events.t = 98;
            }
        }
    });
    assert!(late.is_sound(), "{late}");

    let mut shown = None;
    let page = after_losing(&[16], |lines| {
        for line in lines.iter_mut() {
            if let Line::Events(events) = line
                && events.p == STREAM
            {
                let position = events.items.iter().position(|item| item.id == 16);
                shown = shown.take().or(position.map(|index| events.items[index]));
            }
        }
        let mut story = Story {
            lines: std::mem::take(lines),
        };
        let call = Call::Messages { c: EVEN, after: 14 };
        let items = vec![shown.unwrap()];
        story.done(20, (97, 99), call, Answer::Messages { items, more: false });
        *lines = story.lines;
    });
    assert_eq!(page.count(Kind::Phantom), 1, "{page}");
}

/// A deletion of an entry that a read saw, then the failover or not, then a value set and read.
fn entry_after(failover: bool) -> Verdict {
    let mut story = Story::empty();
    let (c, k) = (EVEN, 3);
    let get = || Call::Get { c, k };
    story.done(3, (1, 2), Call::Set { c, k, v: 1 }, Answer::Done);
    story.done(3, (40, 41), Call::Unset { c, k }, Answer::Done);
    story.done(4, (42, 43), get(), Answer::Value(None));
    if failover {
        fail_over(&mut story.lines);
    }
    story.done(3, (100, 101), Call::Set { c, k, v: 2 }, Answer::Done);
    story.done(4, (102, 103), get(), Answer::Value(Some(2)));
    story.done(3, (104, 105), Call::Unset { c, k }, Answer::Done);
    let change = |id, value| Change {
        id,
        channel: c,
        key: k,
        value,
    };
    let finals = [
        Final::Messages {
            c,
            items: Vec::new(),
            done: true,
        },
        Final::Changes {
            c,
            items: vec![change(1, Some(1)), change(3, Some(2)), change(4, None)],
            done: true,
        },
        Final::Entries {
            c,
            entries: Vec::new(),
        },
        Final::Channels(vec![c]),
    ];
    story.lines.extend(finals.map(Line::Final));
    story.close().verdict()
}

#[test]
fn what_was_read_before_it_was_lost_tells_nothing_of_later() {
    let excused = entry_after(true);
    assert_eq!(excused.count(Kind::Stale), 0, "{excused}");
    assert_eq!(excused.count(Kind::Lost), 0, "{excused}");
    let lost = entry_after(false);
    assert_eq!(lost.count(Kind::Lost), 1, "{lost}");
    assert_eq!(lost.count(Kind::Stale), 1, "{lost}");
}

#[test]
fn what_was_committed_before_others_that_stand_is_lost() {
    assert_only(&after_losing(&[15], |_| {}), Kind::Lost, 1);
}

#[test]
fn what_was_answered_long_before_is_lost() {
    // Message 12 was answered at 15; the standby had everything up to 30.
    let found = after_losing(&[12, 13, 14, 15, 16], |_| {});
    assert_eq!(found.count(Kind::Lost), 2, "{found}");
    assert_eq!(found.failovers[0].posts, 3, "{found}");
}

#[test]
fn ids_that_clients_have_seen_are_not_given_again() {
    let again = |id: u64| {
        after_losing(&[16], move |lines| {
            let mut story = Story {
                lines: std::mem::take(lines),
            };
            let (began, ended) = (97, 98);
            let seq = 3;
            story.done(
                POSTER,
                (began, ended),
                post(EVEN, 300),
                Answer::Posted { id, seq },
            );
            *lines = story.lines;
            let message = Message {
                id,
                channel: EVEN,
                seq,
                value: 300,
            };
            stands(lines, EVEN).push(message);
            let mut story = Story {
                lines: std::mem::take(lines),
            };
            events(&mut story, STREAM, 99, vec![message]);
            *lines = story.lines;
            let raised = |line: &mut Line| {
                if let Line::Due(due) = line {
                    due.id = due.id.max(id);
                }
            };
            lines.iter_mut().for_each(raised);
            // The entries' changes have larger IDs: let them come later.
            for invoke in calls(lines, crate::story::SETTER) {
                invoke.t += 100;
            }
            for done in answers(lines, crate::story::SETTER) {
                done.t += 100;
            }
            for invoke in calls(lines, crate::story::CHANGES) {
                invoke.t += 100;
            }
            for done in answers(lines, crate::story::CHANGES) {
                done.t += 100;
            }
        })
    };
    let higher = again(17);
    assert!(higher.is_sound(), "{higher}");
    let same = again(16);
    assert!(same.count(Kind::LowId) == 1, "{same}");
}

#[test]
fn a_key_that_was_made_just_before_may_be_gone_and_is_there_until_then() {
    // The key of the story is made at 10 s, and changed at 20 s.
    let lost_and_denied = |since: Time, began: Time, over: Time| {
        after(|lines| {
            fail_over_at(lines, since, began, over);
            // A use at 12 s, and one at 22 s.
            answers(lines, PROBE)[0].op = Answer::Allowed(false);
            if since > 12 * SECOND {
                answers(lines, PROBE)[0].op = Answer::Allowed(true);
                answers(lines, PROBE)[4].op = Answer::Allowed(false);
            }
        })
    };
    let gone = lost_and_denied(9 * SECOND, 11 * SECOND, 11 * SECOND + 1);
    assert!(gone.is_sound(), "{gone}");
    let not_yet = lost_and_denied(9 * SECOND, 13 * SECOND, 14 * SECOND);
    assert_only(&not_yet, Kind::StaleDenial, 1);
    let made_before = lost_and_denied(11 * SECOND, 11 * SECOND, 11 * SECOND + 1);
    assert_only(&made_before, Kind::StaleDenial, 1);
    let changed_since = lost_and_denied(19 * SECOND, 21 * SECOND, 21 * SECOND + 1);
    assert_only(&changed_since, Kind::StaleDenial, 1);
}
