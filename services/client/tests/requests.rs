//! How requests look, and when they are repeated.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[allow(dead_code, reason = "each test file uses its own part")]
mod support;

use handoff_client::{
    Error,
    types::{InboxQuery, MessageQuery, NewMessage, PageQuery, Permissions},
};
use serde_json::json;
use std::time::Duration;
use support::{ScriptedRelay, Seen, Step, message};

fn hi() -> NewMessage {
    NewMessage {
        content: "hi".into(),
        ..NewMessage::default()
    }
}

fn api_error(error: Error) -> handoff_client::ApiError {
    match error {
        Error::Api(error) => error,
        other => panic!("no refusal: {other:?}"),
    }
}

/// The waits between requests.
fn waits(seen: &[Seen]) -> Vec<Duration> {
    seen.windows(2)
        .map(|pair| pair[1].at - pair[0].at)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_post_keeps_its_idempotency_key_over_its_tries() {
    let relay = ScriptedRelay::new([
        Step::Lost,
        Step::error(503, "UNAVAILABLE"),
        Step::text(502, "<html>bad gateway</html>"),
        Step::json(200, message(7, "hi")).header("idempotent-replay", "true"),
        Step::json(201, message(8, "hi")),
    ]);
    let posted = relay.client().post_message("ops", hi()).await.unwrap();
    assert!(posted.replayed);
    assert_eq!(posted.message.id, "7");
    let seen = relay.seen();
    assert_eq!(seen.len(), 4);
    let key = seen[0].header("idempotency-key").unwrap();
    assert!(key.len() >= 32);
    for request in &seen {
        assert_eq!(request.header("idempotency-key"), Some(key));
        assert_eq!(request.line(), "POST /api/channels/ops/messages");
        assert_eq!(request.json(), json!({"content": "hi"}));
    }
    // Each wait is longer than the last, and none is out of bounds.
    for (wait, base) in waits(&seen).iter().zip([100, 200, 400]) {
        let base = Duration::from_millis(base);
        assert!(*wait >= base && *wait <= 2 * base, "{wait:?} for {base:?}");
    }

    // Another post has another key.
    let posted = relay.client().post_message("ops", hi()).await.unwrap();
    assert!(!posted.replayed);
    assert_ne!(relay.seen()[0].header("idempotency-key"), Some(key));
}

#[tokio::test(start_paused = true)]
async fn gives_up_after_six_tries_with_the_relays_words() {
    let relay = ScriptedRelay::new((0..7).map(|_| Step::error(503, "UNAVAILABLE")));
    let error = relay.client().list_channels().await.unwrap_err();
    let error = api_error(error);
    assert_eq!(error.status, 503);
    assert_eq!(error.code, "UNAVAILABLE");
    assert_eq!(error.message, "No: UNAVAILABLE");
    assert_eq!(error.request_id.as_deref(), Some("r-1"));
    assert_eq!(relay.seen().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn refusals_for_good_are_not_repeated() {
    for (status, code) in [
        (400, "INVALID_CURSOR"),
        (401, "INVALID_API_KEY"),
        (403, "FORBIDDEN"),
        (404, "MESSAGE_NOT_FOUND"),
        (409, "IDEMPOTENCY_MISMATCH"),
        (500, "INTERNAL_ERROR"),
    ] {
        let relay = ScriptedRelay::new([Step::error(status, code)]);
        let error = relay.client().list_channels().await.unwrap_err();
        assert_eq!(api_error(error).code, code);
        assert_eq!(relay.seen().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured() {
    let relay = ScriptedRelay::new([
        Step::error(429, "RATE_LIMITED").header("retry-after", "7"),
        Step::json(200, json!([])),
    ]);
    relay.client().list_channels().await.unwrap();
    let wait = waits(&relay.seen())[0];
    assert!(
        wait >= Duration::from_secs(7) && wait < Duration::from_secs(8),
        "{wait:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_past_all_patience_fails_at_once() {
    let relay =
        ScriptedRelay::new([Step::error(429, "SIGNUP_RATE_LIMITED").header("retry-after", "3600")]);
    let started = tokio::time::Instant::now();
    let error = relay.client().list_channels().await.unwrap_err();
    assert_eq!(
        api_error(error).retry_after,
        Some(Duration::from_secs(3600))
    );
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_swallows_requests_is_given_up_in_good_time() {
    let relay = ScriptedRelay::new((0..5).map(|_| Step::Swallowed));
    let started = tokio::time::Instant::now();
    let error = relay.client().list_channels().await.unwrap_err();
    assert!(matches!(error, Error::Transport(_)), "{error:?}");
    // Tried once more after the timeout of 30 seconds, not four times.
    assert_eq!(relay.seen().len(), 2);
    assert!(started.elapsed() < Duration::from_secs(62));

    // A request that the relay may hold for 50 seconds has that time on top.
    let query = InboxQuery {
        wait_seconds: Some(50),
        ..InboxQuery::default()
    };
    assert!(relay.client().inbox(&query).await.is_err());
    assert_eq!(relay.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn keys_and_teams_are_never_made_twice() {
    let key = json!({"api_key": "relay_1", "key": "abc", "sender": "ana", "permissions": {}});
    // Nothing was done: tried again.
    let relay = ScriptedRelay::new([
        Step::Unsent,
        Step::error(429, "RATE_LIMITED").header("retry-after", "1"),
        Step::error(503, "OVERLOADED").header("retry-after", "1"),
        Step::json(201, key),
    ]);
    let created = relay.client().create_key("ana", None).await.unwrap();
    assert_eq!(created.api_key, "relay_1");
    assert_eq!(relay.seen().len(), 4);

    // Perhaps done: the caller hears of it.
    for step in [
        Step::Lost,
        Step::error(503, "UNAVAILABLE").header("retry-after", "1"),
        Step::text(504, "gateway timeout"),
    ] {
        let relay = ScriptedRelay::new([step]);
        let read = Permissions::from([("ops".into(), "read".into())]);
        let made = relay.client().create_key("ana", Some(&read)).await;
        assert!(made.is_err());
        let seen = relay.seen();
        assert_eq!(seen.len(), 1);
        assert_eq!(
            seen[0].json(),
            json!({"sender_name": "ana", "permissions": {"ops": "read"}})
        );
    }
    let relay = ScriptedRelay::new([Step::Lost]);
    assert!(relay.client().signup("team", "ana").await.is_err());
    assert_eq!(relay.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_whose_answer_was_lost_is_done() {
    let relay = ScriptedRelay::new([Step::Lost, Step::error(404, "MESSAGE_NOT_FOUND")]);
    relay.client().delete_message("ops", "7").await.unwrap();
    assert_eq!(
        relay.seen()[1].line(),
        "DELETE /api/channels/ops/messages/7"
    );

    // What was not there from the first on is told.
    let relay = ScriptedRelay::new([Step::error(404, "MESSAGE_NOT_FOUND")]);
    let error = relay.client().delete_message("ops", "7").await.unwrap_err();
    assert_eq!(api_error(error).code, "MESSAGE_NOT_FOUND");

    // So it is when the first try did not arrive, or was turned away.
    for step in [Step::Unsent, Step::error(429, "RATE_LIMITED")] {
        let relay = ScriptedRelay::new([step, Step::error(404, "STATUS_NOT_FOUND")]);
        let error = relay.client().delete_status("ops", "k").await.unwrap_err();
        assert_eq!(api_error(error).code, "STATUS_NOT_FOUND");
    }

    // An unknown route deletes nothing.
    let relay = ScriptedRelay::new([Step::Lost, Step::error(404, "NOT_FOUND")]);
    let error = relay.client().revoke_key("abc").await.unwrap_err();
    assert_eq!(api_error(error).code, "NOT_FOUND");
}

#[tokio::test(start_paused = true)]
async fn paths_and_parameters_are_encoded() {
    let empty = json!({"messages": [], "next_after_id": "0", "has_more": false, "channel": "x"});
    let changes = json!({"changes": [], "next_after_id": "0", "has_more": false});
    let relay = ScriptedRelay::new([
        Step::json(200, empty.clone()),
        Step::json(200, empty),
        Step::text(204, ""),
        Step::json(200, json!([])),
        Step::json(200, changes),
    ]);
    let client = relay.client();
    let query = MessageQuery {
        after_id: Some("41".into()),
        limit: Some(5),
        sender: Some("a b&c=ü".into()),
        mention: Some(String::new()),
        thread_id: None,
        wait_seconds: None,
    };
    client.read_messages("a.b-c_d", &query).await.unwrap();
    client.read_unread("a/b", None).await.unwrap();
    client.delete_status("ops", "a/b ?#%ü").await.unwrap();
    client
        .list_all_statuses(Some("ops"), Some("k+1"))
        .await
        .unwrap();
    let page = PageQuery {
        after_id: None,
        limit: Some(1),
    };
    client.list_status_changes("ops", &page).await.unwrap();
    let lines: Vec<_> = relay.seen().iter().map(Seen::line).collect();
    assert_eq!(
        lines,
        [
            "GET /api/channels/a.b-c_d/messages?after_id=41&limit=5&sender=a%20b%26c%3D%C3%BC",
            "GET /api/channels/a%2Fb/unread",
            "DELETE /api/channels/ops/status/a%2Fb%20%3F%23%25%C3%BC",
            "GET /api/status?channel=ops&key=k%2B1",
            "GET /api/channels/ops/status/changes?limit=1",
        ]
    );
}

#[tokio::test]
async fn what_no_path_can_name_is_refused_here() {
    let relay = ScriptedRelay::new([]);
    let client = relay.client();
    for key in ["", ".", ".."] {
        let error = client.delete_status("ops", key).await.unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_)), "{error:?}");
    }
    let nothing = NewMessage::default();
    let error = client.post_message("ops", nothing).await.unwrap_err();
    assert!(matches!(error, Error::InvalidArgument(_)), "{error:?}");
}

#[tokio::test]
async fn me_is_asked_for_once_and_not_remembered_when_it_fails() {
    let me = json!({
        "team": {"id": "1", "name": "t", "created_at": "2026-01-01T00:00:00Z"},
        "sender": "ana", "permissions": {"*": "admin"}, "limits": {},
    });
    let relay = ScriptedRelay::new([Step::error(401, "INVALID_API_KEY"), Step::json(200, me)]);
    let client = relay.client();
    assert!(client.me().await.is_err());
    assert_eq!(client.me().await.unwrap().sender, "ana");
    assert_eq!(client.clone().me().await.unwrap().team.id, "1");
    assert_eq!(relay.left(), 0);
}

#[tokio::test]
async fn the_inbox_is_given_time_to_wait() {
    let inbox = json!({
        "mentions": [message(3, "@you")], "messages": [],
        "unread": {"mentions": 1, "channels": {"ops": 1}},
        "has_more": false, "next_after_id": "3",
    });
    let relay = ScriptedRelay::new([Step::json(200, inbox.clone()), Step::json(200, inbox)]);
    let client = relay.client();
    let query = InboxQuery {
        max_bytes: Some(0),
        after_id: Some("2".into()),
        channels: vec!["a".into(), "b".into()],
        mentions_only: true,
        wait_seconds: Some(500),
    };
    let inbox = client.inbox(&query).await.unwrap();
    assert_eq!(inbox.mentions[0].content, "@you");
    assert_eq!(inbox.unread.channels["ops"], 1);
    client.inbox(&InboxQuery::default()).await.unwrap();
    let seen = relay.seen();
    assert_eq!(
        seen[0].line(),
        "GET /api/inbox?max_bytes=0&after_id=2&channels=a%2Cb&mentions_only=true&wait=55"
    );
    assert_eq!(seen[0].timeout, Some(Duration::from_secs(85)));
    assert_eq!(seen[1].line(), "GET /api/inbox");
    assert_eq!(seen[1].timeout, Some(Duration::from_secs(30)));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_relay_is_said_to_be_none() {
    let relay = ScriptedRelay::new([
        Step::text(200, "<html>welcome</html>"),
        Step::text(301, "").header("location", "https://elsewhere/api/channels"),
        Step::text(404, "<html>not here</html>"),
    ]);
    let client = relay.client();
    let error = client.list_channels().await.unwrap_err();
    assert!(matches!(error, Error::BadAnswer(_)), "{error:?}");
    let error = client.list_channels().await.unwrap_err();
    assert!(
        error.to_string().contains("https://elsewhere/api/channels"),
        "{error}"
    );
    let error = api_error(client.list_channels().await.unwrap_err());
    assert_eq!(
        (error.status.as_u16(), error.code.as_str()),
        (404, "HTTP_404")
    );
}

#[tokio::test]
async fn what_a_client_does_can_be_done_on_any_thread() {
    fn any_thread<T: Send>(_: &T) {}
    let relay = ScriptedRelay::new([]);
    let client = relay.client();
    any_thread(&client.inbox(&InboxQuery::default()));
    any_thread(&client.read_thread("ops", "1", &PageQuery::default()));
    any_thread(&client.list_status_changes("ops", &PageQuery::default()));
    any_thread(&client.set_status("ops", "k", "v"));
    let mut stream = client.stream(handoff_client::StreamQuery::default());
    any_thread(&stream);
    any_thread(&stream.next());
}
