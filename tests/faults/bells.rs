//! Bells that ring late or never, and listeners whose connection is cut: streams get everything
//! all the same, in order.

use std::time::Duration;

use harness::load::{Kind, Load, Writing};
use harness::{Agent, DEADLINE, Proxies, TestRelay};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::sql::{Slot, cut_listeners};

/// The sweep finds what no bell told of within 2 s; the rest is for a busy machine.
const SWEPT: Duration = Duration::from_secs(5);

#[tokio::test]
async fn g3_a_bell_that_is_never_rung_is_made_up_for() {
    let relay = TestRelay::builder().replicas(2).start().await;
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
    let mut client = relay.database().connect().await;
    for round in 0..3 {
        // In some rounds the silent message is the newest, in others a normal one follows at once.
        let silent = format!("silent {round}");
        let id = Slot::of(&admin)
            .post_silently(&mut client, "ops", &silent)
            .await;
        let since = Instant::now();
        if round == 1 {
            admin.on(1).say("ops", "loud").await;
        }
        for stream in &mut streams {
            let event = stream.next().await;
            assert_eq!(
                (event.id, &event.data["content"]),
                (id.to_string(), &json!(silent))
            );
            if round == 1 {
                assert_eq!(stream.next().await.data["content"], "loud");
            }
        }
        assert!(
            since.elapsed() < SWEPT,
            "the sweep took {:?}",
            since.elapsed()
        );
        for stream in &mut streams {
            stream.stays_silent().await;
        }
    }
}

#[tokio::test]
async fn g3_channels_that_come_and_go_without_a_bell_are_noticed() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let mut client = relay.database().connect().await;
    let slot = Slot::of(&admin);
    for round in 0..2 {
        // These wait for a channel that is not there yet.
        let mut streams = Vec::new();
        for replica in 0..2 {
            let admin = admin.on(replica);
            streams.push(admin.stream("/api/channels/ops/stream").await);
            streams.push(admin.stream("/api/stream?channels=ops,dev").await);
        }
        slot.open_silently(&mut client, "ops").await;
        let silent = format!("silent {round}");
        let id = slot.post_silently(&mut client, "ops", &silent).await;
        let since = Instant::now();
        for stream in &mut streams {
            let event = stream.next().await;
            assert_eq!(
                (event.id, &event.data["content"]),
                (id.to_string(), &json!(silent))
            );
        }
        assert!(
            since.elapsed() < SWEPT,
            "the sweep took {:?}",
            since.elapsed()
        );

        slot.delete_silently(&mut client, "ops").await;
        let since = Instant::now();
        for stream in streams.iter_mut().step_by(2) {
            assert_eq!(
                stream.ended().await,
                [],
                "a deleted channel ends its streams"
            );
        }
        assert!(
            since.elapsed() < SWEPT,
            "the sweep took {:?}",
            since.elapsed()
        );
        for replica in 0..2 {
            let page = admin.on(replica).get("/api/channels/ops/messages").await;
            assert_eq!(page.expect(200)["messages"], json!([]));
        }
    }
}

#[tokio::test]
async fn g3_a_late_bell_on_one_of_two_channels_keeps_their_order() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    admin.say("quiet", "hello").await;
    admin.say("loud", "hello").await;
    let mut streams = Vec::new();
    for replica in 0..2 {
        streams.push(
            admin
                .on(replica)
                .stream("/api/stream?channels=loud,quiet")
                .await,
        );
    }
    let mut client = relay.database().connect().await;
    for round in 0..30 {
        let silent = format!("silent {round}");
        let id = Slot::of(&admin)
            .post_silently(&mut client, "quiet", &silent)
            .await;
        let posted = admin
            .on(round % 2)
            .say("loud", &format!("loud {round}"))
            .await;
        for stream in &mut streams {
            let events = stream.take(2).await;
            assert_eq!(
                events[0].id,
                id.to_string(),
                "the earlier message comes first"
            );
            assert_eq!(events[0].data["content"], silent);
            assert_eq!(events[1].data, posted);
        }
    }
    for stream in &mut streams {
        stream.stays_silent().await;
    }
}

#[tokio::test]
async fn g3_listeners_cut_again_and_again_under_load() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let client = relay.database().connect().await;
    let mut load = Load::new(&relay.admin(), [0, 1]);
    for seat in [0, 1] {
        load.follow("ops", Some("0"), seat);
        load.follow_many(&["ops", "dev", "qa"], None, seat);
    }
    load.walk("dev", Kind::Message, 30);
    let channels = ["ops", "dev", "qa"];
    load.write(Writing {
        pause: Duration::from_millis(20),
        ..Writing::to(&channels)
    });
    let mut cut = 0;
    for round in 0..15 {
        load.stored_more(50).await;
        cut += cut_listeners(&client).await;
        // Some cuts hit the listener while it is still picking itself up.
        sleep(Duration::from_millis(40 * (round % 5))).await;
    }
    assert!(cut >= 15, "only {cut} listeners were cut");
    load.stored_more(100).await;
    assert_eq!(
        load.resumed(),
        0,
        "streams stay open while a listener is away"
    );
    let history = load.finish().await;
    history.assert_sound();
    assert_eq!(history.unknown(), 0, "writes do not need the listener");
}

#[tokio::test]
async fn g3_streams_live_on_without_any_notification() {
    let relay = TestRelay::builder()
        .replicas(2)
        .through_proxy()
        .start()
        .await;
    for replica in 0..2 {
        relay.proxy(replica).listen.swallow_notifications();
    }
    let mut load = Load::new(&relay.admin(), [0, 1]);
    for seat in [0, 1] {
        load.follow("ops", Some("0"), seat);
        load.follow_many(&["ops", "dev"], Some("0"), seat);
    }
    load.write(Writing {
        writers: 4,
        each: Some(40),
        pause: Duration::from_millis(50),
        ..Writing::to(&["ops", "dev"])
    });
    load.written().await;
    let history = load.finish().await;
    history.assert_sound();
    assert_eq!((history.unknown(), history.standing().len()), (0, 160));
    let swallowed: usize = (0..2).map(|n| relay.proxy(n).listen.swallowed()).sum();
    assert!(swallowed > 0, "there was nothing to swallow");
}

#[tokio::test]
async fn g5_a_revocation_holds_within_5_s_while_notifications_are_down() {
    let relay = TestRelay::builder()
        .replicas(2)
        .through_proxy()
        .start()
        .await;
    let admin = relay.admin();
    let agent = relay
        .agent("short-lived", json!({"ops": "write"}))
        .await
        .on(1);
    agent.say("ops", "hello").await;
    let mut stream = agent.stream("/api/channels/ops/stream").await;
    relay.proxy(1).listen.swallow_notifications();

    admin
        .delete(format!("/api/keys/{}", agent.key_hash()))
        .await
        .expect(204);
    let since = Instant::now();
    loop {
        let asked = since.elapsed();
        let answer = agent.get("/api/me").await;
        if answer.status() == 401 {
            break;
        }
        answer.expect(200);
        assert!(
            asked < Duration::from_secs(6),
            "{asked:?} after its end the key still works"
        );
        sleep(Duration::from_millis(20)).await;
    }
    stream.ended().await;
    assert!(since.elapsed() < DEADLINE / 2, "its stream lived on");
}

/// How long a replica hears nothing: over five seconds, the bound of G5.
const CUT_OFF: Duration = Duration::from_millis(5_200);

/// Revokes the agent's key while its replica hears nothing of it.
async fn revoke_while_cut_off(relay: &TestRelay, agent: &Agent, replica: &Proxies) {
    for way in [&replica.database, &replica.listen] {
        way.refuse_new();
        way.reset();
    }
    let key = format!("/api/keys/{}", agent.key_hash());
    relay.admin().delete(key).await.expect(204);
    sleep(CUT_OFF).await;
}

fn let_back(replica: &Proxies) {
    replica.database.pass();
    replica.listen.pass();
}

#[tokio::test]
async fn g5_a_stream_whose_replica_was_cut_off_for_long_shows_nothing_to_a_revoked_key() {
    let relay = TestRelay::builder()
        .replicas(2)
        .through_proxy()
        .start()
        .await;
    let admin = relay.admin();
    let agent = relay
        .agent("short-lived", json!({"ops": "write"}))
        .await
        .on(1);
    agent.say("ops", "hello").await;
    let mut stream = agent.stream("/api/channels/ops/stream").await;
    let mut kept = admin.on(1).stream("/api/channels/ops/stream").await;
    revoke_while_cut_off(&relay, &agent, &relay.proxy(1)).await;

    let late = admin.say("ops", "not for everybody").await;
    let_back(&relay.proxy(1));
    assert_eq!(kept.next().await.data, late);
    let shown = stream.ended().await;
    assert!(shown.is_empty(), "{shown:?}");
}

/// Waits end every 50 ms, so that some end after Postgres is back and before the replica knows
/// which keys still stand.
#[tokio::test]
async fn g5_a_wait_whose_replica_was_cut_off_for_long_shows_nothing_to_a_revoked_key() {
    let relay = TestRelay::builder()
        .replicas(2)
        .through_proxy()
        .env("HANDOFF_STREAMS_PER_KEY", "200")
        .start()
        .await;
    let admin = relay.admin();
    let agent = relay
        .agent("short-lived", json!({"ops": "write"}))
        .await
        .on(1);
    let hello = agent.say("ops", "hello").await;
    let after_hello = format!(
        "after_id={}&wait=7",
        hello["id"].as_str().unwrap_or_default()
    );
    let mut waits = JoinSet::new();
    for _ in 0..60 {
        for path in ["/api/channels/ops/messages", "/api/inbox"] {
            let (agent, path) = (agent.clone(), format!("{path}?{after_hello}"));
            waits.spawn(async move { agent.get(path).await });
        }
        sleep(Duration::from_millis(50)).await;
    }
    revoke_while_cut_off(&relay, &agent, &relay.proxy(1)).await;

    admin.say("ops", "not for everybody").await;
    let_back(&relay.proxy(1));
    while let Some(answer) = waits.join_next().await {
        let answer = answer.expect("a wait panicked");
        assert!([401, 503].contains(&answer.status()), "{answer:?}");
    }
}
