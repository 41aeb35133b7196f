//! What one replica answered 2xx, the next request to the other one sees, whatever the other one
//! had in memory.

use futures_util::future::join_all;
use harness::{Agent, TestRelay};
use serde_json::{Value, json};

/// Rounds for each kind of write: stale memory shows up sometimes, not always.
const ROUNDS: usize = 25;

fn contents(page: &Value) -> Vec<&str> {
    let messages = page["messages"].as_array().unwrap();
    messages
        .iter()
        .map(|message| message["content"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn g4_a_post_is_read_on_the_other_replica_at_once() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let pairs = (0..8).map(|pair| {
        let admin = relay.admin();
        async move {
            let messages = format!("/api/channels/ops-{pair}/messages");
            let mut previous: Option<Value> = None;
            for round in 0..ROUNDS {
                let (here, there) = (admin.on(round % 2), admin.on((round + 1) % 2));
                let content = format!("round {round}");
                let body = json!({"content": content, "mention": "ada"});
                let posted = here.post(&messages, body).await.expect(201);
                let newest = there.get(format!("{messages}?limit=1")).await.expect(200);
                assert_eq!(newest["messages"], json!([posted]), "the newest page");
                let mentions = there
                    .get(format!("{messages}?mention=ada"))
                    .await
                    .expect(200);
                assert_eq!(contents(&mentions).last(), Some(&content.as_str()));
                if let Some(previous) = previous {
                    let after = previous["id"].as_str().unwrap();
                    let page = there
                        .get(format!("{messages}?after_id={after}"))
                        .await
                        .expect(200);
                    assert_eq!(page["messages"], json!([posted]), "the page after a cursor");
                }
                previous = Some(posted);
            }
        }
    });
    join_all(pairs).await;
}

#[tokio::test]
async fn g4_threads_acks_and_status_are_seen_on_the_other_replica_at_once() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let channel = |rest: &str| format!("/api/channels/ops/{rest}");
    let parent = admin.say("ops", "parent").await;
    let parent_id = parent["id"].as_str().unwrap();
    for round in 0..ROUNDS {
        let (here, there) = (admin.on(round % 2), admin.on((round + 1) % 2));

        let body = json!({"content": format!("reply {round}"), "thread_id": parent_id});
        let reply = here.post(channel("messages"), body).await.expect(201);
        let thread = there
            .get(channel(&format!("threads/{parent_id}?limit=100")))
            .await;
        let thread = thread.expect(200);
        assert_eq!(thread["parent"]["reply_count"], round + 1);
        assert_eq!(thread["replies"].as_array().unwrap().last(), Some(&reply));

        let unread = there.get(channel("unread")).await.expect(200);
        assert_eq!(unread["messages"].as_array().unwrap().last(), Some(&reply));
        let ack = here
            .post(channel("ack"), json!({"last_read_id": reply["id"]}))
            .await;
        let ack = ack.expect(200);
        let unread = there.get(channel("unread")).await.expect(200);
        assert_eq!(contents(&unread), Vec::<&str>::new(), "all is read");
        assert_eq!(there.get(channel("acks")).await.expect(200), json!([ack]));

        let body = json!({"key": "phase", "value": format!("{round}")});
        let status = here.put(channel("status"), body).await.expect(200);
        assert_eq!(
            there.get(channel("status?key=phase")).await.expect(200),
            json!([status])
        );
        assert_eq!(
            there.get("/api/status?channel=ops").await.expect(200),
            json!([status])
        );
        let changes = there
            .get(channel("status/changes?limit=1"))
            .await
            .expect(200);
        assert_eq!(changes["changes"][0]["value"], format!("{round}"));

        here.delete(channel(&format!(
            "messages/{}",
            reply["id"].as_str().unwrap()
        )))
        .await
        .expect(204);
        let thread = there
            .get(channel(&format!("threads/{parent_id}")))
            .await
            .expect(200);
        assert_eq!(thread["parent"]["reply_count"], round);
        let again = json!({"content": format!("reply {round} again"), "thread_id": parent_id});
        here.post(channel("messages"), again).await.expect(201);
    }
    admin
        .on(1)
        .delete(channel("status/phase"))
        .await
        .expect(204);
    assert_eq!(admin.get(channel("status")).await.expect(200), json!([]));
}

#[tokio::test]
async fn g4_channels_come_and_go_on_both_replicas_at_once() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let names = |list: Value| -> Vec<String> {
        let list = list.as_array().unwrap();
        list.iter()
            .map(|channel| channel["name"].as_str().unwrap().to_owned())
            .collect()
    };
    for round in 0..ROUNDS {
        let (here, there) = (admin.on(round % 2), admin.on((round + 1) % 2));
        let name = format!("channel-{round}");
        let messages = format!("/api/channels/{name}/messages");
        // The other replica may now remember that there is no such channel.
        assert_eq!(
            contents(&there.get(&messages).await.expect(200)),
            Vec::<&str>::new()
        );

        let made = here
            .post("/api/channels", json!({"name": name}))
            .await
            .expect(201);
        let list = there.get("/api/channels").await.expect(200);
        assert!(
            list.as_array().unwrap().contains(&made),
            "{name} is missing in {list}"
        );
        there
            .post("/api/channels", json!({"name": name}))
            .await
            .expect(200);
        here.say(&name, "first").await;
        assert_eq!(contents(&there.get(&messages).await.expect(200)), ["first"]);

        // And now that there is one, under an ID that is gone when its name comes back.
        here.delete(format!("/api/channels/{name}"))
            .await
            .expect(204);
        assert_eq!(
            contents(&there.get(&messages).await.expect(200)),
            Vec::<&str>::new()
        );
        assert!(!names(there.get("/api/channels").await.expect(200)).contains(&name));
        there
            .delete(format!("/api/channels/{name}"))
            .await
            .refused(404, "CHANNEL_NOT_FOUND");
        let reborn = there.say(&name, "second").await;
        assert_eq!(reborn["seq"], 1, "a new channel counts from 1");
        assert_eq!(contents(&here.get(&messages).await.expect(200)), ["second"]);
        let replied = here.say(&name, "third").await;
        assert_eq!(replied["seq"], 2, "both replicas write to the new channel");
    }
}

#[tokio::test]
async fn g4_a_new_key_works_on_the_other_replica_at_once() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    for round in 0..ROUNDS {
        let here = admin.on(round % 2);
        let agent = here
            .new_key(&format!("agent {round}"), json!({"ops": "write"}))
            .await;
        let message = agent.on((round + 1) % 2).say("ops", "hello").await;
        assert_eq!(message["sender"], format!("agent {round}"));
        let keys = admin.on((round + 1) % 2).get("/api/keys").await.expect(200);
        assert_eq!(keys.as_array().unwrap().len(), round + 2);
    }
}

#[tokio::test]
async fn g4_what_a_stream_has_brought_every_replica_shows() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let mut stream = admin.stream("/api/channels/ops/stream").await;
    for round in 0..ROUNDS {
        admin
            .on(round % 2)
            .say("ops", &format!("round {round}"))
            .await;
        let event = stream.next().await;
        let there = admin.on((round + 1) % 2);
        let newest = there
            .get("/api/channels/ops/messages?limit=1")
            .await
            .expect(200);
        assert_eq!(newest["messages"][0], event.data);
    }
}

/// The same post with the same `Idempotency-Key`.
async fn post_once(agent: &Agent, key: &str, content: &str) -> harness::Response {
    agent
        .request(harness::Method::POST, "/api/channels/ops/messages")
        .header("idempotency-key", key)
        .json(&json!({"content": content}))
        .send()
        .await
}

#[tokio::test]
async fn g1_twins_on_two_replicas_at_the_same_instant_post_once() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    for round in 0..ROUNDS {
        let (key, content) = (format!("twin {round}"), format!("round {round}"));
        let agents: Vec<Agent> = (0..6).map(|twin| admin.on(twin % 2)).collect();
        let answers = join_all(agents.iter().map(|agent| post_once(agent, &key, &content))).await;

        let (first, replays): (Vec<_>, Vec<_>) =
            answers.iter().partition(|answer| answer.status() == 201);
        assert_eq!(first.len(), 1, "one of the twins posts: {answers:?}");
        assert_eq!(first[0].header("idempotent-replay"), None);
        for replay in replays {
            assert_eq!(replay.expect(200), first[0].json());
            assert_eq!(replay.header("idempotent-replay"), Some("true"));
        }
        let other = post_once(&admin.on(round % 2), &key, "something else").await;
        other.refused(409, "IDEMPOTENCY_MISMATCH");
    }
    let page = admin
        .get("/api/channels/ops/messages?limit=100")
        .await
        .expect(200);
    let expected: Vec<String> = (0..ROUNDS).map(|round| format!("round {round}")).collect();
    assert_eq!(contents(&page), expected);
}

#[tokio::test]
async fn g4_who_waits_on_one_replica_is_woken_by_a_post_on_another() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let bob = relay.agent("bob", json!({"*": "write"})).await;
    let mut after = "0".to_owned();
    for round in 0..ROUNDS {
        let (here, there) = (admin.on(round % 2), bob.on((round + 1) % 2));
        let path = format!("/api/inbox?wait=50&after_id={after}");
        let body = json!({"content": "wake up", "mention": "bob"});
        // Now and then the channel is new as well.
        let channel = format!("/api/channels/ops-{}/messages", round / 5);
        let (found, posted) =
            futures_util::join!(there.get(path), async { here.post(channel, body).await });
        let (found, posted) = (found.expect(200), posted.expect(201));
        assert_eq!(found["mentions"], json!([posted]));
        after = posted["id"].as_str().unwrap().to_owned();
    }
}
