//! What results say is unread, held against the inbox.

use futures_util::future::join_all;
use harness::{Agent, Method, TestRelay};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

/// Calls a tool without a client's help, over any replica.
async fn unread_in_result(agent: &Agent) -> Value {
    let call = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "whoami", "arguments": {}},
    });
    let request = agent
        .request(Method::POST, "/mcp")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2025-11-25")
        .json(&call);
    let result = request.send().await.expect(200);
    result["result"]["structuredContent"]["unread"].clone()
}

async fn unread_in_inbox(agent: &Agent) -> Value {
    let inbox = agent.get("/api/inbox?max_bytes=0").await.expect(200);
    inbox["unread"].clone()
}

/// Agents do this and that, drawn by lot; after each step every result must say what the inbox
/// does, on every replica.
async fn results_say_what_the_inbox_does(relay: &TestRelay, seed: u64, steps: usize) {
    const CHANNELS: [&str; 3] = ["build", "ops", "later"];
    let mut lot = StdRng::seed_from_u64(seed);
    let admin = relay.admin();
    let agents = [
        relay.agent("ada", json!({"*": "write"})).await,
        relay.agent("bob", json!({"*": "write"})).await,
        relay
            .agent("carol", json!({"build": "write", "later": "read"}))
            .await,
    ];
    let replicas = relay.replicas();
    let mut posted: Vec<(&str, Value)> = Vec::new();
    for step in 0..steps {
        let channel = CHANNELS[lot.random_range(0..CHANNELS.len())];
        let agent = agents[lot.random_range(0..2)].on(lot.random_range(0..replicas));
        let path = format!("/api/channels/{channel}");
        match lot.random_range(0..20) {
            0..12 => {
                let mention = ["ada", "bob", "carol", "nobody"][lot.random_range(0..4)];
                let mention = lot.random_bool(0.4).then_some(mention);
                let body = json!({"content": "hello", "mention": mention});
                let message = agent.post(format!("{path}/messages"), body).await;
                posted.push((channel, message.expect(201)["id"].clone()));
            }
            12..16 if !posted.is_empty() => {
                let (channel, id) = &posted[lot.random_range(0..posted.len())];
                let path = format!("/api/channels/{channel}/ack");
                // The channel may be another by now.
                agent.post(path, json!({"last_read_id": id})).await;
            }
            16 if !posted.is_empty() => {
                let (channel, id) = posted.swap_remove(lot.random_range(0..posted.len()));
                let id = id.as_str().unwrap();
                admin
                    .delete(format!("/api/channels/{channel}/messages/{id}"))
                    .await;
            }
            17 => {
                agent
                    .put(format!("{path}/status"), json!({"key": "k", "value": "v"}))
                    .await;
            }
            18 if lot.random_bool(0.3) => {
                admin.delete(path).await;
            }
            _ => {
                // More than is counted.
                let many = lot.random_range(0..3) * 60;
                let posts = (0..many).map(|_| agent.say(channel, "one of many"));
                let ids = join_all(posts).await;
                posted.extend(
                    ids.into_iter()
                        .map(|message| (channel, message["id"].clone())),
                );
            }
        }
        for agent in &agents {
            let agent = agent.on(lot.random_range(0..replicas));
            let told = unread_in_result(&agent).await;
            let inbox = unread_in_inbox(&agent).await;
            assert_eq!(told, inbox, "seed {seed}, step {step}, {}", agent.sender());
        }
    }
}

#[tokio::test]
async fn results_of_a_lone_replica_say_what_the_inbox_does() {
    let relay = TestRelay::builder()
        .env("RATE_LIMIT_MAX", 100_000)
        .start()
        .await;
    results_say_what_the_inbox_does(&relay, 1, 150).await;
}

#[tokio::test]
async fn g4_results_of_two_replicas_say_what_the_inbox_does() {
    let relay = TestRelay::builder()
        .replicas(2)
        .env("RATE_LIMIT_MAX", 100_000)
        .start()
        .await;
    results_say_what_the_inbox_does(&relay, 2, 80).await;
}

/// What a replica that has just started answers, the one that was alone before knows.
#[tokio::test]
async fn g4_a_lone_replica_knows_of_another_before_that_serves() {
    let relay = TestRelay::builder()
        .env("RATE_LIMIT_MAX", 100_000)
        .start()
        .await;
    let ada = relay.agent("ada", json!({"*": "write"})).await;
    let bob = relay.agent("bob", json!({"*": "write"})).await;
    ada.say("build", "first").await;
    for _ in 0..3 {
        let second = relay.start_replica(&[]).await;
        for _ in 0..40 {
            let told = unread_in_result(&bob).await;
            assert_eq!(told, unread_in_inbox(&bob).await);
            ada.on(second).say("build", "hello").await;
            let told = unread_in_result(&bob).await;
            assert_eq!(told, unread_in_inbox(&bob).await);
            let read = json!({"last_read_id": ada.say("build", "over").await["id"]});
            bob.post("/api/channels/build/ack", read).await.expect(200);
        }
        relay.replica(second).terminate().await;
    }
}

#[tokio::test]
async fn a_key_that_may_read_less_is_told_of_less() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let bob = relay.agent("bob", json!({"*": "write"})).await;
    admin.say("build", "hello").await;
    admin.say("secret", "hello").await;
    let all = json!({"mentions": 0, "channels": {"build": 1, "secret": 1}});
    assert_eq!(unread_in_result(&bob).await, all);
    assert_eq!(unread_in_result(&bob).await, all, "from memory");
    let narrow = json!({"permissions": {"build": "read"}});
    let path = format!("/api/keys/{}/permissions", bob.key_hash());
    admin.put(path, narrow).await;
    let some = json!({"mentions": 0, "channels": {"build": 1}});
    assert_eq!(unread_in_result(&bob).await, some);
}
