//! Bodies: what is no JSON object, what is missing, and what Postgres cannot hold.

use harness::TestRelay;
use serde_json::{Value, json};

use crate::fixtures::{messages, page, raw, status};

/// Every route with a body, a legal body for it, and its required text fields.
fn routes(hash: &str) -> Vec<(&'static str, String, Value, &'static [&'static str])> {
    vec![
        (
            "POST",
            "/api/signup".into(),
            json!({"team_name": "t", "sender_name": "s"}),
            &["team_name", "sender_name"],
        ),
        (
            "POST",
            "/api/keys".into(),
            json!({"sender_name": "s"}),
            &["sender_name"],
        ),
        (
            "PUT",
            format!("/api/keys/{hash}/permissions"),
            json!({"permissions": {"ops": "read"}}),
            &[],
        ),
        (
            "POST",
            "/api/channels".into(),
            json!({"name": "made"}),
            &["name"],
        ),
        (
            "POST",
            messages("ops"),
            json!({"content": "x"}),
            &["content"],
        ),
        (
            "POST",
            "/api/channels/ops/ack".into(),
            json!({"last_read_id": "0"}),
            &["last_read_id"],
        ),
        (
            "PUT",
            status("ops"),
            json!({"key": "k", "value": "v"}),
            &["key"],
        ),
        (
            "POST",
            status("ops"),
            json!({"key": "k", "value": "v"}),
            &["key"],
        ),
    ]
}

#[tokio::test]
async fn a_body_is_one_json_object() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    admin.say("ops", "hello").await;
    let spare = relay.agent("spare", json!({})).await;
    for (method, path, good, _) in routes(&spare.key_hash()) {
        let good = good.to_string();
        let bad: Vec<Vec<u8>> = vec![
            b"".to_vec(),
            b" ".to_vec(),
            b"{".to_vec(),
            b"}".to_vec(),
            b"null".to_vec(),
            b"[]".to_vec(),
            b"[{}]".to_vec(),
            b"\"text\"".to_vec(),
            b"7".to_vec(),
            b"true".to_vec(),
            b"{'content':'x'}".to_vec(),
            b"{content:\"x\"}".to_vec(),
            b"content=x".to_vec(),
            b"\x00".to_vec(),
            format!("[{good}]").into_bytes(),
            format!("{good}{good}").into_bytes(),
            format!("{good} x").into_bytes(),
            format!("{good},").into_bytes(),
            format!("\u{feff}{good}").into_bytes(),
            good.as_bytes()[..good.len() - 1].to_vec(),
            good.replacen('{', "{,", 1).into_bytes(),
        ];
        for body in bad {
            raw(&admin, method, &path, &body)
                .await
                .refused(400, "INVALID_JSON");
        }
        // White space around it is fine.
        let spaced = format!(" \r\n\t{good}\n ");
        let answer = raw(&admin, method, &path, spaced.as_bytes()).await;
        assert!(answer.status() < 300, "{answer:?}");
    }
}

#[tokio::test]
async fn a_field_of_the_wrong_type_is_invalid_json() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    admin.say("ops", "hello").await;
    let spare = relay.agent("spare", json!({})).await;
    for (method, path, good, _) in routes(&spare.key_hash()) {
        let mut fields: Vec<String> = good.as_object().unwrap().keys().cloned().collect();
        match &path[..] {
            "/api/keys" => fields.push("permissions".into()),
            "/api/channels" => fields.push("description".into()),
            "/api/channels/ops/messages" => fields.extend(["mention".into(), "thread_id".into()]),
            _ => {}
        }
        for field in fields {
            let wrong = [
                json!(7),
                json!(1.5),
                json!(true),
                json!(["x"]),
                json!({"x": 1}),
                json!({"x": {}}),
            ];
            for wrong in wrong {
                let mut body = good.clone();
                body[&field] = wrong;
                let body = body.to_string();
                let answer = raw(&admin, method, &path, body.as_bytes()).await;
                assert_eq!(
                    (answer.status(), answer.code().as_str()),
                    (400, "INVALID_JSON"),
                    "{body}: {answer:?}"
                );
            }
            // Where a map is due, a text is wrong.
            if field == "permissions" {
                let mut body = good.clone();
                body[&field] = json!("admin");
                raw(&admin, method, &path, body.to_string().as_bytes())
                    .await
                    .refused(400, "INVALID_JSON");
            }
        }
    }
}

#[tokio::test]
async fn a_required_field_is_neither_absent_nor_null_nor_empty() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    admin.say("ops", "hello").await;
    let spare = relay.agent("spare", json!({})).await;
    for (method, path, good, required) in routes(&spare.key_hash()) {
        raw(&admin, method, &path, b"{}")
            .await
            .refused(400, "MISSING_FIELDS");
        for field in required {
            for nothing in [None, Some(Value::Null), Some(json!(""))] {
                let mut body = good.clone();
                let fields = body.as_object_mut().unwrap();
                match nothing {
                    None => fields.remove(*field),
                    Some(nothing) => fields.insert((*field).to_owned(), nothing),
                };
                raw(&admin, method, &path, body.to_string().as_bytes())
                    .await
                    .refused(400, "MISSING_FIELDS");
            }
        }
    }
    for nothing in [json!({"key": "k"}), json!({"key": "k", "value": null})] {
        admin
            .put(status("ops"), nothing)
            .await
            .refused(400, "MISSING_FIELDS");
    }
    let path = format!("/api/keys/{}/permissions", spare.key_hash());
    admin
        .put(path, json!({"permissions": null}))
        .await
        .refused(400, "MISSING_FIELDS");
}

#[tokio::test]
async fn null_is_the_same_as_absent() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let said = admin
        .post(
            messages("ops"),
            json!({"content": "x", "mention": null, "thread_id": null}),
        )
        .await
        .expect(201);
    assert_eq!(
        (&said["mention"], &said["thread_id"]),
        (&Value::Null, &Value::Null)
    );
    let made = admin
        .post("/api/channels", json!({"name": "a", "description": null}))
        .await
        .expect(201);
    assert_eq!(made["description"], Value::Null);
    let made = admin
        .post(
            "/api/keys",
            json!({"sender_name": "a", "permissions": null}),
        )
        .await
        .expect(201);
    let key = admin.with_key(made["api_key"].as_str().unwrap());
    key.get("/api/audit").await.expect(200);
}

#[tokio::test]
async fn an_empty_mention_is_none_and_an_empty_parent_no_id() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let said = admin
        .post(messages("ops"), json!({"content": "x", "mention": ""}))
        .await
        .expect(201);
    assert_eq!(said["mention"], Value::Null);
    admin
        .post(messages("ops"), json!({"content": "x", "thread_id": ""}))
        .await
        .refused(400, "INVALID_CURSOR");
}

#[tokio::test]
async fn half_a_character_is_invalid_json() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    for lone in [
        r"\ud800",
        r"\udc00",
        r"a\ud800b",
        r"\ud800\ud800",
        r"\udc00\ud800",
        r"\uD83E",
    ] {
        for (method, path, body) in [
            ("POST", messages("ops"), r#"{"content":"LONE"}"#),
            (
                "POST",
                messages("ops"),
                r#"{"content":"x","mention":"LONE"}"#,
            ),
            ("PUT", status("ops"), r#"{"key":"LONE","value":"v"}"#),
            ("PUT", status("ops"), r#"{"key":"k","value":"LONE"}"#),
            ("POST", "/api/keys".into(), r#"{"sender_name":"LONE"}"#),
            (
                "POST",
                "/api/channels".into(),
                r#"{"name":"a","description":"LONE"}"#,
            ),
            (
                "POST",
                "/api/signup".into(),
                r#"{"team_name":"LONE","sender_name":"s"}"#,
            ),
        ] {
            let body = body.replace("LONE", lone);
            raw(&admin, method, &path, body.as_bytes())
                .await
                .refused(400, "INVALID_JSON");
        }
    }
    for bad in [r"\u12", r"\x41", "\n", "\t"] {
        let body = format!(r#"{{"content":"{bad}"}}"#);
        raw(&admin, "POST", &messages("ops"), body.as_bytes())
            .await
            .refused(400, "INVALID_JSON");
    }
    // A whole pair is one character.
    let whole = raw(
        &admin,
        "POST",
        &messages("ops"),
        br#"{"content":"\ud83e\udd80"}"#,
    )
    .await;
    assert_eq!(whole.expect(201)["content"], "\u{1f980}");
}

#[tokio::test]
async fn what_postgres_cannot_hold_is_invalid_content() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    for (method, path, body) in [
        ("POST", messages("ops"), r#"{"content":"BAD"}"#),
        (
            "POST",
            messages("ops"),
            r#"{"content":"x","mention":"BAD"}"#,
        ),
        ("PUT", status("ops"), r#"{"key":"BAD","value":"v"}"#),
        ("PUT", status("ops"), r#"{"key":"k","value":"BAD"}"#),
        ("POST", "/api/keys".into(), r#"{"sender_name":"BAD"}"#),
        (
            "POST",
            "/api/channels".into(),
            r#"{"name":"a","description":"BAD"}"#,
        ),
        (
            "POST",
            "/api/signup".into(),
            r#"{"team_name":"BAD","sender_name":"s"}"#,
        ),
        (
            "POST",
            "/api/signup".into(),
            r#"{"team_name":"t","sender_name":"BAD"}"#,
        ),
    ] {
        for nul in [r"\u0000", r"a\u0000", r"\u0000b"] {
            let body = body.replace("BAD", nul);
            raw(&admin, method, &path, body.as_bytes())
                .await
                .refused(400, "INVALID_CONTENT");
        }
        let (before, after) = body.split_once("BAD").unwrap();
        for unreadable in [
            &b"\xff"[..],
            b"a\xc3",
            b"\xed\xa0\x80",
            b"\xf8\x88\x80\x80\x80",
        ] {
            let body = [before.as_bytes(), unreadable, after.as_bytes()].concat();
            raw(&admin, method, &path, &body)
                .await
                .refused(400, "INVALID_CONTENT");
        }
    }
    assert_eq!(
        page(&admin, messages("ops"), "messages").await.items.len(),
        0
    );
}

#[tokio::test]
async fn filters_that_cannot_be_matched_are_invalid_content() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    admin.say("ops", "hello").await;
    for bad in ["%00", "a%00b", "%FF", "a%C3", "%ED%A0%80"] {
        for path in [
            format!("{}?sender={bad}", messages("ops")),
            format!("{}?mention={bad}", messages("ops")),
            format!("{}?key={bad}", status("ops")),
            format!("/api/status?key={bad}"),
        ] {
            admin.get(path).await.refused(400, "INVALID_CONTENT");
        }
        for path in [
            format!("/api/audit?result={bad}"),
            format!("/api/status?channel={bad}"),
            format!("/api/stream?channels={bad}"),
            format!("/api/channels/ops/messages?unknown={bad}"),
            format!("/api/channels/ops/messages?{bad}=x"),
        ] {
            let answer = admin.get(path).await;
            assert!(answer.status() < 500, "{answer:?}");
        }
        for path in [
            format!("{}/{bad}", status("ops")),
            format!("/api/keys/{bad}"),
        ] {
            let answer = admin.delete(path).await;
            assert!([400, 404].contains(&answer.status()), "{answer:?}");
        }
        let answer = admin
            .put(
                format!("/api/keys/{bad}/permissions"),
                json!({"permissions": {}}),
            )
            .await;
        answer.refused(404, "KEY_NOT_FOUND");
    }
}

#[tokio::test]
async fn odd_but_legal_json_is_understood() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    for body in [
        r#"{"content":"x","n":1e400}"#,
        r#"{"content":"x","n":123456789012345678901234567890}"#,
        r#"{"content":"x","":{"":null}}"#,
        r#"{"\u0063ontent":"x"}"#,
        r#"{"content":"x","nul\u0000":"\u0000"}"#,
    ] {
        let answer = raw(&admin, "POST", &messages("ops"), body.as_bytes()).await;
        assert_eq!(answer.status(), 201, "{body}: {answer:?}");
        assert_eq!(answer.json()["content"], "x");
    }
}

#[tokio::test]
async fn deep_nesting_is_no_danger() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let depth = 200_000 / (open.len() + close.len());
        for field in ["content", "other"] {
            let body = format!(
                r#"{{"x":"y","{field}":{}1{}}}"#,
                open.repeat(depth),
                close.repeat(depth)
            );
            for path in [messages("ops"), "/api/keys".into(), "/api/channels".into()] {
                let answer = raw(&admin, "POST", &path, body.as_bytes()).await;
                assert_eq!(answer.status(), 400, "{answer:?}");
            }
        }
        // Never closed.
        let body = open.repeat(200_000 / open.len());
        raw(&admin, "POST", &messages("ops"), body.as_bytes())
            .await
            .refused(400, "INVALID_JSON");
    }
    relay.anyone().get("/healthz").await.expect(200);
}

#[tokio::test]
async fn a_field_given_twice_is_no_500() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let answer = raw(
        &admin,
        "POST",
        &messages("ops"),
        br#"{"content":"a","content":"b"}"#,
    )
    .await;
    assert!([201, 400].contains(&answer.status()), "{answer:?}");
    let answer = admin
        .get(format!("{}?limit=1&limit=2", messages("ops")))
        .await;
    assert!([200, 400].contains(&answer.status()), "{answer:?}");
}
