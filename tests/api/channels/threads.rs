//! GET `/api/channels/{channel}/threads/{id}`.

use harness::TestRelay;
use serde_json::json;

use crate::fixtures::{has_at_least, id, messages, page, reply};

#[tokio::test]
async fn a_thread_is_its_parent_and_its_replies_oldest_first() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let parent = admin.say("ops", "parent").await;
    let path = format!("/api/channels/ops/threads/{}", id(&parent));
    let alone = admin.get(&path).await.expect(200);
    has_at_least(&alone, &["parent", "replies", "next_after_id", "has_more"]);
    assert_eq!((&alone["parent"], &alone["replies"]), (&parent, &json!([])));

    let mut replies = Vec::new();
    for number in 0..4 {
        replies.push(reply(&admin, &parent, &number.to_string()).await);
        admin.say("ops", "beside it").await;
    }
    let read = page(&admin, &path, "replies").await;
    assert_eq!(read.items, replies);
    assert_eq!(
        (read.has_more, read.next_after_id.as_str()),
        (false, id(&replies[3]))
    );
    let mut counted = parent.clone();
    counted["reply_count"] = json!(4);
    assert_eq!(read.body["parent"], counted);
}

#[tokio::test]
async fn the_parent_is_on_every_page() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let parent = admin.say("ops", "parent").await;
    for number in 0..5 {
        reply(&admin, &parent, &number.to_string()).await;
    }
    let path = format!("/api/channels/ops/threads/{}", id(&parent));
    let mut after = "0".to_owned();
    for expected in [vec!["0", "1"], vec!["2", "3"], vec!["4"], vec![]] {
        let page = page(
            &admin,
            format!("{path}?after_id={after}&limit=2"),
            "replies",
        )
        .await;
        assert_eq!(page.contents(), expected);
        assert_eq!(page.body["parent"]["content"], "parent");
        assert_eq!(page.body["parent"]["reply_count"], 5);
        assert_eq!(page.has_more, expected.len() == 2);
        after = page.next_after_id;
    }
}

#[tokio::test]
async fn a_thread_needs_a_standing_parent_in_the_channel() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let parent = admin.say("ops", "parent").await;
    for channel in ["other", "nowhere"] {
        if channel == "other" {
            admin.say(channel, "hello").await;
        }
        admin
            .get(format!("/api/channels/{channel}/threads/{}", id(&parent)))
            .await
            .refused(404, "MESSAGE_NOT_FOUND");
    }
    admin
        .get("/api/channels/ops/threads/4000000000")
        .await
        .refused(404, "MESSAGE_NOT_FOUND");
    admin
        .delete(format!("{}/{}", messages("ops"), id(&parent)))
        .await
        .expect(204);
    admin
        .get(format!("/api/channels/ops/threads/{}", id(&parent)))
        .await
        .refused(404, "MESSAGE_NOT_FOUND");
}

#[tokio::test]
async fn a_reply_has_a_thread_of_its_own() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let parent = admin.say("ops", "parent").await;
    let answer = reply(&admin, &parent, "answer").await;
    let thread = admin
        .get(format!("/api/channels/ops/threads/{}", id(&answer)))
        .await
        .expect(200);
    assert_eq!(
        (&thread["parent"], &thread["replies"]),
        (&answer, &json!([]))
    );
}
