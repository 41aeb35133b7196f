//! DELETE `/api/channels/{channel}/messages/{id}`.

use harness::{Agent, Method, Response, TestRelay};
use serde_json::{Value, json};

use crate::fixtures::{ack, at_once, count, id, messages, page, reply, say_many, walk};

async fn delete(agent: &Agent, message: &Value) -> Response {
    let channel = message["channel"].as_str().unwrap();
    agent
        .delete(format!("{}/{}", messages(channel), id(message)))
        .await
}

#[tokio::test]
async fn a_deleted_message_is_gone_from_every_view_once() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let parent = admin.say("ops", "parent").await;
    let answers = [
        reply(&admin, &parent, "one").await,
        reply(&admin, &parent, "two").await,
    ];
    let mention = admin
        .post(messages("ops"), json!({"content": "x", "mention": "carol"}))
        .await
        .expect(201);
    for gone in [&answers[0], &mention] {
        let answer = delete(&admin, gone).await;
        answer.expect(204);
        assert_eq!(answer.text(), "");
        delete(&admin, gone).await.refused(404, "MESSAGE_NOT_FOUND");
        delete(&admin.on(1), gone)
            .await
            .refused(404, "MESSAGE_NOT_FOUND");
    }
    for reader in [&admin, &admin.on(1)] {
        let read = page(reader, messages("ops"), "messages").await;
        assert_eq!(read.contents(), ["parent", "two"]);
        assert_eq!(read.items[0]["reply_count"], 1);
        let thread = page(
            reader,
            format!("/api/channels/ops/threads/{}", id(&parent)),
            "replies",
        )
        .await;
        assert_eq!(thread.contents(), ["two"]);
        assert_eq!(thread.body["parent"]["reply_count"], 1);
        let unread = page(reader, "/api/channels/ops/unread", "messages").await;
        assert_eq!(unread.contents(), ["parent", "two"]);
        for filter in ["mention=carol", "sender=admin&mention=carol"] {
            let found = page(reader, format!("{}?{filter}", messages("ops")), "messages").await;
            assert!(found.items.is_empty(), "{filter}");
        }
        let mut replay = reader.stream_from("/api/channels/ops/stream", "0").await;
        let events = replay.take(2).await;
        assert_eq!(events[0].data["content"], "parent");
        assert_eq!(events[1].data["content"], "two");
        replay.stays_silent().await;
        reader
            .get(format!("/api/channels/ops/threads/{}", id(&mention)))
            .await
            .refused(404, "MESSAGE_NOT_FOUND");
    }
}

#[tokio::test]
async fn replies_to_a_deleted_parent_stay() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let parent = admin.say("ops", "parent").await;
    let answer = reply(&admin, &parent, "answer").await;
    delete(&admin, &parent).await.expect(204);
    admin
        .get(format!("/api/channels/ops/threads/{}", id(&parent)))
        .await
        .refused(404, "MESSAGE_NOT_FOUND");
    let by_thread = format!("{}?thread_id={}", messages("ops"), id(&parent));
    assert_eq!(
        page(&admin, &by_thread, "messages").await.items,
        [answer.clone()]
    );
    assert_eq!(
        page(&admin, messages("ops"), "messages").await.items,
        [answer.clone()]
    );
    let mut replay = admin.stream_from("/api/channels/ops/stream", "0").await;
    assert_eq!(replay.next().await.data, answer);
    delete(&admin, &answer).await.expect(204);
    assert!(page(&admin, &by_thread, "messages").await.items.is_empty());
}

#[tokio::test]
async fn a_message_is_deleted_in_its_own_channel_only() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let said = admin.say("ops", "hello").await;
    admin.say("other", "hello").await;
    for channel in ["other", "nowhere"] {
        admin
            .delete(format!("{}/{}", messages(channel), id(&said)))
            .await
            .refused(404, "MESSAGE_NOT_FOUND");
    }
    // IDs of other things name no message.
    crate::fixtures::set(&admin, "ops", "k", "v").await;
    let change = page(&admin, "/api/channels/ops/status/changes", "changes")
        .await
        .items
        .remove(0);
    admin
        .delete(format!("{}/{}", messages("ops"), id(&change)))
        .await
        .refused(404, "MESSAGE_NOT_FOUND");
    assert_eq!(
        page(&admin, messages("ops"), "messages").await.items,
        [said]
    );
}

#[tokio::test]
async fn the_order_goes_on_past_a_deletion() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let said = say_many(&admin, "ops", 3).await;
    for message in said.iter().rev() {
        delete(&admin, message).await.expect(204);
    }
    let next = admin.say("ops", "next").await;
    assert_eq!(
        next["seq"], 4,
        "a number is used once, though its message is deleted"
    );
    let read = page(
        &admin,
        format!("{}?after_id={}", messages("ops"), id(&said[0])),
        "messages",
    )
    .await;
    assert_eq!(read.items, [next]);
}

#[tokio::test]
async fn a_cursor_may_be_a_deleted_messages() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let said = say_many(&admin, "ops", 5).await;
    delete(&admin, &said[2]).await.expect(204);
    let path = format!("{}?after_id={}", messages("ops"), id(&said[2]));
    assert_eq!(page(&admin, path, "messages").await.contents(), ["4", "5"]);
    let mut stream = admin
        .stream_from("/api/channels/ops/stream", id(&said[2]))
        .await;
    assert_eq!(stream.next().await.data["content"], "4");
    ack(&admin, "ops", id(&said[2])).await;
    assert_eq!(
        page(&admin, "/api/channels/ops/unread", "messages")
            .await
            .contents(),
        ["4", "5"]
    );
}

#[tokio::test]
async fn pages_are_true_over_deleted_messages() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let said = say_many(&admin, "ops", 30).await;
    for message in said.iter().skip(5).take(20) {
        delete(&admin, message).await.expect(204);
    }
    for limit in [1, 4, 5, 6, 10, 100] {
        let left = walk(&admin, &messages("ops"), "messages", limit).await;
        assert_eq!(left.len(), 10, "by {limit}");
    }
    let newest = page(&admin, format!("{}?limit=6", messages("ops")), "messages").await;
    assert_eq!(newest.contents(), ["5", "26", "27", "28", "29", "30"]);
    let page = page(
        &admin,
        format!("{}?after_id=0&limit=5", messages("ops")),
        "messages",
    )
    .await;
    assert!(page.has_more);
    // Nothing follows the newest that is left.
    for message in &said[25..] {
        delete(&admin, message).await.expect(204);
    }
    let page = crate::fixtures::page(
        &admin,
        format!("{}?after_id=0&limit=5", messages("ops")),
        "messages",
    )
    .await;
    assert_eq!((page.items.len(), page.has_more), (5, false));
}

#[tokio::test]
async fn of_many_who_delete_it_one_does() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let parent = admin.say("ops", "parent").await;
    for _ in 0..5 {
        let answer = reply(&admin, &parent, "answer").await;
        let path = format!("{}/{}", messages("ops"), id(&answer));
        let answers = at_once(12, |number| {
            admin.on(number % 2).request(Method::DELETE, &path)
        })
        .await;
        assert_eq!((count(&answers, 204), count(&answers, 404)), (1, 11));
    }
    let read = page(&admin, messages("ops"), "messages").await;
    assert_eq!(
        read.items[0]["reply_count"], 0,
        "no reply is taken away twice"
    );
}

#[tokio::test]
async fn a_stream_in_memory_does_not_replay_what_was_deleted() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    // This one keeps the channel's events in memory.
    let mut live = admin.stream("/api/channels/ops/stream").await;
    let said = say_many(&admin, "ops", 6).await;
    live.take(6).await;
    for index in [1, 5] {
        delete(&admin, &said[index]).await.expect(204);
    }
    let mut replay = admin
        .stream_from("/api/channels/ops/stream", id(&said[0]))
        .await;
    let contents: Vec<_> = replay
        .take(3)
        .await
        .into_iter()
        .map(|event| event.data["content"].clone())
        .collect();
    assert_eq!(contents, ["3", "4", "5"]);
    replay.stays_silent().await;
    let next = admin.say("ops", "next").await;
    assert_eq!(live.next().await.data, next, "a deletion is no event");
    assert_eq!(replay.next().await.data, next);
}
