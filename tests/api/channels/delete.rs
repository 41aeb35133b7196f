//! DELETE `/api/channels/{channel}`.

use harness::{Method, TestRelay};
use serde_json::json;

use crate::fixtures::{ack, at_once, channel_names, count, id, messages, page, reply, set};

#[tokio::test]
async fn everything_in_a_channel_goes_with_it() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let parent = admin.say("ops", "hello").await;
    reply(&admin, &parent, "hi").await;
    set(&admin, "ops", "k", "v").await;
    ack(&admin, "ops", id(&parent)).await;
    let gone = admin.delete("/api/channels/ops").await;
    gone.expect(204);
    assert_eq!(gone.text(), "");

    assert_eq!(channel_names(&admin).await, Vec::<String>::new());
    assert!(
        page(&admin, messages("ops"), "messages")
            .await
            .items
            .is_empty()
    );
    assert!(
        page(&admin, "/api/channels/ops/unread", "messages")
            .await
            .items
            .is_empty()
    );
    assert!(
        page(&admin, "/api/channels/ops/status/changes", "changes")
            .await
            .items
            .is_empty()
    );
    for list in [
        "/api/channels/ops/status",
        "/api/channels/ops/acks",
        "/api/status",
    ] {
        assert_eq!(admin.get(list).await.expect(200), json!([]), "{list}");
    }
    let thread = format!("/api/channels/ops/threads/{}", id(&parent));
    admin.get(&thread).await.refused(404, "MESSAGE_NOT_FOUND");
    let message = format!("{}/{}", messages("ops"), id(&parent));
    admin
        .delete(message)
        .await
        .refused(404, "MESSAGE_NOT_FOUND");
    admin
        .delete("/api/channels/ops/status/k")
        .await
        .refused(404, "STATUS_NOT_FOUND");
    admin
        .post("/api/channels/ops/ack", json!({"last_read_id": "1"}))
        .await
        .refused(404, "CHANNEL_NOT_FOUND");
    admin
        .delete("/api/channels/ops")
        .await
        .refused(404, "CHANNEL_NOT_FOUND");

    // A new channel of the name starts afresh, also for a reply to the old one.
    admin
        .post(
            messages("ops"),
            json!({"content": "x", "thread_id": id(&parent)}),
        )
        .await
        .refused(404, "THREAD_PARENT_NOT_FOUND");
    let first = admin.say("ops", "again").await;
    assert_eq!(first["seq"], 1);
    assert_eq!(
        page(&admin, messages("ops"), "messages").await.items,
        [first.clone()]
    );
    assert_eq!(
        page(&admin, "/api/channels/ops/unread", "messages")
            .await
            .items,
        [first]
    );
    assert_eq!(
        admin.get("/api/channels/ops/acks").await.expect(200),
        json!([])
    );
    assert_eq!(
        admin.get("/api/channels/ops/status").await.expect(200),
        json!([])
    );
    admin.get(&thread).await.refused(404, "MESSAGE_NOT_FOUND");
}

#[tokio::test]
async fn a_channel_that_never_was_is_not_found() {
    let relay = TestRelay::new().await;
    relay
        .admin()
        .delete("/api/channels/ops")
        .await
        .refused(404, "CHANNEL_NOT_FOUND");
}

#[tokio::test]
async fn of_many_who_delete_it_one_does() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    for _ in 0..5 {
        admin.say("ops", "hello").await;
        let answers = at_once(12, |number| {
            admin
                .on(number % 2)
                .request(Method::DELETE, "/api/channels/ops")
        })
        .await;
        assert_eq!((count(&answers, 204), count(&answers, 404)), (1, 11));
    }
}

#[tokio::test]
async fn writing_while_it_is_deleted_makes_a_new_one_or_finds_none() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    for _ in 0..10 {
        admin.say("ops", "hello").await;
        let answers = at_once(20, |number| {
            let agent = admin.on(number % 2);
            match number {
                7 => agent.request(Method::DELETE, "/api/channels/ops"),
                _ => agent
                    .request(Method::POST, messages("ops"))
                    .json(&json!({"content": "x"})),
            }
        })
        .await;
        for (number, answer) in answers.iter().enumerate() {
            match (number, answer.status()) {
                (7, status) => assert_eq!(status, 204, "{answer:?}"),
                (_, 201) => {}
                _ => {
                    answer.refused(404, "CHANNEL_NOT_FOUND");
                }
            }
        }
        // What stands is one channel's, counted from 1 on.
        let left = page(&admin, format!("{}?limit=100", messages("ops")), "messages")
            .await
            .items;
        for (index, message) in left.iter().enumerate() {
            assert_eq!(message["seq"], index + 1, "{message}");
        }
    }
}

#[tokio::test]
async fn a_deleted_channel_ends_its_streams() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let first = admin.say("ops", "hello").await;
    let mut here = admin.stream_from("/api/channels/ops/stream", "0").await;
    let mut there = admin.on(1).stream("/api/channels/ops/stream").await;
    let mut another = admin.stream("/api/channels/other/stream").await;
    admin.delete("/api/channels/ops").await.expect(204);
    let came = here.ended().await;
    assert!(
        came.len() <= 1 && came.iter().all(|event| event.data == first),
        "{came:?}"
    );
    assert_eq!(there.ended().await, []);
    another.stays_silent().await;
    // Whoever comes back waits for the next channel of that name.
    let mut again = admin.on(1).stream("/api/channels/ops/stream").await;
    let said = admin.say("ops", "again").await;
    assert_eq!(again.next().await.data, said);
}
