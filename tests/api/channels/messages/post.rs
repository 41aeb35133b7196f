//! POST `/api/channels/{channel}/messages`.

use harness::{Method, TestRelay};
use serde_json::{Value, json};

use crate::fixtures::{
    at_once, channel_names, count, has_at_least, id, is_recent, messages, number,
};
use crate::fixtures::{page, reply, walk};

#[tokio::test]
async fn a_message_is_answered_whole_nulls_written_out() {
    let relay = TestRelay::new().await;
    let bob = relay.agent("bob", json!({"ops": "write"})).await;
    let said = bob.say("ops", "hello").await;
    has_at_least(
        &said,
        &[
            "id",
            "channel",
            "sender",
            "content",
            "mention",
            "thread_id",
            "reply_count",
            "created_at",
            "seq",
        ],
    );
    assert_eq!(said["channel"], "ops");
    assert_eq!(said["sender"], "bob");
    assert_eq!(said["content"], "hello");
    assert_eq!(
        (&said["mention"], &said["thread_id"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!((&said["reply_count"], &said["seq"]), (&json!(0), &json!(1)));
    is_recent(&said, "created_at");
    number(id(&said));
}

#[tokio::test]
async fn the_sender_comes_from_the_key() {
    let relay = TestRelay::new().await;
    let bob = relay.agent("bob", json!({"*": "write"})).await;
    let body = json!({"content": "x", "sender": "admin", "sender_name": "admin", "channel": "b"});
    let said = bob.post(messages("ops"), body).await.expect(201);
    assert_eq!(
        (&said["sender"], &said["channel"]),
        (&json!("bob"), &json!("ops"))
    );
}

#[tokio::test]
async fn posting_makes_the_channel() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let said = admin.say("ops", "hello").await;
    assert_eq!(channel_names(&admin).await, ["ops"]);
    let channel = admin.get("/api/channels").await.expect(200)[0].clone();
    is_recent(&channel, "created_at");
    assert!(
        channel["created_at"].as_str() <= said["created_at"].as_str(),
        "{channel} {said}"
    );
}

#[tokio::test]
async fn a_parent_is_a_standing_message_of_the_same_channel() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let elsewhere = admin.say("other", "hello").await;
    let deleted = admin.say("ops", "hello").await;
    admin
        .delete(format!("{}/{}", messages("ops"), id(&deleted)))
        .await
        .expect(204);
    let entry = crate::fixtures::set(&admin, "ops", "k", "v").await;
    assert_eq!(entry["key"], "k");
    let change = page(&admin, "/api/channels/ops/status/changes", "changes")
        .await
        .items
        .remove(0);
    for parent in [id(&elsewhere), id(&deleted), id(&change), "4000000000"] {
        admin
            .post(
                messages("ops"),
                json!({"content": "x", "thread_id": parent}),
            )
            .await
            .refused(404, "THREAD_PARENT_NOT_FOUND");
    }
    assert!(
        page(&admin, messages("ops"), "messages")
            .await
            .items
            .is_empty()
    );
    assert_eq!(
        page(&admin, messages("other"), "messages").await.items,
        [elsewhere]
    );
}

#[tokio::test]
async fn a_reply_may_be_replied_to() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let parent = admin.say("ops", "hello").await;
    let answer = reply(&admin, &parent, "hi").await;
    assert_eq!(answer["thread_id"], parent["id"]);
    let deeper = reply(&admin, &answer, "hm").await;
    assert_eq!(deeper["thread_id"], answer["id"]);
    let read = page(&admin, messages("ops"), "messages").await.items;
    let counts: Vec<_> = read
        .iter()
        .map(|message| message["reply_count"].clone())
        .collect();
    assert_eq!(counts, [1, 1, 0]);
}

#[tokio::test]
async fn posts_at_once_are_all_there_once_with_dense_numbers() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let answers = at_once(200, |number| {
        let path = messages(["a", "b"][number % 2]);
        let body = json!({"content": number.to_string()});
        admin
            .on(number / 2 % 2)
            .request(Method::POST, path)
            .json(&body)
    })
    .await;
    assert_eq!(count(&answers, 201), 200);
    for (parity, channel) in ["a", "b"].into_iter().enumerate() {
        let all = walk(&admin, &messages(channel), "messages", 100).await;
        assert_eq!(all.len(), 100);
        for (index, message) in all.iter().enumerate() {
            assert_eq!(message["seq"], index + 1);
        }
        let mut contents: Vec<usize> = all
            .iter()
            .map(|message| message["content"].as_str().unwrap().parse().unwrap())
            .collect();
        contents.sort_unstable();
        assert_eq!(
            contents,
            (0..200).filter(|n| n % 2 == parity).collect::<Vec<_>>()
        );
        for answer in answers.iter().map(|answer| answer.json()) {
            assert_eq!(all.contains(&answer), answer["channel"] == channel);
        }
        let times: Vec<&str> = all
            .iter()
            .map(|m| m["created_at"].as_str().unwrap())
            .collect();
        assert!(times.is_sorted(), "{times:?}");
    }
}

#[tokio::test]
async fn replies_at_once_are_all_counted() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let parent = admin.say("ops", "hello").await;
    let answers = at_once(64, |number| {
        let body = json!({"content": "x", "thread_id": parent["id"]});
        admin
            .on(number % 2)
            .request(Method::POST, messages("ops"))
            .json(&body)
    })
    .await;
    assert_eq!(count(&answers, 201), 64);
    let thread = admin
        .get(format!("/api/channels/ops/threads/{}", id(&parent)))
        .await
        .expect(200);
    assert_eq!(thread["parent"]["reply_count"], 64);
}

#[tokio::test]
async fn a_bad_post_beside_good_ones_fails_alone() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let parent = admin.say("ops", "hello").await;
    for _ in 0..5 {
        let answers = at_once(30, |number| {
            let thread = if number % 3 == 0 {
                json!("4000000000")
            } else {
                parent["id"].clone()
            };
            let body = json!({"content": "x", "thread_id": thread});
            admin.request(Method::POST, messages("ops")).json(&body)
        })
        .await;
        assert_eq!((count(&answers, 201), count(&answers, 404)), (20, 10));
    }
    let all = walk(&admin, &messages("ops"), "messages", 50).await;
    assert_eq!(all.len(), 101);
    assert_eq!(all[0]["reply_count"], 100);
    assert_eq!(all[100]["seq"], 101);
}
