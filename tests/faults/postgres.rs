//! Postgres restarts, hangs, goes away, or is held up by somebody's long transaction.

use std::time::Duration;

use futures_util::future::join_all;
use harness::load::{Kind, Load, Writing};
use harness::{Agent, Response, TestRelay, eventually};
use serde_json::json;
use tokio::time::{Instant, sleep};

/// What a relay does when Postgres is out of reach.
#[track_caller]
fn assert_unavailable(answer: &Response) {
    answer.refused(503, "UNAVAILABLE");
    let retry_after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(retry_after >= 1);
}

#[tokio::test]
async fn g1_g3_postgres_restarted_under_load() {
    let relay = TestRelay::builder()
        .replicas(2)
        .own_postgres()
        .start()
        .await;
    let mut load = Load::new(&relay.admin(), [0, 1]);
    for seat in [0, 1] {
        load.follow("ops", Some("0"), seat);
        load.follow("dev", None, seat);
        load.follow_many(&["ops", "dev"], Some("0"), seat);
    }
    load.walk("ops", Kind::Message, 40);
    load.write_in_both_ways(["ops", "dev"], Duration::from_millis(10));
    for round in 0..4 {
        load.stored_more(200).await;
        match round % 2 {
            0 => relay.postgres().stop_immediate().await,
            _ => relay.postgres().stop_fast().await,
        }
        // Long enough for writes and sweeps to meet a server that is not there.
        sleep(Duration::from_millis(300 * round)).await;
        relay.postgres().start().await;
    }
    load.stored_more(200).await;
    assert_eq!(
        load.resumed(),
        0,
        "streams stay open while Postgres is away"
    );
    load.finish().await.assert_sound();
}

/// Ready or not, on every replica.
async fn until_ready(relay: &TestRelay, status: u16) {
    for replica in 0..relay.replicas() {
        let anyone = relay.anyone().on(replica);
        eventually(&format!("/readyz answers {status}"), || async {
            (anyone.get("/readyz").await.status() == status).then_some(())
        })
        .await;
    }
}

/// What each kind of request is answered while Postgres is away.
async fn assert_out_of_reach(agent: Agent, anyone: Agent) {
    anyone.get("/healthz").await.expect(200);
    anyone.get("/readyz").await.refused(503, "UNAVAILABLE");
    anyone.get("/api").await.expect(200);
    let messages = "/api/channels/ops/messages";
    let (post, page, status, stream, signup) = tokio::join!(
        agent.post(messages, json!({"content": "lost"})),
        agent.get(messages),
        agent.put(
            "/api/channels/ops/status",
            json!({"key": "k", "value": "lost"})
        ),
        agent.get("/api/channels/ops/stream"),
        anyone.post(
            "/api/signup",
            json!({"team_name": "late", "sender_name": "ada"})
        ),
    );
    for answer in [post, page, status, stream, signup] {
        assert_unavailable(&answer);
    }
}

#[tokio::test]
async fn g7_without_postgres_every_answer_is_503_and_recovery_needs_no_help() {
    let relay = TestRelay::builder()
        .replicas(2)
        .own_postgres()
        .start()
        .await;
    let admin = relay.admin();
    let agent = relay.agent("known", json!({"ops": "write"})).await;
    let mut stream = agent.stream("/api/channels/ops/stream").await;
    let mut last = 0;
    for round in 0..2 {
        agent.say("ops", &format!("before {round}")).await;
        last += 1;
        agent
            .on(1)
            .get("/api/channels/ops/messages")
            .await
            .expect(200);
        until_ready(&relay, 200).await;
        match round {
            0 => relay.postgres().stop_immediate().await,
            _ => relay.postgres().stop_fast().await,
        }
        until_ready(&relay, 503).await;
        tokio::join!(
            assert_out_of_reach(agent.on(0), relay.anyone().on(0)),
            assert_out_of_reach(agent.on(1), relay.anyone().on(1)),
        );
        relay.postgres().start().await;
        until_ready(&relay, 200).await;
        for replica in 0..2 {
            // Ready, and the first post goes through.
            let posted = agent
                .on(replica)
                .say("ops", &format!("after {round}"))
                .await;
            last += 1;
            assert_eq!(
                posted["seq"], last,
                "nothing that was answered 503 is there"
            );
        }
    }
    let contents: Vec<_> = stream
        .take(6)
        .await
        .into_iter()
        .map(|event| event.data["content"].clone())
        .collect();
    let expected = [
        "before 0", "after 0", "after 0", "before 1", "after 1", "after 1",
    ]
    .map(|text| json!(text));
    assert_eq!(contents, expected, "the stream stayed open through it all");
    assert_eq!(
        admin.get("/api/channels/ops/status").await.expect(200),
        json!([])
    );
}

/// Asks for a post until it is answered 2xx.
async fn post_until_stored(agent: &Agent, content: &str) -> serde_json::Value {
    eventually("a post is stored", || async {
        let post = agent
            .request(harness::Method::POST, "/api/channels/ops/messages")
            .header("idempotency-key", content)
            .json(&json!({"content": content}))
            .send()
            .await;
        if post.status() == 503 {
            assert_unavailable(&post);
            return None;
        }
        assert!(matches!(post.status(), 200 | 201), "{post:?}");
        Some(post.json())
    })
    .await
}

#[tokio::test]
async fn g4_g7_a_replica_whose_network_hangs_answers_503_and_holds_nobody_up() {
    let relay = TestRelay::builder()
        .replicas(2)
        .through_proxy()
        .start()
        .await;
    let admin = relay.admin();
    admin.say("ops", "hello").await;
    let mut stream = admin.stream("/api/channels/ops/stream").await;
    for round in 0..2 {
        for proxy in [relay.proxy(0).database, relay.proxy(0).listen] {
            proxy.stall();
        }
        let since = Instant::now();
        let posting = admin.clone();
        let hung = tokio::spawn(async move {
            posting
                .post(
                    "/api/channels/ops/messages",
                    json!({"content": "into the void"}),
                )
                .await
        });
        let other = post_until_stored(&admin.on(1), &format!("elsewhere {round}")).await;
        assert!(
            since.elapsed() < Duration::from_secs(5),
            "the other replica was held up"
        );
        let answer = hung.await.unwrap();
        assert_unavailable(&answer);

        for proxy in [relay.proxy(0).database, relay.proxy(0).listen] {
            proxy.cut();
            proxy.pass();
        }
        let back = post_until_stored(&admin, &format!("back {round}")).await;
        for expected in [other, back] {
            loop {
                let event = stream.next().await;
                if event.data["content"] != "into the void" {
                    assert_eq!(event.data, expected);
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn g1_g3_a_transaction_open_for_a_minute_slows_nothing_and_spoils_nothing() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let idle = relay.database().connect().await;
    idle.batch_execute("begin; select txid_current()")
        .await
        .unwrap();
    let snapshot = relay.database().connect().await;
    snapshot
        .batch_execute("begin isolation level repeatable read; select count(*) from messages")
        .await
        .unwrap();
    let held_since = Instant::now();

    let admin = relay.admin();
    let mut load = Load::new(&admin, [0, 1]);
    for seat in [0, 1] {
        load.follow("ops", Some("0"), seat);
        load.follow_many(&["ops", "dev"], None, seat);
    }
    load.walk("ops", Kind::Message, 100);
    load.walk("dev", Kind::Status, 100);
    // Little at a time: the other tests need the machine too.
    let calmly = Duration::from_millis(250);
    load.write(Writing {
        writers: 4,
        pause: calmly,
        ..Writing::to(&["ops", "dev"])
    });
    let statuses = Writing {
        kind: Kind::Status,
        ..Writing::to(&["dev"])
    };
    load.write(Writing {
        writers: 2,
        pause: calmly,
        ..statuses
    });
    let mut round = 0;
    while held_since.elapsed() < Duration::from_secs(60) {
        // Now and then, every kind of thing that a relay does.
        let agent = admin.on(round % 2);
        let asked = Instant::now();
        let posted = agent.say("side", &format!("round {round}")).await;
        agent
            .post(
                "/api/channels/side/ack",
                json!({"last_read_id": posted["id"]}),
            )
            .await
            .expect(200);
        let unread = admin
            .on((round + 1) % 2)
            .get("/api/channels/side/unread")
            .await;
        assert_eq!(unread.expect(200)["messages"], json!([]));
        let key = agent.new_key("short-lived", json!({})).await;
        agent
            .delete(format!("/api/keys/{}", key.key_hash()))
            .await
            .expect(204);
        assert!(
            asked.elapsed() < Duration::from_secs(10),
            "it took {:?}",
            asked.elapsed()
        );
        round += 1;
        sleep(Duration::from_millis(500)).await;
    }
    let history = load.finish().await;
    for held in [idle, snapshot] {
        held.batch_execute("rollback")
            .await
            .expect("the transaction was open all the time");
    }
    history.assert_sound();
    assert_eq!(history.unknown(), 0);
}

#[tokio::test]
async fn g7_many_readers_share_few_connections_and_outlive_their_loss() {
    const READERS: usize = 64;
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let said = admin.say("ops", "hello").await;
    let client = relay.database().connect().await;
    // Whether all are answered.
    let burst = || async {
        let reads = (0..READERS).map(|_| admin.get("/api/channels/ops/messages"));
        let answers = join_all(reads).await;
        for answer in answers.iter().filter(|answer| answer.status() != 200) {
            assert_unavailable(answer);
        }
        let answered = answers.iter().filter(|answer| answer.status() == 200);
        let pages: Vec<_> = answered.map(|answer| answer.json()).collect();
        assert!(
            pages
                .iter()
                .all(|page| page["messages"][0]["id"] == said["id"])
        );
        (pages.len() == READERS).then_some(())
    };
    for round in 0..5 {
        // Until the relay has seen that they are gone, a read may be given one of them.
        eventually("all reads are answered", burst).await;
        let sessions = "from pg_stat_activity
            where datname = current_database() and application_name = 'handoff reader'";
        let count = format!("select count(*) {sessions}");
        let count: i64 = client.query_one(&count, &[]).await.unwrap().get(0);
        // Half of the pool at most is shared; the rest is for what needs one of its own.
        assert!((1..10).contains(&count), "{count} sessions, round {round}");
        let cut = format!("select count(pg_terminate_backend(pid)) {sessions}");
        client.query_one(&cut, &[]).await.unwrap();
    }
    eventually("all reads are answered", burst).await;
}
