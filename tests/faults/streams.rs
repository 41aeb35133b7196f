//! Streams that are cut at the worst moments: what was posted meanwhile comes when they resume.

use std::time::Duration;

use harness::{Block, Method, TestRelay, eventually};
use serde_json::json;
use tokio::time::sleep;

#[tokio::test]
async fn g3_a_stream_cut_before_its_first_event_loses_nothing() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    admin.say("ops", "before the stream").await;
    let paths = [
        "/api/channels/ops/stream",
        "/api/channels/not-there-yet/stream",
        "/api/stream?channels=ops,not-there-yet",
    ];
    for round in 0..4 {
        let (here, there) = (admin.on(round % 2), admin.on((round + 1) % 2));
        let mut opened = Vec::new();
        for path in paths {
            let mut stream = here.stream(path).await;
            while stream.last_id().is_none() {
                let block = stream.next_block().await;
                assert!(
                    !matches!(block, Block::Event(_)),
                    "nothing was posted: {block:?}"
                );
            }
            opened.push(stream.last_id().unwrap().to_owned());
        }
        let mut posted = Vec::new();
        for channel in ["ops", "not-there-yet", "ops"] {
            posted.push(there.say(channel, &format!("missed {round}")).await);
        }
        for (path, opened) in paths.into_iter().zip(opened) {
            let mut resumed = there.stream_from(path, &opened).await;
            for message in &posted {
                if path.contains(message["channel"].as_str().unwrap()) {
                    assert_eq!(resumed.next().await.data, *message, "{path} after {opened}");
                }
            }
            resumed.stays_silent().await;
        }
        here.delete("/api/channels/not-there-yet").await.expect(204);
    }
}

#[tokio::test]
async fn g3_a_channel_opened_while_reads_fail_is_found_once_they_work() {
    let relay = TestRelay::builder()
        .replicas(2)
        .through_proxy()
        .env("RUST_LOG", "info,handoff_core=debug")
        .start()
        .await;
    let admin = relay.admin();
    admin.say("ops", "before the streams").await;
    let here = admin.on(1);
    let mut one = here.stream("/api/channels/late/stream").await;
    let mut many = here.stream("/api/stream?channels=ops,late").await;

    // The bell is heard, and nothing can be looked up.
    let reads = relay.proxy(1).database;
    reads.refuse_new();
    reads.cut();
    let posted = admin.on(0).say("late", "the first message").await;
    eventually("the streams have tried to read", || async {
        let logs = relay.replica(1).logs();
        (logs.matches("A stream can't read").count() >= 2).then_some(())
    })
    .await;
    reads.pass();
    for stream in [&mut one, &mut many] {
        assert_eq!(stream.next().await.data["id"], posted["id"]);
    }
}

#[tokio::test]
async fn g3_what_is_posted_after_a_stream_is_open_is_always_delivered() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    for round in 0..60 {
        // Without a resume point: it starts at the moment its headers are sent.
        let mut stream = admin.on(round % 2).stream("/api/channels/ops/stream").await;
        let posted = admin
            .on((round / 2) % 2)
            .say("ops", &format!("round {round}"))
            .await;
        assert_eq!(stream.next().await.data, posted);
    }
}

#[tokio::test]
async fn g5_a_stream_that_opens_while_its_key_is_revoked_ends() {
    let relay = TestRelay::builder()
        .replicas(2)
        .through_proxy()
        .start()
        .await;
    let admin = relay.admin();
    for _ in 0..4 {
        let agent = relay
            .agent("short-lived", json!({"ops": "read"}))
            .await
            .on(1);
        let mut known = agent.stream("/api/channels/ops/stream").await;
        // What the replica asks of Postgres now is answered a second later; what it asks when it
        // hears of the revocation, on another connection, at once.
        relay.proxy(1).database.delay(Duration::from_secs(1));
        let opening = agent.clone();
        let opening = tokio::spawn(async move {
            let request = opening.request(Method::GET, "/api/channels/ops/stream");
            request.try_open().await.unwrap()
        });
        sleep(Duration::from_millis(300)).await;
        relay.proxy(1).database.pass();
        admin
            .delete(format!("/api/keys/{}", agent.key_hash()))
            .await
            .expect(204);
        known.ended().await;
        match opening.await.unwrap() {
            Ok(mut stream) => assert_eq!(stream.ended().await, []),
            Err(refusal) => drop(refusal.refused(401, "INVALID_API_KEY")),
        }
    }
}
