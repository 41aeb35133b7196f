//! The load of long runs, for some seconds: it keeps every kind of agent busy, while a replica is
//! killed and its place taken by another, and its history is whole and sound.

use std::collections::BTreeMap;
use std::time::Duration;

use handoff_checker::history::{Nemesis, Phase};
use handoff_checker::{Kind, Recorder};
use harness::TestRelay;
use harness::agents::{Agents, Endpoints, Plan};
use hyper::Uri;
use tokio::time::sleep;

fn url(relay: &TestRelay, replica: usize) -> Uri {
    relay.replica(replica).url().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_g3_g5_agents_of_every_kind_while_a_replica_is_killed() {
    let relay = TestRelay::builder()
        .replicas(3)
        .env("HANDOFF_KEYS_PER_TEAM", 10_000)
        .env("HANDOFF_STREAMS_PER_KEY", 1_000)
        .start()
        .await;
    let plan = Plan {
        channels: (0..4).map(|n| format!("load-{n}")).collect(),
        rate: 150.0,
        posters: 16,
        followers: 5,
        status_keys: 3,
        ..Plan::default()
    };
    let endpoints = Endpoints {
        balancer: None,
        replicas: (0..3).map(|replica| url(&relay, replica)).collect(),
        admin_key: relay.admin().key().to_owned(),
    };
    let recorder = Recorder::in_memory(plan.seed, "agents of every kind");
    let agents = Agents::start(plan, endpoints, recorder.clone())
        .await
        .unwrap();
    sleep(Duration::from_secs(5)).await;

    let nemesis = |phase| Nemesis {
        t: recorder.now(),
        fault: "kill".to_owned(),
        phase,
        target: "replica 2".to_owned(),
        deaf: true,
        lossy: None,
    };
    recorder.nemesis(nemesis(Phase::Begin));
    relay.replica(2).kill().await;
    sleep(Duration::from_secs(2)).await;
    let new = relay.start_replica(&[]).await;
    agents.move_replica(2, &url(&relay, new));
    recorder.nemesis(nemesis(Phase::End));
    sleep(Duration::from_secs(8)).await;

    let latencies = agents.take_latencies();
    let finished = agents.finish(Duration::from_secs(30)).await;
    recorder.close().unwrap();
    let history = recorder.take();
    let verdict = history.verdict();
    println!("{verdict}\n{:?}", finished.counters);
    assert!(finished.caught_up, "{:?}", finished.behind);
    assert!(verdict.is_sound(), "{verdict}");
    // No API key is refused what it may do, no page or stream that was due.
    assert_eq!(finished.counters.refusals, BTreeMap::new());
    // Nothing but compare-and-set, which the relay has not, goes unchecked.
    assert_eq!(verdict.unchecked(), [Kind::NonLinearizable]);
    let counters = finished.counters;
    assert!(counters.posts_acked > 1_000, "{counters:?}");
    assert!(
        counters.streams_resumed > 0 && counters.retries > 0,
        "{counters:?}"
    );
    assert_eq!(counters.replicas[2].outages.len(), 1, "{counters:?}");
    assert!(!latencies.post.is_empty() && !latencies.deliver.is_empty());
}
