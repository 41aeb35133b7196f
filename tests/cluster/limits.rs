//! Rate limits hold over all replicas together, and yet leave a key's whole limit to one of them.

use std::time::Duration;

use futures_util::future::join_all;
use harness::{Agent, TestRelay};
use serde_json::json;
use tokio::time::{Instant, sleep};

const LIMIT: usize = 100;
const WINDOW: Duration = Duration::from_secs(1);

async fn relay() -> TestRelay {
    TestRelay::builder()
        .replicas(2)
        .env("RATE_LIMIT_MAX", LIMIT)
        .env("RATE_LIMIT_WINDOW_MS", WINDOW.as_millis())
        .start()
        .await
}

/// One request; whether it was within the limit.
async fn allowed(agent: &Agent) -> bool {
    let answer = agent.get("/api/channels/ops/messages").await;
    let header = |name| {
        answer
            .header(name)
            .map(|value| value.parse::<usize>().unwrap())
    };
    assert_eq!(header("x-ratelimit-limit"), Some(LIMIT));
    if answer.status() == 200 {
        assert!(header("x-ratelimit-remaining").is_some_and(|remaining| remaining < LIMIT));
        return true;
    }
    answer.refused(429, "RATE_LIMITED");
    assert_eq!(header("x-ratelimit-remaining"), Some(0));
    assert!(
        header("retry-after").is_some_and(|seconds| seconds >= 1),
        "{answer:?}"
    );
    false
}

#[tokio::test]
async fn g7_the_whole_limit_is_there_for_one_replica_after_a_quiet_window() {
    let relay = relay().await;
    let agent = relay.agent("ada", json!({"*": "read"})).await;
    for round in 0..3 {
        // Nothing is asked for more than a window's length: this wait is the condition itself. (On
        // a busy machine a window may begin a good while after its first request.)
        sleep(WINDOW * 5 / 2).await;
        let one = agent.on(round % 2);
        for n in 0..LIMIT {
            assert!(allowed(&one).await, "request {n} of {LIMIT} was refused");
        }
        // However slow this machine is, far more than the limit cannot all be within it.
        let answers = join_all((0..20 * LIMIT).map(|_| allowed(&one))).await;
        assert!(answers.contains(&false), "no limit at all");
    }
}

#[tokio::test]
async fn g7_the_limit_holds_over_two_replicas_together() {
    let relay = relay().await;
    let agent = relay.agent("ada", json!({"*": "read"})).await;
    let began = Instant::now();
    let client = |replica: usize| {
        let agent = agent.on(replica);
        async move {
            let mut within = 0;
            while began.elapsed() < 5 * WINDOW {
                within += usize::from(allowed(&agent).await);
                // Asking without a rest would leave the replicas no time for anything else.
                sleep(Duration::from_millis(2)).await;
            }
            within
        }
    };
    let within: usize = join_all([0, 1, 0, 1].map(client)).await.into_iter().sum();
    // A burst of the whole limit, and then what comes in with time.
    let windows = began.elapsed().as_secs_f64() / WINDOW.as_secs_f64() + 1.0;
    let most = (windows * LIMIT as f64 * 1.15) as usize;
    assert!(
        within <= most,
        "{within} requests in {windows:.1} windows of {LIMIT}"
    );
    let least = 2 * LIMIT;
    assert!(
        within >= least,
        "only {within} requests in {windows:.1} windows of {LIMIT}"
    );
}

#[tokio::test]
async fn g7_one_keys_limit_is_nobody_elses() {
    let relay = relay().await;
    let greedy = relay.agent("greedy", json!({"*": "read"})).await;
    let modest = relay.agent("modest", json!({"*": "read"})).await;
    let answers = join_all((0..5 * LIMIT).map(|n| {
        let agent = greedy.on(n % 2);
        async move { allowed(&agent).await }
    }))
    .await;
    assert!(answers.contains(&false), "no limit at all");
    for replica in [0, 1] {
        assert!(allowed(&modest.on(replica)).await, "another key pays");
    }
}
