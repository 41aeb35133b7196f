//! What an operation costs when there is ten times as much of one thing.
//!
//! Each size is a deployment of its own, which gets the same three loads: posts as fast as they are
//! taken, pages read as fast as they come, and posts to the subscribers of one channel, each after
//! the one before has reached all. What counts is processor time an operation: where it stays, the
//! whole grows with the number of operations only. The first size is measured again at the end, for
//! how far two runs of the same differ.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use crate::cost::Cost;
use crate::environment::{Deployment, Server, Team};
use crate::http::{Connection, Prepared};
use crate::options::{Common, GrowthOptions, PostLoad};
use crate::report::{Bar, Figures, Row, Scenario, Tally};
use crate::scenarios::fanout::post_once;
use crate::scenarios::listeners::{Listeners, open_streams};
use crate::scenarios::posters::{Posters, prepare};
use crate::scenarios::read::{Channel, Kind, Readers};

const POSTERS: u16 = 64;
const READERS: u16 = 16;
/// From here on an operation counts as one that costs more, not as another run of the same.
const NOTABLE: f64 = 1.25;
/// The costs that are compared.
const COSTS: [(&str, &str, &str); 3] = [
    ("post_us", "times_post", "a post"),
    ("page_us", "times_page", "a page"),
    ("event_us", "times_event", "a delivered event"),
];

/// How much there is.
#[derive(Clone, Copy)]
struct Size {
    teams: u16,
    channels_of_team: u16,
    keys_of_team: u16,
    subscribers: usize,
    /// In the channel that is read.
    messages: u32,
    replicas: u16,
    /// How long a transaction has been open, under load, before anything is measured.
    held: Option<Duration>,
}

const BASE: Size = Size {
    teams: 4,
    channels_of_team: 4,
    keys_of_team: 1,
    subscribers: 100,
    messages: 10_000,
    replicas: 1,
    held: None,
};

pub(crate) async fn run(
    server: &Server,
    common: &Common,
    options: &GrowthOptions,
) -> Result<Scenario> {
    let factor = options.factor;
    let times = |what: &str| format!("{factor} times the {what}");
    let sizes = [
        ("4 teams of 4 channels".to_owned(), BASE),
        (
            "one team of 16 channels".to_owned(),
            Size {
                teams: 1,
                channels_of_team: 16,
                ..BASE
            },
        ),
        (
            "one team of one channel".to_owned(),
            Size {
                teams: 1,
                channels_of_team: 1,
                ..BASE
            },
        ),
        (
            format!(
                "beside a transaction held open for {} s",
                options.held.as_secs_f64()
            ),
            Size {
                held: Some(options.held),
                ..BASE
            },
        ),
        (
            times("channels"),
            Size {
                channels_of_team: BASE.channels_of_team * factor,
                ..BASE
            },
        ),
        (
            times("teams"),
            Size {
                teams: BASE.teams * factor,
                ..BASE
            },
        ),
        (
            times("keys"),
            Size {
                keys_of_team: BASE.keys_of_team * factor,
                ..BASE
            },
        ),
        (
            times("subscribers"),
            Size {
                subscribers: BASE.subscribers * usize::from(factor),
                ..BASE
            },
        ),
        (
            times("messages"),
            Size {
                messages: BASE.messages * u32::from(factor),
                ..BASE
            },
        ),
        (
            times("replicas"),
            Size {
                replicas: BASE.replicas * factor,
                ..BASE
            },
        ),
        ("4 teams of 4 channels, again".to_owned(), BASE),
    ];
    let mut measured = Vec::new();
    // A smoke run takes some of them, the first and the last among these.
    let step = if common.quick { 5 } else { 1 };
    for (name, size) in sizes.into_iter().step_by(step) {
        measured.push((name, size.measure(server, common).await?));
    }
    let mut scenario = Scenario::new(
        "growth",
        format!(
            "{POSTERS} connections that post, then {READERS} that read pages of 50, then posts to \
             all subscribers of a channel, {} s each; {} subscribers, {} messages, one replica \
             unless said otherwise; processor time of relay and Postgres, µs an operation",
            common.duration().as_secs_f64(),
            BASE.subscribers,
            BASE.messages
        ),
    );
    compare(measured, factor, &mut scenario);
    Ok(scenario)
}

/// Adds how many times each size costs what the first does, which was measured first and last.
fn compare(mut measured: Vec<(String, Figures)>, factor: u16, scenario: &mut Scenario) {
    let (Some((_, first)), Some((_, last))) = (measured.first(), measured.last()) else {
        return;
    };
    let base = [first.clone(), last.clone()];
    let mut most = 0.0_f64;
    for (name, figures) in &mut measured {
        for (cost, times, what) in COSTS {
            let usual = f64::midpoint(base[0].value(cost), base[1].value(cost));
            let ratio = figures.value(cost) / usual;
            most = most.max(ratio);
            if ratio > NOTABLE {
                let note = format!("{name}: {what} costs {ratio:.2} times as much");
                scenario.notes.push(note);
            }
            *figures = std::mem::take(figures).with(times, ratio);
        }
    }
    // Linear growth of one operation would be quadratic growth of the whole.
    scenario.bars.push(Bar::at_most(
        format!(
            "the most that an operation costs, times the first size, with {factor} times as much"
        ),
        most,
        f64::from(factor),
    ));
    let rows = measured.into_iter();
    scenario.rows = rows
        .map(|(name, figures)| Row::new(name, figures))
        .collect();
}

impl Size {
    fn load(&self) -> PostLoad {
        PostLoad {
            channels: self.teams * self.channels_of_team,
            teams: self.teams,
            size: 200,
            idempotency: 50,
        }
    }

    async fn measure(&self, server: &Server, common: &Common) -> Result<Figures> {
        let deployment = server.deploy("growth", self.replicas).await?;
        let teams = prepare(&deployment, &self.load()).await?;
        let sql = deployment.sql().await?;
        if self.held.is_some() {
            // Holds a snapshot and a number: nothing newer is cleaned up.
            sql.batch_execute("begin isolation level repeatable read; select pg_current_xact_id()")
                .await?;
        }
        let post = self.post(&deployment, &teams, common).await?;
        let page = self.read(&deployment, &teams[0], common).await?;
        let event = self.deliver(&deployment, &teams[0], common).await?;
        drop(sql);
        deployment.stop().await?;
        let mut figures = Figures::default();
        for (of, names) in [
            (&post, ["post_per_s", "post_p50_ms", "post_us"]),
            (&page, ["page_per_s", "page_p50_ms", "page_us"]),
            (&event, ["event_per_s", "event_p50_ms", "event_us"]),
        ] {
            for (name, from) in names.into_iter().zip(["per_s", "p50_ms", "both_us"]) {
                figures = figures.with(name, of.value(from));
            }
        }
        Ok(figures)
    }

    async fn post(
        &self,
        deployment: &Deployment<'_>,
        teams: &[Team],
        common: &Common,
    ) -> Result<Figures> {
        let mut keys = Vec::new();
        for team in teams {
            let mut of_team = vec![team.key.clone()];
            for number in 1..self.keys_of_team {
                let name = format!("agent-{number}");
                of_team.push(deployment.add_key(team, &name).await?);
            }
            keys.push(of_team);
        }
        let key = |channel: usize, connection: usize| {
            let of_team = &keys[channel % keys.len()];
            of_team[connection / keys.len() % of_team.len()].clone()
        };
        let address = |number| deployment.address(number);
        let mut posters = Posters::with_keys(address, key, &self.load(), POSTERS).await?;
        let warm_up = self.held.unwrap_or(common.warm_up());
        posters.round(deployment, None, None, warm_up).await?;
        posters
            .round(deployment, None, None, common.duration())
            .await
    }

    async fn read(
        &self,
        deployment: &Deployment<'_>,
        team: &Team,
        common: &Common,
    ) -> Result<Figures> {
        let mut connection = Connection::open(deployment.address(0)).await?;
        let channel = Channel::fill(deployment, &mut connection, team, self.messages).await?;
        let sql = deployment.sql().await?;
        sql.batch_execute("vacuum (analyze) messages").await?;
        let mut readers = Readers::open(deployment, READERS).await?;
        let mut round = async |duration| {
            let pages = readers.round(deployment, &channel, Kind::AfterId, duration);
            pages.await
        };
        round(common.warm_up()).await?;
        round(common.duration()).await
    }

    async fn deliver(
        &self,
        deployment: &Deployment<'_>,
        team: &Team,
        common: &Common,
    ) -> Result<Figures> {
        let post = Prepared::post(
            "/api/channels/deliver/messages",
            &team.key,
            &json!({"content": "x".repeat(200)}),
        );
        let mut connection = Connection::open(deployment.address(0)).await?;
        post_once(&mut connection, &post).await?;
        let streams = open_streams(
            |number| deployment.address(number),
            |_| "/api/channels/deliver/stream".to_owned(),
            &team.key,
            self.subscribers,
        );
        let mut listeners = Listeners::start(streams.await?);
        let tally = Tally::default();
        let mut posted = Vec::new();
        let cost = Cost::start(deployment)?;
        let end = Instant::now() + common.duration();
        while Instant::now() < end {
            listeners.posted_at(Instant::now(), &tally)?;
            posted.push(post_once(&mut connection, &post).await?);
            listeners.wait_for(posted.len()).await?;
        }
        let tally = tally.take()?;
        let figures = cost.figures(tally.len(), Some(&tally))?;
        listeners.finish(posted).await?;
        Ok(figures)
    }
}
