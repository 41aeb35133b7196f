//! Histories that prove nothing: cut short, not of the form, or with nothing in them.

use handoff_checker::history::{Answer, Call, End, EndedBy, Final, Line, Phase};

use crate::story::{POSTER, STREAM, Story, WALK, after, post, sound};

#[test]
fn nothing_was_checked() {
    let empty = Story::empty().close().verdict();
    assert!(!empty.is_sound(), "{empty}");
    assert!(empty.anomalies.is_empty());
    let mut no_reads = Story::empty();
    no_reads.done(0, (0, 5), post(0, 1), Answer::Posted { id: 1, seq: 1 });
    assert!(!no_reads.close().verdict().is_sound());
    let mut no_posts = Story::empty();
    let page = Answer::Messages {
        items: vec![],
        more: false,
    };
    no_posts.done(0, (0, 5), Call::Messages { c: 0, after: 0 }, page);
    assert!(!no_posts.close().verdict().is_sound());
}

#[test]
fn a_place_that_was_written_to_is_not_read_in_the_end() {
    let unread = after(|lines| {
        lines.retain(|line| !matches!(line, Line::Final(Final::Messages { c: 0, .. })));
    });
    assert!(
        unread.flaws.iter().any(|flaw| flaw.contains("odd")),
        "{unread}"
    );
    let half = after(|lines| {
        for line in lines {
            if let Line::Final(Final::Messages { c: 0, done, .. }) = line {
                *done = false;
            }
        }
    });
    assert!(!half.flaws.is_empty() && !half.is_sound(), "{half}");
}

#[test]
fn lines_are_missing() {
    let mut history = sound();
    history.lines.pop();
    assert!(!history.verdict().is_sound());
    let mut history = sound();
    history.lines.remove(0);
    assert!(!history.verdict().is_sound());
    let mut history = sound();
    // A line in the middle: the last one counts them.
    let channel = |line: &Line| matches!(line, Line::Channel(_));
    let index = history.lines.iter().position(channel).unwrap();
    history.lines.remove(index);
    assert!(!history.verdict().is_sound());
}

#[test]
fn a_process_does_what_none_does() {
    let twice = after(|lines| {
        let mut story = Story {
            lines: std::mem::take(lines),
        };
        story.invoke(POSTER, 60, post(0, 90));
        story.invoke(POSTER, 61, post(0, 91));
        *lines = story.lines;
    });
    assert!(!twice.flaws.is_empty(), "{twice}");
    let unasked = after(|lines| {
        let mut story = Story {
            lines: std::mem::take(lines),
        };
        story.ok(POSTER, 60, Answer::Posted { id: 1, seq: 1 });
        *lines = story.lines;
    });
    assert!(!unasked.flaws.is_empty(), "{unasked}");
    // A reader that goes on elsewhere than where it was would skip by itself.
    let jumps = after(|lines| {
        for line in lines {
            if let Line::Invoke(invoke) = line
                && invoke.p == WALK
                && let Call::Messages { after, .. } = &mut invoke.op
                && *after == 14
            {
                *after = 15;
            }
        }
    });
    assert!(!jumps.flaws.is_empty(), "{jumps}");
    let not_open = after(|lines| {
        let end = || {
            Line::End(End {
                t: 99,
                p: STREAM,
                by: EndedBy::Loss,
            })
        };
        lines.extend([end(), end()]);
    });
    assert!(!not_open.flaws.is_empty(), "{not_open}");
    let endless = after(|lines| {
        lines.retain(|line| !matches!(line, Line::Nemesis(fault) if fault.phase == Phase::End));
    });
    assert!(!endless.flaws.is_empty(), "{endless}");
}
