//! `handoff hook`, fed with what Claude Code sends.

use crate::support::{Home, StandIn, inbox, mention, query_number};
use serde_json::{Value, json};
use std::{
    fs,
    time::{Duration, Instant, SystemTime},
};

/// What Claude Code sends for an event.
fn input(event: &str, extra: Value) -> String {
    let mut input = json!({
        "session_id": "3f1c9f5e-0d5e-4b62-9a55-6d0a6c0d9b7e",
        "transcript_path": "/home/user/.claude/projects/p/3f1c9f5e.jsonl",
        "cwd": "/home/user/p",
        "permission_mode": "default",
        "hook_event_name": event,
    });
    let extra = extra.as_object().unwrap().clone();
    input.as_object_mut().unwrap().extend(extra);
    input.to_string()
}

fn prompt() -> String {
    input("UserPromptSubmit", json!({"prompt": "go on"}))
}

fn stop(active: bool) -> String {
    input("Stop", json!({"stop_hook_active": active}))
}

/// A relay with these mentions, all unread.
fn relay(mentions: Vec<Value>) -> StandIn {
    StandIn::new(move |asked| {
        assert!(asked.line.starts_with("GET /api/inbox?"), "{}", asked.line);
        assert!(asked.line.contains("mentions_only=true"), "{}", asked.line);
        let after = query_number(&asked.line, "after_id");
        let id = |message: &Value| message["id"].as_str().unwrap().parse::<u64>().unwrap();
        let newer = mentions.iter().filter(|message| id(message) > after);
        Some((200, inbox(&newer.cloned().collect::<Vec<_>>())))
    })
}

#[test]
fn unread_mentions_come_before_the_model_once_a_session() {
    let relay = relay(vec![mention(5, "PR 7 is ready"), mention(9, "and PR 8")]);
    let home = Home::at(&relay);
    let start = input("SessionStart", json!({"source": "startup"}));
    let output = home.run_with_input(&["hook"], &start).json();
    let output = &output["hookSpecificOutput"];
    assert_eq!(output["hookEventName"], "SessionStart");
    let context = output["additionalContext"].as_str().unwrap();
    for word in [
        "PR 7 is ready",
        "and PR 8",
        "alice",
        "build",
        "post_message",
        "ack",
    ] {
        assert!(context.contains(word), "{word}: {context}");
    }
    for again in [start, prompt(), stop(false)] {
        assert_eq!(home.run_with_input(&["hook"], &again).ok(), "");
    }
    let other = prompt().replace("3f1c9f5e-0d5e", "another");
    assert_ne!(home.run_with_input(&["hook"], &other).ok(), "");
}

#[test]
fn what_is_newer_is_told_of_later() {
    let relay = relay(vec![mention(5, "first"), mention(9, "second")]);
    let home = Home::at(&relay);
    let state = "state/handoff/hooks/3f1c9f5e-0d5e-4b62-9a55-6d0a6c0d9b7e.json";
    let home_state = home.path("state");
    let home = home.with("XDG_STATE_HOME", home_state.to_str().unwrap());
    home.write(state, r#"{"announced_id":5}"#);
    let out = home.run_with_input(&["hook"], &prompt()).ok();
    assert!(out.contains("second") && !out.contains("first"), "{out}");
    let kept = fs::read_to_string(home.path(state)).unwrap();
    assert_eq!(kept, r#"{"announced_id":9}"#);
}

#[test]
fn a_stop_that_a_hook_caused_is_left_alone() {
    let relay = relay(vec![mention(5, "again")]);
    let home = Home::at(&relay);
    assert_eq!(home.run_with_input(&["hook"], &stop(true)).ok(), "");
    assert!(relay.asked().is_empty(), "not even asked");
    let out = home.run_with_input(&["hook"], &stop(false)).json();
    assert_eq!(out["hookSpecificOutput"]["hookEventName"], "Stop");
}

#[test]
fn nothing_unread_and_other_events_say_nothing() {
    let relay = relay(Vec::new());
    let home = Home::at(&relay);
    let tool = input("PreToolUse", json!({"tool_name": "Bash"}));
    for input in [prompt(), tool, "{}".to_owned()] {
        let ran = home.run_with_input(&["hook"], &input);
        assert_eq!(ran.err, "");
        assert_eq!(ran.ok(), "");
    }
    assert_eq!(relay.asked().len(), 1);
}

#[test]
fn whatever_goes_wrong_the_session_goes_on() {
    let unreachable = [
        "hook",
        "--relay-url",
        "http://127.0.0.1:1",
        "--api-key",
        "k",
    ];
    let refusing = StandIn::refusing(401, "INVALID_API_KEY");
    for (home, arguments, input) in [
        (Home::new(), &unreachable[..], prompt()),
        (Home::new(), &["hook"], prompt()),
        (Home::at(&refusing), &["hook"], prompt()),
        (Home::at(&refusing), &["hook"], "rubbish".to_owned()),
        (Home::at(&refusing), &["hook"], String::new()),
    ] {
        let start = Instant::now();
        let ran = home.run_with_input(arguments, &input);
        assert_ne!(ran.err, "", "a note for whoever looks");
        assert_eq!(ran.ok(), "");
        assert!(start.elapsed() < Duration::from_secs(6));
    }
}

#[test]
fn a_relay_that_does_not_answer_holds_nothing_up() {
    let silent = StandIn::new(|_| {
        std::thread::sleep(Duration::from_secs(60));
        None
    });
    let start = Instant::now();
    let ran = Home::at(&silent).run_with_input(&["hook"], &prompt());
    assert!(ran.err.contains("within 5 s"), "{}", ran.err);
    assert_eq!(ran.ok(), "");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_session_s_name_can_t_lead_elsewhere() {
    let relay = relay(vec![mention(5, "hi")]);
    let home = Home::at(&relay);
    let input = prompt().replace("3f1c9f5e-0d5e", "../../../escaped/");
    home.run_with_input(&["hook"], &input).ok();
    let folder = home.path(".local/state/handoff/hooks");
    assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
}

#[test]
fn sessions_that_ended_long_ago_are_forgotten() {
    let relay = relay(Vec::new());
    let home = Home::at(&relay);
    let folder = ".local/state/handoff/hooks";
    for (name, days) in [("old", 8), ("recent", 6)] {
        let file = format!("{folder}/{name}.json");
        home.write(&file, "{}");
        let time = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
        let file = fs::File::options()
            .write(true)
            .open(home.path(&file))
            .unwrap();
        file.set_modified(time).unwrap();
    }
    home.run_with_input(&["hook"], &prompt()).ok();
    assert!(!home.path(&format!("{folder}/old.json")).exists());
    assert!(home.path(&format!("{folder}/recent.json")).exists());
}
