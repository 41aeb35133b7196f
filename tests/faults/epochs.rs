//! The database is another than it was: a backup takes its place, or an operator says so. IDs that
//! clients have seen are never drawn again, and nothing of before is served from memory.

use harness::{Agent, Next, TestRelay, eventually, relay_binary, run};
use serde_json::{Value, json};
use std::process::Command;

use crate::sql::Backup;

/// The epoch that both replicas name, once it is another than before.
async fn epoch_after(relay: &TestRelay, before: &Value) -> Value {
    eventually("both replicas name a new epoch", || async {
        let mut named = Vec::new();
        for replica in 0..2 {
            let described = relay.anyone().on(replica).get("/api").await.expect(200);
            named.push(described["epoch"].clone());
        }
        assert!(named.iter().all(Value::is_string), "{named:?}");
        (named[0] == named[1] && named[0] != *before).then(|| named[0].clone())
    })
    .await
}

fn serial(message: &Value) -> i64 {
    message["id"].as_str().unwrap().parse().unwrap()
}

/// Posts to a replica that may not have its connections back yet.
async fn say_again(agent: &Agent, channel: &str, content: &str) -> Value {
    eventually("the post is taken", || async {
        let path = format!("/api/channels/{channel}/messages");
        let answer = agent.post(path, json!({"content": content})).await;
        (answer.status() == 201).then(|| answer.json())
    })
    .await
}

#[tokio::test]
async fn an_epoch_lasts_over_restarts_of_replicas_and_of_postgres() {
    let relay = TestRelay::builder()
        .replicas(2)
        .own_postgres()
        .start()
        .await;
    let epoch = epoch_after(&relay, &Value::Null).await;
    let admin = relay.admin();
    let first = admin.say("ops", "hello").await;
    let stream = admin.stream("/api/channels/ops/stream").await;
    assert_eq!(json!(stream.header("handoff-epoch")), epoch);
    let stream = admin.on(1).stream("/api/stream?channels=ops").await;
    assert_eq!(json!(stream.header("handoff-epoch")), epoch);
    drop(stream);

    relay.postgres().stop_immediate().await;
    relay.postgres().start().await;
    let later = relay.start_replica(&[]).await;
    let second = say_again(&admin.on(later), "ops", "still here").await;
    for replica in [0, 1, later] {
        let described = relay.anyone().on(replica).get("/api").await.expect(200);
        assert_eq!(described["epoch"], epoch);
    }
    // A crash may skip IDs that were logged ahead, not an epoch's worth of them.
    assert!(serial(&second) - serial(&first) < 1_000, "{second}");
}

#[tokio::test]
async fn g2_g3_no_id_is_drawn_again_after_a_backup_took_the_databases_place() {
    let relay = TestRelay::builder()
        .replicas(2)
        .own_postgres()
        .start()
        .await;
    let before = epoch_after(&relay, &Value::Null).await;
    let admin = relay.admin();
    for n in 0..3 {
        admin.say("ops", &format!("kept {n}")).await;
    }
    let backup = Backup::of(&relay).await;
    backup.take().await;

    // What the backup doesn't have.
    say_again(&admin, "ops", "lost 0").await;
    let mut follower = admin
        .on(1)
        .stream_from("/api/channels/ops/stream", "0")
        .await;
    follower.take(4).await;
    for n in 1..5 {
        say_again(&admin.on(n % 2), "ops", &format!("lost {n}")).await;
    }
    let seen = follower.take(4).await;
    let cursor = seen.last().unwrap().id.clone();
    let late = relay.agent("late", json!({"*": "read"})).await;
    late.on(1)
        .get("/api/channels/ops/messages")
        .await
        .expect(200);

    backup.restore().await;

    let after = epoch_after(&relay, &before).await;
    assert_ne!(after, before);
    // Streams end; what came before the end was read before.
    if let Next::Event(event) = follower.next_or_end().await {
        panic!("{event:?} of a database that is gone");
    }
    for replica in 0..2 {
        let admin = admin.on(replica);
        let path = format!("/api/channels/ops/messages?after_id={cursor}");
        let page = admin.get(&path).await.expect(200);
        assert_eq!(page["messages"], json!([]), "nothing of before is served");
        let refused = late.on(replica).get("/api/channels").await;
        refused.refused(401, "INVALID_API_KEY");
    }
    let mut resumed = admin
        .on(1)
        .stream_from("/api/channels/ops/stream", &cursor)
        .await;
    let mut whole = admin.stream_from("/api/channels/ops/stream", "0").await;
    let posted = say_again(&admin, "ops", "new").await;
    assert!(serial(&posted) > cursor.parse().unwrap());
    assert_eq!(posted["seq"], 4, "the restored channel goes on");
    assert_eq!(resumed.next().await.data["content"], "new");
    let events = whole.take(4).await;
    let contents: Vec<_> = events.iter().map(|event| &event.data["content"]).collect();
    assert_eq!(
        json!(contents),
        json!(["kept 0", "kept 1", "kept 2", "new"])
    );
    let path = format!("/api/channels/ops/messages?after_id={cursor}");
    let page = admin.on(1).get(&path).await.expect(200);
    assert_eq!(page["messages"][0]["content"], "new");
}

#[tokio::test]
async fn an_operator_begins_an_epoch_where_the_relay_cannot_tell() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let before = epoch_after(&relay, &Value::Null).await;
    let admin = relay.admin();
    let first = admin.say("ops", "before").await;
    let mut follower = admin.on(1).stream("/api/channels/ops/stream").await;
    let waiter = admin.on(1);
    let wait = tokio::spawn(async move { waiter.get("/api/inbox?wait=30").await });

    let mut begin = Command::new(relay_binary());
    begin
        .arg("new-epoch")
        .env("DATABASE_URL", relay.database().url());
    let begun = tokio::task::spawn_blocking(|| run(begin))
        .await
        .unwrap()
        .unwrap();
    assert!(begun.status.success(), "{}", begun.stderr);
    let after = epoch_after(&relay, &before).await;
    assert!(
        begun.stdout.contains(after.as_str().unwrap()),
        "{}",
        begun.stdout
    );

    assert!(follower.ended().await.is_empty());
    let bob = relay.agent("bob", json!({"*": "write"})).await;
    let posted = bob.say("ops", "after").await;
    assert!(serial(&posted) > serial(&first) + (1 << 32));
    // One who waits goes on waiting.
    let inbox = wait.await.unwrap().expect(200);
    assert_eq!(inbox["messages"][0]["content"], "after");
    let last = first["id"].as_str().unwrap();
    let mut resumed = admin.stream_from("/api/channels/ops/stream", last).await;
    assert_eq!(resumed.next().await.data["content"], "after");
    assert_eq!(json!(resumed.header("handoff-epoch")), after);
}
