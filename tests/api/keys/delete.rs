//! DELETE `/api/keys/{hash}`.

use harness::TestRelay;
use serde_json::json;

use crate::fixtures::{column, messages, page};

#[tokio::test]
async fn a_revoked_key_is_refused_at_once_and_off_the_list() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    for _ in 0..10 {
        let bob = relay.agent("bob", json!({"*": "write"})).await;
        bob.say("ops", "hello").await;
        let path = format!("/api/keys/{}", bob.key_hash());
        let gone = admin.delete(&path).await;
        gone.expect(204);
        assert_eq!(gone.text(), "");
        bob.get(messages("ops"))
            .await
            .refused(401, "INVALID_API_KEY");
        bob.post(messages("ops"), json!({"content": "x"}))
            .await
            .refused(401, "INVALID_API_KEY");
        let keys = admin.get("/api/keys").await.expect(200);
        assert!(!column(&keys, "key").contains(&bob.key_hash().as_str()));
        admin.delete(&path).await.refused(404, "KEY_NOT_FOUND");
        admin
            .put(format!("{path}/permissions"), json!({"permissions": {}}))
            .await
            .refused(404, "KEY_NOT_FOUND");
    }
    // What it said stays.
    assert_eq!(
        page(&admin, messages("ops"), "messages").await.items.len(),
        10
    );
}

#[tokio::test]
async fn a_revoked_key_loses_its_streams() {
    let relay = TestRelay::new().await;
    let bob = relay.agent("bob", json!({"*": "read"})).await;
    let twin = relay.agent("bob", json!({"*": "read"})).await;
    let mut streams = vec![
        bob.stream("/api/channels/ops/stream").await,
        bob.stream("/api/channels/nowhere/stream").await,
        bob.stream("/api/stream?channels=ops,other").await,
    ];
    let mut twins = twin.stream("/api/channels/ops/stream").await;
    relay
        .admin()
        .delete(format!("/api/keys/{}", bob.key_hash()))
        .await
        .expect(204);
    for stream in &mut streams {
        assert_eq!(stream.ended().await, []);
    }
    bob.get("/api/channels/ops/stream")
        .await
        .refused(401, "INVALID_API_KEY");
    // Another key of the same sender is another key.
    let said = relay.admin().say("ops", "hello").await;
    assert_eq!(twins.next().await.data, said);
}

#[tokio::test]
async fn revocation_reaches_the_other_replica_within_a_second() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let bob = relay.agent("bob", json!({"*": "write"})).await.on(1);
    bob.get(messages("ops")).await.expect(200);
    let mut stream = bob.stream("/api/channels/ops/stream").await;
    relay
        .admin()
        .delete(format!("/api/keys/{}", bob.key_hash()))
        .await
        .expect(204);
    harness::eventually("the other replica refuses the key", || async {
        (bob.get(messages("ops")).await.status() == 401).then_some(())
    })
    .await;
    stream.ended().await;
}
