//! Thousands of streams on one replica: what they take, how soon one post reaches all of them, and
//! how many deliveries a second the replica makes.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hyper::StatusCode;
use serde_json::json;
use tokio::task::JoinSet;

use crate::cost::Cost;
use crate::environment::{Deployment, Server, Team};
use crate::http::{Connection, Prepared};
use crate::options::{Common, FanoutOptions};
use crate::processes::settled_memory;
use crate::report::{Bar, Figures, Row, Scenario, Tally, milliseconds};
use crate::scenarios::listeners::{Listeners, OPENED_AT_ONCE, Window, open_streams};

const STREAM: &str = "/api/channels/fanout/stream";
const MESSAGES: &str = "/api/channels/fanout/messages";
/// Connections that post to the readers: enough to fill the lanes' batches.
const POSTERS: usize = 16;
const MIB: f64 = 1_048_576.0;

pub(crate) async fn run(
    server: &Server,
    common: &Common,
    options: &FanoutOptions,
) -> Result<Scenario> {
    let mut scenario = Scenario::new(
        "fanout",
        format!(
            "{} streams of one channel on one replica, {} posts of {} bytes one after the other; \
             then {} streams, as many posts as they all get with {} under way; medians of {} \
             rounds of {} s",
            options.streams,
            options.posts,
            options.size,
            options.readers,
            options.window,
            common.rounds(),
            common.duration().as_secs_f64()
        ),
    );
    reach(server, common, options, &mut scenario).await?;
    rate(server, common, options, &mut scenario).await?;
    Ok(scenario)
}

/// Memory of the streams, and one post to all of them.
async fn reach(
    server: &Server,
    common: &Common,
    options: &FanoutOptions,
    scenario: &mut Scenario,
) -> Result<()> {
    let deployment = server.deploy("fanout", 1).await?;
    let team = deployment.sign_up("fanout").await?;
    let mut connection = Connection::open(deployment.address(0)).await?;
    let post = prepare(&team, options);
    // What the relay allocates once, its pool of connections above all, is in "idle".
    post_once(&mut connection, &post).await?;
    drop(open(&deployment, &team, OPENED_AT_ONCE as u32).await?);
    let idle = settled_memory(deployment.pid(0), common.settled()).await? as f64 / MIB;

    let count = options.streams;
    let mut listeners = Listeners::start(open(&deployment, &team, count).await?);
    let open = settled_memory(deployment.pid(0), common.settled()).await? as f64 / MIB;
    let (every, last) = (Tally::default(), Tally::default());
    let mut posted = Vec::new();
    let cost = Cost::start(&deployment)?;
    for number in 0..options.posts {
        let sent = Instant::now();
        listeners.posted_at(sent, &every)?;
        posted.push(post_once(&mut connection, &post).await?);
        listeners.wait_for(number as usize + 1).await?;
        last.record(sent.elapsed())?;
    }
    let events = u64::from(options.posts) * u64::from(count);
    let cost = cost.figures(events, Some(&every.take()?))?;
    let used = settled_memory(deployment.pid(0), common.settled()).await? as f64 / MIB;
    listeners.finish(posted).await?;
    deployment.stop().await?;

    let memory = |rss: f64| {
        Figures::default()
            .with("rss_mib", rss)
            .with("above_idle_mib", rss - idle)
            .with("kib_a_stream", (rss - idle) * 1024.0 / f64::from(count))
    };
    scenario.rows.push(Row::new("idle", memory(idle)));
    scenario
        .rows
        .push(Row::new(format!("{count} streams"), memory(open)));
    scenario
        .rows
        .push(Row::new("after the posts", memory(used)));
    scenario
        .rows
        .push(Row::new("post to each stream's event", cost));
    let last = last.take()?;
    scenario.rows.push(Row::new(
        "post to the last stream's event",
        Figures::default().with_latency(&last),
    ));
    scenario.bars.push(Bar::at_most(
        format!("MiB above idle with {count} streams"),
        (open - idle).max(used - idle),
        100.0 * f64::from(count) / 10_000.0,
    ));
    scenario.bars.push(Bar::at_most(
        format!("post to the last of {count} streams, median ms"),
        milliseconds(last.value_at_quantile(0.5)),
        300.0,
    ));
    Ok(())
}

/// Deliveries a second.
async fn rate(
    server: &Server,
    common: &Common,
    options: &FanoutOptions,
    scenario: &mut Scenario,
) -> Result<()> {
    let deployment = server.deploy("fanout", 1).await?;
    let mut readers = Readers::open(&deployment, options).await?;
    readers.round(&deployment, common.warm_up()).await?;
    let mut rounds = Vec::new();
    for _ in 0..common.rounds() {
        rounds.push(readers.round(&deployment, common.duration()).await?);
    }
    readers.finish().await?;
    deployment.stop().await?;

    let figures = Figures::median(&rounds);
    scenario.bars.push(Bar::at_least(
        format!("deliveries a second from {} streams", options.readers),
        figures.value("per_s"),
        100_000.0,
    ));
    scenario.bars.push(Bar::at_most(
        "processor time of relay and Postgres, µs a delivered event",
        figures.value("both_us"),
        8.0,
    ));
    let of_round = rounds
        .iter()
        .map(|round| format!("{:.0}", round.value("per_s")));
    let of_round = of_round.collect::<Vec<_>>().join(", ");
    scenario
        .notes
        .push(format!("per round, deliveries a second: {of_round}"));
    scenario.rows.push(Row::new(
        format!("deliveries to {} streams", options.readers),
        figures,
    ));
    Ok(())
}

/// Streams that get as many posts as they all take, so many under way at a time.
pub(crate) struct Readers {
    listeners: Listeners,
    window: Window,
    post: Prepared,
    connections: Vec<Connection>,
    posted: Arc<Mutex<Vec<u64>>>,
    streams: u32,
    /// Events delivered since the start.
    events: u64,
}

impl Readers {
    pub(crate) async fn open(deployment: &Deployment<'_>, options: &FanoutOptions) -> Result<Self> {
        let team = deployment.sign_up("fanout").await?;
        let post = prepare(&team, options);
        // Opens the channel.
        post_once(&mut Connection::open(deployment.address(0)).await?, &post).await?;
        let streams = options.readers;
        let listeners = Listeners::start(open(deployment, &team, streams).await?);
        let window = listeners.window(options.window);
        let mut connections = Vec::new();
        for _ in 0..POSTERS {
            connections.push(Connection::open(deployment.address(0)).await?);
        }
        Ok(Self {
            listeners,
            window,
            post,
            connections,
            posted: Arc::default(),
            streams,
            events: 0,
        })
    }

    /// Events delivered since the start.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// Posts for a while, and waits until all streams have everything.
    pub(crate) async fn round(
        &mut self,
        deployment: &Deployment<'_>,
        duration: Duration,
    ) -> Result<Figures> {
        let before = self.listeners.complete()?;
        let cost = Cost::start(deployment)?;
        let end = Instant::now() + duration;
        let mut posters = JoinSet::new();
        for connection in self.connections.drain(..) {
            let (window, posted) = (self.window.clone(), Arc::clone(&self.posted));
            posters.spawn(post_until(
                connection,
                self.post.clone(),
                window,
                posted,
                end,
            ));
        }
        while let Some(connection) = posters.join_next().await {
            self.connections.push(connection??);
        }
        let count = self.posted()?.len();
        self.listeners.wait_for(count).await?;
        let events = (count - before) as u64 * u64::from(self.streams);
        self.events += events;
        cost.figures(events, None)
    }

    /// Ends the streams; they must have had everything that was posted.
    pub(crate) async fn finish(self) -> Result<()> {
        let posted = self.posted()?;
        self.listeners.finish(posted).await
    }

    fn posted(&self) -> Result<Vec<u64>> {
        let posted = self.posted.lock().ok().context("a poster has panicked")?;
        Ok(posted.clone())
    }
}

async fn open(
    deployment: &Deployment<'_>,
    team: &Team,
    count: u32,
) -> Result<Vec<crate::http::EventStream>> {
    open_streams(
        |_| deployment.address(0),
        |_| STREAM.to_owned(),
        &team.key,
        count as usize,
    )
    .await
}

fn prepare(team: &Team, options: &FanoutOptions) -> Prepared {
    let content = "x".repeat(usize::from(options.size));
    Prepared::post(MESSAGES, &team.key, &json!({"content": content}))
}

/// Posts, and returns the message's ID.
pub(crate) async fn post_once(connection: &mut Connection, post: &Prepared) -> Result<u64> {
    let body = connection.send(post).await?.expect(StatusCode::CREATED)?;
    let id = body
        .strip_prefix(b"{\"id\":\"")
        .and_then(|rest| rest.split(|sign| *sign == b'"').next())
        .context("a 201 without an ID")?;
    Ok(std::str::from_utf8(id)?.parse()?)
}

async fn post_until(
    mut connection: Connection,
    post: Prepared,
    window: Window,
    posted: Arc<Mutex<Vec<u64>>>,
    end: Instant,
) -> Result<Connection> {
    while Instant::now() < end {
        window.enter().await?;
        let id = post_once(&mut connection, &post).await?;
        posted
            .lock()
            .ok()
            .context("another poster has panicked")?
            .push(id);
    }
    Ok(connection)
}
