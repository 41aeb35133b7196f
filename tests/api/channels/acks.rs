//! POST `/api/channels/{channel}/ack` and GET `/api/channels/{channel}/acks`.

use harness::{Method, TestRelay};
use serde_json::{Value, json};

use crate::fixtures::{ack, at_once, column, count, has_fields, id, is_recent, messages, number};
use crate::fixtures::{page, reply, say_many, text};

const NEWEST_POSSIBLE: &str = "9223372036854775807";

#[tokio::test]
async fn an_ack_says_how_far_its_sender_has_read() {
    let relay = TestRelay::new().await;
    let bob = relay.agent("bob", json!({"ops": "write"})).await;
    let said = say_many(&bob, "ops", 3).await;
    assert_eq!(
        bob.get("/api/channels/ops/acks").await.expect(200),
        json!([])
    );
    let acked = ack(&bob, "ops", id(&said[1])).await;
    has_fields(&acked, &["channel", "sender", "last_read_id", "acked_at"]);
    assert_eq!(
        (&acked["channel"], &acked["sender"], &acked["last_read_id"]),
        (&json!("ops"), &json!("bob"), &said[1]["id"])
    );
    is_recent(&acked, "acked_at");
    assert_eq!(
        bob.get("/api/channels/ops/acks").await.expect(200),
        json!([acked])
    );
}

#[tokio::test]
async fn an_ack_only_moves_forward() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let said = say_many(&admin, "ops", 5).await;
    let high = ack(&admin, "ops", id(&said[3])).await;
    for lower in ["0", "0-0", id(&said[0]), id(&said[3])] {
        assert_eq!(ack(&admin, "ops", lower).await, high);
    }
    let higher = ack(&admin, "ops", id(&said[4])).await;
    assert_eq!(higher["last_read_id"], said[4]["id"]);
    assert!(text(&higher, "acked_at") > text(&high, "acked_at"));
}

#[tokio::test]
async fn zero_moves_nothing() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    admin.say("ops", "hello").await;
    let nothing = ack(&admin, "ops", "0").await;
    assert_eq!(nothing["last_read_id"], "0");
    assert_eq!(
        page(&admin, "/api/channels/ops/unread", "messages")
            .await
            .items
            .len(),
        1
    );
}

#[tokio::test]
async fn an_ack_past_the_newest_message_is_brought_down_to_it() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let said = say_many(&admin, "ops", 2).await;
    // Something else that has a higher ID than the channel's newest message.
    crate::fixtures::set(&admin, "ops", "k", "v").await;
    admin.say("other", "hello").await;
    for beyond in [NEWEST_POSSIBLE, &(number(id(&said[1])) + 1).to_string()] {
        assert_eq!(
            ack(&admin, "ops", beyond).await["last_read_id"],
            said[1]["id"]
        );
    }
    let next = admin.say("ops", "next").await;
    assert_eq!(
        page(&admin, "/api/channels/ops/unread", "messages")
            .await
            .items,
        [next]
    );

    // In a channel without a message there is nothing to have read.
    admin
        .post("/api/channels", json!({"name": "empty"}))
        .await
        .expect(201);
    assert_eq!(
        ack(&admin, "empty", NEWEST_POSSIBLE).await["last_read_id"],
        "0"
    );
    let first = admin.say("empty", "first").await;
    assert_eq!(
        page(&admin, "/api/channels/empty/unread", "messages")
            .await
            .items,
        [first]
    );
}

#[tokio::test]
async fn a_deleted_messages_id_counts() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let said = say_many(&admin, "ops", 3).await;
    for gone in [&said[1], &said[2]] {
        admin
            .delete(format!("{}/{}", messages("ops"), id(gone)))
            .await
            .expect(204);
    }
    assert_eq!(
        ack(&admin, "ops", id(&said[1])).await["last_read_id"],
        said[1]["id"]
    );
    // The newest, deleted or not, is the newest there was.
    assert_eq!(
        ack(&admin, "ops", id(&said[2])).await["last_read_id"],
        said[2]["id"]
    );
    assert!(
        page(&admin, "/api/channels/ops/unread", "messages")
            .await
            .items
            .is_empty()
    );
}

#[tokio::test]
async fn acks_belong_to_the_senders_name() {
    let relay = TestRelay::new().await;
    let one = relay.agent("bob", json!({"*": "write"})).await;
    let other = relay.agent("bob", json!({"*": "write"})).await;
    let carol = relay.agent("carol", json!({"*": "write"})).await;
    let said = say_many(&one, "ops", 3).await;
    let acked = ack(&one, "ops", id(&said[2])).await;
    assert_eq!(ack(&other, "ops", id(&said[0])).await, acked);
    assert!(
        page(&other, "/api/channels/ops/unread", "messages")
            .await
            .items
            .is_empty()
    );
    assert_eq!(
        page(&carol, "/api/channels/ops/unread", "messages")
            .await
            .items
            .len(),
        3
    );
    ack(&carol, "ops", id(&said[0])).await;
    let acks = one.get("/api/channels/ops/acks").await.expect(200);
    assert_eq!(column(&acks, "sender"), ["bob", "carol"]);
    // They outlive the key.
    relay
        .admin()
        .delete(format!("/api/keys/{}", one.key_hash()))
        .await
        .expect(204);
    assert_eq!(other.get("/api/channels/ops/acks").await.expect(200), acks);
}

#[tokio::test]
async fn a_channel_that_does_not_exist_cannot_be_acked() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    for id in ["0", "1", NEWEST_POSSIBLE] {
        admin
            .post("/api/channels/nowhere/ack", json!({"last_read_id": id}))
            .await
            .refused(404, "CHANNEL_NOT_FOUND");
    }
    assert_eq!(admin.get("/api/channels").await.expect(200), json!([]));
}

#[tokio::test]
async fn many_ackers_at_once_leave_the_highest() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let said = say_many(&admin, "ops", 32).await;
    for round in 0..4 {
        let bob = relay
            .agent(&format!("bob {round}"), json!({"*": "write"}))
            .await;
        let answers = at_once(32, |number| {
            // In an order of no order; the highest is among them.
            let message = &said[number * 13 % 32];
            bob.on(number % 2)
                .request(Method::POST, "/api/channels/ops/ack")
                .json(&json!({"last_read_id": message["id"]}))
        })
        .await;
        assert_eq!(count(&answers, 200), 32);
        for (number, answer) in answers.iter().enumerate() {
            let (stands, asked) = (answer.json(), &said[number * 13 % 32]);
            assert!(
                crate::fixtures::number(text(&stands, "last_read_id"))
                    >= crate::fixtures::number(id(asked)),
                "{stands} is lower than what was asked, {asked}"
            );
        }
        let acks = admin.get("/api/channels/ops/acks").await.expect(200);
        let stands = acks
            .as_array()
            .unwrap()
            .iter()
            .find(|a| a["sender"] == bob.sender())
            .unwrap();
        assert_eq!(stands["last_read_id"], said[31]["id"]);
        assert!(answers.iter().any(|answer| answer.json() == *stands));
    }
}

#[tokio::test]
async fn a_reply_is_read_like_any_message() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let parent = admin.say("ops", "parent").await;
    let answer = reply(&admin, &parent, "answer").await;
    assert_eq!(
        ack(&admin, "ops", NEWEST_POSSIBLE).await["last_read_id"],
        answer["id"]
    );
    assert_eq!(
        Value::Null,
        admin.get("/api/channels/ops/acks").await.expect(200)[1]
    );
}
