//! PUT (or POST) `/api/channels/{channel}/status`.

use harness::{Method, TestRelay};
use serde_json::json;

use crate::fixtures::{
    at_once, channel_names, column, count, has_fields, is_recent, page, set, status,
};
use crate::fixtures::{text, walk};

#[tokio::test]
async fn an_entry_is_answered_whole() {
    let relay = TestRelay::new().await;
    let bob = relay.agent("bob", json!({"ops": "write"})).await;
    let written = set(&bob, "ops", "phase", "building").await;
    has_fields(
        &written,
        &["channel", "key", "value", "updated_by", "updated_at"],
    );
    assert_eq!(written["channel"], "ops");
    assert_eq!(
        (&written["key"], &written["value"]),
        (&json!("phase"), &json!("building"))
    );
    assert_eq!(written["updated_by"], "bob");
    is_recent(&written, "updated_at");
}

#[tokio::test]
async fn post_is_put_by_another_name() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let body = json!({"key": "phase", "value": "building"});
    let posted = admin.post(status("ops"), body).await.expect(200);
    assert_eq!(admin.get(status("ops")).await.expect(200), json!([posted]));
    let put = set(&admin, "ops", "phase", "done").await;
    assert_eq!(admin.get(status("ops")).await.expect(200), json!([put]));
}

#[tokio::test]
async fn setting_makes_the_channel() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    set(&admin, "ops", "phase", "building").await;
    assert_eq!(channel_names(&admin).await, ["ops"]);
    assert!(
        page(&admin, "/api/channels/ops/messages", "messages")
            .await
            .items
            .is_empty()
    );
}

#[tokio::test]
async fn a_later_writer_replaces_the_entry() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let bob = relay.agent("bob", json!({"ops": "write"})).await;
    let first = set(&admin, "ops", "phase", "building").await;
    let second = set(&bob, "ops", "phase", "").await;
    assert_eq!(
        (&second["value"], &second["updated_by"]),
        (&json!(""), &json!("bob"))
    );
    assert!(text(&second, "updated_at") > text(&first, "updated_at"));
    assert_eq!(admin.get(status("ops")).await.expect(200), json!([second]));
}

#[tokio::test]
async fn a_value_is_text_and_may_be_empty_but_not_missing() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    assert_eq!(set(&admin, "ops", "k", "").await["value"], "");
    admin
        .put(status("ops"), json!({"key": "k"}))
        .await
        .refused(400, "MISSING_FIELDS");
    admin
        .put(status("ops"), json!({"key": "k", "value": null}))
        .await
        .refused(400, "MISSING_FIELDS");
    admin
        .put(status("ops"), json!({"key": "k", "value": 7}))
        .await
        .refused(400, "INVALID_JSON");
    admin
        .put(status("ops"), json!({"value": "v"}))
        .await
        .refused(400, "MISSING_FIELDS");
    let changes = page(&admin, "/api/channels/ops/status/changes", "changes").await;
    assert_eq!(changes.items.len(), 1);
}

#[tokio::test]
async fn writers_at_once_each_leave_their_change() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let answers = at_once(60, |number| {
        let key = ["a", "b"][number % 2];
        let body = json!({"key": key, "value": number.to_string()});
        admin
            .on(number / 2 % 2)
            .request(Method::PUT, status("ops"))
            .json(&body)
    })
    .await;
    assert_eq!(count(&answers, 200), 60);
    let changes = walk(&admin, "/api/channels/ops/status/changes", "changes", 7).await;
    assert_eq!(changes.len(), 60);
    let entries = admin.get(status("ops")).await.expect(200);
    assert_eq!(column(&entries, "key"), ["a", "b"]);
    for entry in entries.as_array().unwrap() {
        // What stands is what was written last.
        let last = changes
            .iter()
            .rev()
            .find(|change| change["key"] == entry["key"])
            .unwrap();
        assert_eq!(
            (&last["value"], &last["changed_at"]),
            (&entry["value"], &entry["updated_at"])
        );
        assert!(answers.iter().any(|answer| answer.json() == *entry));
    }
}
