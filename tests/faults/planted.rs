//! The checker is checked: each bug of the table in `PLANTED.md` is planted, brought out by a load
//! and its faults, and must be reported by the checker, which sees only what clients were told. The
//! same load on the same program without the bug must be sound.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use futures_util::future::join_all;
use harness::history::{History, Item, View, Violation};
use harness::load::{Kind, Load, Writing};
use harness::{
    Agent, Block, Builder, CommitFault, Next, TestRelay, planted_relay_binary, relay_binary, run,
};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::sql::Backup;

const VARIABLE: &str = "HANDOFF_PLANTED_BUG";

/// How often a load is tried until it brings out its bug: one that depends on luck needs some.
const TRIES: usize = 20;

/// What an insert of messages has sent before its COMMIT.
const INSERT: &str = "insert into messages";

/// The bugs that the table describes.
fn table() -> Vec<&'static str> {
    let rows = include_str!("PLANTED.md").lines();
    let names = rows.filter_map(|row| row.strip_prefix("| `")?.split('`').next());
    names.collect()
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

/// Two replicas of the program with bugs, this one planted.
fn with(bug: &str) -> Builder {
    TestRelay::builder()
        .replicas(2)
        .release(&planted_relay_binary())
        .env(VARIABLE, bug)
}

/// Has the load bring out the bug until the checker reports the anomaly, each time for a new team.
/// Without the bug the load is sound.
async fn caught(
    bug: &str,
    relay: impl Fn(Builder) -> Builder,
    load: impl AsyncFn(&TestRelay, Agent) -> History,
    anomaly: impl Fn(&Violation) -> bool,
) {
    let sound = relay(with("")).start().await;
    load(&sound, sound.admin()).await.assert_sound();
    drop(sound);

    let broken = relay(with(bug)).start().await;
    let mut others = Vec::new();
    for turn in 0..TRIES {
        let admin = broken.signup(&format!("team {turn}"), "admin").await;
        let found = load(&broken, admin).await.violations();
        if found.iter().any(&anomaly) {
            return;
        }
        others.extend(found);
    }
    panic!("{bug} was not caught in {TRIES} tries; the checker reports {others:?}");
}

fn is_skipped(violation: &Violation) -> bool {
    matches!(violation, Violation::Skipped { .. })
}

fn is_lost(violation: &Violation) -> bool {
    matches!(violation, Violation::Lost { .. })
}

/// A number of writers that each write so much to the channels.
fn some(writers: usize, each: usize, channels: &[&str]) -> Writing {
    Writing {
        writers,
        each: Some(each),
        ..Writing::to(channels)
    }
}

/// Follows a channel's stream until nothing has come for `patience`: what stands in the channel by
/// then is due.
async fn follow_until_silent(
    agent: Agent,
    channel: &str,
    from: Option<u64>,
    patience: Duration,
    mut read_before: impl AsyncFnMut(u64) -> Vec<Item>,
) -> View {
    let path = format!("/api/channels/{channel}/stream");
    let from = from.map(|id| id.to_string());
    let mut stream = match &from {
        Some(id) => agent.stream_from(&path, id).await,
        None => agent.stream(&path).await,
    };
    let mut view = View {
        reader: format!("{path} until it is silent"),
        channels: [channel.to_owned()].into(),
        after: 0,
        items: Vec::new(),
        until: 0,
        caught_up: Vec::new(),
    };
    while let Ok(block) = timeout(patience, stream.block_or_end()).await {
        match block {
            Ok(Block::Id(id)) => {
                if view.until == 0 {
                    view.until = id.parse().unwrap();
                    view.items.extend(read_before(view.until).await);
                }
            }
            Ok(Block::Event(event)) => view.items.push(item(&event.data)),
            Ok(Block::Comment(_)) => {}
            Err(Next::End | Next::Broken(_)) => break,
            Err(Next::Event(event)) => unreachable!("{event:?} is a block"),
        }
    }
    view
}

fn item(message: &Value) -> Item {
    Item {
        id: message["id"].as_str().unwrap().parse().unwrap(),
        channel: message["channel"].as_str().unwrap().to_owned(),
        seq: message["seq"].as_u64(),
        content: message["content"].as_str().unwrap().to_owned(),
    }
}

/// Adds views whose readers waited for all that stands.
fn seen_to_the_end(mut history: History, views: Vec<View>) -> History {
    let last = history.table.iter().map(|item| item.id).max();
    history.views.extend(views.into_iter().map(|view| View {
        until: last.unwrap_or(0),
        ..view
    }));
    history
}

#[tokio::test]
async fn drop_frame_at_handover() {
    let load = async |_: &TestRelay, admin: Agent| {
        let mut load = Load::new(&admin, [0, 1]);
        load.write_one("ops", 0, true).await;
        load.write(some(4, 60, &["ops"]));
        for most in 1..=4 {
            load.hop("ops", Some("0"), most);
        }
        load.written().await;
        load.finish().await
    };
    caught("drop-frame-at-handover", |relay| relay, load, is_skipped).await;
}

#[tokio::test]
async fn draw_before_lock() {
    let load = async |_: &TestRelay, admin: Agent| {
        let mut load = Load::new(&admin, [0, 1]);
        // Writers take channels and replicas in turn: with one channel less each would have its own.
        load.write(some(16, 15, &["ops", "dev", "qa"]));
        load.walk("ops", Kind::Message, 10);
        load.written().await;
        load.finish().await
    };
    let anomaly =
        |found: &Violation| matches!(found, Violation::Hole { .. } | Violation::Skipped { .. });
    caught("draw-before-lock", |relay| relay, load, anomaly).await;
}

#[tokio::test]
async fn sequence_cache() {
    let load = async |_: &TestRelay, admin: Agent| {
        let mut load = Load::new(&admin, [0, 1]);
        load.write(some(4, 20, &["ops"]));
        load.written().await;
        load.finish().await
    };
    let anomaly = |found: &Violation| matches!(found, Violation::Backwards { .. });
    caught("sequence-cache", |relay| relay, load, anomaly).await;
}

#[tokio::test]
async fn unsettled_start() {
    let load = async |relay: &TestRelay, admin: Agent| {
        slow_commits(relay).await;
        let mut load = Load::new(&admin, [0, 1]);
        load.write_one("ops", 0, true).await;
        load.write(some(16, 15, &["ops"]));
        let openings = (0..40).map(async |n| {
            sleep(Duration::from_millis(15 * n as u64)).await;
            let admin = admin.on(n % 2);
            let patience = Duration::from_millis(1_500);
            // The newest before the stream: with the stream's own, nothing may be missing.
            let newest = async |start| {
                let path = "/api/channels/ops/messages?limit=100";
                let page = admin.get(path).await.expect(200);
                let items = page["messages"].as_array().unwrap().iter().map(item);
                items.filter(|item| item.id <= start).collect()
            };
            let view = follow_until_silent(admin.clone(), "ops", None, patience, newest).await;
            let first = view.items.first().map_or(view.until, |item| item.id - 1);
            View {
                after: first,
                ..view
            }
        });
        let ((), views) = tokio::join!(load.written(), join_all(openings));
        seen_to_the_end(load.finish().await, views)
    };
    let relay = |relay: Builder| relay.env("HANDOFF_STREAMS_PER_KEY", 100);
    caught("unsettled-start", relay, load, is_skipped).await;
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
    caught("merge-without-watermark", |relay| relay, load, is_skipped).await;
}

/// Posts on one replica, streams on the other, until those are silent for longer than a sweep takes
/// to make up for a bell.
async fn across(admin: Agent, streams_open: impl FnOnce()) -> History {
    let mut load = Load::new(&admin, [0]);
    load.write_one("ops", 0, true).await;
    let patience = Duration::from_secs(5);
    let agent = admin.on(1);
    let follow = async |from| {
        let view =
            follow_until_silent(agent.clone(), "ops", from, patience, async |_| vec![]).await;
        let after = from.unwrap_or(view.until);
        View { after, ..view }
    };
    let write = async {
        sleep(Duration::from_millis(200)).await;
        streams_open();
        load.write(some(4, 10, &["ops"]));
        load.written().await;
    };
    let ((), whole, live) = tokio::join!(write, follow(Some(0)), follow(None));
    let views = vec![whole, live];
    seen_to_the_end(load.finish().await, views)
}

#[tokio::test]
async fn skip_sweep() {
    let load = async |relay: &TestRelay, admin: Agent| {
        let listen = relay.proxy(1).listen;
        across(admin, || listen.swallow_notifications()).await
    };
    caught("skip-sweep", Builder::through_proxy, load, is_skipped).await;
}

#[tokio::test]
async fn swallow_bell() {
    let load = async |_: &TestRelay, admin: Agent| across(admin, || {}).await;
    caught("swallow-bell", |relay| relay, load, is_skipped).await;
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

/// Makes commits take their time.
async fn slow_commits(relay: &TestRelay) {
    let client = relay.database().connect().await;
    client
        .batch_execute(
            "create or replace function take_time() returns trigger language plpgsql as
             $$ begin perform pg_sleep(0.02); return null; end $$;
             drop trigger if exists slow_commit on messages;
             create constraint trigger slow_commit after insert on messages
             deferrable initially deferred for each row when (new.seq % 5 = 0)
             execute function take_time()",
        )
        .await
        .unwrap();
}

/// Commits take their time, and the backends of the lanes are killed meanwhile.
async fn with_commits_killed(relay: &TestRelay, admin: Agent) -> History {
    slow_commits(relay).await;
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
    caught("answer-before-commit", |relay| relay, load, is_lost).await;
}

#[tokio::test]
async fn deliver_uncommitted() {
    let load = with_commits_killed;
    let anomaly = |found: &Violation| matches!(found, Violation::Phantom { .. });
    caught("deliver-uncommitted", |relay| relay, load, anomaly).await;
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
    let anomaly = |found: &Violation| matches!(found, Violation::Doubled { .. });
    caught("forget-idempotency", Builder::through_proxy, load, anomaly).await;
}

#[tokio::test]
async fn torn_status() {
    let load = async |_: &TestRelay, admin: Agent| {
        let mut load = Load::new(&admin, [0, 1]);
        load.write(Writing {
            kind: Kind::Status,
            ..some(16, 10, &["ops"])
        });
        load.written().await;
        load.finish().await
    };
    caught("torn-status", |relay| relay, load, is_lost).await;
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
    let anomaly = |found: &Violation| matches!(found, Violation::OutOfOrder { .. });
    caught("disorder-batch", |relay| relay, load, anomaly).await;
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
    caught("skip-on-resume", |relay| relay, load, is_skipped).await;
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
    caught("lose-on-crash", Builder::own_postgres, load, is_lost).await;
}

/// Posts, a backup, posts that it doesn't have, and more after it took the database's place. What
/// the backup doesn't have is lost with the bug and without; with it, its IDs are drawn again.
async fn restored(bug: &str) -> Vec<Violation> {
    let relay = with(bug).own_postgres().start().await;
    let mut load = Load::new(&relay.admin(), [0, 1]);
    load.write_one("ops", 0, true).await;
    load.follow("ops", Some("0"), 1);
    let backup = Backup::of(&relay).await;
    backup.take().await;
    for seat in 0..10 {
        load.write_one("ops", seat, true).await;
    }
    backup.restore().await;
    for seat in 0..20 {
        load.write_one("ops", seat, true).await;
    }
    load.finish().await.violations()
}

#[tokio::test]
async fn no_epoch() {
    let is_drawn_again = |found: &Violation| matches!(found, Violation::Altered { .. });
    let sound = restored("").await;
    assert!(
        sound.iter().any(is_lost),
        "the backup lacks something: {sound:?}"
    );
    assert!(!sound.iter().any(is_drawn_again), "{sound:?}");
    let deadline = Instant::now() + harness::DEADLINE;
    while !restored("no-epoch").await.iter().any(is_drawn_again) {
        assert!(Instant::now() < deadline, "no-epoch was not caught");
    }
}
