//! POST `/api/tokens`, and what a token is good for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use harness::{Agent, DEADLINE, Method, TestRelay, eventually, within};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::fixtures::{at_once, count, has_fields, messages, text};

/// A request by something that is out of date is refused this soon.
const SOON: Duration = Duration::from_secs(2);

/// A token of this agent's key.
async fn token(agent: &Agent, body: Value) -> Agent {
    let made = agent.post("/api/tokens", body).await.expect(201);
    agent.with_key(text(&made, "token"))
}

/// A token of this agent's key that speaks for `name/helper`.
async fn helper(agent: &Agent) -> Agent {
    token(agent, json!({"sender_suffix": "helper"})).await
}

fn time_of(of: &Value, field: &str) -> OffsetDateTime {
    OffsetDateTime::parse(text(of, field), &Rfc3339).unwrap()
}

async fn narrow(relay: &TestRelay, agent: &Agent, permissions: Value) {
    let path = format!("/api/keys/{}/permissions", agent.key_hash());
    let body = json!({"permissions": permissions});
    relay.admin().put(path, body).await.expect(200);
}

#[tokio::test]
async fn a_token_does_what_it_was_given_under_a_name_of_its_own() {
    let relay = TestRelay::new().await;
    let bob = relay
        .agent("bob", json!({"*": "read", "ops": "write", "dev": "write"}))
        .await;
    let before = OffsetDateTime::now_utc();
    let body =
        json!({"permissions": {"ops": "write"}, "sender_suffix": "a/b é", "ttl_seconds": 60});
    let made = bob.post("/api/tokens", body).await.expect(201);
    has_fields(&made, &["token", "sender", "permissions", "expires_at"]);
    assert_eq!(made["sender"], "bob/a/b é");
    assert_eq!(made["permissions"], json!({"ops": "write"}));
    let lives = time_of(&made, "expires_at") - before;
    assert!((60.0..70.0).contains(&lives.as_seconds_f64()), "{lives}");

    let token = bob.with_key(text(&made, "token"));
    let said = token.say("ops", "from the helper").await;
    assert_eq!(said["sender"], "bob/a/b é");
    let me = token.get("/api/me").await.expect(200);
    assert_eq!(me["sender"], made["sender"]);
    assert_eq!(me["permissions"], made["permissions"]);
    assert_eq!(me["expires_at"], made["expires_at"]);
    assert_eq!(me["key"], json!(bob.key_hash()));
    assert_eq!(me["team"], *bob.team());

    // What it does counts as its own: acks are its name's, and mentions of it call it alone.
    let ack = json!({"last_read_id": said["id"]});
    let ack = token.post("/api/channels/ops/ack", ack).await.expect(200);
    assert_eq!(ack["sender"], made["sender"]);
    let call = json!({"content": "you?", "mention": "bob/a/b é"});
    let call = relay.admin().post(messages("ops"), call).await.expect(201);
    let inbox = token.get("/api/inbox").await.expect(200);
    assert_eq!(inbox["mentions"], json!([call]));
    assert_eq!(
        bob.get("/api/inbox").await.expect(200)["mentions"],
        json!([])
    );

    // Its key may more, it may not.
    let refused = token.post(messages("dev"), json!({"content": "x"})).await;
    refused.refused(403, "FORBIDDEN");
    token.get(messages("dev")).await.refused(403, "FORBIDDEN");
    token.get("/api/keys").await.refused(403, "FORBIDDEN");
    let audit = relay.admin().get("/api/audit").await.expect(200);
    for (entry, channel) in audit["entries"]
        .as_array()
        .unwrap()
        .iter()
        .zip(["dev", "dev", "*"])
    {
        assert_eq!(entry["key_hash"], json!(bob.key_hash()), "{entry}");
        assert_eq!(entry["sender_name"], made["sender"], "{entry}");
        assert_eq!(entry["channel"], channel, "{entry}");
    }

    // It is taken wherever a key is.
    let nobody = bob.with_key("");
    let list = |path: &str| nobody.request(Method::GET, path);
    let key = token.key();
    list("/api/me")
        .header("x-api-key", key)
        .send()
        .await
        .expect(200);
    list(&format!("/api/me?token={key}"))
        .send()
        .await
        .expect(200);
    token.stream("/api/channels/ops/stream").await;
}

#[tokio::test]
async fn nothing_asked_for_is_all_of_the_key_for_an_hour() {
    let relay = TestRelay::new().await;
    let bob = relay.agent("bob", json!({"ops": "write"})).await;
    let before = OffsetDateTime::now_utc();
    for body in [
        json!({}),
        json!({"permissions": null, "sender_suffix": "", "ttl_seconds": null}),
    ] {
        let made = bob.post("/api/tokens", body).await.expect(201);
        assert_eq!(made["sender"], "bob");
        assert_eq!(made["permissions"], json!({"ops": "write"}));
        let lives = time_of(&made, "expires_at") - before;
        assert!(
            (3_600.0..3_620.0).contains(&lives.as_seconds_f64()),
            "{lives}"
        );
        let said = bob.with_key(text(&made, "token")).say("ops", "hello").await;
        assert_eq!(said["sender"], "bob");
    }
    // Not past its key's own end.
    let expires_at = (before + time::Duration::seconds(100))
        .format(&Rfc3339)
        .unwrap();
    let body = json!({"sender_name": "ada", "expires_at": expires_at});
    let key = relay.admin().post("/api/keys", body).await.expect(201);
    let ada = bob.with_key(text(&key, "api_key"));
    let made = ada.post("/api/tokens", json!({})).await.expect(201);
    assert!(time_of(&made, "expires_at") <= time_of(&key, "expires_at"));
}

#[tokio::test]
async fn nobody_gives_away_more_than_it_has() {
    let relay = TestRelay::new().await;
    let bob = relay
        .agent("bob", json!({"*": "write", "ops": "read"}))
        .await;
    for (permissions, channel) in [
        (json!({"*": "admin"}), "*"),
        (json!({"ops": "write"}), "ops"),
        (json!({"*": "write", "dev": "admin"}), "dev"),
    ] {
        let body = json!({"permissions": permissions});
        let refused = bob.post("/api/tokens", body).await;
        refused.refused(403, "FORBIDDEN");
        let audit = relay.admin().get("/api/audit").await.expect(200);
        let last = audit["entries"].as_array().unwrap().last().unwrap();
        assert_eq!(last["action"], "POST /api/tokens");
        assert_eq!(last["channel"], channel);
        assert_eq!(last["key_hash"], json!(bob.key_hash()));
    }
    // What the key has less of in a channel that isn't named, the token has less of as well.
    let made = bob
        .post("/api/tokens", json!({"permissions": {"*": "write"}}))
        .await;
    let made = made.expect(201);
    assert_eq!(made["permissions"], json!({"*": "write", "ops": "read"}));
    let token = bob.with_key(text(&made, "token"));
    let refused = token.post(messages("ops"), json!({"content": "x"})).await;
    refused.refused(403, "FORBIDDEN");
    token.say("dev", "hello").await;
}

#[tokio::test]
async fn a_token_never_does_more_than_its_key_does_now() {
    let relay = TestRelay::new().await;
    let bob = relay.agent("bob", json!({"*": "write"})).await;
    let given = token(
        &bob,
        json!({"permissions": {"ops": "write", "dev": "read"}}),
    )
    .await;
    let all = helper(&bob).await;
    let mut stream = given.stream("/api/channels/ops/stream").await;
    given.say("ops", "hello").await;

    narrow(&relay, &bob, json!({"ops": "read"})).await;
    // What it streamed is asked for anew.
    stream.ended().await;
    for token in [&given, &all] {
        let refused = token.post(messages("ops"), json!({"content": "x"})).await;
        refused.refused(403, "FORBIDDEN");
        token.get(messages("dev")).await.refused(403, "FORBIDDEN");
        token.get(messages("ops")).await.expect(200);
    }
    let me = given.get("/api/me").await.expect(200);
    assert_eq!(me["permissions"], json!({"ops": "read"}));

    // Wider again: up to what it was given, and where that was everything, everything.
    narrow(&relay, &bob, json!({"*": "write", "new": "admin"})).await;
    given.say("ops", "hello again").await;
    let refused = given.post(messages("dev"), json!({"content": "x"})).await;
    refused.refused(403, "FORBIDDEN");
    given.get(messages("new")).await.refused(403, "FORBIDDEN");
    all.say("new", "mine too").await;

    let path = format!("/api/keys/{}", bob.key_hash());
    let mut stream = given.stream("/api/channels/ops/stream").await;
    relay.admin().delete(path).await.expect(204);
    for token in [&given, &all] {
        token.get("/api/me").await.refused(401, "INVALID_API_KEY");
    }
    stream.ended().await;
}

#[tokio::test]
async fn an_expired_token_says_so_and_its_streams_end() {
    let relay = TestRelay::new().await;
    let bob = relay.agent("bob", json!({"*": "write"})).await;
    let made = bob
        .post("/api/tokens", json!({"ttl_seconds": 2}))
        .await
        .expect(201);
    let expires_at = time_of(&made, "expires_at");
    let token = bob.with_key(text(&made, "token"));
    let mut stream = token.stream("/api/channels/ops/stream").await;
    let mut keys_stream = bob.stream("/api/channels/ops/stream").await;
    let waits = token.get("/api/inbox?wait=50");
    let waited = within("the wait ends", waits).await;
    waited.refused(401, "TOKEN_EXPIRED");
    assert!(
        OffsetDateTime::now_utc() >= expires_at,
        "not before its time"
    );
    let late = OffsetDateTime::now_utc() - expires_at;
    assert!(late < SOON + Duration::from_secs(1), "{late}");
    stream.ended().await;
    token.get("/api/me").await.refused(401, "TOKEN_EXPIRED");
    token
        .get("/api/inbox?wait=50")
        .await
        .refused(401, "TOKEN_EXPIRED");
    // Its key goes on.
    let said = bob.say("ops", "still here").await;
    assert_eq!(keys_stream.next().await.data, said);
}

#[tokio::test]
async fn a_token_makes_no_tokens() {
    let relay = TestRelay::new().await;
    let token = helper(&relay.admin()).await;
    let refused = token.post("/api/tokens", json!({})).await;
    refused.refused(403, "FORBIDDEN");
    let audit = relay.admin().get("/api/audit").await.expect(200);
    let entry = &audit["entries"][0];
    assert_eq!(entry["action"], "POST /api/tokens");
    assert_eq!(entry["sender_name"], "admin/helper");
    // Team matters go by its permissions, as with a key.
    let body = json!({"sender_name": "new", "permissions": {}});
    token.post("/api/keys", body).await.expect(201);
}

/// The one signing key, as it stands in the table.
async fn signing_key(relay: &TestRelay) -> (String, Vec<u8>) {
    let client = relay.database().connect().await;
    let row = client
        .query_one("select kid, secret from signing_keys", &[])
        .await
        .unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test]
async fn forgeries_are_refused() {
    let relay = TestRelay::new().await;
    let bob = relay.agent("bob", json!({"ops": "read"})).await;
    let real = helper(&bob).await;
    let (kid, secret) = signing_key(&relay).await;
    let parts: Vec<&str> = real.key().split('.').collect();
    let claims: BTreeMap<String, Value> =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    let header = Header {
        kid: Some(kid.clone()),
        typ: Some("handoff+jwt".to_owned()),
        ..Header::default()
    };
    let sign = |header: &Header, claims: &BTreeMap<String, Value>, secret: &[u8]| {
        encode(header, claims, &EncodingKey::from_secret(secret)).unwrap()
    };
    let with = |name: &str, value: Value| {
        let mut claims = claims.clone();
        match value {
            Value::Null => drop(claims.remove(name)),
            value => drop(claims.insert(name.to_owned(), value)),
        }
        sign(&header, &claims, &secret)
    };
    // What is signed right passes: the refusals below are for what they say.
    let passes = bob.with_key(&sign(&header, &claims, &secret));
    assert_eq!(
        passes.get("/api/me").await.expect(200)["sender"],
        "bob/helper"
    );

    let json = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let admin = relay.admin().key_hash();
    let mut wider = claims.clone();
    wider.insert("sub".to_owned(), json!(admin));
    let unsigned = json(json!({"alg": "none", "typ": "handoff+jwt", "kid": kid}));
    let forged = [
        (
            "another's claims",
            format!("{}.{}.{}", parts[0], json(json!(wider)), parts[2]),
        ),
        ("another secret", sign(&header, &wider, &[7; 32])),
        ("an empty secret", sign(&header, &wider, &[])),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        (
            "half a signature",
            format!("{}.{}.{}", parts[0], parts[1], &parts[2][..20]),
        ),
        (
            "no algorithm",
            format!("{unsigned}.{}.", json(json!(wider))),
        ),
        (
            "another algorithm",
            sign(
                &Header {
                    alg: Algorithm::HS512,
                    ..header.clone()
                },
                &claims,
                &secret,
            ),
        ),
        (
            "another type",
            sign(
                &Header {
                    typ: Some("JWT".to_owned()),
                    ..header.clone()
                },
                &claims,
                &secret,
            ),
        ),
        (
            "no key",
            sign(
                &Header {
                    kid: None,
                    ..header.clone()
                },
                &claims,
                &secret,
            ),
        ),
        (
            "an unknown key",
            sign(
                &Header {
                    kid: Some("00".repeat(8)),
                    ..header.clone()
                },
                &claims,
                &secret,
            ),
        ),
        (
            "a key with a name of another form",
            sign(
                &Header {
                    kid: Some("' or true --".into()),
                    ..header.clone()
                },
                &claims,
                &secret,
            ),
        ),
        ("for another audience", with("aud", json!("somebody else"))),
        ("for none", with("aud", Value::Null)),
        ("of another issuer", with("iss", json!("somebody else"))),
        ("of none", with("iss", Value::Null)),
        ("without an end", with("exp", Value::Null)),
        ("of no key", with("sub", json!("00".repeat(32)))),
        ("of a nonsense key", with("sub", json!("x"))),
        ("dots", "..".to_owned()),
        ("nonsense", "a.b.c".to_owned()),
        (
            "too long",
            format!("{}.{}.{}", parts[0], "A".repeat(20_000), parts[2]),
        ),
    ];
    for (what, token) in forged {
        let answer = bob.with_key(&token).get("/api/me").await;
        assert_eq!(
            (answer.status(), &*answer.code()),
            (401, "INVALID_API_KEY"),
            "{what}"
        );
    }
    let past = OffsetDateTime::now_utc().unix_timestamp() - 1;
    let expired = bob.with_key(&with("exp", json!(past)));
    expired.get("/api/me").await.refused(401, "TOKEN_EXPIRED");
}

#[tokio::test]
async fn bad_wishes_are_refused() {
    let relay = TestRelay::new().await;
    let bob = relay.agent(&"b".repeat(100), json!({"*": "write"})).await;
    let map: BTreeMap<String, &str> = (0..200)
        .map(|number| (format!("a-channel-with-a-name-{number}"), "read"))
        .collect();
    for (body, code) in [
        (json!({"ttl_seconds": 0}), "INVALID_EXPIRY"),
        (json!({"ttl_seconds": -5}), "INVALID_EXPIRY"),
        (json!({"ttl_seconds": 86_401}), "INVALID_EXPIRY"),
        (json!({"ttl_seconds": 1.5}), "INVALID_JSON"),
        (json!({"ttl_seconds": "60"}), "INVALID_JSON"),
        (json!({"sender_suffix": 7}), "INVALID_JSON"),
        (json!({"sender_suffix": "s".repeat(65)}), "FIELD_TOO_LARGE"),
        (json!({"sender_suffix": "s".repeat(28)}), "FIELD_TOO_LARGE"),
        (json!({"sender_suffix": "a\0b"}), "INVALID_CONTENT"),
        (
            json!({"permissions": {"ops": "owner"}}),
            "INVALID_PERMISSIONS",
        ),
        (
            json!({"permissions": {"a b": "read"}}),
            "INVALID_PERMISSIONS",
        ),
        (json!({"permissions": {"ops": 1}}), "INVALID_JSON"),
        (json!({"permissions": map}), "FIELD_TOO_LARGE"),
    ] {
        let refused = bob.post("/api/tokens", body.clone()).await;
        assert_eq!((refused.status(), &*refused.code()), (400, code), "{body}");
    }
    for body in [
        json!({"sender_suffix": "s".repeat(27), "ttl_seconds": 86_400}),
        json!({"ttl_seconds": 1}),
    ] {
        bob.post("/api/tokens", body).await.expect(201);
    }
    let ada = relay.agent("ada", json!({"*": "write"})).await;
    let body = json!({"sender_suffix": "é".repeat(64)});
    ada.post("/api/tokens", body).await.expect(201);
    // Nothing at all is a token too.
    let nothing = token(&ada, json!({"permissions": {}})).await;
    nothing.get(messages("ops")).await.refused(403, "FORBIDDEN");
    assert_eq!(nothing.get("/api/channels").await.expect(200), json!([]));
}

#[tokio::test]
async fn tokens_share_the_budget_of_their_key() {
    let relay = TestRelay::builder()
        .env("RATE_LIMIT_MAX", 20)
        .env("RATE_LIMIT_WINDOW_MS", 3_600_000)
        .env("HANDOFF_STREAMS_PER_KEY", 2)
        .start()
        .await;
    let bob = relay.agent("bob", json!({"*": "write"})).await;
    let (one, other) = (helper(&bob).await, helper(&bob).await);
    let mut stream = one.stream("/api/channels/ops/stream").await;
    let _other = bob.stream("/api/channels/ops/stream").await;
    let third = other.request(Method::GET, "/api/channels/ops/stream");
    third.send().await.refused(429, "SSE_LIMIT_REACHED");
    // 5 requests were made.
    let answers = at_once(30, |number| {
        let agent = [&bob, &one, &other][number % 3];
        agent.request(Method::GET, "/api/channels")
    })
    .await;
    assert_eq!(count(&answers, 200), 15);
    one.get("/api/me").await.refused(429, "RATE_LIMITED");
    stream.stays_silent().await;
}

#[tokio::test]
async fn names_of_one_key_retry_apart() {
    let relay = TestRelay::new().await;
    let bob = relay.agent("bob", json!({"*": "write"})).await;
    let one = token(&bob, json!({"sender_suffix": "one"})).await;
    let two = token(&bob, json!({"sender_suffix": "two"})).await;
    let same = token(&bob, json!({"sender_suffix": "one", "ttl_seconds": 60})).await;
    let mut posted = Vec::new();
    for (agent, status) in [
        (&bob, 201),
        (&one, 201),
        (&two, 201),
        (&same, 200),
        (&bob, 200),
    ] {
        let answer = agent
            .request(Method::POST, messages("ops"))
            .header("idempotency-key", "deploy")
            .json(&json!({"content": "deploying"}))
            .send()
            .await;
        posted.push(answer.expect(status));
    }
    assert_eq!(posted[3], posted[1]);
    assert_eq!(posted[4], posted[0]);
    let senders: Vec<&str> = posted
        .iter()
        .map(|message| text(message, "sender"))
        .collect();
    assert_eq!(senders, ["bob", "bob/one", "bob/two", "bob/one", "bob"]);
}

#[tokio::test]
async fn a_token_is_checked_without_postgres() {
    let relay = TestRelay::builder().through_proxy().start().await;
    let token = helper(&relay.admin()).await;
    token.get("/api/me").await.expect(200);
    relay.proxy(0).database.stall();
    let asked = Instant::now();
    let answers = join_all((0..20).map(|_| token.get("/api/me"))).await;
    // Longer than that, memory would not be trusted with the key.
    assert!(
        asked.elapsed() < Duration::from_secs(3),
        "{:?}",
        asked.elapsed()
    );
    for answer in answers {
        answer.expect(200);
    }
    relay.proxy(0).database.pass();
}

#[tokio::test]
async fn g7_unknown_signing_keys_do_not_flood_postgres() {
    let relay = TestRelay::new().await;
    let bob = relay.agent("bob", json!({"*": "write"})).await;
    let real = helper(&bob).await;
    let client = relay.database().connect().await;
    let looks = async || -> i64 {
        let sql = "select (coalesce(seq_scan, 0) + coalesce(idx_scan, 0))::bigint
            from pg_stat_user_tables where relname = 'signing_keys'";
        client.query_one(sql, &[]).await.unwrap().get(0)
    };
    let forged = |number: usize| {
        let header = Header {
            kid: Some(format!("{number:016x}")),
            typ: Some("handoff+jwt".to_owned()),
            ..Header::default()
        };
        let key = EncodingKey::from_secret(b"guessed");
        bob.with_key(&encode(&header, &json!({"sub": "x"}), &key).unwrap())
    };
    // Statistics come a little late: those of before must not count as those of the flood.
    let before = eventually("the statistics are in", || async {
        let seen = looks().await;
        (seen > 0).then_some(seen)
    })
    .await;
    let began = Instant::now();
    let agents: Vec<Agent> = (0..400).map(forged).collect();
    let answers = join_all(agents.iter().map(|agent| agent.get("/api/me"))).await;
    for answer in &answers {
        answer.refused(401, "INVALID_API_KEY");
    }
    assert!(began.elapsed() < DEADLINE / 4, "{:?}", began.elapsed());
    real.get("/api/me").await.expect(200);
    eventually("the looks are counted", || async {
        (looks().await > before).then_some(())
    })
    .await;
    let (looks, took) = (looks().await - before, began.elapsed());
    // Four looks a second, and those of the first token.
    let most = 4 * (took.as_secs() as i64 + 1) + 8;
    assert!(looks <= most, "{looks} looks in {took:?}");
}

#[tokio::test]
async fn a_token_is_never_logged() {
    let relay = TestRelay::builder().env("RUST_LOG", "trace").start().await;
    let bob = relay.agent("bob", json!({"ops": "read"})).await;
    let token = helper(&bob).await;
    let key = token.key();
    let nobody = bob.with_key("");
    let ask = |path: String| nobody.request(Method::GET, path);
    for path in [
        "/api/me",
        "/api/keys",
        "/api/nowhere",
        "/api/channels/x y/messages",
    ] {
        let path = path.replace(' ', "%20");
        ask(format!("{path}?token={key}")).send().await;
        ask(format!("{path}?token={}", bob.key())).send().await;
        token.get(path).await;
    }
    let stream = format!("/api/stream?channels=ops&token={key}");
    let _stream = ask(stream).open().await;
    let (_, secret) = signing_key(&relay).await;
    let status = relay.replica(0).terminate().await;
    assert!(status.success());
    let logs = relay.replica(0).logs();
    assert!(
        logs.contains("TRACE") || logs.contains("DEBUG"),
        "something is logged"
    );
    let signature = key.rsplit('.').next().unwrap();
    for secret in [
        key,
        signature,
        bob.key(),
        &hex::encode(&secret),
        &format!("{secret:?}"),
    ] {
        assert!(!logs.contains(secret), "it stands in the log: {secret}");
    }
}
