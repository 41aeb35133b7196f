//! GET `/api/stream?channels=a,b`: many channels, one cursor.

use harness::{Method, TestRelay};
use serde_json::json;

use crate::fixtures::{at_once, count, encode, id, messages, number};

#[tokio::test]
async fn one_stream_brings_many_channels_in_one_order() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let mut stream = admin.on(1).stream("/api/stream?channels=a,b,later").await;
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    let mut said = Vec::new();
    for (number, channel) in ["a", "b", "a", "other", "later", "b"]
        .into_iter()
        .enumerate()
    {
        let message = admin.say(channel, &number.to_string()).await;
        if channel != "other" {
            said.push(message);
        }
    }
    for expected in &said {
        let event = stream.next().await;
        assert_eq!(
            (event.id.as_str(), event.event.as_str()),
            (id(expected), "message")
        );
        assert_eq!(event.data, *expected);
    }
    stream.stays_silent().await;
}

#[tokio::test]
async fn one_cursor_resumes_all_channels() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let mut posted = Vec::new();
    for _ in 0..6 {
        let answers = at_once(40, |number| {
            let path = messages(["a", "b", "c", "other"][number % 4]);
            admin
                .on(number % 2)
                .request(Method::POST, path)
                .json(&json!({"content": "x"}))
        })
        .await;
        assert_eq!(count(&answers, 201), 40);
        posted.extend(answers.iter().map(|answer| answer.json()));
    }
    posted.retain(|message| message["channel"] != "other");
    posted.sort_by_key(|message| number(id(message)));
    assert_eq!(posted.len(), 180);
    for after in [0, 1, 50, 178] {
        for replica in [0, 1] {
            let agent = admin.on(replica);
            let mut by_header = agent
                .stream_from("/api/stream?channels=c,a,b", id(&posted[after]))
                .await;
            let path = format!(
                "/api/stream?channels=a,b,c&last_event_id={}",
                id(&posted[after])
            );
            let mut by_query = agent.stream(path).await;
            for expected in &posted[after + 1..] {
                assert_eq!(by_header.next().await.data, *expected);
                assert_eq!(by_query.next().await.data, *expected);
            }
        }
    }
    let mut all = admin.stream_from("/api/stream?channels=a,b,c", "0").await;
    for expected in &posted {
        assert_eq!(all.next().await.data, *expected);
    }
    all.stays_silent().await;
}

#[tokio::test]
async fn every_channel_named_must_be_legal_and_allowed() {
    let relay = TestRelay::new().await;
    let agent = relay
        .agent("agent", json!({"a": "read", "b": "write"}))
        .await;
    agent.stream("/api/stream?channels=a,b").await;
    agent.stream("/api/stream?channels=a").await;
    for channels in ["a,b,c", "c", "c,a", "secret"] {
        agent
            .get(format!("/api/stream?channels={channels}"))
            .await
            .refused(403, "FORBIDDEN");
    }
    for channels in ["a,-", "-", "a,b c", "*", "a;b", "ä", "a,\u{1f980}", "a\n"] {
        agent
            .get(format!("/api/stream?channels={}", encode(channels)))
            .await
            .refused(400, "INVALID_CHANNEL_NAME");
    }
    for cursor in ["x", "-1", "9223372036854775808"] {
        agent
            .get(format!("/api/stream?channels=a&last_event_id={cursor}"))
            .await
            .refused(400, "INVALID_CURSOR");
    }
}

#[tokio::test]
async fn without_channels_there_is_nothing_to_stream() {
    let relay = TestRelay::new().await;
    for path in [
        "/api/stream",
        "/api/stream?channels=",
        "/api/stream?channel=a",
    ] {
        let refused = relay.admin().get(path).await;
        assert_eq!(refused.status(), 400, "{refused:?}");
    }
}

#[tokio::test]
async fn a_channel_named_twice_brings_its_messages_once() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let first = admin.say("a", "first").await;
    let mut stream = admin.stream_from("/api/stream?channels=a,a,b,a", "0").await;
    let second = admin.say("a", "second").await;
    assert_eq!(stream.next().await.data, first);
    assert_eq!(stream.next().await.data, second);
    stream.stays_silent().await;
}

#[tokio::test]
async fn the_names_may_be_percent_encoded() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let mut stream = admin.stream("/api/stream?channels=a%2Cb").await;
    let said = [admin.say("a", "x").await, admin.say("b", "x").await];
    for expected in said {
        assert_eq!(stream.next().await.data, expected);
    }
}

#[tokio::test]
async fn very_many_channels_are_served_or_refused() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let names: Vec<String> = (0..2_000)
        .map(|number| format!("channel-{number}"))
        .collect();
    let path = format!("/api/stream?channels={}", names.join(","));
    match admin.request(Method::GET, path).try_open().await.unwrap() {
        Ok(mut stream) => {
            let said = admin.say("channel-1999", "hello").await;
            assert_eq!(stream.next().await.data, said);
        }
        Err(refused) => assert!((400..500).contains(&refused.status()), "{refused:?}"),
    }
}

#[tokio::test]
async fn a_deletion_is_not_replayed_over_many_channels() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let gone = admin.say("a", "gone").await;
    let stays = admin.say("b", "stays").await;
    admin
        .delete(format!("{}/{}", messages("a"), id(&gone)))
        .await
        .expect(204);
    let mut stream = admin.stream_from("/api/stream?channels=a,b", "0").await;
    assert_eq!(stream.next().await.data, stays);
    stream.stays_silent().await;
}
