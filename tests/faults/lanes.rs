//! Lanes in trouble: a connection lost around its COMMIT, a write that Postgres refuses, a queue
//! that is full.

use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use harness::load::{Kind, Load};
use harness::{Agent, CommitFault, Method, Response, TestRelay, eventually};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::sql::{Slot, count};

const MESSAGES: &str = "/api/channels/ops/messages";

/// What a lane's transaction has run when it has a message to commit.
const INSERT: &str = "insert into messages";

async fn post_with_key(agent: &Agent, content: &str) -> Response {
    agent
        .request(Method::POST, MESSAGES)
        .header("idempotency-key", content)
        .json(&json!({"content": content}))
        .send()
        .await
}

#[tokio::test]
async fn g1_g3_a_commit_whose_answer_is_lost_happened_once_or_not_at_all() {
    let relay = TestRelay::builder()
        .replicas(2)
        .through_proxy()
        .start()
        .await;
    let admin = relay.admin();
    admin.say("ops", "hello").await;
    let mut streams = Vec::new();
    for replica in 0..2 {
        streams.push(admin.on(replica).stream("/api/channels/ops/stream").await);
        streams.push(
            admin
                .on(replica)
                .stream("/api/stream?channels=ops,dev")
                .await,
        );
    }
    let proxy = relay.proxy(0).listen;
    for round in 0..8 {
        let content = format!("round {round}");
        let fault = match round % 2 {
            0 => CommitFault::LoseAnswer,
            _ => CommitFault::LoseRequest,
        };
        proxy.lose_commit(fault, INSERT);
        let answer = post_with_key(&admin, &content).await;
        proxy.commit_lost().await;
        answer.refused(503, "UNAVAILABLE");
        assert!(answer.header("retry-after").is_some(), "{answer:?}");

        let committed = fault == CommitFault::LoseAnswer;
        if committed {
            assert_eq!(
                count(&relay, &content).await,
                1,
                "the COMMIT was carried out"
            );
        }
        // The retry goes to either replica; it answers the first post if there was one.
        let retrying = admin.on(round / 2 % 2);
        let retried = eventually("the retry is answered", || async {
            let retried = post_with_key(&retrying, &content).await;
            (retried.status() != 503).then_some(retried)
        })
        .await;
        let message = retried.expect(if committed { 200 } else { 201 });
        assert_eq!(message["content"], content);
        assert_eq!(count(&relay, &content).await, 1);
        for stream in &mut streams {
            assert_eq!(
                stream.next().await.data,
                message,
                "streams get what did commit, once"
            );
        }
    }
    for stream in &mut streams {
        stream.stays_silent().await;
    }
}

#[tokio::test]
async fn g1_g2_g3_commits_lost_again_and_again_under_load() {
    let relay = TestRelay::builder()
        .replicas(2)
        .through_proxy()
        .start()
        .await;
    let mut load = Load::new(&relay.admin(), [0, 1]);
    for seat in [0, 1] {
        load.follow("ops", Some("0"), seat);
        load.follow_many(&["ops", "dev"], None, seat);
    }
    load.walk("dev", Kind::Message, 50);
    load.write_in_both_ways(["ops", "dev"], Duration::from_millis(5));
    for round in 0..16 {
        load.stored_more(25).await;
        let proxy = relay.proxy(round % 2).listen;
        let fault = match round / 2 % 2 {
            0 => CommitFault::LoseAnswer,
            _ => CommitFault::LoseRequest,
        };
        proxy.lose_commit(fault, INSERT);
        proxy.commit_lost().await;
        if round % 5 == 4 {
            // Now and then everything at once, the listener too.
            proxy.cut();
        }
    }
    load.stored_more(50).await;
    assert_eq!(load.resumed(), 0, "streams stay open");
    let history = load.finish().await;
    history.assert_sound();
    assert!(
        history.unknown() > 0,
        "no commit was lost under a writer that does not retry"
    );
}

#[tokio::test]
async fn g1_a_poisoned_write_in_a_batch_fails_alone() {
    let relay = TestRelay::builder().start().await;
    let admin = relay.admin();
    admin.say("ops", "hello").await;
    let mut stream = admin.stream("/api/channels/ops/stream").await;
    let mut client = relay.database().connect().await;
    client
        .batch_execute("alter table messages add constraint antidote check (content <> 'poison')")
        .await
        .unwrap();
    let watcher = relay.database().connect().await;
    let mut seq = 1;
    for poisoned in [&[0][..], &[31], &[63], &[5, 6, 50]] {
        // While the slot is locked, the writes gather: what is let go then is one batch or two.
        let held = client.transaction().await.unwrap();
        Slot::of(&admin).lock(&held).await;
        let posts = (0..64).map(|n| {
            let content = match poisoned.contains(&n) {
                true => "poison".to_owned(),
                false => format!("sound {n}"),
            };
            let admin = admin.clone();
            tokio::spawn(async move { admin.post(MESSAGES, json!({"content": content})).await })
        });
        let posts: Vec<_> = posts.collect();
        eventually("a lane waits for the lock", || async {
            (Slot::of(&admin).waiting(&watcher).await > 0).then_some(())
        })
        .await;
        sleep(Duration::from_millis(300)).await;
        held.rollback().await.unwrap();

        let mut stored = Vec::new();
        for (n, answer) in (0..).zip(join_all(posts).await) {
            let answer = answer.unwrap();
            if poisoned.contains(&n) {
                assert!((400..500).contains(&answer.status()), "{answer:?}");
                assert_ne!(answer.code(), "", "{answer:?}");
            } else {
                let message = answer.expect(201);
                assert_eq!(message["content"], format!("sound {n}"));
                stored.push(message);
            }
        }
        stored.sort_by_key(|message| message["seq"].as_u64());
        for message in stored {
            seq += 1;
            assert_eq!(message["seq"], seq, "no hole, nothing twice");
            assert_eq!(stream.next().await.data, message);
        }
    }
    assert_eq!(count(&relay, "poison").await, 0);
    stream.stays_silent().await;
}

/// What became of a post to a relay that may be too busy.
fn stored(answer: &Response) -> Option<Value> {
    if answer.status() == 201 {
        return Some(answer.json());
    }
    answer.expect(503);
    let retry_after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(retry_after >= 1, "{answer:?}");
    assert!(
        matches!(answer.code().as_str(), "OVERLOADED" | "UNAVAILABLE"),
        "{answer:?}"
    );
    None
}

#[tokio::test]
async fn g7_a_full_lane_answers_503_with_retry_after_and_keeps_its_word() {
    let relay = TestRelay::builder().env("HANDOFF_LANES", 2).start().await;
    let admin = relay.admin();
    admin.say("ops", "hello").await;
    // A team in the other one of the two lanes.
    let other = loop {
        let team = relay.signup("other", "mallory").await;
        if Slot::of(&team).lane(2) != Slot::of(&admin).lane(2) {
            break team;
        }
    };
    let mut client = relay.database().connect().await;
    let held = client.transaction().await.unwrap();
    Slot::of(&admin).lock(&held).await;

    let filler = "x".repeat(32_000);
    let mut posts: FuturesUnordered<_> = (0..1_500)
        .map(|n| {
            let (admin, content) = (admin.clone(), format!("{n} {filler}"));
            async move { (n, admin.post(MESSAGES, json!({"content": content})).await) }
        })
        .collect();
    let mut answers: Vec<(usize, Response)> = Vec::new();
    // The refusals come at once; nobody waits for a queue that is full.
    while answers
        .iter()
        .all(|(_, answer)| answer.code() != "OVERLOADED")
    {
        answers.push(posts.next().await.expect("the queue has no bound"));
    }
    other.say("ops", "another lane is not full").await;
    held.rollback().await.unwrap();
    while let Some(answer) = posts.next().await {
        answers.push(answer);
    }
    let promised: usize = answers
        .iter()
        .filter(|(_, answer)| stored(answer).is_some())
        .count();
    assert!(promised > 0, "what was in the queue is stored");

    // The lane works again, and what stands is what was answered 201.
    eventually("the lane works again", || async {
        stored(&admin.post(MESSAGES, json!({"content": "after"})).await)
    })
    .await;
    let mut found: Vec<(u64, u64)> = Vec::new();
    let mut after = "0".to_owned();
    loop {
        let page = admin
            .get(format!("{MESSAGES}?after_id={after}&limit=100"))
            .await
            .expect(200);
        for message in page["messages"].as_array().unwrap() {
            let number = message["content"]
                .as_str()
                .unwrap()
                .split(' ')
                .next()
                .unwrap();
            if let Ok(number) = number.parse() {
                found.push((number, message["seq"].as_u64().unwrap()));
            }
        }
        after = page["next_after_id"].as_str().unwrap().to_owned();
        if page["has_more"] == false {
            break;
        }
    }
    let mut expected: Vec<(u64, u64)> = answers
        .iter()
        .filter_map(|(n, answer)| Some((*n as u64, stored(answer)?["seq"].as_u64()?)))
        .collect();
    expected.sort_by_key(|(_, seq)| *seq);
    assert_eq!(found, expected);
}
