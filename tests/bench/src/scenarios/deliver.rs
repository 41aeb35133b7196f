//! From a post on one replica to the event on another, at a steady rate.
//!
//! An open loop: posts are due at fixed times, whether or not those before have been answered, and
//! latency counts from when a post was due. So a stall is seen by all the posts that it delays.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use hyper::StatusCode;
use serde_json::json;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use crate::environment::Server;
use crate::http::{Connection, EventStream, Prepared};
use crate::options::Options;
use crate::report::{self, Bar, Figures, Row, Scenario};

/// Connections that post; more than are ever busy at once unless the relay stalls.
const POSTERS: usize = 32;
/// Posts sent before those that are measured.
const WARM_UP_SECONDS: u32 = 2;
/// How long the last events may take.
const STRAGGLERS: Duration = Duration::from_secs(10);
/// Stands before a post's number in its content.
const MARK: &str = "post-number-";
const DIGITS: usize = 10;

pub(crate) async fn run(server: &Server, options: &Options) -> Result<Scenario> {
    let replicas = options.replicas(2);
    let deployment = server.deploy("deliver", replicas).await?;
    let team = deployment.sign_up("deliver").await?;
    // The replica farthest from the one that gets the posts; with one replica, that one.
    let receiving = deployment.replica_count() - 1;

    let stream = Prepared::get("/api/channels/deliver/stream", &team.key)?;
    let mut streams = Vec::new();
    for _ in 0..options.receivers {
        let connection = Connection::open(deployment.address(receiving)).await?;
        streams.push(connection.stream(&stream).await?);
    }
    let mut connections = Vec::new();
    for _ in 0..POSTERS {
        connections.push(Connection::open(deployment.address(0)).await?);
    }

    let warm_up = options.rate * WARM_UP_SECONDS;
    let measured = (f64::from(options.rate) * options.duration.as_secs_f64()).ceil() as u32
        * u32::from(options.rounds);
    let total = warm_up + measured;
    // Far enough ahead that the pacer is up by then.
    let schedule = Schedule {
        start: Instant::now() + Duration::from_millis(200),
        rate: options.rate,
    };

    let mut receivers = JoinSet::new();
    for stream in streams {
        receivers.spawn(receive(stream, schedule, warm_up, total));
    }
    let (due, numbers) = mpsc::unbounded_channel();
    let pacer = std::thread::spawn(move || pace(schedule, total, &due));
    let numbers = Arc::new(Mutex::new(numbers));
    let filler = "x".repeat(usize::from(options.size).saturating_sub(MARK.len() + DIGITS));
    let post = Prepared::post("/api/channels/deliver/messages", &team.key, &json!({}))?;
    let mut posters = JoinSet::new();
    for connection in connections {
        let numbers = Arc::clone(&numbers);
        posters.spawn(answer(
            connection,
            post.clone(),
            filler.clone(),
            numbers,
            schedule,
            warm_up,
        ));
    }

    let mut answered = report::histogram();
    while let Some(latency) = posters.join_next().await {
        answered.add(latency??)?;
    }
    pacer.join().ok().context("the pacer has panicked")?;
    let mut delivered = report::histogram();
    while let Some(latency) = receivers.join_next().await {
        delivered.add(latency??)?;
    }
    deployment.stop().await?;

    let expected = u64::from(measured) * u64::from(options.receivers);
    ensure!(
        delivered.len() == expected,
        "{} of {expected} events arrived",
        delivered.len()
    );
    let figures = |latency: &Histogram<u64>| {
        Figures::default()
            .with("count", latency.len() as f64)
            .with_latency(latency)
    };
    let median_ms = delivered.value_at_quantile(0.5) as f64 / 1e6;
    Ok(Scenario {
        name: "deliver",
        what: format!(
            "{} posts a second of {} bytes to replica 1, {} streams on replica {}, open loop, \
             from the time a post was due",
            options.rate,
            options.size,
            options.receivers,
            receiving + 1
        ),
        rows: vec![
            Row::new("post to event", figures(&delivered)),
            Row::new("post to its answer", figures(&answered)),
        ],
        bars: vec![Bar::at_most("post to event, median ms", median_ms, 10.0)],
        notes: Vec::new(),
    })
}

/// When each post is due.
#[derive(Clone, Copy)]
struct Schedule {
    start: Instant,
    rate: u32,
}

impl Schedule {
    fn due(self, number: u32) -> Instant {
        self.start + Duration::from_secs_f64(f64::from(number) / f64::from(self.rate))
    }
}

/// Hands out the numbers of posts when they are due. On a thread of its own: the runtime's timers
/// are a millisecond coarse, which would be counted as the relay's.
fn pace(schedule: Schedule, total: u32, due: &mpsc::UnboundedSender<u32>) {
    for number in 0..total {
        std::thread::sleep(
            schedule
                .due(number)
                .saturating_duration_since(Instant::now()),
        );
        if due.send(number).is_err() {
            return;
        }
    }
}

/// Posts what is due, until nothing is any more.
async fn answer(
    mut connection: Connection,
    post: Prepared,
    filler: String,
    numbers: Arc<Mutex<mpsc::UnboundedReceiver<u32>>>,
    schedule: Schedule,
    warm_up: u32,
) -> Result<Histogram<u64>> {
    let mut latency = report::histogram();
    loop {
        let number = numbers.lock().await.recv().await;
        let Some(number) = number else {
            return Ok(latency);
        };
        let body = format!(r#"{{"content":"{MARK}{number:0DIGITS$}{filler}"}}"#);
        let answer = connection.send(&post.with_body(body.into())).await?;
        answer.expect(StatusCode::CREATED)?;
        if number >= warm_up {
            latency.record(schedule.due(number).elapsed().as_nanos() as u64)?;
        }
    }
}

/// Takes events until all have come, each once.
async fn receive(
    mut stream: EventStream,
    schedule: Schedule,
    warm_up: u32,
    total: u32,
) -> Result<Histogram<u64>> {
    let mut latency = report::histogram();
    let mut seen = vec![false; total as usize];
    let mut missing = total;
    let deadline = schedule.due(total) + STRAGGLERS;
    while missing > 0 {
        let mut arrivals = Vec::new();
        tokio::time::timeout_at(
            deadline.into(),
            stream.read(|data| arrivals.push(number_in(data))),
        )
        .await
        .with_context(|| format!("{missing} events have not come"))??;
        for number in arrivals {
            let number = number.context("an event that nobody posted")?;
            let first = seen
                .get_mut(number as usize)
                .context("an event that nobody posted")?;
            ensure!(
                !std::mem::replace(first, true),
                "the event of post {number} came twice"
            );
            missing -= 1;
            if number >= warm_up {
                latency.record(schedule.due(number).elapsed().as_nanos() as u64)?;
            }
        }
    }
    Ok(latency)
}

/// The number that a post carries in its content.
fn number_in(data: &[u8]) -> Option<u32> {
    let mark = data
        .windows(MARK.len())
        .position(|window| window == MARK.as_bytes())?;
    let digits = data.get(mark + MARK.len()..mark + MARK.len() + DIGITS)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
