//! Sizes: each bound is the last that fits, and one more is refused by its own code.

use harness::{Agent, Method, TestRelay};
use serde_json::{Value, json};

use crate::fixtures::{encode, messages, page, raw, set, status};

const CRAB: &str = "\u{1f980}";

/// A text of this many characters, four bytes each.
fn crabs(count: usize) -> String {
    CRAB.repeat(count)
}

#[tokio::test]
async fn content_is_1_to_32768_bytes() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    for good in ["x".to_owned(), "x".repeat(32_768), crabs(8_192)] {
        let said = admin.say("ops", &good).await;
        assert_eq!(said["content"], good);
    }
    let read = page(&admin, messages("ops"), "messages").await;
    assert_eq!(read.contents()[2], crabs(8_192));
    for bad in [
        "x".repeat(32_769),
        format!("{}x", crabs(8_192)),
        "\u{e9}".repeat(16_385),
    ] {
        admin
            .post(messages("ops"), json!({"content": bad}))
            .await
            .refused(400, "CONTENT_TOO_LARGE");
    }
    admin
        .post(messages("ops"), json!({"content": ""}))
        .await
        .refused(400, "MISSING_FIELDS");
}

#[tokio::test]
async fn a_status_value_is_0_to_32768_bytes() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    for good in [String::new(), "x".repeat(32_768), crabs(8_192)] {
        assert_eq!(set(&admin, "ops", "k", &good).await["value"], good);
    }
    for bad in ["x".repeat(32_769), format!("{}x", crabs(8_192))] {
        admin
            .put(status("ops"), json!({"key": "k", "value": bad}))
            .await
            .refused(400, "VALUE_TOO_LARGE");
    }
}

#[tokio::test]
async fn a_status_key_is_1_to_256_characters() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    for good in ["k".to_owned(), "k".repeat(256), crabs(256)] {
        assert_eq!(set(&admin, "ops", &good, "v").await["key"], good);
        let path = format!("{}?key={}", status("ops"), encode(&good));
        assert_eq!(admin.get(path).await.expect(200)[0]["key"], good);
        let path = format!("{}/{}", status("ops"), encode(&good));
        admin.delete(path).await.expect(204);
    }
    for bad in ["k".repeat(257), crabs(257)] {
        admin
            .put(status("ops"), json!({"key": bad, "value": "v"}))
            .await
            .refused(400, "KEY_TOO_LARGE");
        let gone = admin
            .delete(format!("{}/{}", status("ops"), encode(&bad)))
            .await;
        assert!([400, 404].contains(&gone.status()), "{gone:?}");
    }
    admin
        .put(status("ops"), json!({"key": "", "value": "v"}))
        .await
        .refused(400, "MISSING_FIELDS");
}

/// Asserts that a text field takes `most` characters of four bytes and not one more.
async fn holds_at_most(agent: &Agent, path: &str, body: Value, field: &str, most: usize) {
    let with = |text: String| {
        let mut body = body.clone();
        body[field] = text.into();
        body
    };
    agent.post(path, with(crabs(most))).await.expect(201);
    for bad in [crabs(most + 1), "x".repeat(most + 1)] {
        agent
            .post(path, with(bad))
            .await
            .refused(400, "FIELD_TOO_LARGE");
    }
}

#[tokio::test]
async fn names_count_characters() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let team = json!({"team_name": "t", "sender_name": "s"});
    holds_at_most(&admin, "/api/signup", team.clone(), "team_name", 128).await;
    holds_at_most(&admin, "/api/signup", team, "sender_name", 128).await;
    holds_at_most(&admin, "/api/keys", json!({}), "sender_name", 128).await;
    holds_at_most(
        &admin,
        "/api/channels",
        json!({"name": "c"}),
        "description",
        1_024,
    )
    .await;
    holds_at_most(
        &admin,
        &messages("ops"),
        json!({"content": "x"}),
        "mention",
        128,
    )
    .await;
}

#[tokio::test]
async fn any_legal_text_fits_however_it_is_escaped() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    // Six bytes of JSON for each byte of content.
    let escaped = format!(r#"{{"content":"{}"}}"#, "\\u0041".repeat(32_768));
    let said = raw(&admin, "POST", &messages("ops"), escaped.as_bytes())
        .await
        .expect(201);
    assert_eq!(said["content"], "A".repeat(32_768));
    // Twelve for each character of four bytes; the largest entry there can be.
    let escaped = format!(
        r#"{{"key":"{}","value":"{}"}}"#,
        "\\ud83e\\udd80".repeat(256),
        "\\ud83e\\udd80".repeat(8_192)
    );
    let set = raw(&admin, "PUT", &status("ops"), escaped.as_bytes())
        .await
        .expect(200);
    assert_eq!(set["value"], crabs(8_192));
}

/// A legal message in a body of this many bytes.
fn padded(bytes: usize) -> Vec<u8> {
    let frame = r#"{"content":"x","padding":""}"#;
    let padding = "p".repeat(bytes - frame.len());
    format!(r#"{{"content":"x","padding":"{padding}"}}"#).into_bytes()
}

#[tokio::test]
async fn a_body_is_at_most_256_kib() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    raw(&admin, "POST", &messages("ops"), &padded(262_144))
        .await
        .expect(201);
    for bytes in [262_145, 300_000, 1 << 20] {
        for (method, path) in [
            ("POST", messages("ops")),
            ("PUT", status("ops")),
            ("POST", "/api/channels".into()),
            ("POST", "/api/keys".into()),
            ("POST", "/api/signup".into()),
            ("POST", "/api/channels/ops/ack".into()),
        ] {
            raw(&admin, method, &path, &padded(bytes))
                .await
                .refused(413, "BODY_TOO_LARGE");
        }
    }
    let read = page(&admin, messages("ops"), "messages").await;
    assert_eq!(read.items.len(), 1);
}

#[tokio::test]
async fn the_connection_serves_on_after_a_body_that_was_dropped() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let head = |length: usize| {
        format!(
            "POST /api/channels/ops/messages HTTP/1.1\r\nHost: relay\r\n\
             Authorization: Bearer {}\r\nContent-Length: {length}\r\n\r\n",
            admin.key()
        )
    };
    let mut bytes = head(1 << 20).into_bytes();
    bytes.extend(padded(1 << 20));
    let next = "GET /healthz HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n";
    bytes.extend(next.bytes());
    let answer = relay.replica(0).raw(bytes).await;
    assert!(answer.contains("BODY_TOO_LARGE"), "{answer}");
    // Either the connection goes on in step, or it is closed; never is the body read as a request.
    assert_eq!(
        answer.matches("HTTP/1.1 ").count(),
        1 + answer.matches(r#""ok""#).count()
    );
}

#[tokio::test]
async fn a_body_without_a_length_is_measured_too() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let chunked = |body: &[u8]| {
        let mut bytes = format!(
            "POST /api/channels/ops/messages HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\
             Authorization: Bearer {}\r\nTransfer-Encoding: chunked\r\n\r\n",
            admin.key()
        )
        .into_bytes();
        for chunk in body.chunks(50_000) {
            bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\n\r\n");
        bytes
    };
    let answer = relay.replica(0).raw(chunked(&padded(262_144))).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let answer = relay.replica(0).raw(chunked(&padded(262_145))).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn a_body_of_10_mb_is_refused_and_the_relay_lives_on() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    for _ in 0..3 {
        let request = admin
            .request(Method::POST, messages("ops"))
            .body(padded(10_000_000));
        // The relay stops reading long before the end, so the answer may be lost on the way.
        if let Ok(answer) = request.try_send().await {
            answer.refused(413, "BODY_TOO_LARGE");
        }
    }
    let head = format!(
        "POST /api/channels/ops/messages HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\
         Authorization: Bearer {}\r\nContent-Length: 10000000\r\n\r\n{}",
        admin.key(),
        "x".repeat((1 << 20) + 1)
    );
    // Whoever sends more than a MiB and waits learns why.
    let answer = relay.replica(0).raw(head).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert_eq!(
        page(&admin, messages("ops"), "messages").await.items.len(),
        0
    );
}
