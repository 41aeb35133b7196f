//! GET `/api/channels`. Who sees which: `conventions::permissions`.

use harness::TestRelay;
use serde_json::json;

use crate::fixtures::column;

#[tokio::test]
async fn the_list_is_of_what_exists() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    assert_eq!(admin.get("/api/channels").await.expect(200), json!([]));
    for name in ["b", "a", "C"] {
        admin
            .post("/api/channels", json!({"name": name}))
            .await
            .expect(201);
    }
    admin.delete("/api/channels/b").await.expect(204);
    let list = admin.get("/api/channels").await.expect(200);
    assert_eq!(column(&list, "name"), ["C", "a"]);
    // A grant for a channel that does not exist shows none.
    let agent = relay.agent("agent", json!({"nowhere": "admin"})).await;
    assert_eq!(agent.get("/api/channels").await.expect(200), json!([]));
}
