//! How many posts a second the relay commits, beside what the machine does without it.
//!
//! The subjects take turns, round by round, so that a slower minute of the machine meets all of
//! them. Each round starts when what another has written is on the disk, and a limit's rows are gone
//! after its round: none pays for another's checkpoint or vacuum.

use std::time::Duration;

use anyhow::Result;

use crate::environment::{Deployment, Server};
use crate::limits::http;
use crate::limits::pgbench::Pgbench;
use crate::limits::sql::{Limit, SqlLimits};
use crate::options::{Common, PostLoad, PostOptions};
use crate::report::{Bar, Figures, Row, Scenario, median};
use crate::scenarios::posters::{Posters, check_nothing_lost, prepare};

pub(crate) async fn run(
    server: &Server,
    common: &Common,
    options: &PostOptions,
) -> Result<Scenario> {
    let deployment = server.deploy("post", common.replicas(1)).await?;
    let mut scenario = Scenario::new(
        "post",
        format!(
            "{} channels of {} teams, {} bytes, {} % with an Idempotency-Key, {}; medians of {} \
             rounds of {} s",
            options.load.channels,
            options.load.teams,
            options.load.size,
            options.load.idempotency,
            match options.rate {
                Some(rate) => format!("open loop, {rate} a second, from the time a post was due"),
                None => "closed loop".to_owned(),
            },
            common.rounds(),
            common.duration().as_secs_f64()
        ),
    );
    let mut accepted = 0;
    let teams = prepare(&deployment, &options.load).await?;
    let limits = if options.relay_only {
        None
    } else {
        Some(Limits::new(&deployment, &teams[0].key, &options.load).await?)
    };
    // The limits record one answer of the relay's.
    accepted += u64::from(limits.is_some());
    for connections in &options.connections {
        let mut relay = Posters::new(
            |number| deployment.address(number),
            &teams,
            &options.load,
            *connections,
        )
        .await?;
        let subjects = match &limits {
            Some(limits) => {
                limits
                    .subjects(&deployment, &options.load, *connections, common.warm_up())
                    .await?
            }
            None => Vec::new(),
        };
        let mut stand_in = match &limits {
            Some(limits) => {
                let address = limits.stand_in.address;
                let open = Posters::new(|_| address, &teams, &options.load, *connections);
                Some(open.await?)
            }
            None => None,
        };
        relay
            .round(&deployment, None, options.rate, common.warm_up())
            .await?;
        let mut rounds = Rounds::default();
        for _ in 0..common.rounds() {
            server.settle().await?;
            let figures = relay
                .round(&deployment, None, options.rate, common.duration())
                .await?;
            rounds.add("relay", figures);
            if let (Some(posters), Some(limits)) = (&mut stand_in, &limits) {
                let pid = limits.stand_in.pid();
                server.settle().await?;
                let figures = posters
                    .round(&deployment, Some(pid), options.rate, common.duration())
                    .await?;
                rounds.add(STAND_IN, figures);
            }
            for (limit, driver) in &subjects {
                server.settle().await?;
                let figures = driver
                    .round(
                        &deployment,
                        *limit,
                        &options.load,
                        *connections,
                        common.duration(),
                    )
                    .await?;
                rounds.add(limit.title(), figures);
                SqlLimits::clear(&deployment).await?;
            }
        }
        accepted += relay.accepted();
        for (limit, driver) in &subjects {
            scenario.notes.push(driver.note(*limit, *connections));
        }
        rounds.report(*connections, options.rate.is_some(), &mut scenario);
    }
    check_nothing_lost(&deployment, accepted).await?;
    deployment.stop().await?;
    Ok(scenario)
}

const STAND_IN: &str = "(a) the same HTTP stack, nothing stored";

/// What the relay is held to.
struct Limits {
    stand_in: http::Server,
    sql: SqlLimits,
    pgbench: Option<Pgbench>,
}

impl Limits {
    async fn new(deployment: &Deployment<'_>, key: &str, load: &PostLoad) -> Result<Self> {
        let request = crate::scenarios::posters::request(0, key, load);
        Ok(Self {
            stand_in: http::Server::start(deployment.address(0), &request).await?,
            sql: SqlLimits::new(deployment, load).await?,
            pgbench: Pgbench::find(deployment.server.postgres_bin(), load)?,
        })
    }

    /// Postgres' limits, each by the program that makes more of it: the limit is what Postgres can
    /// do, not what a load program can.
    async fn subjects(
        &self,
        deployment: &Deployment<'_>,
        load: &PostLoad,
        connections: u16,
        compared: Duration,
    ) -> Result<Vec<(Limit, Driver<'_>)>> {
        let mut subjects = Vec::new();
        for limit in [Limit::InsertAndNotify, Limit::Insert] {
            let own = self
                .sql
                .round(deployment, limit, connections, compared)
                .await?
                .value("per_s");
            let driver = match &self.pgbench {
                None => Driver::own(&self.sql, own, f64::NAN),
                Some(pgbench) => {
                    let figures = pgbench
                        .round(deployment, limit, connections, load.size, compared)
                        .await?;
                    let theirs = figures.value("per_s");
                    if theirs >= own {
                        Driver::pgbench(pgbench, own, theirs)
                    } else {
                        Driver::own(&self.sql, own, theirs)
                    }
                }
            };
            subjects.push((limit, driver));
        }
        SqlLimits::clear(deployment).await?;
        let driver = Driver::own(&self.sql, f64::NAN, f64::NAN);
        subjects.push((Limit::IdealBatches, driver));
        Ok(subjects)
    }
}

/// What inserts the rows, and what the two made of them when they were compared.
struct Driver<'limits> {
    program: Program<'limits>,
    own: f64,
    pgbench: f64,
}

enum Program<'limits> {
    Own(&'limits SqlLimits),
    Pgbench(&'limits Pgbench),
}

impl<'limits> Driver<'limits> {
    fn own(sql: &'limits SqlLimits, own: f64, pgbench: f64) -> Self {
        let program = Program::Own(sql);
        Self {
            program,
            own,
            pgbench,
        }
    }

    fn pgbench(program: &'limits Pgbench, own: f64, pgbench: f64) -> Self {
        let program = Program::Pgbench(program);
        Self {
            program,
            own,
            pgbench,
        }
    }

    async fn round(
        &self,
        deployment: &Deployment<'_>,
        limit: Limit,
        load: &PostLoad,
        connections: u16,
        duration: Duration,
    ) -> Result<Figures> {
        match self.program {
            Program::Own(sql) => sql.round(deployment, limit, connections, duration).await,
            Program::Pgbench(pgbench) => {
                pgbench
                    .round(deployment, limit, connections, load.size, duration)
                    .await
            }
        }
    }

    fn note(&self, limit: Limit, connections: u16) -> String {
        let program = match self.program {
            Program::Own(_) => "own driver",
            Program::Pgbench(_) => "pgbench",
        };
        let mut note = format!("{connections} connections, {}: by {program}", limit.title());
        if !self.own.is_nan() && !self.pgbench.is_nan() {
            note += &format!(
                ", the faster of the two (own driver {:.0} a second, pgbench {:.0})",
                self.own, self.pgbench
            );
        }
        note
    }
}

/// The rounds of each subject, in the order of the table.
#[derive(Default)]
struct Rounds(Vec<(&'static str, Vec<Figures>)>);

impl Rounds {
    fn add(&mut self, subject: &'static str, figures: Figures) {
        match self.0.iter_mut().find(|(known, _)| *known == subject) {
            Some((_, rounds)) => rounds.push(figures),
            None => self.0.push((subject, vec![figures])),
        }
    }

    fn of(&self, subject: &str) -> &[Figures] {
        let rounds = self.0.iter().find(|(known, _)| *known == subject);
        rounds.map_or(&[], |(_, rounds)| rounds)
    }

    /// How many posts the relay takes while a limit takes one: the median of the rounds' ratios.
    /// A round's subjects came one after the other, so a machine that gets slower or faster in the
    /// course of the run does so for both.
    fn ratio(&self, limit: &str) -> f64 {
        let per_s = |subject| self.of(subject).iter().map(|round| round.value("per_s"));
        let ratios = per_s("relay").zip(per_s(limit));
        median(ratios.map(|(relay, limit)| relay / limit).collect())
    }

    /// Adds the rows, and where it is the load that they are for, the bars.
    fn report(&self, connections: u16, open_loop: bool, scenario: &mut Scenario) {
        let relay = Figures::median(self.of("relay"));
        let at = |what: &str| format!("{connections} connections: {what}");
        let mut rates = Vec::new();
        for (subject, rounds) in &self.0 {
            scenario
                .rows
                .push(Row::new(at(subject), Figures::median(rounds)));
            let of_round = rounds
                .iter()
                .map(|round| format!("{:.0}", round.value("per_s")));
            rates.push(of_round.collect::<Vec<_>>().join(", "));
        }
        let rates = format!("per round, posts a second: {}", rates.join("; "));
        scenario.notes.push(at(&rates));
        if open_loop {
            return;
        }
        if self.0.len() > 1 {
            let (of_http, of_insert, of_notify) = match connections {
                64 => (Some(0.3), Some(2.0), Some(5.0)),
                256 => (Some(0.4), None, None),
                _ => (None, None, None),
            };
            for (limit, bar) in [
                (STAND_IN, of_http),
                (Limit::Insert.title(), of_insert),
                (Limit::InsertAndNotify.title(), of_notify),
                (Limit::IdealBatches.title(), None),
            ] {
                let what = at(&format!("relay / {limit}"));
                match bar {
                    Some(bar) => scenario
                        .bars
                        .push(Bar::at_least(what, self.ratio(limit), bar)),
                    None => scenario
                        .notes
                        .push(format!("{what}: {:.2}", self.ratio(limit))),
                }
            }
        }
        if connections == 64 {
            scenario.bars.push(Bar::at_most(
                at("processor time of relay and Postgres, µs a post"),
                relay.value("both_us"),
                70.0,
            ));
        }
    }
}
