//! PUT `/api/keys/{hash}/permissions`. What maps may say and mean: `conventions::permissions`.

use harness::TestRelay;
use serde_json::json;

use crate::fixtures::{messages, refusal};

#[tokio::test]
async fn the_answer_is_the_key_and_its_new_map() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let bob = relay.agent("bob", json!({})).await;
    let path = format!("/api/keys/{}/permissions", bob.key_hash());
    let map = json!({"ops": "write", "*": "read"});
    let set = admin
        .put(&path, json!({"permissions": map}))
        .await
        .expect(200);
    assert_eq!(set, json!({"key": bob.key_hash(), "permissions": map}));
    assert_eq!(bob.get("/api/me").await.expect(200)["permissions"], map);
    let list = admin.get("/api/keys").await.expect(200);
    assert!(
        list.as_array()
            .unwrap()
            .iter()
            .any(|key| key["permissions"] == map)
    );
}

#[tokio::test]
async fn a_hash_that_names_no_key_is_not_found() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let bob = relay.agent("bob", json!({"ops": "read"})).await;
    let mallory = relay.signup("other", "mallory").await;
    let unknown = "f".repeat(64);
    let unknown = admin
        .put(
            format!("/api/keys/{unknown}/permissions"),
            json!({"permissions": {}}),
        )
        .await;
    unknown.refused(404, "KEY_NOT_FOUND");
    for hash in [
        mallory.key_hash(),
        bob.key_hash()[1..].to_owned(),
        format!("{}0", bob.key_hash()),
        bob.key().to_owned(),
        "bob".into(),
        "0".into(),
        "%00".into(),
        "%FF".into(),
        "g".repeat(64),
        "\u{e4}"
            .repeat(32)
            .escape_unicode()
            .to_string()
            .replace(['\\', '{', '}'], ""),
    ] {
        let refused = admin
            .put(
                format!("/api/keys/{hash}/permissions"),
                json!({"permissions": {}}),
            )
            .await;
        refused.refused(404, "KEY_NOT_FOUND");
        assert_eq!(refusal(&refused), refusal(&unknown), "{hash}");
        let refused = admin.delete(format!("/api/keys/{hash}")).await;
        refused.refused(404, "KEY_NOT_FOUND");
    }
    bob.get(messages("ops")).await.expect(200);
    mallory.get("/api/keys").await.expect(200);
}

#[tokio::test]
async fn a_narrowed_key_loses_its_streams() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let bob = relay.agent("bob", json!({"a": "read", "b": "read"})).await;
    let mut a = bob.stream("/api/channels/a/stream").await;
    let mut both = bob.stream("/api/stream?channels=a,b").await;
    let mut mine = admin.stream("/api/channels/a/stream").await;
    let path = format!("/api/keys/{}/permissions", bob.key_hash());
    admin
        .put(&path, json!({"permissions": {"b": "read"}}))
        .await
        .expect(200);
    assert_eq!(a.ended().await, []);
    assert_eq!(both.ended().await, []);
    bob.get("/api/channels/a/stream")
        .await
        .refused(403, "FORBIDDEN");
    // Others' streams go on.
    let said = admin.say("a", "hello").await;
    assert_eq!(mine.next().await.data, said);
}
