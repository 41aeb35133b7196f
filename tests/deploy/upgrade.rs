//! From one schema to the next and back, with replicas of both releases at work.

use std::path::PathBuf;
use std::process::Command;

use harness::{Method, TestRelay, eventually, relay_binary, run};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio_postgres::{error::SqlState, types::ToSql};

use crate::rolling::{Clients, begin};
use crate::site::{Kind, Site};

/// The release before this one: a binary of it where there is one at hand, else this one, for which
/// the schema of the next release is made up below.
fn release_before() -> PathBuf {
    match std::env::var_os("HANDOFF_OLD_RELAY_BIN") {
        Some(path) => path.into(),
        None => relay_binary().clone(),
    }
}

/// What a release of the future may do to the schema: it adds, and takes nothing away.
const EXPANSION: &str = "
    alter table messages add column if not exists note_of_the_future text;
    create table things_of_the_future (team_id bigint not null, thing text not null);
    create index things_of_the_future_by_team on things_of_the_future (team_id);
    insert into _sqlx_migrations
        (version, description, success, checksum, execution_time)
    values (99991231000000, 'the future', true, '\\x00', 0);
";

#[tokio::test]
async fn g1_g3_an_upgrade_across_a_migration_and_back_loses_nothing() {
    let old = release_before();
    let builder = TestRelay::builder().own_postgres().release(&old);
    let site = Site::start(Kind::Haproxy, 3, builder).await;
    let mut load = site.load();
    begin(&mut load);
    let clients = Clients::start(&site, 8).await;
    load.stored_more(100).await;

    // First the schema, while only the old ones serve.
    site.relay.database().migrate().await;
    let database = site.relay.database().connect().await;
    database.batch_execute(EXPANSION).await.unwrap();
    load.stored_more(100).await;
    // Then the replicas: the last of the old ones serve beside the first new ones.
    for replica in site.members() {
        site.join(Some(relay_binary())).await;
        load.stored_more(50).await;
        site.leave(replica).await;
        load.stored_more(50).await;
    }
    // `migrate` of either release leaves the newer schema alone.
    site.relay.database().migrate().await;
    // And back, on the schema as it is now.
    for replica in site.members() {
        site.leave(replica).await;
        load.stored_more(50).await;
        site.join(Some(&old)).await;
        load.stored_more(50).await;
    }
    let report = clients.finish().await;
    let history = load.finish().await;
    println!(
        "{} posts by clients, {} writes beside them",
        report.posts,
        history.writes()
    );
    history.assert_sound();
}

/// Takes back the migration that made `idempotency_keys`.
const BEFORE_IDEMPOTENCY_KEYS: &str = "
    drop function carry_idempotency_over cascade;
    drop table idempotency_keys;
    delete from _sqlx_migrations where version = 20261130000007;
";

/// What a release before `idempotency_keys` remembers of the first message, under a key ($1) of an API
/// key (its hash is $2): the hash of the channel's name, the content, no mention and no parent.
const REMEMBERED_BEFORE: &str = "
    insert into idempotency
    select team_id, $2, $1,
        sha256(
            int8send(octet_length('ops')) || 'ops' || int8send(octet_length(content))
            || convert_to(content, 'UTF8') || int8send(-1) || int8send(-1)
        ),
        channel_id, id, clock_timestamp()
    from messages
    order by id
    limit 1";

#[tokio::test]
async fn g1_a_retry_of_what_the_release_before_posted_posts_nothing() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let first = json!({"content": "once"});
    let first = admin.post("/api/channels/ops/messages", first).await;
    let first = first.expect(201);
    relay.replica(0).terminate().await;

    let database = relay.database().connect().await;
    let key_hash = Sha256::digest(admin.key()).to_vec();
    let remember = async |key: &str| {
        let params: [&(dyn ToSql + Sync); 2] = [&key, &key_hash];
        database.execute(REMEMBERED_BEFORE, &params).await
    };
    database
        .batch_execute(BEFORE_IDEMPOTENCY_KEYS)
        .await
        .unwrap();
    remember(r"before the migration, \101").await.unwrap();
    relay.database().migrate().await;
    remember("by an old replica, after it").await.unwrap();

    let admin = admin.on(relay.start_replica(&[]).await);
    let post = async |key: &str, content: &str| {
        let request = admin.request(Method::POST, "/api/channels/ops/messages");
        let request = request.header("idempotency-key", key);
        request.json(&json!({ "content": content })).send().await
    };
    for key in [r"before the migration, \101", "by an old replica, after it"] {
        let retry = post(key, "once").await;
        assert_eq!(retry.expect(200), first);
        assert_eq!(retry.header("idempotent-replay"), Some("true"));
        let other = post(key, "something else").await;
        other.refused(409, "IDEMPOTENCY_MISMATCH");
    }

    // What a new one has stored, an old one can't store again, until the key has expired.
    post("a new one", "twice").await.expect(201);
    let again = remember("a new one").await.unwrap_err();
    let refused = Some(&SqlState::T_R_SERIALIZATION_FAILURE);
    assert_eq!(again.code(), refused, "{again:?}");
    let expire = "update idempotency_keys set created_at = created_at - interval '25 hours'";
    database.execute(expire, &[]).await.unwrap();
    remember("a new one").await.unwrap();
}

#[tokio::test]
async fn a_schema_that_is_too_old_is_refused() {
    let relay = TestRelay::new().await;
    let database = relay.database().connect().await;
    let newest = "delete from _sqlx_migrations
        where version = (select max(version) from _sqlx_migrations)";
    database.execute(newest, &[]).await.unwrap();
    let mut serve = Command::new(relay_binary());
    serve
        .arg("serve")
        .env("DATABASE_URL", relay.database().url())
        .env("PORT", "0");
    let refused = tokio::task::spawn_blocking(|| run(serve)).await.unwrap();
    let refused = refused.unwrap();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert_eq!(refused.stdout, "", "its port was never open");
    assert!(
        refused.stderr.contains("handoff-relay migrate"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn health_tells_whether_a_replica_is_ready() {
    let relay = TestRelay::builder().own_postgres().start().await;
    let port = relay.replica(0).address().port();
    let health = || async move {
        let mut health = Command::new(relay_binary());
        health.arg("health").env("PORT", port.to_string());
        let asked = tokio::task::spawn_blocking(|| run(health)).await.unwrap();
        asked.unwrap()
    };
    let ready = health().await;
    assert_eq!(ready.status.code(), Some(0), "{ready:?}");

    relay.postgres().stop_fast().await;
    let unready = eventually("it is not ready without Postgres", || async {
        let asked = health().await;
        (asked.status.code() == Some(1)).then_some(asked)
    })
    .await;
    assert!(unready.stderr.contains("503"), "{unready:?}");
    relay.postgres().start().await;
    eventually("it is ready again", || async {
        (health().await.status.code() == Some(0)).then_some(())
    })
    .await;

    relay.replica(0).pause();
    let hung = health().await;
    assert_eq!(hung.status.code(), Some(1), "{hung:?}");
    relay.replica(0).kill().await;
    let gone = health().await;
    assert_eq!(gone.status.code(), Some(1), "{gone:?}");
    assert!(gone.stderr.contains("can't be reached"), "{gone:?}");
}
