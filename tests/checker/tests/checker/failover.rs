//! A failover to an asynchronous standby may lose the end of what was committed, and nothing else.

use handoff_checker::history::{Answer, Line, Lossy, Message, Nemesis, Phase};
use handoff_checker::{Kind, Verdict};

use crate::story::{
    EVEN, POSTER, STREAM, Story, after, answers, assert_only, calls, events, forget, post, stands,
};

/// A failover that is over at 96, and may have lost what was answered since 30.
fn fail_over(lines: &mut Vec<Line>) {
    let begin = Nemesis {
        t: 60,
        fault: "failover".to_owned(),
        phase: Phase::Begin,
        ..Nemesis::default()
    };
    let end = Nemesis {
        t: 96,
        phase: Phase::End,
        lossy: Some(Lossy { since: 30 }),
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
