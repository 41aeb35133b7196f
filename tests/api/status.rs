//! GET `/api/status`.

use harness::TestRelay;
use serde_json::{Value, json};

use crate::fixtures::{encode, set};

#[tokio::test]
async fn the_entries_of_all_channels_come_by_channel_then_key() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    assert_eq!(admin.get("/api/status").await.expect(200), json!([]));
    let mut written = Vec::new();
    for (channel, key) in [
        ("ops", "b"),
        ("Zoo", "z"),
        ("ops", "a"),
        ("alerts", "a"),
        ("ops", "B"),
    ] {
        written.push(set(&admin, channel, key, "v").await);
    }
    let [ops_b, zoo, ops_a, alerts, ops_upper]: [Value; 5] = written.try_into().unwrap();
    let get = |query: String| {
        let admin = admin.clone();
        async move { admin.get(format!("/api/status{query}")).await.expect(200) }
    };
    assert_eq!(
        get("".into()).await,
        json!([zoo, alerts, ops_upper, ops_a, ops_b])
    );
    assert_eq!(get("?key=a".into()).await, json!([alerts, ops_a]));
    assert_eq!(
        get("?channel=ops".into()).await,
        json!([ops_upper, ops_a, ops_b])
    );
    assert_eq!(get("?channel=ops&key=a".into()).await, json!([ops_a]));
    assert_eq!(
        get("?channel=&key=".into()).await,
        json!([zoo, alerts, ops_upper, ops_a, ops_b])
    );
    for nothing in [
        "?channel=nowhere",
        "?key=nowhere",
        "?channel=zoo",
        "?channel=alerts&key=z",
    ] {
        assert_eq!(get(nothing.into()).await, json!([]), "{nothing}");
    }
    for impossible in ["-", "a b", "*", "ä", "a/b", &"x".repeat(200)] {
        assert_eq!(
            get(format!("?channel={}", encode(impossible))).await,
            json!([])
        );
    }
}

#[tokio::test]
async fn a_channel_that_may_not_be_read_is_as_if_it_were_not_there() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    set(&admin, "secret", "k", "v").await;
    let open = set(&admin, "open", "k", "v").await;
    let agent = relay
        .agent("agent", json!({"*": "read", "secret": "write"}))
        .await;
    assert_eq!(
        agent
            .get("/api/status")
            .await
            .expect(200)
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let agent = relay.agent("agent", json!({"open": "read"})).await;
    assert_eq!(agent.get("/api/status").await.expect(200), json!([open]));
    assert_eq!(
        agent.get("/api/status?channel=secret").await.expect(200),
        json!([])
    );
    assert_eq!(
        agent.get("/api/status?channel=nowhere").await.expect(200),
        json!([])
    );
    // Asking for what one may not see is no denial.
    assert_eq!(
        admin.get("/api/audit").await.expect(200)["entries"],
        json!([])
    );
}

/// More entries than the relay reads at once, so that the answer is written in several parts; the
/// numbers around the size of such a part are where one too many or too few would be.
#[tokio::test]
async fn g7_entries_without_number_are_all_there_once() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let mut written = Vec::new();
    for n in 0..130 {
        let channel = ["alpha", "beta", "gamma"][n / 50];
        let value = "v".repeat(if n % 40 == 0 { 32_768 } else { n });
        written.push(set(&admin, channel, &format!("key-{n:03}"), &value).await);
        if [62, 63, 64, 126, 127, 128].contains(&n) {
            assert_eq!(admin.get("/api/status").await.expect(200), json!(written));
        }
    }
    assert_eq!(admin.get("/api/status").await.expect(200), json!(written));
    let beta = admin.get("/api/channels/beta/status").await.expect(200);
    assert_eq!(beta, json!(written[50..100]));
}
