//! Streams that are cut at the worst moments: what was posted meanwhile comes when they resume.

use harness::{Block, TestRelay};

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
