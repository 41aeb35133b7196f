//! POST `/api/keys`.

use harness::TestRelay;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::fixtures::{has_at_least, text};

#[tokio::test]
async fn a_new_key_is_shown_once_and_named_by_its_hash() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let made = admin
        .post(
            "/api/keys",
            json!({"sender_name": "bob", "permissions": {"ops": "write"}}),
        )
        .await
        .expect(201);
    has_at_least(&made, &["api_key", "key", "sender", "permissions"]);
    assert_eq!(made["sender"], "bob");
    assert_eq!(made["permissions"], json!({"ops": "write"}));
    let raw = text(&made, "api_key");
    let secret = raw.strip_prefix("relay_").expect("keys begin with relay_");
    assert!(
        secret.len() == 48 && secret.bytes().all(|b| b.is_ascii_hexdigit()),
        "{raw}"
    );
    assert_eq!(text(&made, "key"), hex::encode(Sha256::digest(raw)));

    let bob = admin.with_key(raw);
    assert_eq!(bob.say("ops", "hello").await["sender"], "bob");
    let keys = admin.get("/api/keys").await.expect(200).to_string();
    assert!(!keys.contains(raw) && keys.contains(text(&made, "key")));
}

#[tokio::test]
async fn keys_differ_even_for_one_sender() {
    let relay = TestRelay::new().await;
    let one = relay.agent("twin", json!({})).await;
    let other = relay.agent("twin", json!({})).await;
    assert_ne!(one.key(), other.key());
    assert_eq!(
        relay
            .admin()
            .get("/api/keys")
            .await
            .expect(200)
            .as_array()
            .unwrap()
            .len(),
        3
    );
}

#[tokio::test]
async fn without_permissions_a_key_may_do_everything() {
    let relay = TestRelay::new().await;
    let made = relay
        .admin()
        .post("/api/keys", json!({"sender_name": "bob"}))
        .await
        .expect(201);
    let bob = relay.admin().with_key(text(&made, "api_key"));
    bob.post("/api/keys", json!({"sender_name": "carol"}))
        .await
        .expect(201);
    bob.post("/api/channels", json!({"name": "ops"}))
        .await
        .expect(201);
    bob.delete("/api/channels/ops").await.expect(204);
}
