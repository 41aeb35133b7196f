//! What was taken from a key on one replica is refused by all of them, and its streams end.

use std::time::Duration;

use futures_util::future::join_all;
use harness::{Agent, DEADLINE, EventStream, Method, TestRelay, eventually};
use serde_json::json;
use tokio::time::Instant;

/// The bound is a second; the rest is for a busy machine.
const SOON: Duration = Duration::from_secs(2);

/// Asks a replica until it refuses, which must be soon after `since`.
async fn refused_soon(agent: &Agent, since: Instant, status: u16, code: &str) {
    let body = json!({"content": "still there?"});
    loop {
        let asked = since.elapsed();
        let answer = agent.post("/api/channels/ops/messages", body.clone()).await;
        if answer.status() == status {
            answer.refused(status, code);
            return;
        }
        answer.expect(201);
        assert!(
            asked < SOON,
            "{asked:?} after the change the key still works"
        );
    }
}

#[tokio::test]
async fn g5_a_revoked_key_is_refused_by_every_replica_and_its_streams_end() {
    let relay = TestRelay::builder().replicas(3).start().await;
    let admin = relay.admin();
    for revoking in 0..3 {
        let agent = relay.agent("short-lived", json!({"*": "write"})).await;
        let mut streams: Vec<EventStream> = Vec::new();
        for replica in 0..3 {
            // It is in every replica's memory.
            agent.on(replica).say("ops", "hello").await;
            streams.push(agent.on(replica).stream("/api/channels/ops/stream").await);
            streams.push(
                agent
                    .on(replica)
                    .stream("/api/stream?channels=ops,dev")
                    .await,
            );
        }
        let bystander = relay.agent("bystander", json!({"*": "read"})).await;
        let mut other_stream = bystander.on(1).stream("/api/channels/ops/stream").await;

        let path = format!("/api/keys/{}", agent.key_hash());
        admin.on(revoking).delete(&path).await.expect(204);
        let since = Instant::now();
        let here = agent.on(revoking).get("/api/me").await;
        here.refused(401, "INVALID_API_KEY");
        for replica in 0..3 {
            refused_soon(&agent.on(replica), since, 401, "INVALID_API_KEY").await;
        }
        for stream in &mut streams {
            stream.ended().await;
        }
        assert!(since.elapsed() < DEADLINE / 3, "the streams lived on");
        admin
            .on(revoking)
            .delete(&path)
            .await
            .refused(404, "KEY_NOT_FOUND");

        let marker = admin.say("ops", "for those who stay").await;
        while other_stream.next().await.data != marker {}
    }
}

#[tokio::test]
async fn g5_a_narrowed_key_is_narrow_on_every_replica_and_its_streams_end() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    for narrowing in 0..2 {
        let agent = relay
            .agent("builder", json!({"ops": "write", "dev": "write"}))
            .await;
        let mut streams = Vec::new();
        for replica in 0..2 {
            agent.on(replica).say("ops", "hello").await;
            streams.push(agent.on(replica).stream("/api/channels/ops/stream").await);
            streams.push(
                agent
                    .on(replica)
                    .stream("/api/stream?channels=ops,dev")
                    .await,
            );
        }
        let path = format!("/api/keys/{}/permissions", agent.key_hash());
        let narrow = json!({"permissions": {"ops": "read"}});
        admin.on(narrowing).put(&path, narrow).await.expect(200);
        let since = Instant::now();
        agent
            .on(narrowing)
            .get("/api/channels/dev/messages")
            .await
            .refused(403, "FORBIDDEN");
        for replica in 0..2 {
            refused_soon(&agent.on(replica), since, 403, "FORBIDDEN").await;
        }
        for stream in &mut streams {
            stream.ended().await;
        }
        // What is left of it works: it reads and streams, by new streams.
        for replica in 0..2 {
            agent
                .on(replica)
                .get("/api/channels/ops/messages")
                .await
                .expect(200);
            let mut stream = agent.on(replica).stream("/api/channels/ops/stream").await;
            let posted = admin.on(1 - replica).say("ops", "still read").await;
            assert_eq!(stream.next().await.data, posted);
        }
    }
}

#[tokio::test]
async fn g5_wider_permissions_hold_on_every_replica() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let agent = relay.agent("reader", json!({"ops": "read"})).await;
    for replica in 0..2 {
        let body = json!({"content": "x"});
        let post = agent
            .on(replica)
            .post("/api/channels/ops/messages", body)
            .await;
        post.refused(403, "FORBIDDEN");
    }
    let path = format!("/api/keys/{}/permissions", agent.key_hash());
    let wide = json!({"permissions": {"ops": "write"}});
    relay.admin().put(path, wide).await.expect(200);
    let since = Instant::now();
    agent.say("ops", "at once here").await;
    loop {
        let asked = since.elapsed();
        let post = agent
            .on(1)
            .post("/api/channels/ops/messages", json!({"content": "x"}))
            .await;
        if post.status() == 201 {
            break;
        }
        post.refused(403, "FORBIDDEN");
        assert!(asked < SOON, "{asked:?} after the change it is not there");
    }
}

/// Opens one more stream if the replica grants it.
async fn try_stream(agent: &Agent) -> Option<EventStream> {
    let request = agent.request(Method::GET, "/api/channels/ops/stream");
    match request.try_open().await.unwrap() {
        Ok(stream) => Some(stream),
        Err(refusal) => {
            refusal.refused(429, "SSE_LIMIT_REACHED");
            None
        }
    }
}

async fn open_streams(agent: &Agent, count: usize) -> Vec<EventStream> {
    let mut streams = Vec::new();
    for _ in 0..count {
        streams.push(agent.stream("/api/channels/ops/stream").await);
    }
    streams
}

#[tokio::test]
async fn g7_the_limit_of_streams_holds_over_the_fleet() {
    let relay = TestRelay::builder()
        .replicas(2)
        .env("HANDOFF_STREAMS_PER_KEY", 4)
        .start()
        .await;
    let agent = relay.agent("streamer", json!({"ops": "read"})).await;

    // On one replica: exact, at once, also for a slot whose client has gone.
    let mut streams = open_streams(&agent, 4).await;
    for _ in 0..5 {
        assert!(try_stream(&agent).await.is_none(), "a fifth stream");
    }
    // On the other one: as soon as it has heard of them.
    eventually("the other replica refuses", || async {
        try_stream(&agent.on(1)).await.is_none().then_some(())
    })
    .await;
    streams.pop();
    let here = eventually("the slot is free here", || try_stream(&agent)).await;
    assert!(try_stream(&agent).await.is_none(), "a fifth stream");
    drop(here);
    let there = agent.on(1);
    let elsewhere = eventually("the slot is free there", || try_stream(&there)).await;
    eventually("and taken again", || async {
        try_stream(&agent).await.is_none().then_some(())
    })
    .await;
    drop(elsewhere);

    // Another key has its own.
    let other = relay.agent("other", json!({"ops": "read"})).await;
    open_streams(&other, 4).await;

    // Nobody counts the streams of a replica that is gone.
    relay.replica(0).kill().await;
    drop(streams);
    let mut streams = Vec::new();
    while streams.len() < 4 {
        streams.push(eventually("a slot of the dead replica", || try_stream(&there)).await);
    }
    assert!(try_stream(&there).await.is_none(), "a fifth stream");
}

#[tokio::test]
async fn g5_a_key_that_is_first_used_while_it_is_revoked_is_not_remembered() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let mut agents = Vec::new();
    for _ in 0..40 {
        agents.push(
            relay
                .agent("short-lived", json!({"ops": "read"}))
                .await
                .on(1),
        );
    }
    let races = agents.iter().map(|agent| {
        let path = format!("/api/keys/{}", agent.key_hash());
        let first_uses = (0..4).map(|_| agent.get("/api/me"));
        let admin = &admin;
        async move {
            let (revoked, _) = tokio::join!(admin.delete(path), join_all(first_uses));
            revoked.expect(204);
        }
    });
    join_all(races).await;
    // From now on it is refused by the second: this wait is the bound itself.
    tokio::time::sleep(SOON).await;
    for agent in &agents {
        agent.get("/api/me").await.refused(401, "INVALID_API_KEY");
    }
}
