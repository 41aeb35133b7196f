//! The harness' own tests: a proxy that spoils nothing, or a Postgres that does not stop, would
//! make tests pass that should fail.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use futures_util::StreamExt;
use harness::{CommitFault, DEADLINE, OwnPostgres, Proxy};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_postgres::{AsyncMessage, Client, Error, NoTls};

async fn connect(url: &str) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn start() -> (OwnPostgres, Proxy) {
    let postgres = OwnPostgres::new().await;
    let proxy = Proxy::start(&postgres.url("postgres")).await;
    (postgres, proxy)
}

async fn rows(postgres: &OwnPostgres) -> i64 {
    let client = connect(&postgres.url("postgres")).await.unwrap();
    client
        .query_one("select count(*) from t", &[])
        .await
        .unwrap()
        .get(0)
}

#[tokio::test]
async fn a_commit_is_lost_on_its_way_or_on_its_way_back() {
    let (postgres, proxy) = start().await;
    let client = connect(proxy.url()).await.unwrap();
    client
        .batch_execute("create table t (n int); create table other (n int)")
        .await
        .unwrap();
    for (round, fault) in [CommitFault::LoseAnswer, CommitFault::LoseRequest]
        .into_iter()
        .enumerate()
    {
        for prepared in [false, true] {
            let before = rows(&postgres).await;
            let mut client = connect(proxy.url()).await.unwrap();
            proxy.lose_commit(fault, "INSERT INTO T");
            // Another transaction's commit is none of its business.
            client
                .batch_execute("begin; insert into other values (1)")
                .await
                .unwrap();
            client.batch_execute("commit").await.unwrap();
            let outcome = if prepared {
                let transaction = client.transaction().await.unwrap();
                transaction
                    .execute("insert into t values ($1)", &[&1])
                    .await
                    .unwrap();
                let commit = transaction.prepare("commit").await.unwrap();
                transaction.execute(&commit, &[]).await.map(drop)
            } else {
                // Pipelined in one go.
                let (_, _, outcome) = tokio::join!(
                    client.batch_execute("begin"),
                    client.batch_execute("insert into t values (1)"),
                    client.batch_execute("commit")
                );
                outcome
            };
            assert!(outcome.unwrap_err().is_closed(), "round {round}");
            proxy.commit_lost().await;
            let expected = before + i64::from(fault == CommitFault::LoseAnswer);
            assert_eq!(
                rows(&postgres).await,
                expected,
                "{fault:?}, prepared: {prepared}"
            );
            // It happens once.
            let client = connect(proxy.url()).await.unwrap();
            client
                .batch_execute("begin; insert into t values (1)")
                .await
                .unwrap();
            client.batch_execute("commit").await.unwrap();
        }
    }
}

#[tokio::test]
async fn notifications_pass_until_they_are_swallowed() {
    let (_postgres, proxy) = start().await;
    let (client, mut connection) = tokio_postgres::connect(proxy.url(), NoTls).await.unwrap();
    let (heard, mut hearing) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = futures_util::stream::poll_fn(move |cx| connection.poll_message(cx));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(notification) = message {
                heard.send(notification.payload().to_owned()).ok();
            }
        }
    });
    client
        .batch_execute("listen bell; notify bell, 'one'")
        .await
        .unwrap();
    assert_eq!(
        timeout(DEADLINE, hearing.recv()).await.unwrap().unwrap(),
        "one"
    );
    proxy.swallow_notifications();
    client.batch_execute("notify bell, 'two'").await.unwrap();
    harness::eventually("it is swallowed", || async {
        (proxy.swallowed() == 1).then_some(())
    })
    .await;
    proxy.pass();
    client.batch_execute("notify bell, 'three'").await.unwrap();
    assert_eq!(
        timeout(DEADLINE, hearing.recv()).await.unwrap().unwrap(),
        "three"
    );
}

#[tokio::test]
async fn connections_are_stalled_delayed_cut_and_refused() {
    let (_postgres, proxy) = start().await;
    let client = connect(proxy.url()).await.unwrap();
    assert_eq!(proxy.connections(), 1);

    proxy.delay(Duration::from_millis(50));
    let before = Instant::now();
    let query = || client.query_one("select 1", &[]);
    query().await.unwrap();
    assert!(
        before.elapsed() >= Duration::from_millis(100),
        "there and back"
    );
    proxy.pass();

    proxy.stall();
    let mut held_back = Box::pin(query());
    assert!(
        timeout(Duration::from_millis(200), &mut held_back)
            .await
            .is_err()
    );
    proxy.pass();
    held_back.await.unwrap();

    proxy.refuse_new();
    assert!(connect(proxy.url()).await.is_err());
    query().await.unwrap();
    proxy.cut();
    assert!(query().await.unwrap_err().is_closed());
    proxy.pass();
    connect(proxy.url())
        .await
        .unwrap()
        .batch_execute("select 1")
        .await
        .unwrap();
}

#[tokio::test]
async fn an_error_that_ends_a_connection_still_reaches_the_client() {
    let (postgres, proxy) = start().await;
    let client = connect(proxy.url()).await.unwrap();
    let pid: i32 = client
        .query_one("select pg_backend_pid()", &[])
        .await
        .unwrap()
        .get(0);
    let direct = connect(&postgres.url("postgres")).await.unwrap();
    let ended = client.query_one("select pg_sleep(60)::text", &[]);
    let terminate = async {
        harness::eventually("the query runs", || async {
            let sql = "select 1 from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'";
            direct.query_opt(sql, &[&pid]).await.unwrap()
        })
        .await;
        direct
            .execute("select pg_terminate_backend($1)", &[&pid])
            .await
            .unwrap();
    };
    let (ended, ()) = tokio::join!(ended, terminate);
    assert_eq!(ended.unwrap_err().code().unwrap().code(), "57P01");
}

#[tokio::test]
async fn a_stopped_postgres_is_gone_and_comes_back_with_its_data() {
    let (postgres, proxy) = start().await;
    let client = connect(&postgres.url("postgres")).await.unwrap();
    client
        .batch_execute("create table t (n int); insert into t values (1)")
        .await
        .unwrap();
    postgres.stop_immediate().await;
    assert!(client.batch_execute("select 1").await.is_err());
    assert!(connect(&postgres.url("postgres")).await.is_err());
    assert!(connect(proxy.url()).await.is_err());
    postgres.start().await;
    assert_eq!(rows(&postgres).await, 1);
    postgres.restart().await;
    assert_eq!(rows(&postgres).await, 1);
    connect(proxy.url()).await.unwrap();
}
