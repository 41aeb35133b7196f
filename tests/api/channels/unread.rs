//! GET `/api/channels/{channel}/unread`.

use harness::TestRelay;
use serde_json::json;

use crate::fixtures::{ack, id, page, say_many};

#[tokio::test]
async fn unread_is_what_comes_after_the_callers_ack() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let bob = relay.agent("bob", json!({"ops": "write"})).await;
    let said = say_many(&admin, "ops", 5).await;
    // Without an ack: from the beginning, oldest first.
    let unread = page(&bob, "/api/channels/ops/unread?limit=2", "messages").await;
    assert_eq!(unread.items, said[..2]);
    assert_eq!(
        (unread.has_more, unread.next_after_id.as_str()),
        (true, id(&said[1]))
    );
    assert_eq!(unread.body["channel"], "ops");

    ack(&bob, "ops", id(&said[2])).await;
    let unread = page(&bob, "/api/channels/ops/unread", "messages").await;
    assert_eq!((&unread.items[..], unread.has_more), (&said[3..], false));
    assert_eq!(unread.next_after_id, id(&said[4]));

    ack(&bob, "ops", id(&said[4])).await;
    let unread = page(&bob, "/api/channels/ops/unread", "messages").await;
    assert!(unread.items.is_empty() && !unread.has_more);
    // The cursor it started from: the ack.
    assert_eq!(unread.next_after_id, id(&said[4]));
    // Others have read nothing.
    assert_eq!(
        page(&admin, "/api/channels/ops/unread", "messages")
            .await
            .items,
        said
    );
}

#[tokio::test]
async fn the_callers_own_messages_are_included() {
    let relay = TestRelay::new().await;
    let bob = relay.agent("bob", json!({"ops": "write"})).await;
    let said = say_many(&bob, "ops", 2).await;
    assert_eq!(
        page(&bob, "/api/channels/ops/unread", "messages")
            .await
            .items,
        said
    );
}

#[tokio::test]
async fn reading_moves_no_ack() {
    let relay = TestRelay::new().await;
    let bob = relay.agent("bob", json!({"ops": "write"})).await;
    let said = say_many(&bob, "ops", 3).await;
    for _ in 0..3 {
        assert_eq!(
            page(&bob, "/api/channels/ops/unread", "messages")
                .await
                .items,
            said
        );
        page(&bob, "/api/channels/ops/messages", "messages").await;
    }
    assert_eq!(
        bob.get("/api/channels/ops/acks").await.expect(200),
        json!([])
    );
}

#[tokio::test]
async fn the_whole_backlog_can_be_worked_through() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let said = say_many(&admin, "ops", 23).await;
    let mut read = Vec::new();
    loop {
        let unread = page(&admin, "/api/channels/ops/unread?limit=5", "messages").await;
        if unread.items.is_empty() {
            break;
        }
        ack(&admin, "ops", &unread.next_after_id).await;
        read.extend(unread.items);
    }
    assert_eq!(read, said);
}
