//! `limit`: 1 to 100, digits only, 50 by default.

use harness::TestRelay;
use serde_json::{Value, json};

use crate::fixtures::{id, page, reply, say_many, set};

/// The lists that take a limit, with the name of their items; `parent` has the thread.
fn lists(parent: &Value) -> Vec<(String, &'static str)> {
    vec![
        ("/api/channels/ops/messages".into(), "messages"),
        ("/api/channels/ops/unread".into(), "messages"),
        ("/api/channels/ops/status/changes".into(), "changes"),
        ("/api/audit".into(), "entries"),
        (
            format!("/api/channels/threads/threads/{}", id(parent)),
            "replies",
        ),
    ]
}

#[tokio::test]
async fn a_limit_is_1_to_100_in_digits() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let parent = admin.say("threads", "parent").await;
    for (path, name) in lists(&parent) {
        for good in ["1", "50", "99", "100", ""] {
            page(&admin, format!("{path}?limit={good}"), name).await;
        }
        for bad in [
            "0",
            "101",
            "-1",
            "+5",
            "%2B5",
            "1e1",
            "5.0",
            "abc",
            "0x5",
            "%205",
            "5%20",
            "%00",
            "%FF",
            "99999999999999999999999",
            "%D9%A1",
            "1,2",
            "-0",
        ] {
            let answer = admin.get(format!("{path}?limit={bad}")).await;
            answer.refused(400, "INVALID_LIMIT");
        }
    }
}

#[tokio::test]
async fn the_limit_is_50_unless_given() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let nobody = relay.agent("nobody", json!({})).await;
    let parent = admin.say("threads", "parent").await;
    say_many(&admin, "ops", 101).await;
    for number in 0..51 {
        reply(&admin, &parent, "reply").await;
        set(&admin, "ops", "k", &number.to_string()).await;
        nobody.get("/api/audit").await.refused(403, "FORBIDDEN");
    }
    for (path, name) in lists(&parent) {
        assert_eq!(page(&admin, &path, name).await.items.len(), 50, "{path}");
    }
    let most = page(&admin, "/api/channels/ops/messages?limit=100", "messages").await;
    assert_eq!(most.items.len(), 100);
    assert_eq!(most.contents()[0], "2");
}
