//! POST `/api/signup`.

use harness::{Agent, Method, Request, TestRelay};
use serde_json::json;

use crate::fixtures::{at_once, count, has_fields, id, is_recent, number, text};

#[tokio::test]
async fn a_signup_makes_a_team_and_its_first_key() {
    let relay = TestRelay::new().await;
    let made = relay
        .anyone()
        .post(
            "/api/signup",
            json!({"team_name": "Blue", "sender_name": "ann"}),
        )
        .await
        .expect(201);
    has_fields(&made, &["team", "api_key"]);
    has_fields(&made["team"], &["id", "name", "created_at"]);
    assert_eq!(made["team"]["name"], "Blue");
    is_recent(&made["team"], "created_at");
    number(id(&made["team"]));

    let key = text(&made, "api_key");
    let secret = key.strip_prefix("relay_").expect("keys begin with relay_");
    assert_eq!(secret.len(), 48);
    assert!(
        secret
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)),
        "{key}"
    );

    let keys = relay
        .anyone()
        .with_key(key)
        .get("/api/keys")
        .await
        .expect(200);
    assert_eq!(keys.as_array().unwrap().len(), 1);
    assert_eq!(keys[0]["sender"], "ann");
    assert_eq!(keys[0]["permissions"], json!({"*": "admin"}));
    assert_eq!(keys[0]["team_id"], made["team"]["id"]);
}

#[tokio::test]
async fn teams_may_share_a_name() {
    let relay = TestRelay::new().await;
    let one = relay.signup("twin", "ann").await;
    let other = relay.signup("twin", "ann").await;
    assert_ne!(id(one.team()), id(other.team()));
    assert_ne!(one.key(), other.key());
}

#[tokio::test]
async fn a_signup_needs_both_names() {
    let relay = TestRelay::new().await;
    for body in [
        json!({}),
        json!({"team_name": "a"}),
        json!({"sender_name": "a"}),
        json!({"team_name": "", "sender_name": "a"}),
        json!({"team_name": "a", "sender_name": ""}),
        json!({"team_name": null, "sender_name": "a"}),
    ] {
        relay
            .anyone()
            .post("/api/signup", body)
            .await
            .refused(400, "MISSING_FIELDS");
    }
}

fn sign_up_from(agent: &Agent, forwarded_for: &str) -> Request {
    let request = agent
        .request(Method::POST, "/api/signup")
        .json(&json!({"team_name": "t", "sender_name": "s"}));
    if forwarded_for.is_empty() {
        request
    } else {
        request.header("x-forwarded-for", forwarded_for)
    }
}

#[tokio::test]
async fn signups_are_limited_per_address_exactly_even_at_once() {
    let relay = TestRelay::builder()
        .replicas(2)
        .env("HANDOFF_SIGNUPS_PER_HOUR", 3)
        .start()
        .await;
    let nobody = relay.anyone();
    let answers = at_once(12, |number| {
        sign_up_from(&nobody.on(number % 2), "203.0.113.7")
    })
    .await;
    assert_eq!(count(&answers, 201), 3);
    let refused: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status() != 201)
        .collect();
    assert_eq!(refused.len(), 9);
    for answer in refused {
        answer.refused(429, "SIGNUP_RATE_LIMITED");
        let wait: u64 = answer
            .header("retry-after")
            .expect("Retry-After")
            .parse()
            .unwrap();
        assert!((1..=3600).contains(&wait), "{wait}");
    }
    // Another address has its own budget.
    sign_up_from(&nobody, "203.0.113.8")
        .send()
        .await
        .expect(201);
}

#[tokio::test]
async fn the_default_is_ten_signups_an_hour() {
    let relay = TestRelay::builder()
        .default_env("HANDOFF_SIGNUPS_PER_HOUR")
        .start()
        .await;
    let nobody = relay.anyone();
    for _ in 0..10 {
        sign_up_from(&nobody, "203.0.113.7")
            .send()
            .await
            .expect(201);
    }
    sign_up_from(&nobody, "203.0.113.7")
        .send()
        .await
        .refused(429, "SIGNUP_RATE_LIMITED");
}

/// The address that a signup counts for, told apart by exhausting its budget of one.
async fn assert_counts_for(relay: &TestRelay, forwarded_for: &str, address: &str) {
    let nobody = relay.anyone();
    sign_up_from(&nobody, forwarded_for)
        .send()
        .await
        .expect(201);
    let again = sign_up_from(&nobody, address).send().await;
    again.refused(429, "SIGNUP_RATE_LIMITED");
}

#[tokio::test]
async fn the_last_hop_that_is_no_trusted_proxy_counts() {
    let relay = TestRelay::builder()
        .env("HANDOFF_SIGNUPS_PER_HOUR", 1)
        .start()
        .await;
    assert_counts_for(&relay, "203.0.113.1", "203.0.113.1").await;
    // What comes before it is the client's own claim.
    assert_counts_for(&relay, "198.51.100.1, 203.0.113.2", "203.0.113.2").await;
    // Private and loopback hops after it are trusted proxies.
    assert_counts_for(
        &relay,
        "203.0.113.3, 10.1.2.3, 192.168.0.9, 127.0.0.1",
        "203.0.113.3",
    )
    .await;
    assert_counts_for(&relay, "203.0.113.4,172.16.5.5", "203.0.113.4").await;
    assert_counts_for(&relay, "2001:db8::1, fd00::2, ::1", "2001:db8::1").await;
    // When all hops are trusted the first counts.
    assert_counts_for(&relay, "10.0.0.77, 10.0.0.1", "10.0.0.77").await;
    // A claim in front of a real address did not use up the claimed one's budget.
    sign_up_from(&relay.anyone(), "198.51.100.1")
        .send()
        .await
        .expect(201);
}

#[tokio::test]
async fn several_header_lines_are_one_list() {
    let relay = TestRelay::builder()
        .env("HANDOFF_SIGNUPS_PER_HOUR", 1)
        .start()
        .await;
    let body = r#"{"team_name":"t","sender_name":"s"}"#;
    let request = format!(
        "POST /api/signup HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\
         X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 10.0.0.1\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = relay.replica(0).raw(request).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let again = sign_up_from(&relay.anyone(), "203.0.113.9").send().await;
    again.refused(429, "SIGNUP_RATE_LIMITED");
}

#[tokio::test]
async fn the_header_of_a_peer_that_is_no_trusted_proxy_is_ignored() {
    let relay = TestRelay::builder()
        .env("HANDOFF_SIGNUPS_PER_HOUR", 2)
        .env("HANDOFF_TRUSTED_PROXIES", "198.51.100.0/24")
        .start()
        .await;
    // The first signup of this relay was the harness' own, from the same loopback address.
    let nobody = relay.anyone();
    sign_up_from(&nobody, "203.0.113.1")
        .send()
        .await
        .expect(201);
    sign_up_from(&nobody, "203.0.113.2")
        .send()
        .await
        .refused(429, "SIGNUP_RATE_LIMITED");
    sign_up_from(&nobody, "")
        .send()
        .await
        .refused(429, "SIGNUP_RATE_LIMITED");
}

#[tokio::test]
async fn hops_that_are_no_addresses_do_no_harm() {
    let relay = TestRelay::new().await;
    for hops in [
        "unknown",
        ", ,",
        "999.1.1.1",
        "203.0.113.1:8080, x",
        "[2001:db8::1]:99",
        "\u{e4}",
    ] {
        sign_up_from(&relay.anyone(), hops).send().await.expect(201);
    }
}
