//! The checker is checked: each bug of the table in `PLANTED.md` is planted, brought out by a load
//! and its faults, and must be reported by the checker, which sees only what clients were told. The
//! same load on the same program without the bug must be sound.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use futures_util::future::join_all;
use handoff_checker::history::{Lossy, Nemesis, Phase};
use handoff_checker::{History, Kind, Recorder, Verdict};
use harness::agents::{Agents, Endpoints, Plan};
use harness::load::{Kind as What, Load, Writing};
use harness::{Agent, Builder, CommitFault, TestRelay, planted_relay_binary, relay_binary, run};
use tokio::time::{Instant, sleep};

use crate::sql::Backup;

const VARIABLE: &str = "HANDOFF_PLANTED_BUG";

/// How often a load is tried until it brings out its bug: one that depends on luck needs some.
const TRIES: usize = 20;

/// What an insert of messages has sent before its COMMIT.
const INSERT: &str = "insert into messages";

/// The rows of the tables, cell by cell.
fn rows() -> impl Iterator<Item = Vec<&'static str>> {
    let rows = include_str!("PLANTED.md").lines();
    let rows = rows.filter(|row| row.starts_with("| `"));
    rows.map(|row| row.trim_matches(['|', ' ']).split(" | ").collect())
}

/// The bugs that the tables describe.
fn table() -> Vec<&'static str> {
    rows().map(|cells| cells[0].trim_matches('`')).collect()
}

/// A program's answer to the name of a bug, without a database.
async fn told(program: PathBuf, bug: &str) -> harness::Finished {
    let mut print = Command::new(program);
    print.arg("openapi").env(VARIABLE, bug);
    tokio::task::spawn_blocking(|| run(print))
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn a_release_has_no_planted_bugs() {
    let program = std::fs::read(relay_binary()).unwrap();
    let program = String::from_utf8_lossy(&program);
    let holds = |name: &str| program.contains(name);
    assert!(holds("HANDOFF_LANES"), "names are found where they are");
    for name in table() {
        assert!(!holds(name), "{name} is compiled in");
    }
    assert!(!holds(VARIABLE), "the switch is compiled in");
    let answer = told(relay_binary().clone(), "skip-sweep").await;
    assert!(
        answer.status.success() && answer.stderr.is_empty(),
        "{answer:?}"
    );
}

#[tokio::test]
async fn every_bug_of_the_table_can_be_planted_and_no_other() {
    assert!(table().len() >= 17);
    for name in table() {
        let answer = told(planted_relay_binary(), name).await;
        assert!(answer.status.success(), "{answer:?}");
        let warned = answer.stderr.contains(name) && answer.stderr.contains("IS PLANTED");
        assert!(warned, "{answer:?}");
    }
    let answer = told(planted_relay_binary(), "no-such-bug").await;
    assert!(!answer.status.success(), "{answer:?}");
    assert!(answer.stderr.contains("no planted bug"), "{answer:?}");
}

#[test]
fn the_table_names_anomalies_as_the_checker_does() {
    let first_table: Vec<_> = rows().filter(|cells| cells.len() == 5).collect();
    assert_eq!(first_table.len(), 17);
    for cells in first_table {
        for name in cells[3].split(", ") {
            let is_known = Kind::ALL.iter().any(|kind| kind.name() == name);
            assert!(is_known, "{}: {name:?}", cells[0]);
        }
    }
}

/// Two replicas of the program with bugs, this one planted.
fn with(bug: &str) -> Builder {
    TestRelay::builder()
        .replicas(2)
        .release(&planted_relay_binary())
        .env(VARIABLE, bug)
}

/// Has the load bring out the bug until the checker reports one of the kinds, each time for a new
/// team. Without the bug the load is sound.
async fn caught(
    bug: &str,
    relay: impl Fn(Builder) -> Builder,
    load: impl AsyncFn(&TestRelay, Agent) -> History,
    kinds: &[Kind],
) {
    let sound = relay(with("")).start().await;
    load(&sound, sound.admin()).await.assert_sound();
    drop(sound);

    let broken = relay(with(bug)).start().await;
    let mut others = Vec::new();
    for turn in 0..TRIES {
        let admin = broken.signup(&format!("team {turn}"), "admin").await;
        let verdict = load(&broken, admin).await.verdict();
        if reports(&verdict, kinds) {
            println!("{bug} was caught in try {}", turn + 1);
            return;
        }
        others.extend(verdict.anomalies);
    }
    panic!("{bug} was not caught in {TRIES} tries; the checker reports {others:?}");
}

/// Whether the checker found something of one of the kinds.
fn reports(verdict: &Verdict, kinds: &[Kind]) -> bool {
    kinds.iter().any(|kind| verdict.count(*kind) > 0)
}

/// A number of writers that each write so much to the channels.
fn some(writers: usize, each: usize, channels: &[&str]) -> Writing {
    Writing {
        writers,
        each: Some(each),
        ..Writing::to(channels)
    }
}

#[tokio::test]
async fn drop_frame_at_handover() {
    let load = async |_: &TestRelay, admin: Agent| {
        let mut load = Load::new(&admin, [0, 1]);
        load.write_one("ops", 0, true).await;
        load.write(some(4, 60, &["ops"]));
        // Each loses what comes after the page that it begins with, and sees that in what follows.
        for seat in 0..4 {
            load.stored_more(20).await;
            load.follow_until_silent("ops", Some("0"), seat, Duration::from_secs(2));
        }
        load.written().await;
        load.finish().await
    };
    caught(
        "drop-frame-at-handover",
        |relay| relay,
        load,
        &[Kind::Skipped],
    )
    .await;
}

#[tokio::test]
async fn draw_before_lock() {
    let load = async |_: &TestRelay, admin: Agent| {
        let mut load = Load::new(&admin, [0, 1]);
        // Writers take channels and replicas in turn: with one channel less each would have its own.
        load.write(some(16, 15, &["ops", "dev", "qa"]));
        load.walk("ops", What::Message, 10);
        load.written().await;
        load.finish().await
    };
    let kinds = [Kind::Gap, Kind::Skipped];
    caught("draw-before-lock", |relay| relay, load, &kinds).await;
}

#[tokio::test]
async fn sequence_cache() {
    let load = async |_: &TestRelay, admin: Agent| {
        let mut load = Load::new(&admin, [0, 1]);
        load.write(some(4, 20, &["ops"]));
        load.written().await;
        load.finish().await
    };
    let kinds = [Kind::CommitOrder];
    caught("sequence-cache", |relay| relay, load, &kinds).await;
}

#[tokio::test]
async fn unsettled_start() {
    let load = async |relay: &TestRelay, admin: Agent| {
        slow_commits(relay, Duration::from_millis(50)).await;
        let mut load = Load::new(&admin, [0, 1]);
        load.write_one("ops", 0, true).await;
        load.write(some(16, 10, &["ops"]));
        for n in 0..20 {
            load.walk_up_to_a_stream("ops", n, Duration::from_millis(50 * n as u64));
        }
        load.written().await;
        load.finish().await
    };
    let relay = |relay: Builder| relay.env("HANDOFF_STREAMS_PER_KEY", 100);
    caught("unsettled-start", relay, load, &[Kind::Skipped]).await;
}

#[tokio::test]
async fn merge_without_watermark() {
    let load = async |_: &TestRelay, admin: Agent| {
        let mut load = Load::new(&admin, [0, 1]);
        load.write(some(8, 25, &["ops", "dev"]));
        load.follow_many(&["ops", "dev"], Some("0"), 0);
        load.follow_many(&["ops", "dev"], Some("0"), 1);
        load.written().await;
        load.finish().await
    };
    caught(
        "merge-without-watermark",
        |relay| relay,
        load,
        &[Kind::Skipped],
    )
    .await;
}

/// Posts on one replica, streams on the other, until those are silent for longer than a sweep takes
/// to make up for a bell.
async fn across(admin: Agent, streams_open: impl FnOnce()) -> History {
    let mut load = Load::new(&admin, [0, 1]);
    load.write_one("ops", 0, true).await;
    let patience = Duration::from_secs(5);
    load.follow_until_silent("ops", Some("0"), 1, patience);
    load.follow_until_silent("ops", None, 1, patience);
    sleep(Duration::from_millis(200)).await;
    streams_open();
    join_all((0..40).map(|_| load.write_one("ops", 0, true))).await;
    load.finish().await
}

#[tokio::test]
async fn skip_sweep() {
    let load = async |relay: &TestRelay, admin: Agent| {
        let listen = relay.proxy(1).listen;
        across(admin, || listen.swallow_notifications()).await
    };
    caught("skip-sweep", Builder::through_proxy, load, &[Kind::Skipped]).await;
}

#[tokio::test]
async fn swallow_bell() {
    let load = async |_: &TestRelay, admin: Agent| across(admin, || {}).await;
    caught("swallow-bell", |relay| relay, load, &[Kind::Skipped]).await;
}

/// Writers of both kinds and streams, while something goes wrong again and again.
async fn with_faults(admin: Agent, mut fault: impl AsyncFnMut(usize)) -> History {
    let mut load = Load::new(&admin, [0, 1]);
    load.write_one("ops", 0, true).await;
    for seat in [0, 1] {
        load.follow("ops", Some("0"), seat);
    }
    load.write_in_both_ways(["ops", "dev"], Duration::from_millis(5));
    for round in 0..4 {
        load.stored_more(20).await;
        fault(round).await;
    }
    load.stored_more(20).await;
    load.finish().await
}

/// Makes commits take so long for each fifth message in them.
async fn slow_commits(relay: &TestRelay, time: Duration) {
    let client = relay.database().connect().await;
    let seconds = time.as_secs_f64();
    client
        .batch_execute(&format!(
            "create or replace function take_time() returns trigger language plpgsql as
             $$ begin perform pg_sleep({seconds}); return null; end $$;
             drop trigger if exists slow_commit on messages;
             create constraint trigger slow_commit after insert on messages
             deferrable initially deferred for each row when (new.seq % 5 = 0)
             execute function take_time()"
        ))
        .await
        .unwrap();
}

/// Commits take their time, and the backends of the lanes are killed meanwhile.
async fn with_commits_killed(relay: &TestRelay, admin: Agent) -> History {
    slow_commits(relay, Duration::from_millis(20)).await;
    let client = relay.database().connect().await;
    with_faults(admin, async |_| {
        let killed = "
            select count(pg_terminate_backend(pid)) from pg_stat_activity
            where datname = current_database() and application_name like 'handoff lane%'";
        client.query(killed, &[]).await.unwrap();
    })
    .await
}

#[tokio::test]
async fn answer_before_commit() {
    let load = with_commits_killed;
    caught("answer-before-commit", |relay| relay, load, &[Kind::Lost]).await;
}

#[tokio::test]
async fn deliver_uncommitted() {
    let load = with_commits_killed;
    let kinds = [Kind::Phantom];
    caught("deliver-uncommitted", |relay| relay, load, &kinds).await;
}

#[tokio::test]
async fn forget_idempotency() {
    let load = async |relay: &TestRelay, admin: Agent| {
        with_faults(admin, async |round| {
            let proxy = relay.proxy(round % 2).listen;
            proxy.lose_commit(CommitFault::LoseAnswer, INSERT);
            proxy.commit_lost().await;
        })
        .await
    };
    let kinds = [Kind::Duplicate];
    caught("forget-idempotency", Builder::through_proxy, load, &kinds).await;
}

#[tokio::test]
async fn torn_status() {
    let load = async |_: &TestRelay, admin: Agent| {
        let mut load = Load::new(&admin, [0, 1]);
        load.write(Writing {
            kind: What::Status,
            ..some(16, 10, &["ops"])
        });
        load.written().await;
        load.finish().await
    };
    // The history lacks changes that were answered, and its newest change of an entry is not what the
    // entry says: each must be seen.
    caught("torn-status", |relay| relay, &load, &[Kind::Lost]).await;
    caught("torn-status", |relay| relay, &load, &[Kind::TornStatus]).await;
}

#[tokio::test]
async fn disorder_batch() {
    let load = async |_: &TestRelay, admin: Agent| {
        let mut load = Load::new(&admin, [0, 1]);
        load.write(some(16, 15, &["ops", "dev"]));
        load.follow_many(&["ops", "dev"], Some("0"), 0);
        load.written().await;
        load.finish().await
    };
    // Followers of this load take one event at a time. To one that takes all that came in one go it
    // is internal disorder.
    let kinds = [Kind::NonMonotonic];
    caught("disorder-batch", |relay| relay, load, &kinds).await;
}

#[tokio::test]
async fn skip_on_resume() {
    let load = async |_: &TestRelay, admin: Agent| {
        let mut load = Load::new(&admin, [0, 1]);
        load.write(some(4, 40, &["ops"]));
        load.hop("ops", Some("0"), 6);
        load.written().await;
        load.finish().await
    };
    caught("skip-on-resume", |relay| relay, load, &[Kind::Skipped]).await;
}

#[tokio::test]
async fn lose_on_crash() {
    let load = async |relay: &TestRelay, admin: Agent| {
        let mut load = Load::new(&admin, [0, 1]);
        load.write(Writing::to(&["ops"]));
        load.stored_more(200).await;
        relay.postgres().stop_immediate().await;
        relay.postgres().start().await;
        load.stored_more(20).await;
        load.finish().await
    };
    caught("lose-on-crash", Builder::own_postgres, load, &[Kind::Lost]).await;
}

/// Posts, a backup, posts that it doesn't have, and more after it took the database's place. What
/// the backup doesn't have is lost with the bug and without; with it, its IDs are drawn again.
async fn restored(bug: &str) -> Verdict {
    let relay = with(bug).own_postgres().start().await;
    let mut load = Load::new(&relay.admin(), [0, 1]);
    load.write_one("ops", 0, true).await;
    load.follow("ops", Some("0"), 1);
    let backup = Backup::of(&relay).await;
    let since = load.recorder().now();
    backup.take().await;
    for seat in 0..10 {
        load.write_one("ops", seat, true).await;
    }
    let nemesis = |phase, lossy| {
        load.recorder().nemesis(Nemesis {
            t: load.recorder().now(),
            fault: "restore".to_owned(),
            phase,
            deaf: true,
            lossy,
            ..Nemesis::default()
        });
    };
    nemesis(Phase::Begin, None);
    backup.restore().await;
    nemesis(Phase::End, Some(Lossy { since }));
    for seat in 0..20 {
        load.write_one("ops", seat, true).await;
    }
    load.finish().await.verdict()
}

#[tokio::test]
async fn no_epoch() {
    let sound = restored("").await;
    assert!(sound.is_sound(), "{sound}");
    let lost: u64 = sound.failovers.iter().map(|failover| failover.posts).sum();
    assert!(lost > 0, "the backup lacks something: {sound}");
    let deadline = Instant::now() + harness::DEADLINE;
    while !reports(&restored("no-epoch").await, &[Kind::Altered]) {
        assert!(Instant::now() < deadline, "no-epoch was not caught");
    }
}

/// What agents do together on both replicas, all in one channel, for so long.
async fn agents(relay: &TestRelay, admin: Agent, plan: Plan, time: Duration) -> History {
    let url = |replica| relay.replica(replica).url().parse().unwrap();
    let endpoints = Endpoints {
        balancer: None,
        replicas: vec![url(0), url(1)],
        admin_key: admin.key().to_owned(),
    };
    let recorder = Recorder::in_memory(plan.seed, "a few agents");
    let agents = Agents::start(plan, endpoints, recorder.clone())
        .await
        .unwrap();
    sleep(time).await;
    let finished = agents.finish(Duration::from_secs(30)).await;
    assert!(finished.caught_up, "{:?}", finished.behind);
    recorder.close().unwrap();
    recorder.take()
}

/// Few posts, nobody else.
fn posters_alone() -> Plan {
    Plan {
        channels: vec!["ops".to_owned()],
        rate: 50.0,
        posters: 2,
        walkers: 0,
        followers: 0,
        sessions: 0,
        setters: 0,
        holders: 0,
        ..Plan::default()
    }
}

#[tokio::test]
async fn forget_revocation() {
    let load = async |relay: &TestRelay, admin: Agent| {
        let plan = Plan {
            holders: 2,
            ..posters_alone()
        };
        agents(relay, admin, plan, Duration::from_secs(6)).await
    };
    let kinds = [Kind::StalePermission];
    caught("forget-revocation", |relay| relay, load, &kinds).await;
}

#[tokio::test]
async fn ack_backwards() {
    let load = async |relay: &TestRelay, admin: Agent| {
        let plan = Plan {
            sessions: 2,
            ..posters_alone()
        };
        agents(relay, admin, plan, Duration::from_secs(2)).await
    };
    let kinds = [Kind::AckBackwards];
    caught("ack-backwards", |relay| relay, load, &kinds).await;
}
