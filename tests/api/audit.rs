//! GET `/api/audit`.

use harness::{Method, TestRelay};
use serde_json::json;

use crate::fixtures::{at_once, count, has_fields, is_recent, messages, number, page, text, walk};

#[tokio::test]
async fn a_denial_is_recorded_with_what_was_tried() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let bob = relay.agent("b\u{f6}b", json!({"ops": "read"})).await;
    bob.post(
        format!("{}?limit=7&x", messages("ops")),
        json!({"content": "x"}),
    )
    .await
    .refused(403, "FORBIDDEN");
    bob.delete("/api/channels/ops/status/a%2Fb%20c")
        .await
        .refused(403, "FORBIDDEN");
    bob.post("/api/keys", json!({"sender_name": "x"}))
        .await
        .refused(403, "FORBIDDEN");
    bob.get("/api/audit?after_id=0")
        .await
        .refused(403, "FORBIDDEN");
    bob.post("/api/channels", json!({"name": "new"}))
        .await
        .refused(403, "FORBIDDEN");

    let entries = page(&admin, "/api/audit", "entries").await.items;
    let tried: Vec<(&str, &str)> = entries
        .iter()
        .map(|entry| (text(entry, "action"), text(entry, "channel")))
        .collect();
    assert_eq!(
        tried,
        [
            ("POST /api/channels/ops/messages", "ops"),
            ("DELETE /api/channels/ops/status/a%2Fb%20c", "ops"),
            ("POST /api/keys", "*"),
            ("GET /api/audit", "*"),
            ("POST /api/channels", "*"),
        ]
    );
    for entry in &entries {
        has_fields(
            entry,
            &[
                "id",
                "key_hash",
                "sender_name",
                "action",
                "channel",
                "result",
                "timestamp",
            ],
        );
        assert_eq!(entry["key_hash"], bob.key_hash());
        assert_eq!(entry["sender_name"], "b\u{f6}b");
        assert_eq!(entry["result"], "denied");
        is_recent(entry, "timestamp");
    }
}

#[tokio::test]
async fn only_denials_are_recorded() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    admin.say("ops", "hello").await;
    admin
        .get("/api/channels/-/messages")
        .await
        .refused(400, "INVALID_CHANNEL_NAME");
    admin
        .get("/api/channels/ops/threads/77")
        .await
        .refused(404, "MESSAGE_NOT_FOUND");
    admin
        .post(messages("ops"), json!({}))
        .await
        .refused(400, "MISSING_FIELDS");
    admin
        .with_key("nonsense")
        .get("/api/audit")
        .await
        .refused(401, "INVALID_API_KEY");
    let path = format!("/api/keys/{}", admin.key_hash());
    admin.delete(path).await.refused(409, "LAST_ADMIN");
    admin.get("/api/nowhere").await.refused(404, "NOT_FOUND");
    let log = admin.get("/api/audit").await.expect(200);
    assert_eq!(
        log,
        json!({"entries": [], "next_after_id": "0", "has_more": false})
    );
}

#[tokio::test]
async fn a_quota_is_no_denial() {
    let relay = TestRelay::builder()
        .env("HANDOFF_KEYS_PER_TEAM", 1)
        .start()
        .await;
    let admin = relay.admin();
    admin
        .post("/api/keys", json!({"sender_name": "x"}))
        .await
        .refused(403, "KEY_LIMIT_REACHED");
    assert!(page(&admin, "/api/audit", "entries").await.items.is_empty());
}

#[tokio::test]
async fn results_other_than_denied_find_nothing() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let nobody = relay.agent("nobody", json!({})).await;
    for _ in 0..3 {
        nobody.get(messages("ops")).await.refused(403, "FORBIDDEN");
    }
    assert_eq!(
        page(&admin, "/api/audit?result=denied", "entries")
            .await
            .items
            .len(),
        3
    );
    assert_eq!(
        page(&admin, "/api/audit?result=", "entries")
            .await
            .items
            .len(),
        3
    );
    for other in ["allowed", "DENIED", "den", "denied%20", "x"] {
        let page = page(&admin, format!("/api/audit?result={other}"), "entries").await;
        assert!(page.items.is_empty() && !page.has_more, "{:?}", page.body);
    }
}

#[tokio::test]
async fn a_denial_stands_in_the_log_when_its_answer_goes_out() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let nobody = relay.agent("nobody", json!({})).await;
    for round in 0..30 {
        let path = messages(&format!("c{round}"));
        nobody
            .on(round % 2)
            .get(&path)
            .await
            .refused(403, "FORBIDDEN");
        let newest = page(&admin.on((round + 1) % 2), "/api/audit?limit=1", "entries").await;
        assert_eq!(newest.items[0]["action"], format!("GET {path}"));
    }
}

#[tokio::test]
async fn denials_at_once_are_all_recorded_in_order() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let nobody = relay.agent("nobody", json!({})).await;
    let answers = at_once(60, |number| {
        nobody
            .on(number % 2)
            .request(Method::GET, messages(&format!("c{number}")))
    })
    .await;
    assert_eq!(count(&answers, 403), 60);
    let entries = walk(&relay.admin(), "/api/audit", "entries", 7).await;
    assert_eq!(entries.len(), 60);
    let mut channels: Vec<&str> = entries.iter().map(|entry| text(entry, "channel")).collect();
    channels.sort_unstable();
    channels.dedup();
    assert_eq!(channels.len(), 60);
    let times: Vec<&str> = entries
        .iter()
        .map(|entry| text(entry, "timestamp"))
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    number(text(&entries[0], "id"));
}

#[tokio::test]
async fn a_denied_stream_and_a_denied_head_are_denials() {
    let relay = TestRelay::new().await;
    let nobody = relay.agent("nobody", json!({"a": "read"})).await;
    nobody
        .get("/api/channels/ops/stream")
        .await
        .refused(403, "FORBIDDEN");
    nobody
        .get("/api/stream?channels=a,ops")
        .await
        .refused(403, "FORBIDDEN");
    assert_eq!(nobody.head(messages("ops")).await.status(), 403);
    let entries = page(&relay.admin(), "/api/audit", "entries").await.items;
    let actions: Vec<&str> = entries.iter().map(|entry| text(entry, "action")).collect();
    assert_eq!(
        actions,
        [
            "GET /api/channels/ops/stream",
            "GET /api/stream",
            "HEAD /api/channels/ops/messages"
        ]
    );
}
