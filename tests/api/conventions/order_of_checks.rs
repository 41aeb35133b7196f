//! Route, key, rate limit, channel name, permission, other input, existence: in this order. And a
//! refused request changes nothing.

use harness::{Method, TestRelay};
use serde_json::{Value, json};

use crate::fixtures::{channel_names, messages, raw, status};
use crate::routes::{Needs, ROUTES, Scene, answer};

#[tokio::test]
async fn a_missing_key_comes_before_everything_but_the_route() {
    let relay = TestRelay::new().await;
    let nobody = relay.anyone();
    for route in ROUTES.iter().filter(|route| route.needs > Needs::Nothing) {
        let path = route.path_in(&Scene::imaginary("-"));
        raw(
            &nobody,
            route.method,
            &format!("{path}{}limit=0", joint(&path)),
            b"{",
        )
        .await
        .refused(401, "MISSING_API_KEY");
        raw(&nobody.with_key("relay_0"), route.method, &path, b"{")
            .await
            .refused(401, "INVALID_API_KEY");
    }
    raw(&nobody, "PATCH", "/api/channels/-/messages", b"{")
        .await
        .refused(405, "METHOD_NOT_ALLOWED");
    raw(&nobody, "PATCH", "/api/channels/-/nowhere", b"{")
        .await
        .refused(404, "NOT_FOUND");
}

fn joint(path: &str) -> char {
    if path.contains('?') { '&' } else { '?' }
}

#[tokio::test]
async fn the_rate_limit_comes_before_the_channels_name() {
    let relay = TestRelay::builder()
        .env("RATE_LIMIT_MAX", 3)
        .env("RATE_LIMIT_WINDOW_MS", 600_000)
        .start()
        .await;
    let agent = relay.agent("reader", json!({})).await;
    for _ in 0..3 {
        agent
            .get("/api/channels/-/messages")
            .await
            .refused(400, "INVALID_CHANNEL_NAME");
    }
    for route in ROUTES.iter().filter(|route| route.needs > Needs::Nothing) {
        let path = route.path_in(&Scene::imaginary("-"));
        raw(&agent, route.method, &path, b"{")
            .await
            .refused(429, "RATE_LIMITED");
    }
}

#[tokio::test]
async fn the_channels_name_comes_before_permission() {
    let relay = TestRelay::new().await;
    let agent = relay.agent("nobody", json!({})).await;
    for route in ROUTES.iter().filter(|route| route.in_channel()) {
        let path = route.path_in(&Scene::imaginary("-"));
        raw(&agent, route.method, &path, b"{")
            .await
            .refused(400, "INVALID_CHANNEL_NAME");
    }
    // What was refused before permission was no denial.
    let audit = relay.admin().get("/api/audit").await.expect(200);
    assert_eq!(audit["entries"], json!([]));
}

#[tokio::test]
async fn permission_comes_before_other_input_and_existence() {
    let relay = TestRelay::new().await;
    let agent = relay.agent("nobody", json!({})).await;
    let routes = ROUTES.iter().filter(|route| route.needs > Needs::Key);
    for route in routes.filter(|route| !route.names_channels_in_body()) {
        let scene = Scene {
            message: "no-id".into(),
            ..Scene::imaginary("ops")
        };
        let path = route.path_in(&scene);
        let path = format!("{path}{}limit=0&after_id=x&last_event_id=x", joint(&path));
        for body in [&b"{"[..], b"", &[b'x'; 300_000]] {
            raw(&agent, route.method, &path, body)
                .await
                .refused(403, "FORBIDDEN");
        }
    }
}

#[tokio::test]
async fn input_comes_before_existence() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    admin
        .delete("/api/channels/gone/messages/x")
        .await
        .refused(400, "INVALID_CURSOR");
    admin
        .get("/api/channels/gone/threads/x")
        .await
        .refused(400, "INVALID_CURSOR");
    admin
        .get("/api/channels/gone/threads/1?limit=0")
        .await
        .refused(400, "INVALID_LIMIT");
    admin
        .get("/api/channels/gone/threads/1?after_id=x")
        .await
        .refused(400, "INVALID_CURSOR");
    raw(&admin, "POST", "/api/channels/gone/ack", b"{}")
        .await
        .refused(400, "MISSING_FIELDS");
    raw(
        &admin,
        "POST",
        "/api/channels/gone/ack",
        br#"{"last_read_id":"x"}"#,
    )
    .await
    .refused(400, "INVALID_CURSOR");
    let hash = "f".repeat(64);
    raw(
        &admin,
        "PUT",
        &format!("/api/keys/{hash}/permissions"),
        b"{}",
    )
    .await
    .refused(400, "MISSING_FIELDS");
    let orphan = json!({"content": "x".repeat(40_000), "thread_id": "77"});
    admin
        .post(messages("gone"), orphan)
        .await
        .refused(400, "CONTENT_TOO_LARGE");
}

#[tokio::test]
async fn quotas_come_after_input() {
    let relay = TestRelay::builder()
        .env("HANDOFF_KEYS_PER_TEAM", 1)
        .env("HANDOFF_CHANNELS_PER_TEAM", 1)
        .start()
        .await;
    let admin = relay.admin();
    admin.say("only", "hello").await;
    admin
        .post("/api/keys", json!({}))
        .await
        .refused(400, "MISSING_FIELDS");
    admin
        .post("/api/keys", json!({"sender_name": "a"}))
        .await
        .refused(403, "KEY_LIMIT_REACHED");
    admin
        .post("/api/channels", json!({"name": "-"}))
        .await
        .refused(400, "INVALID_CHANNEL_NAME");
    admin
        .post("/api/channels", json!({"name": "a"}))
        .await
        .refused(403, "CHANNEL_LIMIT_REACHED");
    admin
        .post(messages("a"), json!({}))
        .await
        .refused(400, "MISSING_FIELDS");
    admin
        .post(messages("a"), json!({"content": "x"}))
        .await
        .refused(403, "CHANNEL_LIMIT_REACHED");
}

#[tokio::test]
async fn a_refused_write_changes_nothing() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let reader = relay.agent("reader", json!({"*": "read"})).await;
    let refused: Vec<(&str, String, Value)> = vec![
        ("POST", messages("new"), json!({})),
        ("POST", messages("new"), json!({"content": ""})),
        ("POST", messages("new"), json!({"content": 7})),
        ("POST", messages("new"), json!({"content": "a\u{0}b"})),
        (
            "POST",
            messages("new"),
            json!({"content": "x".repeat(32_769)}),
        ),
        (
            "POST",
            messages("new"),
            json!({"content": "x", "mention": "m".repeat(129)}),
        ),
        (
            "POST",
            messages("new"),
            json!({"content": "x", "thread_id": "12345"}),
        ),
        (
            "POST",
            messages("new"),
            json!({"content": "x", "thread_id": "0"}),
        ),
        (
            "POST",
            messages("new"),
            json!({"content": "x", "thread_id": "nope"}),
        ),
        ("PUT", status("new"), json!({"key": "k"})),
        ("PUT", status("new"), json!({"value": "v"})),
        (
            "PUT",
            status("new"),
            json!({"key": "k".repeat(257), "value": "v"}),
        ),
        (
            "PUT",
            status("new"),
            json!({"key": "k", "value": "v".repeat(32_769)}),
        ),
        ("PUT", status("new"), json!({"key": "k\u{0}", "value": "v"})),
        ("PUT", status("new"), json!({"key": "k", "value": "\u{0}"})),
        (
            "POST",
            "/api/channels".into(),
            json!({"name": "new", "description": "d".repeat(1_025)}),
        ),
        (
            "POST",
            "/api/channels".into(),
            json!({"name": "new", "description": "\u{0}"}),
        ),
        (
            "POST",
            "/api/channels/new/ack".into(),
            json!({"last_read_id": "1"}),
        ),
    ];
    for (method, path, body) in &refused {
        for agent in [&admin, &reader] {
            let answer = raw(agent, method, path, body.to_string().as_bytes()).await;
            assert!((400..500).contains(&answer.status()), "{answer:?}");
            assert_eq!(
                agent.sender() == "reader",
                answer.code() == "FORBIDDEN",
                "{answer:?}"
            );
        }
    }
    assert_eq!(channel_names(&admin).await, Vec::<String>::new());
    let history = admin
        .get("/api/channels/new/status/changes")
        .await
        .expect(200);
    assert_eq!(history["changes"], json!([]));
    let database = relay.database().connect().await;
    for table in [
        "channels",
        "messages",
        "status_entries",
        "status_history",
        "acks",
    ] {
        let rows = database
            .query_one(&format!("select count(*) from {table}"), &[])
            .await
            .unwrap();
        assert_eq!(rows.get::<_, i64>(0), 0, "rows in {table}");
    }
}

#[tokio::test]
async fn reading_what_is_not_there_creates_nothing() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let scene = Scene::imaginary("nowhere");
    for route in ROUTES
        .iter()
        .filter(|route| route.method == "GET" && route.in_channel())
    {
        answer(route.request(&admin, &scene)).await;
    }
    assert_eq!(channel_names(&admin).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_stream_is_refused_as_any_other_request_is() {
    let relay = TestRelay::new().await;
    let nobody = relay.agent("nobody", json!({})).await;
    let refused = |agent: &harness::Agent, path: &str| {
        agent
            .request(Method::GET, path)
            .header("accept", "text/event-stream")
            .send()
    };
    for path in ["/api/channels/ops/stream", "/api/stream?channels=ops"] {
        refused(&relay.anyone(), path)
            .await
            .refused(401, "MISSING_API_KEY");
        refused(&nobody, path).await.refused(403, "FORBIDDEN");
        let joint = joint(path);
        let path = format!("{path}{joint}last_event_id=x");
        refused(&relay.admin(), &path)
            .await
            .refused(400, "INVALID_CURSOR");
    }
    refused(&nobody, "/api/channels/-/stream")
        .await
        .refused(400, "INVALID_CHANNEL_NAME");
}
