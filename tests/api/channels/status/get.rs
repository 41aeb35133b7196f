//! GET `/api/channels/{channel}/status`.

use harness::TestRelay;
use serde_json::json;

use crate::fixtures::{column, encode, set, status};

#[tokio::test]
async fn the_entries_come_by_key_or_one_alone() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    assert_eq!(admin.get(status("ops")).await.expect(200), json!([]));
    let mut written = Vec::new();
    for key in ["phase", "Owner", "eta", "a/b c"] {
        written.push(set(&admin, "ops", key, "v").await);
    }
    set(&admin, "other", "phase", "elsewhere").await;
    let entries = admin.get(status("ops")).await.expect(200);
    assert_eq!(column(&entries, "key"), ["Owner", "a/b c", "eta", "phase"]);
    for entry in &written {
        let path = format!(
            "{}?key={}",
            status("ops"),
            encode(entry["key"].as_str().unwrap())
        );
        assert_eq!(admin.get(path).await.expect(200), json!([entry]));
    }
    for missing in ["phas", "PHASE", "phase ", "nowhere"] {
        let path = format!("{}?key={}", status("ops"), encode(missing));
        assert_eq!(admin.get(path).await.expect(200), json!([]));
    }
}
