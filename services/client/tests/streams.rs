//! Streams that are cut wherever they can be: nothing is missed, nothing comes twice.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[allow(dead_code, reason = "each test file uses its own part")]
mod support;

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use handoff_client::{
    Client, Error, MessageStream, StreamQuery,
    e2ee::{Context, Keyring, Kind},
    transport::{ApiRequest, ApiResponse, StreamResponse, Transport, TransportError},
    types::Encryption,
};
use serde_json::json;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use support::{After, ScriptedRelay, Step, event, event_stream};
use tokio::time::{Instant, timeout};

fn ops(after_id: Option<&str>) -> StreamQuery {
    StreamQuery {
        channels: vec!["ops".into()],
        after_id: after_id.map(Into::into),
    }
}

fn bytes(text: &str) -> Vec<Bytes> {
    vec![Bytes::copy_from_slice(text.as_bytes())]
}

async fn ids(stream: &mut MessageStream, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < count {
        ids.push(stream.next().await.unwrap().unwrap().id);
    }
    ids
}

/// A relay with a log of messages, which cuts its first connections after so many bytes each.
struct CutRelay {
    log: Mutex<Vec<u64>>,
    cuts: Mutex<Vec<usize>>,
    chunk_bytes: usize,
    after: After,
    /// Is posted whenever a connection was cut.
    outages: Mutex<Vec<u64>>,
}

impl Transport for CutRelay {
    fn send(
        &self,
        _: ApiRequest,
        _: Duration,
    ) -> BoxFuture<'_, Result<ApiResponse, TransportError>> {
        unreachable!("only streams are asked for")
    }

    fn stream(&self, request: ApiRequest) -> BoxFuture<'_, Result<StreamResponse, TransportError>> {
        let mut log = self.log.lock().unwrap();
        let newest = *log.last().unwrap();
        let after: u64 = match request.headers().get("last-event-id") {
            Some(id) => id.to_str().unwrap().parse().unwrap(),
            None => newest,
        };
        let mut text = format!(": hello\n\nid: {after}\n\n");
        for id in log.iter().filter(|id| **id > after) {
            text += &event(*id, "line one\nüñî ✓");
        }
        text += &format!(": alive\n\nid: {newest}\n\n");
        let cut = self.cuts.lock().unwrap().pop();
        let (text, end) = match cut {
            Some(cut) => (&text.as_bytes()[..cut.min(text.len())], self.after),
            None => (text.as_bytes(), After::Silence),
        };
        let chunks = text
            .chunks(self.chunk_bytes)
            .map(Bytes::copy_from_slice)
            .collect();
        if cut.is_some()
            && let Some(id) = self.outages.lock().unwrap().pop()
        {
            log.push(id);
        }
        async move { Ok(event_stream(chunks, end)) }.boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_at_any_byte_loses_nothing_and_repeats_nothing() {
    let whole = format!(": hello\n\nid: 10\n\n{}", event(11, "line one\nüñî ✓")).len() + 300;
    for cut in 0..whole {
        for (chunk_bytes, after) in [(1, After::End), (7, After::Break), (4096, After::End)] {
            let relay = Arc::new(CutRelay {
                log: Mutex::new(vec![9, 10, 11, 14, 15]),
                // The second connection is cut at another place.
                cuts: Mutex::new(vec![cut * 3 % whole, cut]),
                chunk_bytes,
                after,
                outages: Mutex::new(vec![23, 22]),
            });
            let mut stream = Client::new(relay).stream(ops(Some("10")));
            assert_eq!(
                ids(&mut stream, 5).await,
                ["11", "14", "15", "22", "23"],
                "cut at {cut}"
            );
            let more = timeout(Duration::from_secs(20), stream.next()).await;
            assert!(more.is_err(), "cut at {cut}: {more:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_posted_after_the_opening_comes_although_the_first_connection_was_cut() {
    // No resume point is given. The stream counts as open once it knows where it started, and
    // what is posted from then on must come, whatever was cut in between.
    for cut in 0..40 {
        let relay = Arc::new(CutRelay {
            log: Mutex::new(vec![9, 10]),
            cuts: Mutex::new(vec![cut]),
            chunk_bytes: 1,
            after: After::Break,
            outages: Mutex::new(Vec::new()),
        });
        let mut stream = Client::new(relay.clone()).stream(ops(None));
        stream.opened().await.unwrap();
        relay.log.lock().unwrap().push(11);
        // So that a stream which is still on its second, uncut connection notices.
        let found = timeout(Duration::from_secs(90), stream.next()).await;
        assert_eq!(found.unwrap().unwrap().unwrap().id, "11", "cut at {cut}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_position_follows_blocks_of_an_id_alone() {
    let first = format!(": hi\n\nid: 5\n\n{}: alive\n\nid: 30\n\n", event(6, "a"));
    let relay = ScriptedRelay::new([
        Step::Stream(bytes(&first), After::End),
        Step::Stream(bytes(&event(31, "b")), After::Silence),
    ]);
    let mut stream = relay.client().stream(ops(None));
    assert_eq!(ids(&mut stream, 2).await, ["6", "31"]);
    let seen = relay.seen();
    assert_eq!(seen[0].line(), "GET /api/stream?channels=ops");
    assert_eq!(seen[0].header("last-event-id"), None);
    assert_eq!(seen[1].header("last-event-id"), Some("30"));
}

#[tokio::test(start_paused = true)]
async fn a_position_never_moves_back_and_old_events_are_dropped() {
    let text = format!(
        "id: 5\n\n{}id: 3\n\n{}{}{}",
        event(9, "a"),
        event(9, "again"),
        event(8, "older"),
        event(10, "b")
    );
    let relay = ScriptedRelay::new([
        Step::Stream(bytes(&text), After::End),
        Step::Stream(bytes(&event(11, "c")), After::Silence),
    ]);
    let mut stream = relay.client().stream(ops(Some("4")));
    assert_eq!(ids(&mut stream, 3).await, ["9", "10", "11"]);
    assert_eq!(relay.seen()[1].header("last-event-id"), Some("10"));
}

#[tokio::test(start_paused = true)]
async fn silence_counts_as_a_cut_and_keep_alives_break_it() {
    let relay = ScriptedRelay::new([
        Step::Stream(bytes("id: 5\n\n"), After::Silence),
        Step::Stream(bytes(&event(6, "a")), After::Silence),
    ]);
    let started = Instant::now();
    let mut stream = relay.client().stream(ops(None));
    assert_eq!(ids(&mut stream, 1).await, ["6"]);
    let took = started.elapsed();
    assert!(
        took >= Duration::from_secs(60) && took < Duration::from_secs(61),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn waits_grow_to_ten_seconds_and_shrink_after_a_message() {
    let mut steps: Vec<Step> = (0..12).map(|_| Step::Unsent).collect();
    steps.push(Step::Stream(bytes(&event(6, "a")), After::End));
    steps.push(Step::Stream(bytes(&event(7, "b")), After::Silence));
    let relay = ScriptedRelay::new(steps);
    let mut stream = relay.client().stream(ops(None));
    assert_eq!(ids(&mut stream, 2).await, ["6", "7"]);
    let seen = relay.seen();
    let waits: Vec<_> = seen.windows(2).map(|two| two[1].at - two[0].at).collect();
    for (index, wait) in waits[..12].iter().enumerate() {
        let base = Duration::from_millis((100 << index).min(5_000));
        assert!(*wait >= base && *wait <= 2 * base, "wait {index}: {wait:?}");
    }
    assert!(waits[12] <= Duration::from_millis(200), "{:?}", waits[12]);
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_cuts_at_once_is_not_hammered() {
    let mut steps: Vec<Step> = (0..10)
        .map(|_| Step::Stream(bytes(": hi\n\nid: 5\n\n"), After::End))
        .collect();
    steps.push(Step::Stream(bytes(&event(6, "a")), After::Silence));
    let relay = ScriptedRelay::new(steps);
    let started = Instant::now();
    let mut stream = relay.client().stream(ops(None));
    assert_eq!(ids(&mut stream, 1).await, ["6"]);
    assert!(
        started.elapsed() > Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn refusals_that_pass_are_waited_out() {
    let relay = ScriptedRelay::new([
        Step::error(429, "SSE_LIMIT_REACHED").header("retry-after", "40"),
        Step::error(503, "UNAVAILABLE"),
        Step::text(502, "<html>"),
        Step::error(500, "INTERNAL_ERROR"),
        Step::Lost,
        Step::Stream(bytes(&event(6, "a")), After::Silence),
    ]);
    let started = Instant::now();
    let mut stream = relay.client().stream(ops(None));
    stream.opened().await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(40));
    assert_eq!(ids(&mut stream, 1).await, ["6"]);
    stream.opened().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn refusals_for_good_end_it() {
    for (status, code) in [
        (400, "INVALID_CURSOR"),
        (401, "INVALID_API_KEY"),
        (403, "FORBIDDEN"),
        (404, "NOT_FOUND"),
    ] {
        // At first, and later.
        let relay = ScriptedRelay::new([Step::error(status, code)]);
        let mut stream = relay.client().stream(ops(None));
        assert!(matches!(stream.opened().await, Err(Error::Api(error)) if error.code == code));
        assert!(stream.next().await.is_none());

        let relay = ScriptedRelay::new([
            Step::Stream(bytes(&event(6, "a")), After::End),
            Step::error(status, code),
        ]);
        let mut stream = relay.client().stream(ops(None));
        assert_eq!(ids(&mut stream, 1).await, ["6"]);
        let end = stream.next().await.unwrap();
        assert!(matches!(end, Err(Error::Api(error)) if error.code == code));
        assert!(stream.next().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_without_its_relay_is_waited_out_but_a_wrong_url_is_not() {
    let relay = ScriptedRelay::new([Step::text(404, "<html>")]);
    let mut stream = relay.client().stream(ops(None));
    assert!(stream.next().await.unwrap().is_err());

    let relay = ScriptedRelay::new([Step::text(200, "<html>welcome")]);
    let mut stream = relay.client().stream(ops(None));
    assert!(matches!(
        stream.next().await,
        Some(Err(Error::BadAnswer(_)))
    ));

    let relay = ScriptedRelay::new([
        Step::Stream(bytes(&event(6, "a")), After::End),
        Step::text(404, "<html>"),
        Step::Stream(bytes(&event(7, "b")), After::Silence),
    ]);
    let mut stream = relay.client().stream(ops(None));
    assert_eq!(ids(&mut stream, 2).await, ["6", "7"]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_waiting_loses_nothing() {
    let relay = Arc::new(CutRelay {
        log: Mutex::new(vec![9, 10, 11, 14, 15]),
        cuts: Mutex::new(vec![30, 100]),
        chunk_bytes: 3,
        after: After::End,
        outages: Mutex::new(vec![23, 22]),
    });
    let mut stream = Client::new(relay).stream(ops(Some("10")));
    let mut ids = Vec::new();
    let mut given_up = 0;
    while ids.len() < 5 {
        match timeout(Duration::from_millis(10), stream.next()).await {
            Ok(message) => ids.push(message.unwrap().unwrap().id),
            Err(_) => given_up += 1,
        }
    }
    assert_eq!(ids, ["11", "14", "15", "22", "23"]);
    assert!(given_up > 10, "{given_up}");
}

#[tokio::test(start_paused = true)]
async fn texts_are_decrypted_and_a_team_that_can_not_be_asked_for_now_skips_nothing() {
    let keyring = Keyring::parse("v2:secret").unwrap();
    let context = Context {
        team_id: "t-1",
        channel: "ops",
        kind: Kind::Message,
    };
    let envelope = keyring.encrypt(&context, "hush").unwrap();
    let me = json!({
        "team": {"id": "t-1", "name": "t", "created_at": "2026-01-01T00:00:00Z"},
        "sender": "ana", "permissions": {},
    });
    let events = format!("{}{}", event(6, "plain"), event(7, &envelope));
    let mut steps = vec![Step::Stream(bytes(&events), After::Silence)];
    steps.extend((0..6).map(|_| Step::error(503, "UNAVAILABLE")));
    steps.push(Step::Stream(bytes(&event(7, &envelope)), After::Silence));
    steps.push(Step::json(200, me));
    let relay = ScriptedRelay::new(steps);
    let mut stream = relay.client().with_keyring(keyring).stream(ops(None));
    let plain = stream.next().await.unwrap().unwrap();
    assert_eq!(
        (plain.content.as_str(), plain.encryption),
        ("plain", Encryption::Plain)
    );
    let secret = stream.next().await.unwrap().unwrap();
    assert_eq!(
        (secret.content.as_str(), secret.encryption),
        ("hush", Encryption::Encrypted)
    );
    assert_eq!(relay.left(), 0);
    let seen = relay.seen();
    assert_eq!(seen[7].header("last-event-id"), Some("6"));
}
