//! `Idempotency-Key` on POST messages.

use harness::{Agent, Request, Response, TestRelay};
use serde_json::{Value, json};

use crate::fixtures::{at_once, count, id, messages, page};

fn post(agent: &Agent, channel: &str, key: &str, body: &Value) -> Request {
    agent
        .request(harness::Method::POST, messages(channel))
        .header("idempotency-key", key)
        .json(body)
}

#[track_caller]
fn assert_replay(answer: &Response, first: &Value) {
    assert_eq!(answer.expect(200), *first);
    assert_eq!(answer.header("idempotent-replay"), Some("true"));
}

#[tokio::test]
async fn a_retry_answers_the_first_message_and_posts_nothing() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let body = json!({"content": "once", "mention": "carol"});
    let first = post(&admin, "ops", "k1", &body).send().await;
    assert_eq!(first.header("idempotent-replay"), None);
    let first = first.expect(201);
    for replica in [0, 1, 0] {
        assert_replay(
            &post(&admin.on(replica), "ops", "k1", &body).send().await,
            &first,
        );
    }
    assert_eq!(
        page(&admin, messages("ops"), "messages").await.items,
        [first]
    );
    // Without the key, or with another, it is another message.
    admin.post(messages("ops"), body.clone()).await.expect(201);
    post(&admin, "ops", "k2", &body).send().await.expect(201);
    post(&admin, "ops", "K1", &body).send().await.expect(201);
    assert_eq!(
        page(&admin, messages("ops"), "messages").await.items.len(),
        4
    );
}

#[tokio::test]
async fn the_same_key_with_another_body_is_a_mismatch() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let parent = admin.say("ops", "parent").await;
    let first = post(&admin, "ops", "k", &json!({"content": "a"}))
        .send()
        .await
        .expect(201);
    for other in [
        json!({"content": "b"}),
        json!({"content": "a", "mention": "carol"}),
        json!({"content": "a", "thread_id": parent["id"]}),
    ] {
        post(&admin, "ops", "k", &other)
            .send()
            .await
            .refused(409, "IDEMPOTENCY_MISMATCH");
    }
    // Another channel is another message.
    let elsewhere = post(&admin, "other", "k", &json!({"content": "a"}))
        .send()
        .await;
    elsewhere.refused(409, "IDEMPOTENCY_MISMATCH");
    assert_replay(
        &post(&admin, "ops", "k", &json!({"content": "a"}))
            .send()
            .await,
        &first,
    );
    assert_eq!(
        page(&admin, messages("ops"), "messages").await.items.len(),
        2
    );
    assert!(
        page(&admin, messages("other"), "messages")
            .await
            .items
            .is_empty()
    );
}

#[tokio::test]
async fn the_body_is_what_it_says_not_how_it_is_written() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let first = post(&admin, "ops", "k", &json!({"content": "\u{e4}"}))
        .send()
        .await
        .expect(201);
    for same in [
        r#" { "content" : "\u00e4" } "#,
        r#"{"mention":null,"content":"ä","thread_id":null}"#,
        r#"{"content":"ä","mention":""}"#,
    ] {
        let answer = post(&admin, "ops", "k", &Value::Null)
            .body(same)
            .send()
            .await;
        assert_replay(&answer, &first);
    }
}

#[tokio::test]
async fn keys_are_the_callers_own() {
    let relay = TestRelay::new().await;
    let body = json!({"content": "x"});
    let one = relay.agent("twin", json!({"*": "write"})).await;
    let other = relay.agent("twin", json!({"*": "write"})).await;
    let stranger = relay.signup("other", "twin").await;
    let mut posted = Vec::new();
    for agent in [&one, &other, &stranger] {
        posted.push(post(agent, "ops", "k", &body).send().await.expect(201));
    }
    assert_ne!(id(&posted[0]), id(&posted[1]));
    assert_replay(&post(&one, "ops", "k", &body).send().await, &posted[0]);
    assert_replay(&post(&stranger, "ops", "k", &body).send().await, &posted[2]);
}

#[tokio::test]
async fn twins_at_once_post_one_message() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    for round in 0..10 {
        let (channel, key) = (format!("c{round}"), format!("k{round}"));
        let body = json!({"content": "x"});
        // Every other round both come to one replica, perhaps into one batch.
        let answers = at_once(8, |number| {
            post(&admin.on(number % 2 * (round % 2)), &channel, &key, &body)
        })
        .await;
        assert_eq!(
            (count(&answers, 201), count(&answers, 200)),
            (1, 7),
            "{answers:?}"
        );
        let first = answers
            .iter()
            .find(|answer| answer.status() == 201)
            .unwrap()
            .json();
        for answer in answers.iter().filter(|answer| answer.status() == 200) {
            assert_replay(answer, &first);
        }
        assert_eq!(
            page(&admin, messages(&channel), "messages").await.items,
            [first]
        );
    }
}

#[tokio::test]
async fn twins_with_other_bodies_post_one_message() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    for round in 0..10 {
        let key = format!("k{round}");
        let answers = at_once(6, |number| {
            post(
                &admin.on(number % 2),
                "ops",
                &key,
                &json!({"content": number.to_string()}),
            )
        })
        .await;
        assert_eq!(
            (count(&answers, 201), count(&answers, 409)),
            (1, 5),
            "{answers:?}"
        );
    }
    assert_eq!(
        page(&admin, messages("ops"), "messages").await.items.len(),
        10
    );
}

#[tokio::test]
async fn a_refused_post_uses_up_no_key() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let orphan = json!({"content": "x", "thread_id": "4000000000"});
    post(&admin, "ops", "k", &orphan)
        .send()
        .await
        .refused(404, "THREAD_PARENT_NOT_FOUND");
    post(&admin, "ops", "k", &json!({"content": ""}))
        .send()
        .await
        .refused(400, "MISSING_FIELDS");
    post(&admin, "ops", "k", &json!({"content": "x"}))
        .send()
        .await
        .expect(201);
}

#[tokio::test]
async fn odd_keys_do_no_harm() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let body = json!({"content": "x"});
    // An empty key is none.
    for _ in 0..2 {
        post(&admin, "ops", "", &body).send().await.expect(201);
    }
    for key in [
        "\u{e4}\u{1f980}",
        " spaced out ",
        "'; drop table messages; --",
        &"k".repeat(200),
    ] {
        let first = post(&admin, "ops", key, &body).send().await;
        assert!([201, 400].contains(&first.status()), "{first:?}");
        if first.status() == 201 {
            assert_replay(&post(&admin, "ops", key, &body).send().await, &first.json());
        }
    }
    let huge = post(&admin, "ops", &"k".repeat(6_000), &body).send().await;
    assert!([201, 400, 431].contains(&huge.status()), "{huge:?}");
    let unreadable = admin
        .request(harness::Method::POST, messages("ops"))
        .header("idempotency-key", b"\xff\xfe")
        .json(&body)
        .send()
        .await;
    assert!([201, 400].contains(&unreadable.status()), "{unreadable:?}");
}

#[tokio::test]
async fn a_retry_after_the_message_was_deleted_posts_nothing() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let body = json!({"content": "x"});
    let first = post(&admin, "ops", "k", &body).send().await.expect(201);
    admin
        .delete(format!("{}/{}", messages("ops"), id(&first)))
        .await
        .expect(204);
    let again = post(&admin, "ops", "k", &body).send().await;
    assert!(again.status() != 201 && again.status() < 500, "{again:?}");
    assert!(
        page(&admin, messages("ops"), "messages")
            .await
            .items
            .is_empty()
    );
}

#[tokio::test]
async fn a_retry_after_the_channel_was_deleted_is_no_error_of_ours() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let body = json!({"content": "x"});
    post(&admin, "ops", "k", &body).send().await.expect(201);
    admin.delete("/api/channels/ops").await.expect(204);
    let again = post(&admin, "ops", "k", &body).send().await;
    assert!([200, 404].contains(&again.status()), "{again:?}");

    // Also once nothing is left of the channel.
    let database = relay.database().connect().await;
    harness::eventually("the channel is removed", || async {
        let left = "select from channels where deleted_id is not null";
        database
            .query(left, &[])
            .await
            .unwrap()
            .is_empty()
            .then_some(())
    })
    .await;
    // The first message cannot be answered any more, so this one is the first.
    let again = post(&admin, "ops", "k", &body).send().await.expect(201);
    assert_replay(&post(&admin, "ops", "k", &body).send().await, &again);
}
