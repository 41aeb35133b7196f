//! `handoff watch`: one line a burst, nothing twice, whatever the relay does.

use crate::support::{Answer, Asked, HANDOFF, Home, StandIn, inbox, mention, query_number};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::Child,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// A team's mentions of bob: added to while a request waits for them, as at a relay.
#[derive(Clone, Default)]
struct Mentions {
    all: Arc<(Mutex<Vec<Value>>, Condvar)>,
    broken: Arc<AtomicBool>,
}

impl Mentions {
    fn add(&self, messages: &[Value]) {
        self.all.0.lock().unwrap().extend_from_slice(messages);
        self.all.1.notify_all();
    }

    fn answer(&self, asked: &Asked) -> Answer {
        if self.broken.swap(false, Ordering::SeqCst) {
            return None;
        }
        let after = query_number(&asked.line, "after_id");
        let wait = query_number(&asked.line, "wait");
        let newer = |all: &Vec<Value>| {
            let id = |message: &Value| message["id"].as_str().unwrap().parse::<u64>().unwrap();
            let newer = all.iter().filter(|message| id(message) > after);
            newer.cloned().collect::<Vec<_>>()
        };
        let all = self.all.0.lock().unwrap();
        let (all, _) = self
            .all
            .1
            .wait_timeout_while(all, Duration::from_secs(wait), |all| newer(all).is_empty())
            .unwrap();
        Some((200, inbox(&newer(&all))))
    }
}

struct Watching {
    process: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Watching {
    fn start(relay: &StandIn, arguments: &[&str]) -> Self {
        let home = Home::at(relay);
        let arguments = [&["watch"][..], arguments].concat();
        let mut process = home
            .command(Path::new(HANDOFF), &arguments)
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        // It listens once it has looked at what is there and asked for what is to come.
        while relay.asked().len() < 2 {
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { process, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn relay(mentions: &Mentions) -> StandIn {
    let mentions = mentions.clone();
    StandIn::new(move |asked| mentions.answer(asked))
}

#[test]
fn a_burst_makes_one_line_and_what_was_there_before_none() {
    let mentions = Mentions::default();
    mentions.add(&[mention(1, "long ago")]);
    let relay = relay(&mentions);
    let mut watching = Watching::start(&relay, &[]);
    mentions.add(&[mention(2, "line one\nline two")]);
    assert_eq!(
        watching.line(),
        "Handoff: 1 mention of you: alice in build (id 2): \"line one line two\""
    );
    let burst: Vec<Value> = (3..=12).map(|id| mention(id, "quick")).collect();
    mentions.add(&burst);
    let line = watching.line();
    assert!(line.starts_with("Handoff: 10 mentions of you: "), "{line}");
    mentions.add(&[mention(13, "the end")]);
    assert!(watching.line().contains("(id 13)"));
}

#[test]
fn what_comes_within_the_burst_is_in_the_line() {
    let mentions = Mentions::default();
    let relay = relay(&mentions);
    let mut watching = Watching::start(&relay, &["--burst-ms", "1500"]);
    mentions.add(&[mention(1, "first")]);
    // The answer with the first is out as soon as this one is asked for.
    std::thread::sleep(Duration::from_millis(200));
    mentions.add(&[mention(2, "second")]);
    let line = watching.line();
    assert!(line.contains("first") && line.contains("second"), "{line}");
}

#[test]
fn a_connection_that_breaks_is_made_again_in_silence() {
    let mentions = Mentions::default();
    let relay = relay(&mentions);
    let mut watching = Watching::start(&relay, &[]);
    mentions.broken.store(true, Ordering::SeqCst);
    mentions.add(&[mention(1, "one")]);
    assert!(watching.line().contains("(id 1)"));
    mentions.add(&[mention(2, "two")]);
    assert!(watching.line().contains("(id 2)"));
}

#[test]
fn scripts_get_the_messages() {
    let mentions = Mentions::default();
    let relay = relay(&mentions);
    let mut watching = Watching::start(&relay, &["--json"]);
    mentions.add(&[mention(1, "one\ntwo")]);
    let line: Value = serde_json::from_str(&watching.line()).unwrap();
    assert_eq!(line["messages"][0]["content"], "one\ntwo");
}

#[test]
fn it_asks_for_what_it_is_told_to() {
    let mentions = Mentions::default();
    let relay = relay(&mentions);
    drop(Watching::start(&relay, &["build", "deploy", "--all"]));
    let asked = &relay.asked()[1].line;
    assert!(asked.contains("channels=build%2Cdeploy"), "{asked}");
    assert!(!asked.contains("mentions_only=true"), "{asked}");
    assert!(query_number(asked, "wait") > 0, "{asked}");
}

#[test]
fn a_key_that_is_not_let_in_ends_it() {
    let relay = StandIn::refusing(401, "INVALID_API_KEY");
    let said = Home::at(&relay).run(&["watch"]).failed(3);
    assert!(said.contains("RELAY_API_KEY"), "{said}");
    assert_eq!(json!(relay.asked().len()), 2, "one more try, no more");
}
