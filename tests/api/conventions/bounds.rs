//! Every input is bounded, and every refusal can be found again.

use std::collections::BTreeSet;

use harness::{Method, TestRelay};
use serde_json::json;

use crate::fixtures::{messages, page, raw, text};
use crate::routes::{ROUTES, Scene, answer};

#[tokio::test]
async fn long_heads_are_served_or_refused_and_never_harm() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    admin.say("ops", "hello").await;
    for bytes in [1_000, 8_000, 60_000, 1_000_000] {
        let filler = "x".repeat(bytes);
        for head in [
            format!("GET /api/channels/ops/messages?x={filler} HTTP/1.1\r\n"),
            format!("GET /api/channels/{filler}/messages HTTP/1.1\r\n"),
            format!("GET /{filler} HTTP/1.1\r\n"),
            format!("GET /api/channels HTTP/1.1\r\nX-Filler: {filler}\r\n"),
            format!(
                "GET /api/channels HTTP/1.1\r\n{}",
                "X: y\r\n".repeat(bytes / 6)
            ),
            format!(
                "GET /api/channels?{} HTTP/1.1\r\n",
                "a=b&".repeat(bytes / 4)
            ),
            format!("{filler} /api/channels HTTP/1.1\r\n"),
        ] {
            let request = format!(
                "{head}Host: relay\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n",
                admin.key()
            );
            let answer = relay.replica(0).raw(request).await;
            // Past what HTTP servers read at all there may be no answer.
            let status = answer.get(9..10).unwrap_or("4");
            assert!(
                ["2", "4"].contains(&status),
                "{:?}",
                answer.get(..500).unwrap_or(&answer)
            );
        }
    }
    assert_eq!(
        page(&admin, messages("ops"), "messages").await.contents(),
        ["hello"]
    );
}

#[tokio::test]
async fn what_is_no_http_is_no_danger() {
    let relay = TestRelay::new().await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..],
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /api HTTP/9.9\r\n\r\n",
        b"GET /api/\xff\xfe HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n",
        b"GET http://elsewhere/api HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n",
        b"CONNECT relay:80 HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET /healthz HTTP/1.0\r\n\r\n",
        b"POST /api/signup HTTP/1.1\r\nHost: relay\r\nContent-Length: x\r\nConnection: close\r\n\r\n",
        b"POST /api/signup HTTP/1.1\r\nHost: relay\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n",
    ] {
        let answer = relay.replica(0).raw(bytes).await;
        assert!(!answer.starts_with("HTTP/1.1 5"), "{answer}");
    }
    relay.anyone().get("/healthz").await.expect(200);
}

#[tokio::test]
async fn every_refusal_has_an_id_of_its_own() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let mut ids = BTreeSet::new();
    let refusals = [
        relay
            .anyone()
            .get("/nowhere")
            .await
            .refused(404, "NOT_FOUND"),
        relay
            .anyone()
            .get("/api/signup")
            .await
            .refused(405, "METHOD_NOT_ALLOWED"),
        relay
            .anyone()
            .get("/api/channels")
            .await
            .refused(401, "MISSING_API_KEY"),
        admin
            .get("/api/channels/-/messages")
            .await
            .refused(400, "INVALID_CHANNEL_NAME"),
        admin
            .post(messages("ops"), json!({}))
            .await
            .refused(400, "MISSING_FIELDS"),
        admin
            .delete("/api/channels/ops")
            .await
            .refused(404, "CHANNEL_NOT_FOUND"),
    ];
    for refusal in &refusals {
        assert!(ids.insert(text(refusal, "request_id")), "{refusal}");
    }
}

#[tokio::test]
async fn refusals_reveal_nothing_of_the_inside() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    for answer in [
        admin.post(messages("ops"), json!({"content": 7})).await,
        admin
            .post(messages("ops"), json!({"content": "\u{0}"}))
            .await,
        admin.get(format!("{}?sender=%FF", messages("ops"))).await,
        admin.get("/api/channels/'--/messages").await,
        admin
            .request(Method::POST, "/api/keys")
            .body("{")
            .send()
            .await,
    ] {
        let body = answer.text().to_lowercase();
        for word in [
            "sqlx", "postgres", "panicked", ".rs", "serde", "axum", "src/",
        ] {
            assert!(!body.contains(word), "{word} in {body}");
        }
    }
}

/// Values that fit nowhere, percent-encoded.
const GARBAGE: &[&str] = &[
    "%00",
    "%FF%FE",
    "%",
    "..",
    "%2E%2E%2F",
    "-1",
    "9223372036854775807",
    "9223372036854775808",
    "%F0%9F%A6%80",
    "'%3B%20drop%20table%20messages%3B%20--",
    "%7B%22a%22%3A1%7D",
    "*",
    "null",
    "%0D%0AX-Injected%3A%20yes",
];

#[tokio::test]
async fn no_input_is_answered_500() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let parameters = [
        "after_id",
        "limit",
        "mention",
        "sender",
        "thread_id",
        "key",
        "channel",
        "channels",
        "result",
        "last_event_id",
    ];
    for route in ROUTES {
        for garbage in GARBAGE {
            let one = (*garbage).to_owned();
            let other = Scene::imaginary("ops");
            let scenes = [
                Scene {
                    channel: one.clone(),
                    ..Scene::imaginary("ops")
                },
                Scene {
                    message: one.clone(),
                    key_hash: one.clone(),
                    key: one.clone(),
                    channel: other.channel.clone(),
                },
            ];
            let mut requests: Vec<_> = scenes
                .iter()
                .map(|scene| route.request(&admin, scene))
                .collect();
            let joint = if route.path.contains('?') { '&' } else { '?' };
            for parameter in parameters {
                let path = format!("{}{joint}{parameter}={garbage}", route.path_in(&other));
                requests.push(route.request_to(&admin, &path, &other));
            }
            for header in ["last-event-id", "idempotency-key", "x-forwarded-for"] {
                requests.push(route.request(&admin, &other).header(header, garbage));
            }
            requests.push(route.request(&admin, &other).body(one.clone()));
            requests.push(
                route
                    .request(&admin, &other)
                    .body(format!("{{\"name\":\"{garbage}\"}}")),
            );
            for request in requests {
                let (status, refused) = answer(request).await;
                assert!(status < 500, "{refused:?}");
                let headers = refused.as_ref().map(|refused| refused.headers());
                assert!(headers.is_none_or(|headers| !headers.contains_key("x-injected")));
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_arrives_though_its_request_had_a_long_body() {
    let relay = TestRelay::new().await;
    let nobody = relay.anyone();
    let body = vec![b'x'; 1 << 20];
    for _ in 0..5 {
        raw(&nobody, "POST", &messages("ops"), &body)
            .await
            .refused(401, "MISSING_API_KEY");
        raw(&nobody, "POST", "/api/nowhere", &body)
            .await
            .refused(404, "NOT_FOUND");
        raw(&nobody, "PATCH", "/api/keys", &body)
            .await
            .refused(405, "METHOD_NOT_ALLOWED");
        let path = messages("-");
        raw(&relay.admin(), "POST", &path, &body)
            .await
            .refused(400, "INVALID_CHANNEL_NAME");
    }
}

#[tokio::test]
async fn who_asks_before_sending_a_body_is_refused_at_once() {
    let relay = TestRelay::new().await;
    // The body never comes; without an answer the harness would wait in vain.
    let request = "POST /api/channels/ops/messages HTTP/1.1\r\nHost: relay\r\n\
                   Connection: close\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n";
    let answer = relay.replica(0).raw(request).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}
