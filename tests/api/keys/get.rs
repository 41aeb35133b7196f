//! GET `/api/keys`.

use harness::TestRelay;
use serde_json::json;

use crate::fixtures::{has_fields, id, is_recent};

#[tokio::test]
async fn the_list_holds_every_key_of_the_team() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let bob = relay.agent("bob", json!({"ops": "read"})).await;
    relay.signup("other", "mallory").await;
    let list = admin.get("/api/keys").await.expect(200);
    let list = list.as_array().expect("a list");
    assert_eq!(list.len(), 2);
    for key in list {
        has_fields(
            key,
            &["key", "team_id", "sender", "created_at", "permissions"],
        );
        assert_eq!(key["team_id"], id(admin.team()));
        is_recent(key, "created_at");
    }
    let find = |hash: String| {
        list.iter()
            .find(|key| key["key"] == hash)
            .expect("it is listed")
    };
    assert_eq!(find(admin.key_hash())["permissions"], json!({"*": "admin"}));
    assert_eq!(find(bob.key_hash())["permissions"], json!({"ops": "read"}));
    assert_eq!(find(bob.key_hash())["sender"], "bob");
}
