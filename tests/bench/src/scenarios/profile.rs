//! What a load is made of: flame graphs, syscalls and allocations of an operation, the statements
//! and the plans they ran with.
//!
//! Each is had in a round of its own, so that none sees what another costs. What they find goes into
//! a page (`PROFILES.md`) and files beside it.

mod allocations;
mod flame;
mod loads;
mod page;
mod perf;
mod statements;

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio_postgres::Client;

pub(crate) use self::loads::Load;
pub(crate) use self::statements::POSTGRES_SETTINGS;

use self::allocations::Allocations;
use self::flame::{Bottom, Stacks};
use self::loads::{Done, Running};
use self::perf::Perf;
use self::statements::{Plan, Plans, Statement};
use crate::environment::{Deployment, Server};
use crate::options::{Common, ProfileOptions};
use crate::report::{Figures, Row, Scenario};

/// Plans are logged for so long: what is timed node by node is slow.
const PLANS: Duration = Duration::from_secs(2);

/// What was found of a load.
struct Found {
    load: Load,
    /// In a sentence.
    what: String,
    /// While nothing but Postgres counted.
    done: Done,
    statements: Vec<Statement>,
    plans: Vec<Plan>,
    /// Of an operation: the relay's and Postgres'.
    syscalls: Option<[Vec<(String, f64)>; 2]>,
    /// The relay's and Postgres'.
    stacks: Option<[Stacks; 2]>,
    allocations: Option<Allocations>,
}

impl Found {
    fn stacks(&self) -> impl Iterator<Item = (&'static str, &Stacks)> {
        let names = ["Relay", "Postgres"];
        names.into_iter().zip(self.stacks.iter().flatten())
    }
}

pub(crate) async fn run(
    server: &Server,
    common: &Common,
    options: &ProfileOptions,
) -> Result<Scenario> {
    ensure!(
        common.database_url.is_none(),
        "a profile needs a Postgres of its own, with pg_stat_statements and auto_explain"
    );
    let mut scenario = Scenario::new(
        "profile",
        format!(
            "each load in rounds of {} s: with pg_stat_statements, with auto_explain, with counters \
             of syscalls, with sampled stacks, and on a relay that counts allocations",
            common.duration().as_secs_f64()
        ),
    );
    let hindrance = if options.without_perf {
        Some("it was not asked for".to_owned())
    } else {
        perf::hindrance().await?
    };
    if let Some(hindrance) = &hindrance {
        if !options.without_perf && !common.quick {
            bail!("{hindrance}; or do without: --without-perf");
        }
        let without = "no flame graphs and no syscalls, without perf";
        scenario.notes.push(format!("{without}: {hindrance}"));
    }
    let with_perf = hindrance.is_none();
    let counting = allocations::relay_bin(options)?;
    if counting.is_none() {
        let without = "allocations were not counted";
        scenario
            .notes
            .push(format!("{without}: {}", allocations::MISSING));
    }
    let about = server.about().await?;
    for load in &options.load {
        let name = load.name();
        let mut found = look_into(server, common, *load, with_perf)
            .await
            .with_context(|| format!("{name} failed"))?;
        if let Some(relay_bin) = &counting {
            let measured = allocations::measure(server, common, *load, relay_bin).await;
            found.allocations =
                Some(measured.with_context(|| format!("allocations of {name} failed"))?);
        }
        page::write(&options.out, &about, &found)?;
        scenario.rows.push(row(&found));
    }
    Ok(scenario)
}

/// Everything but allocations, for which another relay is needed.
async fn look_into(server: &Server, common: &Common, load: Load, with_perf: bool) -> Result<Found> {
    let deployment = server.deploy("profile", 1).await?;
    let mut running = load.open(&deployment, common.quick).await?;
    let duration = load.duration(common.duration());
    let sql = deployment.sql().await?;
    sql.batch_execute("checkpoint").await?;
    if load.is_busy() {
        running.work(common.warm_up()).await?;
    }

    statements::reset(&sql).await?;
    let done = running.work(duration).await?;
    let statements = statements::counted(&sql).await?;

    let log = server.postgres_log().context("Postgres has no log here")?;
    let plans = Plans::begin(&sql, &log).await?;
    running.work(duration.min(PLANS)).await?;
    let plans = plans.end(&sql).await?;

    let (mut syscalls, mut stacks) = (None, None);
    if with_perf {
        syscalls = Some(count_syscalls(&deployment, &mut running, duration).await?);
        if load.is_busy() {
            stacks = Some(sample(&deployment, &mut running, &sql, duration).await?);
        }
    }
    let what = running.what.clone();
    running.close().await?;
    deployment.stop().await?;
    Ok(Found {
        load,
        what,
        done,
        statements,
        plans,
        syscalls,
        stacks,
        allocations: None,
    })
}

/// Syscalls of an operation: the relay's and Postgres'.
async fn count_syscalls(
    deployment: &Deployment<'_>,
    running: &mut Running<'_>,
    duration: Duration,
) -> Result<[Vec<(String, f64)>; 2]> {
    let mut relay = Perf::count_syscalls(&[deployment.pid(0)]).await?;
    let mut postgres = Perf::count_syscalls(&deployment.server.postgres_processes()?).await?;
    relay.begin().await?;
    postgres.begin().await?;
    let done = running.work(duration).await?;
    let counts = [
        relay.end().await?.syscalls()?,
        postgres.end().await?.syscalls()?,
    ];
    Ok(counts.map(|counts| {
        let each = |(name, count)| (name, count as f64 / done.operations as f64);
        counts.into_iter().map(each).collect()
    }))
}

/// Stacks of the relay and of Postgres, in the same round.
async fn sample(
    deployment: &Deployment<'_>,
    running: &mut Running<'_>,
    sql: &Client,
    duration: Duration,
) -> Result<[Stacks; 2]> {
    let names = process_names(sql).await?;
    let mut relay = Perf::sample(&[deployment.pid(0)]).await?;
    let mut postgres = Perf::sample(&deployment.server.postgres_processes()?).await?;
    relay.begin().await?;
    postgres.begin().await?;
    running.work(duration).await?;
    let (relay, postgres) = (relay.end().await?, postgres.end().await?);
    Ok([
        Stacks::fold(&relay.samples().await?, &Bottom::Thread)?,
        Stacks::fold(&postgres.samples().await?, &Bottom::Process(&names))?,
    ])
}

/// What Postgres' processes are for.
async fn process_names(sql: &Client) -> Result<HashMap<u32, String>> {
    let rows = sql
        .query(
            "select pid, coalesce(nullif(application_name, ''), backend_type) from pg_stat_activity",
            &[],
        )
        .await?;
    let names = rows
        .iter()
        .map(|row| (row.get::<_, i32>(0).unsigned_abs(), row.get(1)));
    Ok(names.collect())
}

fn row(found: &Found) -> Row {
    let operations = found.done.operations as f64;
    let mut figures = Figures::default().with("per_s", operations / found.done.seconds);
    if let Some(Allocations { count, bytes }) = found.allocations {
        figures = figures.with("allocations", count).with("bytes", bytes);
    }
    if let Some(syscalls) = &found.syscalls {
        let [relay, postgres] = syscalls
            .each_ref()
            .map(|counts| counts.iter().map(|(_, count)| count).sum());
        figures = figures
            .with("relay_syscalls", relay)
            .with("postgres_syscalls", postgres);
    }
    let (mut milliseconds, mut wal_bytes) = (0.0, 0.0);
    for statement in &found.statements {
        milliseconds += statement.milliseconds;
        wal_bytes += statement.wal_bytes;
    }
    let figures = figures
        .with("statements_us", milliseconds * 1_000.0 / operations)
        .with("wal_bytes", wal_bytes / operations);
    let subject = format!("a {} of {}", found.load.operation(), found.load.name());
    Row::new(subject, figures)
}
