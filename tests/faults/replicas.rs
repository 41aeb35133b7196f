//! Replicas that are stopped in their tracks, killed, or asked to go: the others serve on, clients
//! resume there, and one that wakes does no harm.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use harness::load::{Kind, Load, Writing};
use harness::{Agent, Method, TestRelay, eventually};
use serde_json::json;
use tokio::time::{Instant, sleep};

/// A stopped replica can hold its slots for 1 s, and a lock is waited for 2 s: whoever tries again
/// has been served by then. The rest is for a busy machine.
const SERVED: Duration = Duration::from_secs(5);

#[tokio::test]
async fn g1_g4_a_replica_stopped_again_and_again_in_the_middle_of_batches() {
    let relay = TestRelay::builder().replicas(3).start().await;
    let admin = relay.admin();
    let mut load = Load::new(&admin, [0, 1, 2]);
    for seat in [0, 1, 2] {
        load.follow("ops", Some("0"), seat);
        load.follow_many(&["ops", "dev"], None, seat);
    }
    load.walk("dev", Kind::Message, 50);
    let briskly = Duration::from_millis(3);
    load.write(Writing {
        writers: 12,
        pause: briskly,
        ..Writing::to(&["ops", "dev"])
    });
    let retrying = Writing {
        writers: 4,
        retry: true,
        ..Writing::to(&["dev", "ops"])
    };
    load.write(Writing {
        pause: briskly,
        ..retrying
    });

    // Batches that no socket's buffer holds: a replica that stops while it sends one leaves half a
    // statement behind, and the slot's lock with it.
    let mut bulk = Load::new(&admin, [0]);
    let mut slowest = Duration::ZERO;
    for round in 0..20_u64 {
        load.stored_more(30).await;
        if round % 2 == 0 {
            bulk.write(Writing {
                writers: 40,
                each: Some(1),
                bytes: 32_000,
                ..Writing::to(&["bulk"])
            });
        }
        sleep(Duration::from_micros(rand::random_range(0..40_000))).await;
        relay.replica(0).pause();
        let stopped = Instant::now();
        for seat in [1, 2] {
            while load.write_one("ops", seat, false).await.is_none() {
                assert!(stopped.elapsed() < SERVED, "the others do not serve");
            }
            slowest = slowest.max(stopped.elapsed());
        }
        assert!(slowest < SERVED, "the others were held up for {slowest:?}");
        // Some wake while their session is still there, some long after Postgres has ended it.
        sleep(Duration::from_millis(round % 4 * 300)).await;
        relay.replica(0).resume();
        eventually("the replica serves again", || async {
            load.write_one("ops", 0, false).await
        })
        .await;
    }
    bulk.finish().await.assert_sound();
    load.finish().await.assert_sound();
}

#[tokio::test]
async fn g5_a_replica_that_wakes_trusts_no_memory() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let revoked = relay.agent("revoked", json!({"ops": "write"})).await.on(1);
    let narrowed = relay.agent("narrowed", json!({"ops": "write"})).await.on(1);
    let kept = relay.agent("kept", json!({"ops": "write"})).await.on(1);
    let mut streams = Vec::new();
    for agent in [&revoked, &narrowed] {
        agent.say("ops", "hello").await;
        streams.push(agent.stream("/api/channels/ops/stream").await);
    }
    kept.say("ops", "hello").await;
    admin.on(1).say("reborn", "in the old channel").await;
    let mut kept_stream = kept.stream("/api/channels/ops/stream").await;

    relay.replica(1).pause();
    admin
        .delete(format!("/api/keys/{}", revoked.key_hash()))
        .await
        .expect(204);
    let narrow = json!({"permissions": {"ops": "read"}});
    let path = format!("/api/keys/{}/permissions", narrowed.key_hash());
    admin.put(path, narrow).await.expect(200);
    let missed = admin.say("ops", "while it slept").await;
    admin.delete("/api/channels/reborn").await.expect(204);
    admin.say("reborn", "in the new channel").await;
    // The bound while nothing can be heard is 5 s: after that no memory counts.
    sleep(Duration::from_millis(5_500)).await;

    // The requests lie in its socket when it wakes: they are the first that it sees.
    let body = json!({"content": "too late"});
    let messages = "/api/channels/ops/messages";
    let waking = admin.on(1);
    let wake = async {
        sleep(Duration::from_millis(200)).await;
        relay.replica(1).resume();
    };
    let (first, second, third, fourth, ()) = tokio::join!(
        revoked.post(messages, body.clone()),
        narrowed.post(messages, body.clone()),
        kept.post(messages, json!({"content": "in time"})),
        waking.post(
            "/api/channels/reborn/messages",
            json!({"content": "the second"})
        ),
        wake,
    );
    first.refused(401, "INVALID_API_KEY");
    second.refused(403, "FORBIDDEN");
    let third = third.expect(201);
    assert_eq!(fourth.expect(201)["seq"], 2, "it knows the new channel");
    for stream in &mut streams {
        stream.ended().await;
    }
    assert_eq!(kept_stream.next().await.data, missed);
    assert_eq!(kept_stream.next().await.data, third);
}

#[tokio::test]
async fn g1_g3_replicas_killed_under_load_while_clients_go_elsewhere() {
    let relay = TestRelay::builder().replicas(2).start().await;
    // The seats of the clients: those that will be killed, and those that will take over.
    for _ in 0..3 {
        relay.start_replica(&[]).await;
    }
    let mut load = Load::new(&relay.admin(), 0..5);
    for seat in 0..5 {
        load.follow("ops", Some("0"), seat);
    }
    load.follow_many(&["ops", "dev"], None, 1);
    load.walk("ops", Kind::Message, 50);
    load.walk("dev", Kind::Message, 7);
    load.write_in_both_ways(["ops", "dev"], Duration::from_millis(10));
    for victim in 0..4 {
        load.stored_more(150).await;
        relay.replica(victim).kill().await;
    }
    load.stored_more(150).await;
    assert!(load.resumed() >= 4, "streams were cut and resumed");
    load.finish().await.assert_sound();
}

#[tokio::test]
async fn g1_g3_a_replica_asked_to_go_finishes_what_it_has_begun() {
    let relay = TestRelay::builder().replicas(2).start().await;
    for _ in 0..2 {
        relay.start_replica(&[]).await;
    }
    let admin = relay.admin();
    let mut load = Load::new(&admin, 0..4);
    for seat in 0..4 {
        load.follow("ops", Some("0"), seat);
        load.follow_many(&["ops", "dev"], None, seat);
    }
    load.walk("ops", Kind::Message, 50);
    let gently = Duration::from_millis(10);
    load.write(Writing {
        pause: gently,
        retry: true,
        ..Writing::to(&["ops", "dev"])
    });
    let mut stored = BTreeMap::new();
    for leaving in 0..3 {
        load.stored_more(100).await;
        let mut idle = admin.on(leaving).stream("/api/channels/idle/stream").await;
        let busy: Vec<_> = (0..16)
            .map(|n| {
                tokio::spawn(post_until_refused(
                    admin.on(leaving),
                    format!("{leaving}-{n}"),
                ))
            })
            .collect();
        load.stored_more(50).await;
        let status = relay.replica(leaving).terminate().await;
        assert_eq!(status.code(), Some(0), "{}", relay.replica(leaving).logs());
        assert_eq!(idle.ended().await, [], "its streams end cleanly");
        for busy in join_all(busy).await {
            stored.extend(busy.unwrap());
        }
    }
    load.finish().await.assert_sound();

    // Whatever they took, they answered; what they did not take was refused at the door.
    let mut found: BTreeMap<u64, String> = BTreeMap::new();
    loop {
        let after = found.keys().last().copied().unwrap_or(0);
        let path = format!("/api/channels/busy/messages?after_id={after}&limit=100");
        let page = admin.on(3).get(path).await.expect(200);
        for message in page["messages"].as_array().unwrap() {
            let id = message["id"].as_str().unwrap().parse().unwrap();
            found.insert(id, message["content"].as_str().unwrap().to_owned());
        }
        if page["has_more"] == false {
            break;
        }
    }
    assert_eq!(found, stored);
}

/// Posts, one after the other, until the replica takes no more; what it has taken.
async fn post_until_refused(agent: Agent, name: String) -> BTreeMap<u64, String> {
    let mut stored = BTreeMap::new();
    for n in 0.. {
        let content = format!("{name}-{n}");
        let post = agent
            .request(Method::POST, "/api/channels/busy/messages")
            .json(&json!({"content": content}));
        match post.try_send().await {
            Ok(answer) if answer.status() == 201 => {
                let id = answer.json()["id"].as_str().unwrap().parse().unwrap();
                stored.insert(id, content);
            }
            Ok(answer) => {
                answer.refused(503, "UNAVAILABLE");
                break;
            }
            Err(_) => break,
        }
    }
    stored
}
