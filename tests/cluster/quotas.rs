//! Quotas are exact however many replicas are asked at the same instant.

use futures_util::future::join_all;
use harness::{Agent, Method, Response, TestRelay};
use serde_json::json;

fn with_status(answers: &[Response], status: u16) -> usize {
    answers
        .iter()
        .filter(|answer| answer.status() == status)
        .count()
}

#[tokio::test]
async fn g7_the_quota_of_keys_is_exact_over_two_replicas() {
    let relay = TestRelay::builder()
        .replicas(2)
        .env("HANDOFF_KEYS_PER_TEAM", 20)
        .start()
        .await;
    let admin = relay.admin();
    let make = |n: usize| {
        let agent = admin.on(n % 2);
        let body = json!({"sender_name": format!("agent {n}"), "permissions": {}});
        async move { agent.post("/api/keys", body).await }
    };
    let answers = join_all((0..40).map(make)).await;
    assert_eq!(
        with_status(&answers, 201),
        19,
        "the signup's key is the twentieth"
    );
    for refused in answers.iter().filter(|answer| answer.status() != 201) {
        refused.refused(403, "KEY_LIMIT_REACHED");
    }
    for replica in [0, 1] {
        let keys = admin.on(replica).get("/api/keys").await.expect(200);
        assert_eq!(keys.as_array().unwrap().len(), 20);
    }

    // A place that was given back is there once.
    let key = answers
        .iter()
        .find(|answer| answer.status() == 201)
        .unwrap()
        .json();
    let path = format!("/api/keys/{}", key["key"].as_str().unwrap());
    admin.on(1).delete(path).await.expect(204);
    let answers = join_all((0..6).map(make)).await;
    assert_eq!(with_status(&answers, 201), 1);

    // Another team has its own.
    relay
        .signup("other", "mallory")
        .await
        .new_key("second", json!({}))
        .await;
}

/// One of the three ways to open a channel.
async fn open(agent: Agent, n: usize) -> Response {
    let name = format!("channel-{n}");
    match n % 3 {
        0 => agent.post("/api/channels", json!({"name": name})).await,
        1 => {
            agent
                .post(
                    format!("/api/channels/{name}/messages"),
                    json!({"content": "x"}),
                )
                .await
        }
        _ => {
            let body = json!({"key": "k", "value": "v"});
            agent
                .put(format!("/api/channels/{name}/status"), body)
                .await
        }
    }
}

#[tokio::test]
async fn g7_the_quota_of_channels_is_exact_over_two_replicas() {
    let relay = TestRelay::builder()
        .replicas(2)
        .env("HANDOFF_CHANNELS_PER_TEAM", 20)
        .start()
        .await;
    let admin = relay.admin();
    let answers = join_all((0..60).map(|n| open(admin.on(n % 2), n))).await;
    let (opened, refused): (Vec<_>, Vec<_>) = (0..)
        .zip(&answers)
        .partition(|(_, answer)| answer.status() < 300);
    assert_eq!(opened.len(), 20);
    for (n, answer) in &refused {
        answer.refused(403, "CHANNEL_LIMIT_REACHED");
        let name: usize = *n;
        let page = admin
            .get(format!("/api/channels/channel-{name}/messages"))
            .await;
        assert_eq!(page.expect(200)["messages"], json!([]), "nothing half done");
        let changes = admin
            .get(format!("/api/channels/channel-{name}/status/changes"))
            .await;
        assert_eq!(
            changes.expect(200)["changes"],
            json!([]),
            "nothing half done"
        );
    }
    for replica in [0, 1] {
        let list = admin.on(replica).get("/api/channels").await.expect(200);
        assert_eq!(list.as_array().unwrap().len(), 20);
    }

    // At the limit, what is there can be used, and a place that was given back is there once.
    let first: usize = opened[0].0;
    let name = format!("channel-{first}");
    admin
        .on(1)
        .post("/api/channels", json!({"name": name}))
        .await
        .expect(200);
    admin.on(0).say(&name, "at the limit").await;
    admin
        .on(1)
        .delete(format!("/api/channels/{name}"))
        .await
        .expect(204);
    let again = join_all((100..112).map(|n| open(admin.on(n / 3 % 2), n))).await;
    assert_eq!(
        again.iter().filter(|answer| answer.status() < 300).count(),
        1,
        "{again:?}"
    );
}

#[tokio::test]
async fn g7_signups_of_an_address_are_exact_over_two_replicas() {
    let relay = TestRelay::builder()
        .replicas(2)
        .env("HANDOFF_SIGNUPS_PER_HOUR", 5)
        .start()
        .await;
    let sign_up = |n: usize, address: &'static str| {
        relay
            .anyone()
            .on(n % 2)
            .request(Method::POST, "/api/signup")
            .header("x-forwarded-for", address)
            .json(&json!({"team_name": format!("team {n}"), "sender_name": "ada"}))
            .send()
    };
    let answers = join_all((0..14).map(|n| sign_up(n, "203.0.113.7"))).await;
    assert_eq!(with_status(&answers, 201), 5);
    for refused in answers.iter().filter(|answer| answer.status() != 201) {
        refused.refused(429, "SIGNUP_RATE_LIMITED");
        let retry_after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=3_600).contains(&retry_after), "{refused:?}");
    }
    sign_up(0, "203.0.113.8").await.expect(201);
}
