//! DELETE `/api/channels/{channel}/status/{key}`.

use harness::{Method, TestRelay};
use serde_json::json;

use crate::fixtures::{at_once, count, encode, page, set, status};

#[tokio::test]
async fn a_deletion_is_recorded_in_the_history() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let bob = relay.agent("bob", json!({"ops": "admin"})).await;
    set(&admin, "ops", "phase", "building").await;
    let gone = bob.delete(format!("{}/phase", status("ops"))).await;
    gone.expect(204);
    assert_eq!(gone.text(), "");
    assert_eq!(admin.get(status("ops")).await.expect(200), json!([]));
    assert_eq!(admin.get("/api/status").await.expect(200), json!([]));
    bob.delete(format!("{}/phase", status("ops")))
        .await
        .refused(404, "STATUS_NOT_FOUND");

    let changes = page(&admin, "/api/channels/ops/status/changes", "changes")
        .await
        .items;
    assert_eq!(changes.len(), 2);
    assert_ne!(changes[0]["deleted"], true);
    assert_eq!(changes[1]["deleted"], true);
    assert_eq!(
        (&changes[1]["key"], &changes[1]["value"]),
        (&json!("phase"), &json!(""))
    );
    assert_eq!(changes[1]["changed_by"], "bob");

    set(&admin, "ops", "phase", "again").await;
    let changes = page(&admin, "/api/channels/ops/status/changes", "changes")
        .await
        .items;
    assert_ne!(changes[2]["deleted"], true);
}

#[tokio::test]
async fn any_key_can_be_named_in_a_path() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let odd = [
        "changes",
        "a/b",
        "/",
        "a b",
        "%2F",
        "%",
        "?",
        "#",
        "..",
        ".",
        "key?x=1#y",
        "\u{e4}\u{1f980}",
        "\n",
        "+",
        "a+b",
        "{key}",
        "status/changes",
    ];
    for key in odd {
        set(&admin, "ops", key, "v").await;
    }
    for key in odd {
        admin
            .delete(format!("{}/{}", status("ops"), encode(key)))
            .await
            .expect(204);
        let path = format!("{}?key={}", status("ops"), encode(key));
        assert_eq!(admin.get(path).await.expect(200), json!([]), "{key}");
    }
    assert_eq!(admin.get(status("ops")).await.expect(200), json!([]));
    // A plus in a path is a plus.
    set(&admin, "ops", "a+b", "v").await;
    admin
        .delete(format!("{}/a+b", status("ops")))
        .await
        .expect(204);
}

#[tokio::test]
async fn an_entry_that_is_not_there_is_not_found_and_leaves_no_trace() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    set(&admin, "other", "phase", "v").await;
    for channel in ["ops", "other"] {
        admin
            .delete(format!("{}/gone", status(channel)))
            .await
            .refused(404, "STATUS_NOT_FOUND");
    }
    admin
        .delete(format!("{}/changes", status("ops")))
        .await
        .refused(404, "STATUS_NOT_FOUND");
    assert_eq!(crate::fixtures::channel_names(&admin).await, ["other"]);
    let changes = page(&admin, "/api/channels/other/status/changes", "changes")
        .await
        .items;
    assert_eq!(changes.len(), 1);
}

#[tokio::test]
async fn of_many_who_delete_it_one_does() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    for round in 1..=5 {
        set(&admin, "ops", "k", "v").await;
        let path = format!("{}/k", status("ops"));
        let answers = at_once(10, |number| {
            admin.on(number % 2).request(Method::DELETE, &path)
        })
        .await;
        assert_eq!((count(&answers, 204), count(&answers, 404)), (1, 9));
        let changes = page(&admin, "/api/channels/ops/status/changes", "changes")
            .await
            .items;
        assert_eq!(changes.len(), 2 * round);
    }
}
