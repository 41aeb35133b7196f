//! What commands ask for, how they show it, and how refusals are told.

use crate::support::{Home, StandIn, mention};
use serde_json::{Value, json};

#[test]
fn refusals_have_exit_codes_that_a_script_can_tell_apart() {
    for (status, code, exit_code) in [
        (400, "INVALID_CHANNEL_NAME", 2),
        (401, "INVALID_API_KEY", 3),
        (401, "TOKEN_EXPIRED", 3),
        (403, "FORBIDDEN", 3),
        (404, "CHANNEL_NOT_FOUND", 4),
        (409, "LAST_ADMIN", 1),
    ] {
        let relay = StandIn::refusing(status, code);
        let home = Home::at(&relay);
        let said = home.run(&["channels"]).failed(exit_code);
        assert!(said.contains("No such luck"), "{said}");
        let said = home.run(&["channels", "--json"]).failed(exit_code);
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["code"], code);
        assert_eq!(said["status"], status);
    }
}

#[test]
fn an_unreachable_relay_is_a_failure_that_says_what_to_look_at() {
    let home = Home::new()
        .with("RELAY_API_URL", "http://127.0.0.1:1")
        .with("RELAY_API_KEY", "relay_x");
    let said = home.run(&["channels"]).failed(1);
    assert!(said.contains("RELAY_API_URL"), "{said}");
}

fn echo() -> StandIn {
    StandIn::new(|asked| {
        let body: Value = serde_json::from_str(&asked.body).unwrap();
        let mut message = mention(42, body["content"].as_str().unwrap());
        message["mention"] = body["mention"].clone();
        Some((201, message))
    })
}

fn posted(relay: &StandIn) -> Value {
    serde_json::from_str(&relay.asked().last().unwrap().body).unwrap()
}

#[test]
fn a_post_carries_text_mention_and_thread() {
    let relay = echo();
    let home = Home::at(&relay);
    let post = [
        "post",
        "build",
        "hello",
        "--mention",
        "bob",
        "--thread",
        "7",
    ];
    assert!(home.run(&post).ok().contains("42"));
    assert_eq!(
        posted(&relay),
        json!({"content": "hello", "mention": "bob", "thread_id": "7"})
    );
    home.run(&["reply", "build", "7", "-1 from me"]).ok();
    assert_eq!(
        posted(&relay),
        json!({"content": "-1 from me", "thread_id": "7"})
    );
    assert_eq!(relay.asked()[0].line, "POST /api/channels/build/messages");
    assert_eq!(
        home.run(&["post", "build", "x", "--json"]).json()["id"],
        "42"
    );
}

#[test]
fn a_text_may_come_from_standard_input() {
    let relay = echo();
    let home = Home::at(&relay);
    for (input, text) in [
        ("one line\n", "one line"),
        ("two\n\n", "two\n"),
        ("none", "none"),
        (" \r\n", " "),
    ] {
        home.run_with_input(&["post", "build", "-"], input).ok();
        assert_eq!(posted(&relay)["content"], text);
    }
}

#[test]
fn what_others_say_can_t_steer_the_terminal() {
    let relay = StandIn::new(|_| {
        let messages = [mention(1, "one\u{1b}]0;owned\u{7}\ntwo")];
        Some((
            200,
            json!({"messages": messages, "next_after_id": "1", "has_more": false,
                "channel": "build"}),
        ))
    });
    let home = Home::at(&relay);
    let shown = home.run(&["read", "build"]).ok();
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
    assert!(shown.contains("\n    two\n"), "{shown:?}");
    assert!(
        shown.contains("2026-01-01 12:00:00 alice @bob"),
        "{shown:?}"
    );
    // A script gets it as it is.
    let page = home.run(&["read", "build", "--json"]).json();
    assert_eq!(
        page["messages"][0]["content"],
        "one\u{1b}]0;owned\u{7}\ntwo"
    );
}

#[test]
fn reading_what_mentions_me_asks_who_i_am() {
    let relay = StandIn::new(|asked| {
        Some((
            200,
            if asked.line == "GET /api/me" {
                json!({"team": {"id": "1", "name": "t", "created_at": ""}, "sender": "bob",
                    "permissions": {}})
            } else {
                json!({"messages": [], "next_after_id": "0", "has_more": false, "channel": "b"})
            },
        ))
    });
    let home = Home::at(&relay);
    home.run(&["read", "build", "--mention", "--limit", "5"])
        .ok();
    let asked = relay.asked().last().unwrap().line.clone();
    assert!(asked.contains("mention=bob"), "{asked}");
    assert!(asked.contains("limit=5"), "{asked}");
}

#[test]
fn permissions_go_as_a_map() {
    let relay = StandIn::new(|_| {
        Some((
            201,
            json!({"api_key": "relay_k", "key": "h", "sender": "bob"}),
        ))
    });
    let home = Home::at(&relay);
    let create = ["keys", "create", "bob"];
    home.run(&create).ok();
    assert_eq!(posted(&relay)["permissions"], Value::Null);
    let may = ["--may", "*=read", "--may", "build=write"];
    let out = home.run(&[&create[..], &may].concat()).ok();
    assert!(out.contains("relay_k"), "{out}");
    assert_eq!(
        posted(&relay)["permissions"],
        json!({"*": "read", "build": "write"})
    );
}

#[test]
fn a_token_is_alone_on_its_line() {
    let relay = StandIn::new(|_| {
        Some((
            201,
            json!({"token": "a.b.c", "sender": "bob/tests", "permissions": {"ci": "write"},
                "expires_at": "2026-01-01T12:00:00.000000Z"}),
        ))
    });
    let home = Home::at(&relay);
    assert_eq!(home.run(&["token", "create"]).ok(), "a.b.c\n");
    assert_eq!(posted(&relay), json!({}));
    assert_eq!(relay.asked()[0].line, "POST /api/tokens");
    let create = [
        "token", "create", "--suffix", "tests", "--may", "ci=write", "--ttl", "900",
    ];
    let ran = home.run(&create);
    for told in ["bob/tests", "write ci", "2026-01-01 12:00:00"] {
        assert!(ran.err.contains(told), "{ran:?}");
    }
    assert_eq!(
        posted(&relay),
        json!({"sender_suffix": "tests", "permissions": {"ci": "write"}, "ttl_seconds": 900})
    );
    assert_eq!(
        home.run(&["token", "create", "--json"]).json()["token"],
        "a.b.c"
    );
}
