//! Encryption as a client's user meets it: keys, rotation, limits, and pages of mixed texts.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[allow(dead_code, reason = "each test file uses its own part")]
mod support;

use handoff_client::{
    Error,
    e2ee::{Context, E2eeError, Keyring, Kind, Opened, Version, generate_key},
    types::{Encryption, MessageQuery, NewMessage, PageQuery},
};
use serde_json::json;
use std::collections::HashSet;
use support::{ScriptedRelay, Step, message};

const PLACE: Context<'_> = Context {
    team_id: "t-1",
    channel: "ops",
    kind: Kind::Message,
};

fn parse(text: &str) -> Keyring {
    Keyring::parse(text).unwrap()
}

fn text(text: &str) -> Result<Opened, E2eeError> {
    Ok(Opened::Text(text.into()))
}

fn me() -> Step {
    Step::json(
        200,
        json!({
            "team": {"id": "t-1", "name": "t", "created_at": "2026-01-01T00:00:00Z"},
            "sender": "ana", "permissions": {},
        }),
    )
}

#[test]
fn the_first_key_writes_and_all_read() {
    let old = parse("old");
    let rotated = parse("new,old");
    let opted_in = parse("v2:new,old");
    let after = parse("v2:newest,v2:new");
    assert_eq!(rotated.version(), Version::V1);
    assert_eq!(opted_in.version(), Version::V2);
    assert_eq!(opted_in.key_id(), rotated.key_id());
    // The prefix on a later key says nothing and is no part of it.
    assert_eq!(after.key_ids().nth(1), Some(opted_in.key_id()));
    assert_eq!(parse("newest,v2:new").version(), Version::V1);

    let by_old = old.encrypt(&PLACE, "from old").unwrap();
    let by_rotated = rotated.encrypt(&PLACE, "from new").unwrap();
    let by_v2 = opted_in.encrypt(&PLACE, "from v2").unwrap();
    assert!(by_rotated.starts_with("e2ee:"));
    assert!(by_v2.starts_with(&format!("e2ee2:{}:", opted_in.key_id())));
    for keyring in [&rotated, &opted_in] {
        assert_eq!(keyring.decrypt(&PLACE, &by_old), text("from old"));
        assert_eq!(keyring.decrypt(&PLACE, &by_rotated), text("from new"));
        assert_eq!(keyring.decrypt(&PLACE, &by_v2), text("from v2"));
    }
    assert_eq!(old.decrypt(&PLACE, &by_rotated), Err(E2eeError::WrongKey));
    let error = old.decrypt(&PLACE, &by_v2).unwrap_err().to_string();
    assert!(
        error.contains(opted_in.key_id()) && error.contains(old.key_id()),
        "{error}"
    );
}

#[test]
fn keys_that_are_none_are_refused() {
    for (given, error) in [
        ("", E2eeError::EmptyKey),
        ("v2:", E2eeError::EmptyKey),
        ("a,", E2eeError::EmptyKey),
        (",a", E2eeError::EmptyKey),
        ("a, b", E2eeError::PaddedKey),
        ("a\n", E2eeError::PaddedKey),
    ] {
        assert_eq!(Keyring::parse(given).err(), Some(error), "{given:?}");
    }
    let keyring = parse("hush-hush,v2:quiet");
    let shown = format!("{keyring:?}");
    assert!(
        !shown.contains("hush") && !shown.contains("quiet"),
        "{shown}"
    );
}

#[test]
fn generated_keys_are_new_and_fit_into_a_list() {
    let keys: HashSet<_> = (0..100).map(|_| generate_key()).collect();
    assert_eq!(keys.len(), 100);
    for key in keys {
        assert_eq!(key.len(), 43);
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        assert!(key.bytes().all(legal), "{key}");
    }
}

#[test]
fn no_two_envelopes_of_a_text_are_alike() {
    for keyring in [parse("a"), parse("v2:a")] {
        let envelopes: HashSet<_> = (0..50)
            .map(|_| keyring.encrypt(&PLACE, "same").unwrap())
            .collect();
        assert_eq!(envelopes.len(), 50);
    }
}

#[test]
fn the_longest_text_fits_and_one_byte_more_does_not() {
    for keyring in [parse("a"), parse("v2:a")] {
        let limit = keyring.version().max_plain_bytes();
        let longest = "x".repeat(limit);
        let envelope = keyring.encrypt(&PLACE, &longest).unwrap();
        assert!(
            envelope.len() <= 32_768 && envelope.len() > 32_760,
            "{}",
            envelope.len()
        );
        assert_eq!(keyring.decrypt(&PLACE, &envelope), text(&longest));
        let error = keyring.encrypt(&PLACE, &(longest + "x")).unwrap_err();
        let bytes = limit + 1;
        assert_eq!(error, E2eeError::TooLong { bytes, limit });
        assert!(error.to_string().contains(&limit.to_string()), "{error}");
    }
}

#[tokio::test]
async fn a_message_leaves_encrypted_and_comes_back_as_it_was() {
    // Version 1 needs to know nothing of the team, so it works with any relay.
    let relay = ScriptedRelay::new([
        Step::json(201, message(7, "nothing of ours")),
        Step::json(
            200,
            json!({
                "channel": "ops", "key": "k", "value": "e2ee:AAAA",
                "updated_by": "ana", "updated_at": "2026-01-01T00:00:00Z",
            }),
        ),
    ]);
    let keyring = parse("secret");
    let client = relay.client().with_keyring(keyring.clone());
    let posted = client
        .post_message(
            "ops",
            NewMessage {
                content: "hush".into(),
                mention: Some("bob".into()),
                thread_id: Some("3".into()),
            },
        )
        .await
        .unwrap();
    assert_eq!(posted.message.encryption, Encryption::Plain);
    let status = client.set_status("ops", "k", "").await.unwrap();
    assert!(matches!(status.encryption, Encryption::Failed(_)));
    assert_eq!(status.value, "e2ee:AAAA");

    let seen = relay.seen();
    let body = seen[0].json();
    assert_eq!(
        (&body["mention"], &body["thread_id"]),
        (&json!("bob"), &json!("3"))
    );
    let sent = body["content"].as_str().unwrap();
    assert_eq!(keyring.decrypt(&PLACE, sent), text("hush"));
    // An empty value is a value, and nobody sees that it is empty.
    let body = seen[1].json();
    let place = Context {
        kind: Kind::Status { key: "k" },
        ..PLACE
    };
    assert_eq!(body["key"], "k");
    assert_eq!(
        keyring.decrypt(&place, body["value"].as_str().unwrap()),
        text("")
    );
}

#[tokio::test(start_paused = true)]
async fn every_try_of_a_post_carries_the_same_envelope() {
    let relay = ScriptedRelay::new([
        me(),
        Step::Lost,
        Step::Lost,
        Step::json(201, message(7, "x")),
    ]);
    let client = relay.client().with_keyring(parse("v2:secret"));
    let message = NewMessage {
        content: "hush".into(),
        ..NewMessage::default()
    };
    client.post_message("ops", message).await.unwrap();
    let seen = relay.seen();
    assert!(
        seen[1].json()["content"]
            .as_str()
            .unwrap()
            .starts_with("e2ee2:")
    );
    assert_eq!(seen[1].json(), seen[2].json());
    assert_eq!(seen[1].json(), seen[3].json());
}

#[tokio::test]
async fn a_page_of_all_sorts_comes_whole() {
    let (ours, theirs) = (parse("v2:ours"), parse("theirs"));
    let by_v1 = parse("ours").encrypt(&PLACE, "v1").unwrap();
    let by_v2 = ours.encrypt(&PLACE, "v2").unwrap();
    let foreign = theirs.encrypt(&PLACE, "theirs").unwrap();
    let elsewhere = Context {
        channel: "dev",
        ..PLACE
    };
    let moved = ours.encrypt(&elsewhere, "moved").unwrap();
    let texts = ["plain", &by_v1, &by_v2, &foreign, &moved, "e2ee:oops"];
    let page = json!({
        "messages": texts.iter().zip(1..).map(|(text, id)| message(id, text)).collect::<Vec<_>>(),
        "next_after_id": "6", "has_more": false, "channel": "ops",
    });
    let relay = ScriptedRelay::new([Step::json(200, page.clone()), me(), Step::json(200, page)]);
    let client = relay.client();
    let read = |client: handoff_client::Client| async move {
        let query = MessageQuery::default();
        client.read_messages("ops", &query).await.unwrap().messages
    };
    let messages = read(client.clone().with_keyring(ours)).await;
    let contents: Vec<_> = messages
        .iter()
        .map(|message| message.content.as_str())
        .collect();
    assert_eq!(
        contents,
        ["plain", "v1", "v2", &foreign, &moved, "e2ee:oops"]
    );
    assert_eq!(messages[0].encryption, Encryption::Plain);
    assert_eq!(messages[1].encryption, Encryption::Encrypted);
    assert_eq!(messages[2].encryption, Encryption::Encrypted);
    for (message, says) in messages[3..]
        .iter()
        .zip(["no key", "moved", "no whole envelope"])
    {
        let Encryption::Failed(reason) = &message.encryption else {
            panic!("{:?}", message.encryption);
        };
        assert!(reason.contains(says), "{reason}");
    }
    // Without a key nobody looks.
    let messages = read(client).await;
    assert!(
        messages
            .iter()
            .all(|message| message.encryption.is_unknown())
    );
    assert_eq!(messages[1].content, by_v1);
    let shown = serde_json::to_value(&messages[1]).unwrap();
    assert_eq!(shown.get("encryption"), None);
}

#[tokio::test]
async fn a_history_shows_values_and_says_nothing_of_deletions() {
    let keyring = parse("v2:secret");
    let place = Context {
        kind: Kind::Status { key: "k" },
        ..PLACE
    };
    let value = keyring.encrypt(&place, "green").unwrap();
    let change = |id: &str, value: &str, deleted: bool| {
        json!({"id": id, "channel": "ops", "key": "k", "value": value, "changed_by": "ana",
               "changed_at": "2026-01-01T00:00:00Z", "deleted": deleted})
    };
    let page = json!({
        "changes": [change("1", &value, false), change("2", "", false), change("3", "", true)],
        "next_after_id": "3", "has_more": false,
    });
    let relay = ScriptedRelay::new([Step::json(200, page), me()]);
    let client = relay.client().with_keyring(keyring);
    let page = client
        .list_status_changes("ops", &PageQuery::default())
        .await
        .unwrap();
    let changes: Vec<_> = page
        .changes
        .iter()
        .map(|change| (change.value.as_str(), change.encryption.clone()))
        .collect();
    assert_eq!(
        changes,
        [
            ("green", Encryption::Encrypted),
            ("", Encryption::Plain),
            ("", Encryption::Unknown),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_team_that_can_not_be_asked_for() {
    let envelope = parse("v2:secret").encrypt(&PLACE, "hush").unwrap();
    let thread = json!({
        "parent": message(1, &envelope), "replies": [message(2, "plain")],
        "next_after_id": "2", "has_more": false,
    });
    // A relay without that endpoint: the rest of the page comes all the same.
    let relay = ScriptedRelay::new([
        Step::json(200, thread.clone()),
        Step::error(404, "NOT_FOUND"),
    ]);
    let client = relay.client().with_keyring(parse("secret"));
    let page = client.read_thread("ops", "1", &PageQuery::default()).await;
    let page = page.unwrap();
    assert!(matches!(page.parent.encryption, Encryption::Failed(_)));
    assert_eq!(page.parent.content, envelope);
    assert_eq!(page.replies[0].encryption, Encryption::Plain);

    // A relay that fails just now: the caller reads the page again later.
    let mut steps = vec![Step::json(200, thread)];
    steps.extend((0..6).map(|_| Step::error(503, "UNAVAILABLE")));
    let relay = ScriptedRelay::new(steps);
    let client = relay.client().with_keyring(parse("secret"));
    let page = client.read_thread("ops", "1", &PageQuery::default()).await;
    assert!(matches!(page, Err(Error::Api(error)) if error.code == "UNAVAILABLE"));
}

#[tokio::test]
async fn what_is_too_long_once_encrypted_is_not_sent() {
    let relay = ScriptedRelay::new([]);
    let client = relay.client().with_keyring(parse("secret"));
    let message = NewMessage {
        content: "x".repeat(24_511),
        ..NewMessage::default()
    };
    let error = client.post_message("ops", message).await.unwrap_err();
    assert!(error.to_string().contains("24510"), "{error}");
}

#[tokio::test]
async fn a_relay_can_not_slip_in_what_was_said_in_another_channel() {
    // It even says whence it is: who asked for `dev` would take it for something said there.
    let envelope = parse("v2:secret").encrypt(&PLACE, "delete it all").unwrap();
    let page = json!({
        "messages": [message(1, &envelope)],
        "next_after_id": "1", "has_more": false, "channel": "dev",
    });
    let relay = ScriptedRelay::new([Step::json(200, page), me()]);
    let client = relay.client().with_keyring(parse("v2:secret"));
    let page = client.read_unread("dev", None).await.unwrap();
    assert_eq!(page.messages[0].channel, "ops");
    assert!(matches!(page.messages[0].encryption, Encryption::Failed(_)));
    assert_eq!(page.messages[0].content, envelope);
}
