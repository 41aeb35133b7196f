//! Quotas: exact, even when everybody comes at once.

use harness::{Agent, Method, Request, TestRelay};
use serde_json::json;

use crate::fixtures::{at_once, channel_names, count, messages, status};

fn new_key(agent: &Agent) -> Request {
    agent
        .request(Method::POST, "/api/keys")
        .json(&json!({"sender_name": "a", "permissions": {}}))
}

#[tokio::test]
async fn keys_are_counted_exactly() {
    let relay = TestRelay::builder()
        .replicas(2)
        .env("HANDOFF_KEYS_PER_TEAM", 5)
        .start()
        .await;
    let admin = relay.admin();
    let answers = at_once(16, |number| new_key(&admin.on(number % 2))).await;
    // The key of the signup is one of the five.
    assert_eq!(count(&answers, 201), 4);
    for refused in answers.iter().filter(|answer| answer.status() != 201) {
        refused.refused(403, "KEY_LIMIT_REACHED");
    }
    let keys = admin.get("/api/keys").await.expect(200);
    assert_eq!(keys.as_array().unwrap().len(), 5);

    // A revoked key makes room for one.
    let hash = answers.iter().find(|a| a.status() == 201).unwrap().json()["key"].clone();
    admin
        .delete(format!("/api/keys/{}", hash.as_str().unwrap()))
        .await
        .expect(204);
    let answers = at_once(4, |number| new_key(&admin.on(number % 2))).await;
    assert_eq!(count(&answers, 201), 1);

    // Another team has a quota of its own.
    let other = relay.signup("other", "ann").await;
    new_key(&other).send().await.expect(201);
}

#[tokio::test]
async fn channels_are_counted_exactly_however_they_are_made() {
    let relay = TestRelay::builder()
        .replicas(2)
        .env("HANDOFF_CHANNELS_PER_TEAM", 4)
        .start()
        .await;
    let admin = relay.admin();
    let answers = at_once(24, |number| {
        let agent = admin.on(number % 2);
        let name = format!("c{number}");
        match number % 3 {
            0 => agent
                .request(Method::POST, "/api/channels")
                .json(&json!({"name": name})),
            1 => agent
                .request(Method::POST, messages(&name))
                .json(&json!({"content": "x"})),
            _ => agent
                .request(Method::PUT, status(&name))
                .json(&json!({"key": "k", "value": "v"})),
        }
    })
    .await;
    assert_eq!(
        answers
            .iter()
            .filter(|answer| answer.status() < 300)
            .count(),
        4
    );
    for refused in answers.iter().filter(|answer| answer.status() >= 300) {
        refused.refused(403, "CHANNEL_LIMIT_REACHED");
    }
    let names = channel_names(&admin).await;
    assert_eq!(names.len(), 4);

    // What is there serves on at the limit.
    admin
        .post("/api/channels", json!({"name": names[0]}))
        .await
        .expect(200);
    for name in &names {
        admin.say(name, "hello").await;
        crate::fixtures::set(&admin, name, "k", "v").await;
    }
    // A deleted channel makes room for one.
    admin
        .delete(format!("/api/channels/{}", names[0]))
        .await
        .expect(204);
    admin.say("new", "hello").await;
    let refused = admin
        .post(messages(&names[0]), json!({"content": "x"}))
        .await;
    refused.refused(403, "CHANNEL_LIMIT_REACHED");
}

#[tokio::test]
async fn many_creators_of_one_channel_make_one() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let answers = at_once(24, |number| {
        let body = json!({"name": "ops", "description": number.to_string()});
        admin
            .on(number % 2)
            .request(Method::POST, "/api/channels")
            .json(&body)
    })
    .await;
    assert_eq!((count(&answers, 201), count(&answers, 200)), (1, 23));
    let made = answers
        .iter()
        .find(|answer| answer.status() == 201)
        .unwrap()
        .json();
    assert!(answers.iter().all(|answer| answer.json() == made));
    assert_eq!(admin.get("/api/channels").await.expect(200), json!([made]));
}

#[tokio::test]
async fn the_defaults_are_100_keys_500_channels_and_20_streams() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let answers = at_once(101, |_| new_key(&admin)).await;
    assert_eq!(count(&answers, 201), 99);
    let answers = at_once(502, |number| {
        let body = json!({"name": format!("c{number}")});
        admin.request(Method::POST, "/api/channels").json(&body)
    })
    .await;
    assert_eq!(count(&answers, 201), 500);
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(admin.stream("/api/channels/c0/stream").await);
    }
    admin
        .get("/api/channels/c0/stream")
        .await
        .refused(429, "SSE_LIMIT_REACHED");
    let limits = admin.get("/api/me").await.expect(200)["limits"].to_string();
    for number in [100, 500, 20] {
        assert!(limits.contains(&number.to_string()), "{limits}");
    }
}
