//! What happens to Postgres: it crashes, loses sessions, runs out of disk, is held up.

use anyhow::{Result, ensure};
use tokio::time::{Duration, sleep, timeout};

use super::{Scene, Trace};
use crate::schedule::Fault;

/// How long a statement of ours may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Stopped at once, as by a power cut, and started again.
pub(super) async fn crash(scene: Scene<'_>, fault: &Fault) -> Result<Trace> {
    let postgres = scene.fleet.postgres();
    let logged = postgres.log().await.len();
    let before = postgres.pid().await?;
    postgres.stop_at_once().await?;
    sleep(fault.lasts).await;
    postgres.start_again().await?;
    let ended = scene.now();
    let after = postgres.pid().await?;
    let log = postgres.log().await;
    let recovered = log
        .get(logged..)
        .unwrap_or(&log)
        .contains("was not properly shut down");
    Ok(Trace::new(
        ended,
        recovered && before != after,
        format!(
            "first process {} then {}; its log tells of {}",
            before.unwrap_or(0),
            after.unwrap_or(0),
            if recovered { "recovery" } else { "no recovery" }
        ),
    ))
}

/// All sessions of one replica are ended.
pub(super) async fn end_backends(scene: Scene<'_>, fault: &Fault) -> Result<Trace> {
    let member = scene.fleet.member(fault.replica.unwrap_or(0));
    let mut ports: Vec<i32> = Vec::new();
    for link in [&member.links.database, &member.links.listen] {
        ports.extend(link.ports().into_iter().map(i32::from));
    }
    let client = scene.fleet.postgres().connect().await?;
    let sql =
        "select pid from pg_stat_activity where client_port = any($1) and pid <> pg_backend_pid()";
    let rows = client.query(sql, &[&ports]).await?;
    let pids: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    client
        .execute(
            "select pg_terminate_backend(pid) from unnest($1::int4[]) as pid",
            &[&pids],
        )
        .await?;
    let mut left = i64::MAX;
    for _ in 0..100 {
        let sql = "select count(*) from pg_stat_activity where pid = any($1)";
        left = client.query_one(sql, &[&pids]).await?.get(0);
        if left == 0 {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    let ended = scene.now();
    Ok(Trace::new(
        ended,
        !pids.is_empty() && left == 0,
        format!("{} sessions ended, {left} of them left", pids.len()),
    ))
}

/// The disk is full for a while.
pub(super) async fn fill_disk(scene: Scene<'_>, fault: &Fault) -> Result<Trace> {
    let postgres = scene.fleet.postgres();
    let taken = postgres.fill_disk().await?;
    let outcome = async {
        let refusal = write_much(scene).await;
        sleep(fault.lasts).await;
        // What Postgres gave back meanwhile is taken again by nobody: it may go on with that.
        (postgres.free_bytes().await, refusal)
    };
    let (free, refusal) = outcome.await;
    postgres.clear_disk().await?;
    let ended = scene.now();
    let happened = refusal.is_err();
    let refusal = refusal.map_or_else(|error| format!("{error:#}"), |()| "nothing".to_owned());
    Ok(Trace::new(
        ended,
        happened,
        format!(
            "{} MiB taken, {} KiB free in the end; a write of 64 MiB was answered: {refusal}",
            taken >> 20,
            free? >> 10
        ),
    ))
}

/// Writes more than a full disk holds, and takes it back.
async fn write_much(scene: Scene<'_>) -> Result<()> {
    let client = scene.fleet.postgres().connect().await?;
    let sql = "begin; create table much as select repeat(md5(n::text), 32) from generate_series(1, 65536) n;
        rollback";
    match timeout(PATIENCE, client.batch_execute(sql)).await? {
        Ok(()) => Ok(()),
        Err(error) => {
            let told = error
                .as_db_error()
                .map(|refusal| refusal.message().to_owned());
            ensure!(told.is_none(), "{}", told.unwrap_or_default());
            Err(error.into())
        }
    }
}

/// Somebody's transaction stays open, with a snapshot and a transaction ID.
pub(super) async fn hold_transaction(scene: Scene<'_>, fault: &Fault) -> Result<Trace> {
    let postgres = scene.fleet.postgres();
    let holder = postgres.connect().await?;
    holder
        .batch_execute(
            "begin isolation level repeatable read;
             select count(*) from messages where id < 1000; select pg_current_xact_id()",
        )
        .await?;
    let pid: i32 = holder
        .query_one("select pg_backend_pid()", &[])
        .await?
        .get(0);
    sleep(fault.lasts).await;
    let looker = postgres.connect().await?;
    let sql = "select extract(epoch from clock_timestamp() - xact_start)::float8,
                      age(backend_xmin)::int8 from pg_stat_activity where pid = $1";
    let row = looker.query_opt(sql, &[&pid]).await?;
    let ended_well = holder.batch_execute("rollback").await;
    let ended = scene.now();
    let (age, held): (f64, i64) = row.map_or((0.0, 0), |row| {
        (row.get(0), row.get::<_, Option<i64>>(1).unwrap_or(0))
    });
    Ok(Trace::new(
        ended,
        ended_well.is_ok() && age >= fault.lasts.as_secs_f64(),
        format!("open for {age:.1} s; {held} transactions came after its snapshot"),
    ))
}
