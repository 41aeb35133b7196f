//! The rate limit: per key, usable at once, told in headers.

use harness::{Agent, Builder, Method, Response, TestRelay};
use serde_json::json;

use crate::fixtures::{at_once, count, messages};

/// A limit whose window does not pass while a test runs.
fn limited(requests: u32) -> Builder {
    TestRelay::builder()
        .env("RATE_LIMIT_MAX", requests)
        .env("RATE_LIMIT_WINDOW_MS", 600_000)
}

#[track_caller]
fn budget(answer: &Response) -> (u64, u64) {
    let number = |name| {
        answer
            .header(name)
            .unwrap_or_else(|| panic!("no {name}: {answer:?}"))
            .parse()
            .unwrap()
    };
    (number("x-ratelimit-limit"), number("x-ratelimit-remaining"))
}

#[track_caller]
fn assert_limited(answer: &Response, limit: u64) {
    answer.refused(429, "RATE_LIMITED");
    assert_eq!(budget(answer), (limit, 0));
    assert_retry_after(answer);
}

#[track_caller]
fn assert_retry_after(answer: &Response) {
    let wait: u64 = answer
        .header("retry-after")
        .expect("Retry-After")
        .parse()
        .unwrap();
    assert!((1..=600).contains(&wait), "{wait}");
}

#[tokio::test]
async fn the_whole_limit_can_be_used_at_once_and_not_more() {
    let relay = limited(20).start().await;
    let agent = relay.agent("busy", json!({"*": "write"})).await;
    let answers = at_once(30, |_| agent.request(Method::GET, "/api/channels")).await;
    assert_eq!((count(&answers, 200), count(&answers, 429)), (20, 10));
    for answer in answers.iter().filter(|answer| answer.status() == 429) {
        assert_limited(answer, 20);
    }
    let mut remaining: Vec<u64> = answers
        .iter()
        .filter(|answer| answer.status() == 200)
        .map(|answer| {
            assert_eq!(budget(answer).0, 20);
            budget(answer).1
        })
        .collect();
    remaining.sort_unstable();
    assert_eq!(remaining.last(), Some(&19));
    assert_eq!(remaining.first(), Some(&0));
}

#[tokio::test]
async fn remaining_counts_down() {
    let relay = limited(5).start().await;
    let agent = relay.agent("busy", json!({"*": "write"})).await;
    for remaining in (0..5).rev() {
        let answer = agent.get("/api/channels").await;
        answer.expect(200);
        assert_eq!(budget(&answer), (5, remaining));
    }
    assert_limited(&agent.get("/api/channels").await, 5);
    assert_limited(
        &agent.post(messages("ops"), json!({"content": "x"})).await,
        5,
    );
}

#[tokio::test]
async fn each_key_has_a_budget_of_its_own() {
    let relay = limited(3).start().await;
    let one = relay.agent("twin", json!({})).await;
    let other = relay.agent("twin", json!({})).await;
    for _ in 0..3 {
        one.get("/api/channels").await.expect(200);
    }
    assert_limited(&one.get("/api/channels").await, 3);
    assert_eq!(budget(&other.get("/api/channels").await), (3, 2));
}

#[tokio::test]
async fn refusals_and_streams_use_the_budget_and_tell_it() {
    let relay = limited(7).start().await;
    let agent = relay.agent("reader", json!({"ops": "read"})).await;
    let spend = |method: Method, path: &'static str, body: &'static str| {
        let agent = agent.clone();
        async move { agent.send(method, path, body).await }
    };
    let mut left = 7;
    let mut spent = |answer: Response, status: u16| {
        left -= 1;
        assert_eq!(answer.status(), status, "{answer:?}");
        assert_eq!(budget(&answer), (7, left));
    };
    spent(
        spend(Method::GET, "/api/channels/-/messages", "").await,
        400,
    );
    spent(
        spend(Method::GET, "/api/channels/secret/messages", "").await,
        403,
    );
    spent(
        spend(Method::GET, "/api/channels/ops/messages?limit=0", "").await,
        400,
    );
    spent(
        spend(Method::GET, "/api/channels/ops/threads/1", "").await,
        404,
    );
    spent(
        spend(Method::POST, "/api/channels/ops/messages", "{").await,
        403,
    );
    spent(spend(Method::HEAD, "/api/channels", "").await, 200);
    let stream = agent.stream("/api/channels/ops/stream").await;
    assert_eq!(stream.header("x-ratelimit-limit"), Some("7"));
    assert_eq!(stream.header("x-ratelimit-remaining"), Some("0"));
    let refused = agent.get("/api/channels/ops/stream").await;
    assert_limited(&refused, 7);
}

#[tokio::test]
async fn every_success_tells_the_budget() {
    let relay = TestRelay::builder()
        .env("RATE_LIMIT_MAX", 1_000)
        .start()
        .await;
    let admin = relay.admin();
    let scene = crate::routes::Scene::new(&admin, "ops").await;
    let routes = crate::routes::ROUTES;
    for route in routes.iter().filter(|r| r.method == "GET" && !r.streams()) {
        let answer = route.request(&admin, &scene).send().await;
        if route.needs == crate::routes::Needs::Nothing {
            assert_eq!(answer.header("x-ratelimit-limit"), None, "{answer:?}");
        } else {
            assert_eq!(budget(&answer).0, 1_000);
        }
    }
}

#[tokio::test]
async fn health_and_the_description_have_no_limit() {
    let relay = limited(2).start().await;
    let agent = relay.agent("busy", json!({})).await;
    for agent in [relay.anyone(), agent, relay.anyone().with_key("nonsense")] {
        for _ in 0..5 {
            for path in ["/healthz", "/readyz", "/api"] {
                let answer = agent.get(path).await;
                answer.expect(200);
                assert_eq!(answer.header("x-ratelimit-limit"), None);
                assert_eq!(answer.header("x-ratelimit-remaining"), None);
            }
        }
    }
}

async fn from(agent: &Agent, address: &str) -> Response {
    agent
        .request(Method::GET, "/api/channels")
        .header("x-forwarded-for", address)
        .send()
        .await
}

#[tokio::test]
async fn without_a_valid_key_the_address_is_limited() {
    let relay = limited(4).start().await;
    let nobody = relay.anyone();
    let wrong = nobody.with_key(&format!("relay_{}", "0".repeat(48)));
    from(&nobody, "203.0.113.1")
        .await
        .refused(401, "MISSING_API_KEY");
    from(&wrong, "203.0.113.1")
        .await
        .refused(401, "INVALID_API_KEY");
    from(&nobody, "203.0.113.1")
        .await
        .refused(401, "MISSING_API_KEY");
    from(&wrong, "203.0.113.1")
        .await
        .refused(401, "INVALID_API_KEY");
    for agent in [&nobody, &wrong] {
        let refused = from(agent, "203.0.113.1").await;
        refused.refused(429, "RATE_LIMITED");
        assert_retry_after(&refused);
    }
    // Neither another address nor a key from the same one is touched.
    from(&nobody, "203.0.113.2")
        .await
        .refused(401, "MISSING_API_KEY");
    from(&relay.admin(), "203.0.113.1").await.expect(200);
}

#[tokio::test]
async fn the_budget_comes_back_with_the_next_window() {
    let relay = TestRelay::builder()
        .env("RATE_LIMIT_MAX", 6)
        .env("RATE_LIMIT_WINDOW_MS", 3_000)
        .start()
        .await;
    let agent = relay.agent("busy", json!({})).await;
    let answers = at_once(12, |_| agent.request(Method::GET, "/api/channels")).await;
    assert_eq!(count(&answers, 200), 6);
    let refused = answers
        .iter()
        .find(|answer| answer.status() == 429)
        .unwrap();
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=4).contains(&wait), "{wait}");
    // Whoever waits as told is served, with the whole budget.
    tokio::time::sleep(std::time::Duration::from_secs(wait + 1)).await;
    let answers = at_once(6, |_| agent.request(Method::GET, "/api/channels")).await;
    assert_eq!(count(&answers, 200), 6);
}

#[tokio::test]
async fn the_default_is_100_requests() {
    let relay = TestRelay::builder()
        .default_env("RATE_LIMIT_MAX")
        .env("RATE_LIMIT_WINDOW_MS", 600_000)
        .start()
        .await;
    let agent = relay.agent("busy", json!({})).await;
    let answers = at_once(110, |_| agent.request(Method::GET, "/api/channels")).await;
    assert_eq!((count(&answers, 200), count(&answers, 429)), (100, 10));
}
