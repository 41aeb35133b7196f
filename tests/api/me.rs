//! GET `/api/me`.

use harness::TestRelay;
use serde_json::json;

use crate::fixtures::has_at_least;

#[tokio::test]
async fn a_caller_learns_who_it_is() {
    let relay = TestRelay::new().await;
    let map = json!({"ops": "read", "build": "write"});
    let agent = relay.agent("b\u{f6}b", map.clone()).await;
    let me = agent.get("/api/me").await.expect(200);
    has_at_least(&me, &["team", "sender", "permissions", "limits"]);
    assert_eq!(me["team"], *relay.admin().team());
    assert_eq!(me["sender"], "b\u{f6}b");
    assert_eq!(me["permissions"], map);
    assert!(
        me["limits"]
            .as_object()
            .is_some_and(|limits| !limits.is_empty()),
        "{me}"
    );
    assert!(!me.to_string().contains(agent.key()));
}

#[tokio::test]
async fn the_limits_are_those_in_force() {
    let relay = TestRelay::builder()
        .env("RATE_LIMIT_MAX", 4_321)
        .env("HANDOFF_KEYS_PER_TEAM", 12_345)
        .env("HANDOFF_CHANNELS_PER_TEAM", 23_456)
        .env("HANDOFF_STREAMS_PER_KEY", 345)
        .start()
        .await;
    let me = relay.admin().get("/api/me").await.expect(200);
    let numbers: Vec<u64> = me["limits"]
        .as_object()
        .unwrap()
        .values()
        .filter_map(|limit| limit.as_u64())
        .collect();
    for limit in [4_321, 12_345, 23_456, 345] {
        assert!(numbers.contains(&limit), "{limit} is not in {me}");
    }
}
