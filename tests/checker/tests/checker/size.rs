//! A history as long as that of a long run: a million posts, ten readers of everything. What it takes
//! is measured in a release build: `cargo test --release -p handoff-checker -- --ignored size`.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::time::Instant;

use handoff_checker::history::{Answer, Due, Events, Final, Line, Message};
use handoff_checker::{Options, check};

use crate::story::{Story, post, stream};

const POSTS: u64 = 1_000_000;
const CHANNELS: u64 = 16;
const READERS: u32 = 10;
const POSTERS: u32 = 64;

#[test]
#[ignore = "half a gigabyte, and a minute or two without optimisation"]
fn a_million_posts_and_ten_readers_of_everything() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    write(&mut BufWriter::new(File::create(&path).unwrap()));
    let bytes = path.metadata().unwrap().len();
    let began = Instant::now();
    let file = BufReader::with_capacity(1 << 20, File::open(&path).unwrap());
    let verdict = check(file, &Options::default()).unwrap();
    let took = began.elapsed();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    println!("{bytes} bytes checked in {took:?}, {peak:?}\n{verdict}");
    assert!(verdict.is_sound(), "{verdict}");
    assert_eq!(verdict.read, POSTS * u64::from(READERS));
}

/// Writes lines and counts them.
struct Out<'a, W: Write> {
    file: &'a mut W,
    lines: u64,
}

impl<W: Write> Out<'_, W> {
    fn put(&mut self, lines: Vec<Line>) {
        for line in lines {
            serde_json::to_writer(&mut *self.file, &line).unwrap();
            self.file.write_all(b"\n").unwrap();
            self.lines += 1;
        }
    }
}

fn message(n: u64) -> Message {
    Message {
        id: (1 << 50) + n,
        channel: (n % CHANNELS) as u32,
        seq: n / CHANNELS + 1,
        value: n,
    }
}

fn write(file: &mut impl Write) {
    let mut out = Out { file, lines: 0 };
    let mut story = Story::empty();
    let all: Vec<u32> = (0..CHANNELS as u32).collect();
    for reader in 0..READERS {
        let p = POSTERS + reader;
        story.done(p, (1, 2), stream(&all, Some(0), None), Answer::Done);
    }
    out.put(story.lines);
    for n in 0..POSTS {
        let mut story = Story { lines: Vec::new() };
        let message = message(n);
        let t = 1_000_000 * (n + 1);
        let (p, span) = ((n % u64::from(POSTERS)) as u32, (t, t + 20_000_000));
        let answer = Answer::Posted {
            id: message.id,
            seq: message.seq,
        };
        story.done(p, span, post(message.channel, n), answer);
        if n % 4 == 3 {
            for reader in 0..READERS {
                story.lines.push(Line::Events(Events {
                    t: t + 21_000_000,
                    p: POSTERS + reader,
                    items: (n - 3..=n).map(self::message).collect(),
                    cursor: None,
                }));
            }
        }
        out.put(story.lines);
    }
    let mut story = Story { lines: Vec::new() };
    for reader in 0..READERS {
        story.lines.push(Line::Due(Due {
            t: 2_000_000 * POSTS,
            p: POSTERS + reader,
            id: (1 << 50) + POSTS,
        }));
    }
    for c in 0..CHANNELS {
        let items: Vec<Message> = (c..POSTS).step_by(CHANNELS as usize).map(message).collect();
        for (part, items) in items.chunks(100).enumerate() {
            story.lines.push(Line::Final(Final::Messages {
                c: c as u32,
                items: items.to_vec(),
                done: (part + 1) * 100 * CHANNELS as usize >= POSTS as usize,
            }));
        }
    }
    out.put(story.lines);
    let lines = out.lines;
    out.put(vec![Line::Close(handoff_checker::history::Close {
        t: 3_000_000 * POSTS,
        lines,
    })]);
    out.file.flush().unwrap();
}
