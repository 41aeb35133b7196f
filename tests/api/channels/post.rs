//! POST `/api/channels`.

use harness::TestRelay;
use serde_json::{Value, json};

use crate::fixtures::{channel_names, has_fields, is_recent};

#[tokio::test]
async fn a_channel_is_made_once() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let made = admin
        .post(
            "/api/channels",
            json!({"name": "ops", "description": "what runs"}),
        )
        .await
        .expect(201);
    has_fields(&made, &["name", "description", "created_at"]);
    assert_eq!(
        (&made["name"], &made["description"]),
        (&json!("ops"), &json!("what runs"))
    );
    is_recent(&made, "created_at");
    // What is there stays as it is.
    for body in [
        json!({"name": "ops"}),
        json!({"name": "ops", "description": "another"}),
    ] {
        assert_eq!(admin.post("/api/channels", body).await.expect(200), made);
    }
    assert_eq!(admin.get("/api/channels").await.expect(200), json!([made]));
}

#[tokio::test]
async fn a_channel_without_a_description_says_null() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let made = admin
        .post("/api/channels", json!({"name": "ops"}))
        .await
        .expect(201);
    assert_eq!(made.get("description"), Some(&Value::Null));
    admin.say("made-by-writing", "hello").await;
    let list = admin.get("/api/channels").await.expect(200);
    assert_eq!(list[0]["description"], Value::Null);
    assert_eq!(list[0]["name"], "made-by-writing");
}

#[tokio::test]
async fn a_channel_needs_a_name() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    for body in [
        json!({}),
        json!({"name": ""}),
        json!({"name": null, "description": "x"}),
    ] {
        admin
            .post("/api/channels", body)
            .await
            .refused(400, "MISSING_FIELDS");
    }
    assert_eq!(channel_names(&admin).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_existing_channel_answers_200_also_at_the_limit() {
    let relay = TestRelay::builder()
        .env("HANDOFF_CHANNELS_PER_TEAM", 1)
        .start()
        .await;
    let admin = relay.admin();
    let made = admin
        .post("/api/channels", json!({"name": "ops"}))
        .await
        .expect(201);
    assert_eq!(
        admin
            .post("/api/channels", json!({"name": "ops"}))
            .await
            .expect(200),
        made
    );
    admin
        .post("/api/channels", json!({"name": "more"}))
        .await
        .refused(403, "CHANNEL_LIMIT_REACHED");
}
