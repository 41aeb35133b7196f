//! A token that one replica made is good on all of them, for as long as its key is.

use std::process::Command;
use std::time::Duration;

use harness::{Agent, Finished, TestRelay, relay_binary, run};
use serde_json::json;
use tokio::time::Instant;

/// The bound is a second; the rest is for a busy machine.
const SOON: Duration = Duration::from_secs(2);

async fn token(agent: &Agent) -> Agent {
    let body = json!({"sender_suffix": "helper"});
    let made = agent.post("/api/tokens", body).await.expect(201);
    agent.with_key(made["token"].as_str().unwrap())
}

async fn signing_keys(relay: &TestRelay) -> (i64, i64) {
    let client = relay.database().connect().await;
    let sql = "select count(*), count(*) filter (where retired_at is null) from signing_keys";
    let row = client.query_one(sql, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

async fn rotate(relay: &TestRelay, arguments: &[&str]) -> Finished {
    let mut command = Command::new(relay_binary());
    command
        .arg("rotate-signing-key")
        .args(arguments)
        .env_clear()
        .env("DATABASE_URL", relay.database().url());
    tokio::task::spawn_blocking(move || run(command).unwrap())
        .await
        .unwrap()
}

#[tokio::test]
async fn g4_a_token_is_good_on_every_replica_at_once() {
    let relay = TestRelay::builder().replicas(3).start().await;
    let admin = relay.admin();
    // All need the first signing key at once, and make one.
    let agents = [admin.on(0), admin.on(1), admin.on(2)];
    let (one, two, three) = tokio::join!(token(&agents[0]), token(&agents[1]), token(&agents[2]));
    assert_eq!(signing_keys(&relay).await, (1, 1));
    for replica in 0..3 {
        for token in [&one, &two, &three] {
            token.on(replica).say("ops", "hello").await;
        }
    }
}

#[tokio::test]
async fn g5_a_token_goes_with_its_key_on_every_replica() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let path = |agent: &Agent| format!("/api/keys/{}", agent.key_hash());
    for changing in 0..2 {
        let agent = relay.agent("short-lived", json!({"ops": "write"})).await;
        let token = token(&agent).await;
        let mut streams = Vec::new();
        for replica in 0..2 {
            token.on(replica).say("ops", "hello").await;
            streams.push(token.on(replica).stream("/api/channels/ops/stream").await);
        }
        let narrow = json!({"permissions": {"ops": "read"}});
        let permissions = format!("{}/permissions", path(&agent));
        admin
            .on(changing)
            .put(permissions, narrow)
            .await
            .expect(200);
        refused_soon(&token, 403, "FORBIDDEN").await;
        for mut stream in streams.drain(..) {
            stream.ended().await;
        }
        for replica in 0..2 {
            streams.push(token.on(replica).stream("/api/channels/ops/stream").await);
        }
        admin.on(changing).delete(path(&agent)).await.expect(204);
        refused_soon(&token, 401, "INVALID_API_KEY").await;
        for mut stream in streams {
            stream.ended().await;
        }
    }
}

/// Asks each replica until it refuses, which must be soon.
async fn refused_soon(token: &Agent, status: u16, code: &str) {
    let since = Instant::now();
    for replica in 0..2 {
        loop {
            let asked = since.elapsed();
            let body = json!({"content": "still there?"});
            let answer = token
                .on(replica)
                .post("/api/channels/ops/messages", body)
                .await;
            if answer.status() == status {
                answer.refused(status, code);
                break;
            }
            assert!(
                asked < SOON,
                "{asked:?} after the change the token still works"
            );
        }
    }
}

#[tokio::test]
async fn tokens_outlive_the_rotation_of_the_signing_key() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let old = token(&admin).await;
    for replica in 0..2 {
        old.on(replica).get("/api/me").await.expect(200);
    }
    for keys in 2..4 {
        let rotated = rotate(&relay, &[]).await;
        assert!(rotated.status.success(), "{rotated:?}");
        assert_eq!(signing_keys(&relay).await, (keys, 1));
    }
    // One that starts now signs with the new key: the others, which know the old one, learn of it
    // by the first token that they see.
    let newcomer = relay.start_replica(&[]).await;
    let new = token(&admin.on(newcomer)).await;
    let kid = |token: &Agent| token.key().split('.').next().unwrap().to_owned();
    assert_ne!(kid(&new), kid(&old));
    for replica in 0..3 {
        for token in [&new, &old] {
            token.on(replica).get("/api/me").await.expect(200);
        }
    }
    // What nobody can hold a token of any more goes.
    let client = relay.database().connect().await;
    let age = "update signing_keys set retired_at = retired_at - interval '26 hours'";
    client.execute(age, &[]).await.unwrap();
    let latecomer = relay.start_replica(&[]).await;
    old.on(latecomer)
        .get("/api/me")
        .await
        .refused(401, "INVALID_API_KEY");
    new.on(latecomer).get("/api/me").await.expect(200);
}

#[tokio::test]
async fn keys_that_leaked_are_dropped_with_their_tokens() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let old = token(&admin).await;
    old.on(1).get("/api/me").await.expect(200);
    let rotated = rotate(&relay, &["--drop-old"]).await;
    assert!(rotated.status.success(), "{rotated:?}");
    assert_eq!(signing_keys(&relay).await, (1, 1));
    for replica in 0..2 {
        let token = old.on(replica);
        harness::eventually("the replica hears of it", || async {
            let answer = token.get("/api/me").await;
            (answer.status() == 401).then(|| answer.refused(401, "INVALID_API_KEY"))
        })
        .await;
        let new = self::token(&admin.on(replica)).await;
        new.on(1 - replica).get("/api/me").await.expect(200);
    }
}

#[tokio::test]
async fn a_rotation_without_a_database_says_what_is_missing() {
    let mut command = Command::new(relay_binary());
    command.arg("rotate-signing-key").env_clear();
    let failed = run(command).unwrap();
    assert!(!failed.status.success());
    assert!(failed.stderr.contains("DATABASE_URL"), "{failed:?}");
}
