//! Compare-and-set: histories of one entry, linearizable or not, and the search's bound.

use handoff_checker::history::{Answer, Call, Final, Line, Time};
use handoff_checker::{Kind, Options, Verdict, check};

use crate::story::{Story, post};

const C: u32 = 0;
const K: u32 = 0;

fn cas(old: Option<u64>, v: u64) -> Call {
    Call::Cas { c: C, k: K, old, v }
}

const GET: Call = Call::Get { c: C, k: K };

fn read(value: Option<u64>) -> Answer {
    Answer::Value(value)
}

/// One write that is found again, so that there is something to be sound; then the entry's.
fn story() -> Story {
    let mut story = Story::empty();
    story.done(99, (0, 1), post(1, 1), Answer::Posted { id: 1, seq: 1 });
    let items = vec![(1, 1, 1, 1).into()];
    story.lines.push(Line::Final(Final::Messages {
        c: 1,
        items,
        done: true,
    }));
    story
}

fn verdict_within(mut story: Story, log: &[u64], steps: u64) -> Verdict {
    let changes = (10..)
        .zip(log)
        .map(|(id, value)| (id, C, K, Some(*value)).into());
    story.lines.push(Line::Final(Final::Changes {
        c: C,
        items: changes.collect(),
        done: true,
    }));
    let lines = story.close().lines;
    let text: Vec<String> = lines
        .iter()
        .map(|line| serde_json::to_string(line).unwrap())
        .collect();
    let options = Options {
        search_steps: steps,
        ..Options::default()
    };
    check(text.join("\n").as_bytes(), &options).unwrap()
}

fn verdict(story: Story, log: &[u64]) -> Verdict {
    verdict_within(story, log, 1_000_000)
}

fn assert_broken(verdict: &Verdict) {
    assert_eq!(verdict.count(Kind::NonLinearizable), 1, "{verdict}");
    assert!(!verdict.is_sound());
}

#[test]
fn one_of_two_that_meet_wins() {
    let race = |both: bool| {
        let mut story = story();
        story.invoke(0, 10, cas(None, 1));
        story.invoke(1, 11, cas(None, 2));
        story.ok(0, 20, Answer::Done);
        if both {
            story.ok(1, 21, Answer::Done);
        } else {
            story
                .lines
                .push(Line::Fail(handoff_checker::history::Failure {
                    t: 21,
                    p: 1,
                    status: 409,
                }));
        }
        story
    };
    let one = verdict(race(false), &[1]);
    assert!(one.is_sound(), "{one}");
    assert_broken(&verdict(race(true), &[1, 2]));
}

#[test]
fn a_read_sees_the_present() {
    let mut fresh = story();
    fresh.done(0, (10, 12), cas(None, 1), Answer::Done);
    fresh.invoke(1, 13, cas(Some(1), 2));
    // While the second is under way, either may be read, but never the old one after the new one.
    fresh.done(2, (14, 15), GET, read(Some(2)));
    fresh.done(3, (14, 16), GET, read(Some(1)));
    fresh.ok(1, 20, Answer::Done);
    let fresh = verdict(fresh, &[1, 2]);
    assert!(fresh.is_sound(), "{fresh}");

    let mut back = story();
    back.done(0, (10, 12), cas(None, 1), Answer::Done);
    back.invoke(1, 13, cas(Some(1), 2));
    back.done(2, (14, 15), GET, read(Some(2)));
    back.done(3, (16, 17), GET, read(Some(1)));
    back.ok(1, 20, Answer::Done);
    assert_broken(&verdict(back, &[1, 2]));
}

#[test]
fn what_is_unknown_may_take_effect_at_any_later_time_or_never() {
    let after = |reads: &[(Time, Option<u64>)]| {
        let mut story = story();
        story.done(0, (10, 12), cas(None, 1), Answer::Done);
        story.unknown(1, (13, 14), cas(Some(1), 2));
        for (t, value) in reads {
            story.done(2, (*t, t + 1), GET, read(*value));
        }
        story
    };
    for reads in [
        vec![(20, Some(1)), (30, Some(1))],
        vec![(20, Some(1)), (30, Some(2))],
        vec![(20, Some(2)), (30, Some(2))],
    ] {
        let sound = verdict(after(&reads), &[1]);
        assert_eq!(sound.count(Kind::NonLinearizable), 0, "{sound}");
    }
    assert_broken(&verdict(after(&[(20, Some(2)), (30, Some(1))]), &[1, 2]));
}

#[test]
fn sets_and_deletions_take_part() {
    let mut story = story();
    let (c, k) = (C, K);
    story.done(0, (10, 12), Call::Set { c, k, v: 1 }, Answer::Done);
    story.failed(1, (13, 14), cas(None, 2));
    story.done(0, (15, 16), Call::Unset { c, k }, Answer::Done);
    story.failed(1, (17, 18), Call::Unset { c, k });
    story.done(1, (19, 20), cas(None, 3), Answer::Done);
    story.done(0, (21, 22), GET, read(Some(3)));
    let found = verdict(story, &[1, 3]);
    assert_eq!(found.count(Kind::NonLinearizable), 0, "{found}");

    let mut story = self::story();
    story.done(0, (10, 12), Call::Set { c, k, v: 1 }, Answer::Done);
    // It says that the entry isn't as expected, and it is.
    story.failed(1, (13, 14), cas(Some(1), 2));
    assert_broken(&verdict(story, &[1]));
}

#[test]
fn a_search_that_gives_up_is_no_verdict() {
    let mut story = story();
    // All at once, and none answered before all are asked for.
    for p in 0..24 {
        story.invoke(
            p,
            10,
            Call::Set {
                c: C,
                k: K,
                v: 100 + u64::from(p),
            },
        );
    }
    for p in 0..24 {
        story.ok(p, 20, Answer::Done);
    }
    story.done(50, (30, 31), cas(Some(99_999), 7), Answer::Done);
    let log: Vec<u64> = (100..124).chain([7]).collect();
    let found = verdict_within(story, &log, 10_000);
    assert_eq!(found.count(Kind::NonLinearizable), 0, "{found}");
    assert_eq!(found.undecided.len(), 1, "{found}");
    assert!(!found.is_sound(), "{found}");
}

#[test]
fn a_long_contest_with_unknowns_is_decided_fast() {
    let mut story = story();
    let mut log = Vec::new();
    let mut value = None;
    for n in 0..2_000_u64 {
        let t = 100 + 10 * n;
        let next = 1_000 + n;
        match n % 5 {
            0 => story.unknown(0, (t, t + 5), cas(Some(900_000 + n), 500_000 + n)),
            1 => story.failed(1, (t, t + 5), cas(Some(800_000), 600_000 + n)),
            _ => {
                story.done(2, (t, t + 5), cas(value, next), Answer::Done);
                log.push(next);
                value = Some(next);
            }
        }
    }
    let found = verdict_within(story, &log, 10_000_000);
    assert!(found.is_sound(), "{found}");
}
