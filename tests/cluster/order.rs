//! Many writers and many readers on several replicas: one order, nothing skipped, nothing twice.

use std::time::Duration;

use futures_util::future::join_all;
use handoff_checker::History;
use harness::load::{Kind, Load, Writing};
use harness::{Agent, TestRelay};
use hyper::Method;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::sync::watch;

/// Sound, and every single write answered 2xx: nothing is broken here that would excuse a 503.
#[track_caller]
fn assert_flawless(history: &History, writes: usize) {
    history.assert_sound();
    assert_eq!(
        history.unknown(),
        0,
        "a write was answered 5xx or not at all"
    );
    assert_eq!(history.writes(), writes);
    assert_eq!(history.standing().len(), writes);
}

#[tokio::test]
async fn g2_g3_sixteen_posters_on_one_channel_through_two_replicas() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let mut load = Load::new(&relay.admin(), [0, 1]);
    for limit in [1, 7, 50, 100] {
        load.walk("ops", Kind::Message, limit);
    }
    for seat in [0, 1] {
        load.follow("ops", None, seat);
        load.follow("ops", Some("0"), seat);
    }
    load.write(Writing {
        each: Some(75),
        ..Writing::to(&["ops"])
    });
    load.written().await;
    assert_eq!(load.resumed(), 0, "no stream ends while nothing is wrong");
    assert_flawless(&load.finish().await, 16 * 75);
}

#[tokio::test]
async fn g2_status_changes_and_messages_of_a_team_share_one_order() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let mut load = Load::new(&relay.admin(), [0, 1]);
    for limit in [1, 10, 100] {
        load.walk("build", Kind::Status, limit);
    }
    load.walk("deploy", Kind::Status, 20);
    load.walk("build", Kind::Message, 20);
    load.follow("build", Some("0"), 1);
    let channels = ["build", "deploy"];
    let statuses = Writing {
        kind: Kind::Status,
        each: Some(40),
        ..Writing::to(&channels)
    };
    load.write(statuses);
    load.write(Writing {
        writers: 8,
        each: Some(40),
        ..Writing::to(&channels)
    });
    load.written().await;
    assert_flawless(&load.finish().await, 16 * 40 + 8 * 40);
}

#[tokio::test]
async fn g3_one_stream_of_many_channels_has_one_order() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let names: Vec<String> = (0..12).map(|n| format!("channel-{n}")).collect();
    let channels: Vec<&str> = names.iter().map(String::as_str).collect();
    // Half of them are there before the streams are, the others are opened by the first post.
    for channel in &channels[..6] {
        relay
            .admin()
            .post("/api/channels", json!({"name": channel}))
            .await
            .expect(201);
    }
    let mut load = Load::new(&relay.admin(), [0, 1]);
    for seat in [0, 1] {
        load.follow_many(&channels, Some("0"), seat);
        load.follow_many(&channels, None, seat);
        load.follow_many(&channels[3..9], Some("0"), seat);
        load.follow(channels[0], Some("0"), seat);
        load.follow(channels[11], None, seat);
    }
    load.write(Writing {
        each: Some(60),
        ..Writing::to(&channels)
    });
    load.written().await;
    assert_eq!(load.resumed(), 0, "no stream ends while nothing is wrong");
    assert_flawless(&load.finish().await, 16 * 60);
}

/// Posts that many messages, sixteen at a time, and returns their IDs in ascending order.
async fn post_many(agent: &Agent, channel: &str, count: usize) -> Vec<u64> {
    let posted = (0..16).map(|poster| async move {
        let mut ids = Vec::new();
        for n in (poster..count).step_by(16) {
            let message = agent.say(channel, &format!("missed {n}")).await;
            ids.push(message["id"].as_str().unwrap().parse::<u64>().unwrap());
        }
        ids
    });
    let mut ids = join_all(posted).await.concat();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn g3_a_stream_resumed_on_the_other_replica_gets_a_thousand_missed_messages() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let mut stream = admin.stream("/api/channels/ops/stream").await;
    for n in 0..5 {
        admin.say("ops", &format!("seen {n}")).await;
    }
    let seen = stream.take(5).await;
    assert_eq!(seen[4].data["content"], "seen 4");
    drop(stream);

    let missed = post_many(&admin, "ops", 1_200).await;
    let other = admin.on(1);
    let mut resumed = other
        .stream_from("/api/channels/ops/stream", &seen[4].id)
        .await;
    // The last ones are posted while the replay runs.
    let (events, live) = tokio::join!(resumed.take(1_210), async {
        post_many(&admin, "ops", 10).await
    });
    let ids: Vec<u64> = events
        .iter()
        .map(|event| event.id.parse().unwrap())
        .collect();
    assert_eq!(ids, [missed.clone(), live].concat());
    let seqs: Vec<u64> = events
        .iter()
        .map(|event| event.data["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, (6..=1_215).collect::<Vec<u64>>());
    resumed.stays_silent().await;

    // The same by the query, on the stream of many channels.
    let path = format!("/api/stream?channels=ops,none&last_event_id={}", seen[4].id);
    let mut again = admin.stream(path).await;
    let replayed = again.take(1_210).await;
    assert_eq!(replayed, events);
}

#[tokio::test]
async fn g3_g4_a_long_chain_of_reconnects_loses_and_repeats_nothing() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let mut load = Load::new(&relay.admin(), [0, 1]);
    load.hop("ops", Some("0"), 1);
    load.hop("ops", Some("0"), 9);
    load.hop("ops", None, 30);
    let writing = Writing {
        writers: 4,
        each: Some(100),
        ..Writing::to(&["ops"])
    };
    load.write(Writing {
        pause: Duration::from_millis(5),
        ..writing
    });
    load.written().await;
    let stored = load.stored();
    harness::eventually("the readers have hopped many times", || async {
        (load.resumed() >= 100).then_some(())
    })
    .await;
    assert_flawless(&load.finish().await, stored);
}

#[tokio::test]
async fn g2_g4_replicas_with_different_lanes_share_one_order() {
    let relay = TestRelay::builder()
        .replicas(3)
        .replica_env(0, "HANDOFF_LANES", 1)
        .replica_env(1, "HANDOFF_LANES", 2)
        .replica_env(2, "HANDOFF_LANES", 8)
        .start()
        .await;
    // Teams one after the other have slots one after the other: several in each lane's batches.
    let mut loads = Vec::new();
    for team in 0..9 {
        let agent = relay.signup(&format!("team {team}"), "poster").await;
        let mut load = Load::new(&agent, [0, 1, 2]);
        load.walk("ops", Kind::Message, 20);
        load.follow_many(&["ops", "dev"], Some("0"), team);
        load.follow("dev", None, team + 1);
        load.write(Writing {
            writers: 6,
            each: Some(30),
            ..Writing::to(&["ops", "dev"])
        });
        loads.push(load);
    }
    for mut load in loads {
        load.written().await;
        assert_flawless(&load.finish().await, 6 * 30);
    }
}

/// With many writers a lane has two batches under way, of different slots; another replica writes to
/// them as well.
#[tokio::test]
async fn g2_g3_g4_a_lane_with_two_batches_at_once_keeps_every_order() {
    let relay = TestRelay::builder()
        .replicas(2)
        .replica_env(0, "HANDOFF_LANES", 1)
        .start()
        .await;
    let mut loads = Vec::new();
    for team in 0..6 {
        let agent = relay.signup(&format!("team {team}"), "poster").await;
        // Nearly all writers on the first one.
        let mut load = Load::new(&agent, [0, 0, 0, 0, 0, 0, 0, 1]);
        load.walk("ops", Kind::Message, 50);
        load.follow_many(&["ops", "dev"], Some("0"), 7);
        load.write(Writing {
            writers: 16,
            each: Some(40),
            ..Writing::to(&["ops", "dev"])
        });
        loads.push(load);
    }
    let client = relay.database().connect().await;
    let sessions = "
        select count(distinct pid) from pg_stat_activity
        where datname = current_database() and application_name = 'handoff lane 0'";
    harness::eventually("two sessions of a lane", || async {
        let count: i64 = client.query_one(sessions, &[]).await.unwrap().get(0);
        // Each replica has a lane of this number.
        (count >= 3).then_some(())
    })
    .await;
    for mut load in loads {
        load.written().await;
        assert_flawless(&load.finish().await, 16 * 40);
    }
}

/// A lane looks a channel up only where others have written since it last did: whatever two
/// replicas do in turns, each post must land in the channel that stands, with its next `seq`.
#[tokio::test]
async fn g2_g4_whoever_writes_in_between_no_seq_is_left_out_or_repeated() {
    const CHANNELS: [&str; 3] = ["build", "deploy", "review"];
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let mut random = StdRng::seed_from_u64(28);
    let mut posted: [Vec<String>; 3] = Default::default();
    for step in 0..400 {
        // Mostly the one that wrote last, so that it has something to rely on.
        let agent = admin.on(usize::from(random.random_bool(0.2)));
        let index = random.random_range(0..CHANNELS.len());
        let (channel, stands) = (CHANNELS[index], &mut posted[index]);
        let path = format!("/api/channels/{channel}");
        match random.random_range(0..20) {
            0 if !stands.is_empty() => {
                agent.delete(&path).await.expect(204);
                stands.clear();
            }
            1 if !stands.is_empty() => {
                let id = &stands[random.random_range(0..stands.len())];
                // It may be gone already.
                agent.delete(format!("{path}/messages/{id}")).await;
            }
            2 if !stands.is_empty() => {
                let body = json!({"last_read_id": stands.last()});
                agent.post(format!("{path}/ack"), body).await.expect(200);
            }
            3 if !stands.is_empty() => {
                let body = json!({"key": "step", "value": step.to_string()});
                agent.put(format!("{path}/status"), body).await.expect(200);
            }
            _ => {
                let message = agent.say(channel, &format!("step {step}")).await;
                assert_eq!(message["seq"], stands.len() + 1, "{channel}, step {step}");
                stands.push(message["id"].as_str().unwrap().to_owned());
                let page = admin
                    .on(step % 2)
                    .get(format!("{path}/messages?limit=1"))
                    .await;
                assert_eq!(page.expect(200)["messages"][0]["id"], message["id"]);
            }
        }
    }
}

/// Once a replica has been alone in a slot for a while, its posts rely on that still being so. Here
/// it isn't, now and then: what the other one did holds for the very next post.
#[tokio::test]
async fn g2_g4_one_that_was_alone_for_long_sees_what_another_did_meanwhile() {
    const QUIET: usize = 40;
    let relay = TestRelay::builder().replicas(2).start().await;
    let (here, other) = (relay.admin().on(0), relay.admin().on(1));
    let path = "/api/channels/ops";
    let messages = format!("{path}/messages");
    let mut seq = 0;
    let say = async |agent: &Agent, seq: &mut i64| {
        let message = agent.say("ops", "hello").await;
        *seq += 1;
        assert_eq!(message["seq"], *seq);
        message["id"].clone()
    };
    for round in 0..3 {
        for meanwhile in ["post", "retry", "reply", "delete channel"] {
            let mut parent = json!(null);
            for _ in 0..QUIET {
                parent = say(&here, &mut seq).await;
            }
            match meanwhile {
                "post" => {
                    let theirs = say(&other, &mut seq).await;
                    let body = json!({"content": "re", "thread_id": theirs});
                    let reply = here.post(&messages, body).await.expect(201);
                    seq += 1;
                    assert_eq!(reply["seq"], seq);
                }
                "retry" => {
                    let key = format!("round {round}");
                    let post = |agent: &Agent| {
                        let request = agent.request(Method::POST, &messages);
                        let request = request.header("idempotency-key", &key);
                        request.json(&json!({"content": "once"})).send()
                    };
                    let first = post(&other).await.expect(201);
                    seq += 1;
                    assert_eq!(post(&here).await.expect(200)["id"], first["id"]);
                }
                "reply" => {
                    let message = format!("{messages}/{}", parent.as_str().unwrap());
                    other.delete(message).await.expect(204);
                    let body = json!({"content": "re", "thread_id": parent});
                    here.post(&messages, body).await.expect(404);
                }
                _ => {
                    other.delete(path).await.expect(204);
                    seq = 0;
                }
            }
            say(&here, &mut seq).await;
        }
    }
}

/// As above, while the one that is alone mostly is busy: the other one's posts come in between
/// its batches.
#[tokio::test]
async fn g2_posts_of_another_replica_between_busy_batches_keep_every_seq() {
    const WRITERS: usize = 16;
    const EACH: usize = 100;
    const OTHERS: usize = 15;
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let count = watch::Sender::new(0);
    let busy = (0..WRITERS).map(|_| {
        let (here, count) = (admin.on(0), &count);
        async move {
            let mut posted = Vec::new();
            for _ in 0..EACH {
                posted.push(here.say("ops", "hello").await);
                count.send_modify(|count| *count += 1);
            }
            posted
        }
    });
    let busy = join_all(busy);
    let (other, mut counted) = (admin.on(1), count.subscribe());
    let seldom = async {
        let mut posted = Vec::new();
        for turn in 0..OTHERS {
            let due = turn * WRITERS * EACH / OTHERS;
            counted.wait_for(|count| *count >= due).await.unwrap();
            posted.push(other.say("ops", "hello").await);
        }
        posted
    };
    let (busy, seldom) = futures_util::join!(busy, seldom);
    let mut posted: Vec<(i64, u64)> = busy
        .into_iter()
        .flatten()
        .chain(seldom)
        .map(|message| {
            let id = message["id"].as_str().unwrap().parse().unwrap();
            (message["seq"].as_i64().unwrap(), id)
        })
        .collect();
    posted.sort_unstable();
    assert!(posted.windows(2).all(|pair| pair[0].1 < pair[1].1));
    let seqs: Vec<i64> = posted.iter().map(|(seq, _)| *seq).collect();
    let all = (WRITERS * EACH + OTHERS) as i64;
    assert_eq!(seqs, (1..=all).collect::<Vec<_>>());
}
