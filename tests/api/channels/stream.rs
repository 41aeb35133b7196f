//! GET `/api/channels/{channel}/stream`. That every byte is as it should be is checked by the
//! harness' reader, in every test that streams.

use std::time::Duration;

use harness::{Agent, Block, Method, TestRelay};
use serde_json::json;

use crate::fixtures::{at_once, count, has_fields, id, messages, number, page, reply, say_many};

const OPS: &str = "/api/channels/ops/stream";

#[tokio::test]
async fn a_stream_opens_with_a_comment_and_the_right_headers() {
    let relay = TestRelay::new().await;
    let mut stream = relay.admin().stream(OPS).await;
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    assert_eq!(
        stream.header("cache-control"),
        Some("no-cache, no-transform")
    );
    assert_eq!(stream.header("x-accel-buffering"), Some("no"));
    assert_eq!(stream.header("content-encoding"), None);
    assert!(
        matches!(stream.next_block().await, Block::Comment(_)),
        "{:?}",
        stream.raw()
    );
}

#[tokio::test]
async fn a_stream_is_never_compressed() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let mut stream = admin
        .request(Method::GET, OPS)
        .header("accept-encoding", "gzip, br, zstd, deflate")
        .open()
        .await;
    assert_eq!(stream.header("content-encoding"), None);
    let said = admin.say("ops", "hello").await;
    assert_eq!(stream.next().await.data, said);
}

#[tokio::test]
async fn an_event_is_three_lines_byte_for_byte() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let mut stream = admin.stream(OPS).await;
    // Text that would break a line if it were not escaped.
    let body =
        json!({"content": "a\nb\r\nc\u{2028}d\u{85}: data: x\n\n", "mention": "d\u{e4}ve\n"});
    let posted = admin.post(messages("ops"), body).await;
    let said = posted.expect(201);
    let event = stream.next().await;
    assert_eq!(
        (event.id.as_str(), event.event.as_str()),
        (id(&said), "message")
    );
    assert_eq!(event.data, said);
    let raw = std::str::from_utf8(stream.raw()).unwrap();
    let start = raw
        .find(&format!("id: {}\nevent: ", id(&said)))
        .expect("the event");
    let lines: Vec<&str> = raw[start..].split('\n').collect();
    assert_eq!(lines[0], format!("id: {}", id(&said)));
    assert_eq!(lines[1], "event: message");
    assert!(lines[2].starts_with("data: {"), "{raw}");
    assert_eq!(lines[3..], ["", ""], "{raw}");
    let keys: Vec<String> = event.data.as_object().unwrap().keys().cloned().collect();
    has_fields(&said, &keys.iter().map(String::as_str).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_posted_after_the_stream_is_open_always_comes() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    for round in 0..30 {
        let channel = format!("c{}", round % 3);
        let path = format!("/api/channels/{channel}/stream");
        let mut stream = admin.on(round % 2).stream(path).await;
        let said = admin.on((round / 2) % 2).say(&channel, "hello").await;
        assert_eq!(stream.next().await.data, said, "round {round}");
    }
}

#[tokio::test]
async fn what_was_posted_before_does_not_come_without_a_resume_point() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    for round in 0..20 {
        admin.say("ops", "before").await;
        let mut stream = admin.on(round % 2).stream(OPS).await;
        let said = admin.say("ops", "after").await;
        assert_eq!(stream.next().await.data, said);
    }
}

#[tokio::test]
async fn a_resumed_stream_brings_everything_after_its_id_once_in_order() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let said = say_many(&admin, "ops", 12).await;
    for (after, message) in said.iter().enumerate() {
        for replica in [0, 1] {
            let mut stream = admin.on(replica).stream_from(OPS, id(message)).await;
            for expected in &said[after + 1..] {
                let event = stream.next().await;
                assert_eq!((event.id.as_str(), &event.data), (id(expected), expected));
            }
        }
    }
    let mut streams = vec![
        admin.stream_from(OPS, "0").await,
        admin.stream(format!("{OPS}?last_event_id=0")).await,
        admin.on(1).stream(format!("{OPS}?last_event_id=0-0")).await,
    ];
    for stream in &mut streams {
        for expected in &said {
            assert_eq!(stream.next().await.data, *expected);
        }
    }
    // From there on they are live.
    let next = admin.say("ops", "next").await;
    for stream in &mut streams {
        assert_eq!(stream.next().await.data, next);
        stream.stays_silent().await;
    }
}

#[tokio::test]
async fn the_header_goes_before_the_parameter() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let said = say_many(&admin, "ops", 4).await;
    let resume = |header: &str, parameter: &str| {
        admin
            .request(Method::GET, format!("{OPS}?last_event_id={parameter}"))
            .header("last-event-id", header)
    };
    let mut stream = resume(id(&said[2]), id(&said[0])).open().await;
    assert_eq!(stream.next().await.data, said[3]);
    let mut stream = resume("", id(&said[1])).open().await;
    assert_eq!(stream.next().await.data, said[2]);
    resume("x", id(&said[0]))
        .send()
        .await
        .refused(400, "INVALID_CURSOR");
    resume("", "x").send().await.refused(400, "INVALID_CURSOR");
    for bad in [&b"\xff"[..], b"1 2", "\u{e4}".as_bytes()] {
        let request = admin.request(Method::GET, OPS).header("last-event-id", bad);
        request.send().await.refused(400, "INVALID_CURSOR");
    }
}

#[tokio::test]
async fn more_than_a_thousand_missed_messages_all_come() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let first = admin.say("ops", "first").await;
    let mut posted = Vec::new();
    for _ in 0..12 {
        let answers = at_once(100, |number| {
            let body = json!({"content": "x".repeat(number)+"y"});
            admin.request(Method::POST, messages("ops")).json(&body)
        })
        .await;
        assert_eq!(count(&answers, 201), 100);
        posted.extend(answers.iter().map(|answer| answer.json()));
    }
    posted.sort_by_key(|message| number(id(message)));
    let mut stream = admin.on(1).stream_from(OPS, id(&first)).await;
    // Meanwhile the channel goes on.
    posted.push(admin.say("ops", "meanwhile").await);
    for expected in &posted {
        assert_eq!(stream.next().await.data, *expected);
    }
    stream.stays_silent().await;
}

#[tokio::test]
async fn a_resume_point_may_be_any_id_even_one_to_come() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let said = say_many(&admin, "ops", 2).await;
    let mut beyond = admin.stream_from(OPS, "9223372036854775807").await;
    let mut ahead = admin
        .stream_from(OPS, &(number(id(&said[1])) + 1).to_string())
        .await;
    let skipped = admin.say("ops", "skipped").await;
    assert_eq!(number(id(&skipped)), number(id(&said[1])) + 1);
    let next = admin.say("ops", "next").await;
    assert_eq!(ahead.next().await.data, next);
    beyond.stays_silent().await;
}

#[tokio::test]
async fn a_channel_that_does_not_exist_yet_is_waited_for() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let mut streams = Vec::new();
    for replica in [0, 1] {
        streams.push(admin.on(replica).stream("/api/channels/later/stream").await);
        streams.push(
            admin
                .on(replica)
                .stream_from("/api/channels/later/stream", "0")
                .await,
        );
    }
    admin.say("other", "hello").await;
    // Made by a status, a channel brings no event yet.
    crate::fixtures::set(&admin, "later", "k", "v").await;
    streams[0].stays_silent().await;
    let said = admin.say("later", "hello").await;
    for stream in &mut streams {
        assert_eq!(stream.next().await.data, said);
    }
    assert_eq!(
        crate::fixtures::channel_names(&admin).await,
        ["later", "other"]
    );
}

#[tokio::test]
async fn there_is_one_event_a_message_and_nothing_else() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let mut stream = admin.stream(OPS).await;
    let parent = admin.say("ops", "parent").await;
    let other = admin.say("other", "elsewhere").await;
    crate::fixtures::set(&admin, "ops", "k", "v").await;
    crate::fixtures::ack(&admin, "ops", id(&parent)).await;
    let answer = reply(&admin, &parent, "answer").await;
    admin.delete("/api/channels/ops/status/k").await.expect(204);
    admin
        .delete(format!("{}/{}", messages("other"), id(&other)))
        .await
        .expect(204);
    let refused = admin.post(messages("ops"), json!({"content": ""})).await;
    refused.refused(400, "MISSING_FIELDS");
    assert_eq!(stream.next().await.id, id(&parent));
    assert_eq!(stream.next().await.id, id(&answer));
    stream.stays_silent().await;
}

#[tokio::test]
async fn a_message_in_a_stream_is_what_a_get_gives() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let mut live = admin.stream(OPS).await;
    let parent = admin.say("ops", "parent").await;
    reply(&admin, &parent, "answer").await;
    let mut replay = admin.stream_from(OPS, "0").await;
    let read = page(&admin, messages("ops"), "messages").await.items;
    for message in &read {
        for stream in [&mut live, &mut replay] {
            let mut event = stream.next().await.data;
            // Only `reply_count` may be older, in an event still in memory.
            event["reply_count"] = message["reply_count"].clone();
            assert_eq!(event, *message);
        }
    }
}

#[tokio::test]
async fn a_bare_id_before_the_first_event_resumes_without_loss() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let before = admin.say("ops", "before").await;
    let mut stream = admin.stream(OPS).await;
    stream.expect_silence(Duration::from_millis(200)).await;
    let Some(last_id) = stream.last_id().map(str::to_owned) else {
        return; // It may come, it need not.
    };
    assert!(number(&last_id) >= number(id(&before)), "{last_id}");
    drop(stream);
    let missed = admin.say("ops", "missed").await;
    let mut again = admin.on(1).stream_from(OPS, &last_id).await;
    assert_eq!(again.next().await.data, missed);
    again.stays_silent().await;
}

#[tokio::test]
async fn an_idle_stream_is_kept_alive() {
    let relay = TestRelay::new().await;
    let mut stream = relay.admin().stream(OPS).await;
    // One at once, and one after at most 25 s.
    let kept_alive = async {
        let mut comments = 0;
        while comments < 2 {
            comments += usize::from(matches!(stream.next_block().await, Block::Comment(_)));
        }
    };
    tokio::time::timeout(Duration::from_secs(30), kept_alive)
        .await
        .expect("a keep-alive");
}

#[tokio::test]
async fn head_answers_at_once_and_takes_no_slot() {
    let relay = TestRelay::builder()
        .env("HANDOFF_STREAMS_PER_KEY", 1)
        .start()
        .await;
    let admin = relay.admin();
    for _ in 0..3 {
        for path in [OPS, "/api/stream?channels=ops"] {
            let head = admin.head(path).await;
            assert_eq!((head.status(), head.text().as_str()), (200, ""));
            assert_eq!(head.header("content-type"), Some("text/event-stream"));
        }
    }
    let _stream = admin.stream(OPS).await;
    assert_eq!(admin.head(OPS).await.status(), 200);
    let nobody = relay.agent("nobody", json!({})).await;
    assert_eq!(nobody.head(OPS).await.status(), 403);
    assert_eq!(
        admin.head(format!("{OPS}?last_event_id=x")).await.status(),
        400
    );
}

async fn open_again(agent: &Agent, path: &str) {
    harness::eventually("a slot is free again", || async {
        match agent.request(Method::GET, path).try_open().await.unwrap() {
            Ok(_stream) => Some(()),
            Err(refused) => {
                refused.refused(429, "SSE_LIMIT_REACHED");
                None
            }
        }
    })
    .await;
}

#[tokio::test]
async fn streams_are_limited_per_key_and_a_slot_is_freed_when_its_client_goes() {
    let relay = TestRelay::builder()
        .env("HANDOFF_STREAMS_PER_KEY", 3)
        .start()
        .await;
    let bob = relay.agent("bob", json!({"*": "write"})).await;
    let twin = relay.agent("bob", json!({"*": "write"})).await;
    let mut streams = vec![
        bob.stream(OPS).await,
        bob.stream("/api/channels/other/stream").await,
        bob.stream("/api/stream?channels=a,b,c").await,
    ];
    for path in [OPS, "/api/stream?channels=ops"] {
        let refused = bob.get(path).await;
        refused.refused(429, "SSE_LIMIT_REACHED");
    }
    // Refusals before the limit stay what they are, and take nothing.
    bob.get("/api/channels/-/stream")
        .await
        .refused(400, "INVALID_CHANNEL_NAME");
    bob.get(format!("{OPS}?last_event_id=x"))
        .await
        .refused(400, "INVALID_CURSOR");
    // Another key has slots of its own.
    let _twins = twin.stream(OPS).await;
    // Nothing is written to a channel where nobody posts, and yet the slot is freed.
    drop(streams.remove(1));
    open_again(&bob, "/api/channels/silent/stream").await;
    // Those that stay go on.
    let said = bob.say("ops", "hello").await;
    assert_eq!(streams[0].next().await.data, said);
}

#[tokio::test]
async fn slots_are_exact_when_many_come_at_once() {
    let relay = TestRelay::builder()
        .env("HANDOFF_STREAMS_PER_KEY", 5)
        .start()
        .await;
    let bob = relay.agent("bob", json!({"*": "write"})).await;
    let opening = (0..20).map(|_| bob.request(Method::GET, OPS).try_open());
    let opened = futures_util::future::join_all(opening).await;
    let streams: Vec<_> = opened
        .into_iter()
        .filter_map(|answer| answer.unwrap().ok())
        .collect();
    assert_eq!(streams.len(), 5);
    drop(streams);
    open_again(&bob, OPS).await;
}

#[tokio::test]
async fn a_stream_that_ends_frees_its_slot() {
    let relay = TestRelay::builder()
        .env("HANDOFF_STREAMS_PER_KEY", 1)
        .start()
        .await;
    let admin = relay.admin();
    let bob = relay.agent("bob", json!({"*": "read"})).await;
    for _ in 0..3 {
        admin.say("ops", "hello").await;
        let mut stream = bob.stream(OPS).await;
        admin.delete("/api/channels/ops").await.expect(204);
        stream.ended().await;
        open_again(&bob, OPS).await;
        // The one that was opened to see is gone by now as well, or soon.
        open_again(&bob, OPS).await;
    }
}

#[tokio::test]
async fn a_server_that_shuts_down_ends_its_streams_cleanly() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let mut streams = vec![
        admin.on(1).stream(OPS).await,
        admin.on(1).stream("/api/channels/nowhere/stream").await,
        admin.on(1).stream("/api/stream?channels=ops,b").await,
    ];
    let said = admin.say("ops", "hello").await;
    assert_eq!(streams[0].next().await.data, said);
    let leaving = relay.replica(1);
    let (status, ()) = tokio::join!(leaving.terminate(), async {
        for stream in &mut streams {
            stream.ended().await;
        }
    });
    assert_eq!(status.code(), Some(0), "{}", leaving.logs());
    // They go on elsewhere.
    let missed = admin.say("ops", "missed").await;
    let mut again = admin.stream_from(OPS, streams[0].last_id().unwrap()).await;
    assert_eq!(again.next().await.data, missed);
}

#[tokio::test]
async fn a_slow_reader_misses_nothing_and_holds_nobody_back() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let mut slow = admin.stream(OPS).await;
    let mut quick = admin.stream(OPS).await;
    let content = "x".repeat(30_000);
    let mut posted = Vec::new();
    // More than sockets and rings hold: 18 MB.
    for _ in 0..30 {
        let answers = at_once(20, |_| {
            admin
                .request(Method::POST, messages("ops"))
                .json(&json!({"content": content}))
        })
        .await;
        assert_eq!(count(&answers, 201), 20);
        let mut ids: Vec<u64> = answers
            .iter()
            .map(|answer| number(id(&answer.json())))
            .collect();
        ids.sort_unstable();
        for expected in &ids {
            assert_eq!(number(&quick.next().await.id), *expected);
        }
        posted.extend(ids);
    }
    for expected in posted {
        assert_eq!(number(&slow.next().await.id), expected);
    }
    slow.stays_silent().await;
}
