//! GET `/api/channels/{channel}/status/changes`. Pages: `conventions::pages`.

use harness::TestRelay;
use serde_json::{Value, json};

use crate::fixtures::{has_at_least, is_recent, number, page, set, text};

#[tokio::test]
async fn every_write_is_in_the_history_also_one_that_changes_nothing() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let bob = relay.agent("bob", json!({"ops": "write"})).await;
    let written = [
        set(&admin, "ops", "phase", "building").await,
        set(&bob, "ops", "phase", "building").await,
        set(&bob, "ops", "owner", "").await,
        set(&admin, "ops", "phase", "done").await,
    ];
    set(&admin, "other", "phase", "elsewhere").await;
    let changes = page(&admin, "/api/channels/ops/status/changes", "changes")
        .await
        .items;
    assert_eq!(changes.len(), 4);
    for (change, status) in changes.iter().zip(&written) {
        has_at_least(
            change,
            &["id", "channel", "key", "value", "changed_by", "changed_at"],
        );
        for (of_change, of_status) in [
            ("channel", "channel"),
            ("key", "key"),
            ("value", "value"),
            ("changed_by", "updated_by"),
            ("changed_at", "updated_at"),
        ] {
            assert_eq!(change[of_change], status[of_status]);
        }
        is_recent(change, "changed_at");
        // Only what was deleted says so.
        assert!(
            matches!(change.get("deleted"), None | Some(Value::Bool(false))),
            "{change}"
        );
    }
    let ids: Vec<u64> = changes
        .iter()
        .map(|change| number(text(change, "id")))
        .collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
}
