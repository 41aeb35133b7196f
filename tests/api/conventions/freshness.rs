//! Freshness and times: what a write answers is what every read gives, to the microsecond.

use harness::{Agent, TestRelay};
use serde_json::{Value, json};

use crate::fixtures::{ack, has_fields, id, is_recent, messages, page, reply, set, status, text};

async fn list(agent: &Agent, path: &str) -> Vec<Value> {
    agent
        .get(path)
        .await
        .expect(200)
        .as_array()
        .expect("a list")
        .clone()
}

#[tokio::test]
async fn a_posted_message_is_the_one_that_is_read() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let mut stream = admin.on(1).stream("/api/channels/ops/stream").await;
    let parent = admin
        .post(
            messages("ops"),
            json!({"content": "hello", "mention": "bob"}),
        )
        .await
        .expect(201);
    is_recent(&parent, "created_at");
    assert_eq!(stream.next().await.data, parent);
    for reader in [&admin, &admin.on(1)] {
        assert_eq!(
            page(reader, messages("ops"), "messages").await.items,
            [parent.clone()]
        );
        assert_eq!(
            page(reader, "/api/channels/ops/unread", "messages")
                .await
                .items,
            [parent.clone()]
        );
        let thread = reader
            .get(format!("/api/channels/ops/threads/{}", id(&parent)))
            .await;
        assert_eq!(thread.expect(200)["parent"], parent);
    }
    let answer = reply(&admin, &parent, "hi").await;
    assert_eq!(stream.next().await.data, answer);
    for reader in [&admin, &admin.on(1)] {
        let path = format!("/api/channels/ops/threads/{}", id(&parent));
        assert_eq!(page(reader, path, "replies").await.items, [answer.clone()]);
        let read = page(reader, messages("ops"), "messages").await.items;
        assert_eq!(read[1], answer);
        let mut counted = parent.clone();
        counted["reply_count"] = json!(1);
        assert_eq!(read[0], counted);
    }
}

#[tokio::test]
async fn a_status_entry_is_the_one_that_is_read() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    for value in ["one", "two", ""] {
        let written = set(&admin, "ops", "k", value).await;
        has_fields(
            &written,
            &["channel", "key", "value", "updated_by", "updated_at"],
        );
        is_recent(&written, "updated_at");
        for reader in [&admin, &admin.on(1)] {
            assert_eq!(list(reader, &status("ops")).await, [written.clone()]);
            assert_eq!(list(reader, "/api/status").await, [written.clone()]);
            let path = "/api/channels/ops/status/changes";
            let change = page(reader, path, "changes").await.items.pop().unwrap();
            assert_eq!(change["changed_at"], written["updated_at"]);
            assert_eq!(change["changed_by"], written["updated_by"]);
            assert_eq!(change["value"], value);
        }
    }
}

#[tokio::test]
async fn an_ack_is_the_one_that_is_read() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let said = admin.say("ops", "hello").await;
    let acked = ack(&admin, "ops", id(&said)).await;
    has_fields(&acked, &["channel", "sender", "last_read_id", "acked_at"]);
    is_recent(&acked, "acked_at");
    for reader in [&admin, &admin.on(1)] {
        assert_eq!(
            list(reader, "/api/channels/ops/acks").await,
            [acked.clone()]
        );
        assert!(
            page(reader, "/api/channels/ops/unread", "messages")
                .await
                .items
                .is_empty()
        );
    }
    // An ack that moves nothing answers with the one that stands, its time included.
    assert_eq!(ack(&admin.on(1), "ops", "0").await, acked);
    assert_eq!(ack(&admin.on(1), "ops", id(&said)).await, acked);
}

#[tokio::test]
async fn channels_and_keys_are_the_ones_that_are_read() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let body = json!({"name": "ops", "description": "what runs"});
    let made = admin.post("/api/channels", body.clone()).await.expect(201);
    is_recent(&made, "created_at");
    assert_eq!(
        admin.on(1).post("/api/channels", body).await.expect(200),
        made
    );
    let key = admin
        .post("/api/keys", json!({"sender_name": "bob"}))
        .await
        .expect(201);
    for reader in [&admin, &admin.on(1)] {
        assert_eq!(list(reader, "/api/channels").await, [made.clone()]);
        let keys = list(reader, "/api/keys").await;
        let listed = keys
            .iter()
            .find(|listed| listed["key"] == key["key"])
            .expect("it is listed");
        assert_eq!(listed["permissions"], json!({"*": "admin"}));
        is_recent(listed, "created_at");
        let me = reader
            .with_key(text(&key, "api_key"))
            .get("/api/me")
            .await
            .expect(200);
        assert_eq!(me["team"], *admin.team());
    }
}

#[tokio::test]
async fn what_was_deleted_is_gone_on_the_next_request() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let (admin, other) = (relay.admin(), relay.admin().on(1));
    for round in 0..20 {
        let channel = format!("c{round}");
        let said = admin.say(&channel, "hello").await;
        set(&admin, &channel, "k", "v").await;
        assert_eq!(
            page(&other, messages(&channel), "messages")
                .await
                .items
                .len(),
            1
        );
        admin
            .delete(format!("{}/{}", messages(&channel), id(&said)))
            .await
            .expect(204);
        assert_eq!(
            page(&other, messages(&channel), "messages")
                .await
                .items
                .len(),
            0
        );
        admin
            .delete(format!("{}/k", status(&channel)))
            .await
            .expect(204);
        assert_eq!(other.get(status(&channel)).await.expect(200), json!([]));
        admin
            .delete(format!("/api/channels/{channel}"))
            .await
            .expect(204);
        assert_eq!(
            crate::fixtures::channel_names(&other).await,
            Vec::<String>::new()
        );
        let again = other.say(&channel, "again").await;
        assert_eq!(
            page(&admin, messages(&channel), "messages").await.items,
            [again]
        );
        other
            .delete(format!("/api/channels/{channel}"))
            .await
            .expect(204);
    }
}
