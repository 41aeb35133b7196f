//! A wait on one replica hears of what is written on another.

use std::time::Duration;

use harness::{Agent, TestRelay, within};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

/// A wait that ends this late was not woken by a bell.
const LATE: Duration = Duration::from_secs(15);

async fn write(agent: &Agent, kind: &str, path: &str, body: Value) -> Value {
    let path = format!("/api/channels/ops/{path}");
    match kind {
        "status" => agent.put(path, body).await.expect(200),
        "acks" => agent.post(path, body).await.expect(200),
        _ => agent.post(path, body).await.expect(201),
    }
}

#[tokio::test]
async fn g4_a_wait_is_woken_by_another_replica() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let first = admin.say("ops", "one").await;
    let id = &first["id"];
    let green = json!({"key": "phase", "value": "green"});
    let answer = json!({"content": "on it", "thread_id": id});
    let cases = [
        (
            "status",
            json!({"channel": "ops", "key": "phase", "value": "green"}),
            ("status", green),
        ),
        (
            "acks",
            json!({"channel": "ops", "id": id, "count": 1}),
            ("ack", json!({"last_read_id": id})),
        ),
        (
            "reply",
            json!({"channel": "ops", "id": id}),
            ("messages", answer),
        ),
        (
            "message",
            json!({"channel": "ops"}),
            ("messages", json!({"content": "two"})),
        ),
    ];
    for (kind, condition, (path, body)) in cases {
        let wait = json!({"any": [{kind: condition}], "timeout_seconds": 50});
        let there = admin.on(1);
        let mut waiting = std::pin::pin!(there.post("/api/wait", wait));
        assert!(
            timeout(Duration::from_secs(1), &mut waiting).await.is_err(),
            "{kind}"
        );
        let began = Instant::now();
        write(&admin, kind, path, body).await;
        let outcome = within("the wait is woken", waiting).await.expect(200);
        assert!(began.elapsed() < LATE, "{kind}");
        assert_eq!(outcome["satisfied"], true, "{kind}: {outcome}");
    }

    let after = format!(
        "/api/channels/ops/messages?after_id={}&wait=50&sender=bob",
        "0"
    );
    let there = admin.on(1);
    let mut page = std::pin::pin!(there.get(after));
    assert!(timeout(Duration::from_secs(1), &mut page).await.is_err());
    let bob = relay.agent("bob", json!({"*": "write"})).await;
    let said = bob.say("ops", "hello").await;
    let page = within("the page comes", page).await.expect(200);
    assert_eq!(page["messages"], json!([said]));
}

#[tokio::test]
async fn g3_a_wait_makes_up_for_a_lost_bell() {
    let relay = TestRelay::builder()
        .replicas(2)
        .through_proxy()
        .start()
        .await;
    let admin = relay.admin();
    admin.say("ops", "one").await;
    let status = json!({"channel": "ops", "key": "phase", "value": "green"});
    let wait = json!({"any": [{"status": status}], "timeout_seconds": 50});
    let there = admin.on(1);
    let mut waiting = std::pin::pin!(there.post("/api/wait", wait));
    assert!(timeout(Duration::from_secs(1), &mut waiting).await.is_err());
    relay.proxy(1).listen.swallow_notifications();
    let began = Instant::now();
    let body = json!({"key": "phase", "value": "green"});
    write(&admin, "status", "status", body).await;
    let outcome = within("the wait is woken", waiting).await.expect(200);
    assert!(began.elapsed() < LATE, "the sweep tells of it");
    assert_eq!(outcome["satisfied"], true, "{outcome}");
}
