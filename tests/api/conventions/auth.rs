//! Who calls: keys in three places, and how they are kept.

use harness::{Agent, Method, Request, TestRelay};
use serde_json::json;

use crate::fixtures::{encode, messages};
use crate::routes::{Needs, ROUTES, Scene, answer};

fn list(agent: &Agent) -> Request {
    agent.with_key("").request(Method::GET, "/api/channels")
}

#[tokio::test]
async fn a_key_is_taken_from_three_places_on_every_route() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    for (number, route) in ROUTES
        .iter()
        .filter(|r| r.needs > Needs::Nothing)
        .enumerate()
    {
        for (place, place_name) in ["bearer", "header", "query"].iter().enumerate() {
            let scene = Scene::new(&admin, &format!("ops-{number}-{place}")).await;
            let nobody = admin.with_key("");
            let path = route.path_in(&scene);
            let joint = if path.contains('?') { '&' } else { '?' };
            let request = match place {
                0 => route
                    .request(&nobody, &scene)
                    .header("authorization", format!("Bearer {}", admin.key())),
                1 => route
                    .request(&nobody, &scene)
                    .header("x-api-key", admin.key()),
                _ => route.request_to(
                    &nobody,
                    &format!("{path}{joint}token={}", admin.key()),
                    &scene,
                ),
            };
            let (status, refusal) = answer(request).await;
            assert_eq!(status, route.success, "{place_name}: {refusal:?}");
        }
    }
}

#[tokio::test]
async fn the_schemes_name_may_be_in_any_case() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        let header = format!("{scheme} {}", admin.key());
        list(&admin)
            .header("authorization", header)
            .send()
            .await
            .expect(200);
    }
}

#[tokio::test]
async fn the_first_that_is_not_empty_decides() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let right = admin.key();
    let wrong = format!("relay_{}", "0".repeat(48));
    // (Authorization, X-Api-Key, token) → accepted?
    let bearer = |key: &str| format!("Bearer {key}");
    for (authorization, header, token, accepted) in [
        (bearer(right), wrong.as_str(), wrong.as_str(), true),
        (bearer(&wrong), right, right, false),
        (bearer(""), right, wrong.as_str(), true),
        ("Bearer".into(), right, wrong.as_str(), true),
        (bearer(""), wrong.as_str(), right, false),
        (bearer(""), "", right, true),
        (String::new(), right, wrong.as_str(), true),
        (String::new(), wrong.as_str(), right, false),
        // Another scheme holds no key of ours.
        ("Basic YTpi".into(), right, wrong.as_str(), true),
        ("Basic YTpi".into(), "", right, true),
    ] {
        let answer = admin
            .with_key("")
            .request(Method::GET, format!("/api/channels?token={token}"))
            .header("authorization", &authorization)
            .header("x-api-key", header)
            .send()
            .await;
        if accepted {
            answer.expect(200);
        } else {
            answer.refused(401, "INVALID_API_KEY");
        }
    }
}

#[tokio::test]
async fn no_key_is_told_from_a_wrong_one() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    list(&admin).send().await.refused(401, "MISSING_API_KEY");
    for empty in ["", "Bearer", "Bearer ", "Basic YTpi", "Digest x"] {
        let answer = list(&admin)
            .header("authorization", empty)
            .header("x-api-key", "")
            .send()
            .await;
        answer.refused(401, "MISSING_API_KEY");
    }
    let secret = admin.key().strip_prefix("relay_").unwrap();
    let wrong: Vec<Vec<u8>> = vec![
        b"nonsense".to_vec(),
        secret.as_bytes().to_vec(),
        format!("relay_{}", &secret[1..]).into_bytes(),
        format!("relay_{secret}0").into_bytes(),
        format!("RELAY_{secret}").into_bytes(),
        format!("relay_{}", "g".repeat(48)).into_bytes(),
        format!("relay_{}", "0".repeat(48)).into_bytes(),
        admin.key_hash().into_bytes(),
        vec![b'x'; 5_000],
        "schlüssel".as_bytes().to_vec(),
        b"\xff\xfe".to_vec(),
    ];
    for key in wrong {
        let bearer = [b"Bearer ", &key[..]].concat();
        list(&admin)
            .header("authorization", bearer)
            .send()
            .await
            .refused(401, "INVALID_API_KEY");
        list(&admin)
            .header("x-api-key", &key)
            .send()
            .await
            .refused(401, "INVALID_API_KEY");
    }
    for token in ["nonsense", "%00", "%FF", "%ZZ", "%"] {
        let answer = relay
            .anyone()
            .get(format!("/api/channels?token={token}"))
            .await;
        answer.refused(401, "INVALID_API_KEY");
    }
}

#[tokio::test]
async fn a_percent_encoded_token_is_decoded() {
    let relay = TestRelay::new().await;
    let token = encode(relay.admin().key());
    relay
        .anyone()
        .get(format!("/api/channels?limit=1&token={token}"))
        .await
        .expect(200);
}

#[tokio::test]
async fn tokens_in_urls_stay_out_of_logs_and_audit() {
    let relay = TestRelay::builder().env("RUST_LOG", "debug").start().await;
    let denied = relay.agent("denied", json!({})).await;
    let nobody = relay.anyone();
    for key in [denied.key(), relay.admin().key()] {
        nobody
            .get(format!("/api/channels/ops/messages?token={key}"))
            .await;
        nobody
            .get(format!("/api/channels/ops/messages?limit=0&to%6ben={key}"))
            .await;
        nobody.get(format!("/api/nowhere?token={key}")).await;
        nobody
            .get(format!("/api/channels/-/messages?token={key}"))
            .await;
        nobody
            .request(Method::GET, format!("/api/stream?channels=a&token={key}"))
            .try_open()
            .await
            .ok();
    }
    let audit = relay
        .admin()
        .get("/api/audit")
        .await
        .expect(200)
        .to_string();
    assert!(audit.contains("GET /api/channels/ops/messages"), "{audit}");
    assert!(
        !audit.contains(denied.key()) && !audit.contains('?'),
        "{audit}"
    );
    assert_eq!(relay.replica(0).terminate().await.code(), Some(0));
    let logs = relay.replica(0).logs();
    assert!(
        !logs.contains(denied.key()) && !logs.contains(relay.admin().key()),
        "{logs}"
    );
}

#[tokio::test]
async fn raw_keys_are_stored_nowhere() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let agent = relay.agent("builder", json!({"ops": "write"})).await;
    agent.say("ops", "hello").await;
    agent
        .delete("/api/channels/ops")
        .await
        .refused(403, "FORBIDDEN");

    let database = relay.database().connect().await;
    let tables = database
        .query(
            "select format('%I.%I', schemaname, tablename) from pg_tables \
                where schemaname not in ('pg_catalog', 'information_schema')",
            &[],
        )
        .await
        .unwrap();
    assert!(tables.len() > 5);
    let mut hashes = 0;
    for table in tables {
        let table: &str = table.get(0);
        for row in database
            .query(&format!("select t::text from {table} t"), &[])
            .await
            .unwrap()
        {
            let row: &str = row.get(0);
            for agent in [&admin, &agent] {
                let secret = agent.key().strip_prefix("relay_").unwrap();
                assert!(!row.contains(secret), "{table}: {row}");
                assert!(!row.contains(&hex::encode(agent.key())), "{table}: {row}");
                assert!(!row.contains(&hex::encode(secret)), "{table}: {row}");
                hashes += usize::from(row.contains(&agent.key_hash()));
            }
        }
    }
    assert!(hashes >= 2, "the SHA-256 of each key is what is stored");
}

#[tokio::test]
async fn signup_needs_no_key_and_minds_none() {
    let relay = TestRelay::new().await;
    let body = json!({"team_name": "t", "sender_name": "s"});
    relay
        .admin()
        .with_key("nonsense")
        .post("/api/signup", body.clone())
        .await
        .expect(201);
    relay.admin().post("/api/signup", body).await.expect(201);
    relay.admin().get(messages("ops")).await.expect(200);
}
