//! Every input is bounded, and every refusal can be found again.

use std::collections::BTreeSet;

use harness::{Method, TestRelay};
use serde_json::json;

use crate::fixtures::{messages, page, text};

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
