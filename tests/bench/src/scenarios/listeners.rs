//! Many streams of one channel, and what arrives on them: every event has to come on every stream,
//! once and in order.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::try_join_all;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use crate::http::{Connection, EventStream, Prepared};
use crate::report::Tally;

/// Streams that are opened at once.
pub(crate) const OPENED_AT_ONCE: usize = 50;
/// Streams from one address of this machine.
const STREAMS_PER_ADDRESS: usize = 10_000;
/// How long the last events may take.
const STRAGGLERS: Duration = Duration::from_secs(20);

/// Opens streams, so many at a time. `path` names the one of each number.
pub(crate) async fn open_streams(
    address: impl Fn(usize) -> SocketAddr,
    path: impl Fn(usize) -> String,
    key: &str,
    count: usize,
) -> Result<Vec<EventStream>> {
    let mut streams = Vec::new();
    for first in (0..count).step_by(OPENED_AT_ONCE) {
        let opened = (first..count.min(first + OPENED_AT_ONCE)).map(|number| {
            let request = Prepared::get(&path(number), key);
            let host = 1 + number / STREAMS_PER_ADDRESS;
            let local = SocketAddr::from(([127, 0, 0, host as u8], 0));
            let address = address(number);
            async move {
                Connection::open_from(local, address)
                    .await?
                    .stream(&request)
                    .await
            }
        });
        streams.extend(try_join_all(opened).await?);
    }
    Ok(streams)
}

/// Streams of one channel, each read by a task.
pub(crate) struct Listeners {
    heard: Arc<Heard>,
    tasks: JoinSet<anyhow::Error>,
    count: usize,
}

/// What has arrived.
struct Heard {
    count: u64,
    state: Mutex<State>,
    /// Rung whenever an event has reached all.
    reached: Notify,
    /// Gets a permit back for each event that has reached all.
    window: Semaphore,
}

#[derive(Default)]
struct State {
    /// The IDs in the order of the stream that is ahead of all others.
    ids: Vec<u64>,
    /// How many streams each has arrived on.
    arrivals: Vec<u64>,
    /// Events that have arrived on all streams.
    complete: usize,
    /// When the post under way was sent, and the latencies of its events.
    posted: Option<(Instant, Tally)>,
}

impl Listeners {
    pub(crate) fn start(streams: Vec<EventStream>) -> Self {
        let count = streams.len();
        let heard = Arc::new(Heard {
            count: count as u64,
            state: Mutex::default(),
            reached: Notify::new(),
            window: Semaphore::new(0),
        });
        let mut tasks = JoinSet::new();
        for stream in streams {
            let heard = Arc::clone(&heard);
            tasks.spawn(async move {
                match heard.listen(stream).await {
                    Ok(never) => match never {},
                    Err(error) => error,
                }
            });
        }
        Self {
            heard,
            tasks,
            count,
        }
    }

    /// The events that have arrived on all streams.
    pub(crate) fn complete(&self) -> Result<usize> {
        Ok(self.heard.state()?.complete)
    }

    /// Events from now on are late by the time since then.
    pub(crate) fn posted_at(&self, posted: Instant, tally: &Tally) -> Result<()> {
        self.heard.state()?.posted = Some((posted, tally.clone()));
        Ok(())
    }

    /// Waits until so many events have arrived on all streams.
    pub(crate) async fn wait_for(&mut self, events: usize) -> Result<()> {
        let deadline = Instant::now() + STRAGGLERS;
        loop {
            let reached = self.heard.reached.notified();
            let complete = self.heard.state()?.complete;
            if complete >= events {
                return Ok(());
            }
            tokio::select! {
                () = reached => {}
                ended = self.tasks.join_next() => {
                    let error = ended.context("there are no streams")??;
                    return Err(error.context("a stream ended that should have stayed open"));
                }
                () = tokio::time::sleep_until(deadline.into()) => {
                    bail!("{complete} of {events} events have arrived on all {} streams", self.count);
                }
            }
        }
    }

    /// What keeps posts within reach of the slowest stream: a post takes a permit, its last arrival
    /// gives it back.
    pub(crate) fn window(&self, posts: u16) -> Window {
        self.heard.window.add_permits(usize::from(posts));
        Window(Arc::clone(&self.heard))
    }

    /// Ends the streams; those that were posted have to be those that arrived.
    pub(crate) async fn finish(mut self, mut posted: Vec<u64>) -> Result<()> {
        self.wait_for(posted.len()).await?;
        self.tasks.shutdown().await;
        posted.sort_unstable();
        let arrived = &self.heard.state()?.ids;
        ensure!(
            *arrived == posted,
            "{} messages were posted, {} have arrived, or in another order",
            posted.len(),
            arrived.len()
        );
        Ok(())
    }
}

/// See [`Listeners::window`].
#[derive(Clone)]
pub(crate) struct Window(Arc<Heard>);

impl Window {
    pub(crate) async fn enter(&self) -> Result<()> {
        self.0.window.acquire().await?.forget();
        Ok(())
    }
}

impl Heard {
    fn state(&self) -> Result<std::sync::MutexGuard<'_, State>> {
        self.state.lock().ok().context("a reader has panicked")
    }

    async fn listen(&self, mut stream: EventStream) -> Result<std::convert::Infallible> {
        let mut next = 0;
        let mut id = 0;
        loop {
            let mut outcome = Ok(());
            stream
                .read(|line| {
                    if let Some(digits) = line.strip_prefix(b"id: ") {
                        id = number(digits);
                    } else if line.starts_with(b"data: ") && outcome.is_ok() {
                        // An ID alone is no event: it keeps the place of one that is quiet.
                        outcome = self.arrived(next, id);
                        next += 1;
                    }
                })
                .await?;
            outcome?;
        }
    }

    /// Notes the arrival of a stream's event of this number.
    fn arrived(&self, number: usize, id: u64) -> Result<()> {
        let mut state = self.state()?;
        if number == state.ids.len() {
            ensure!(
                state.ids.last().is_none_or(|last| *last < id),
                "message {id} came after a later one, or twice"
            );
            state.ids.push(id);
            state.arrivals.push(0);
        }
        ensure!(
            state.ids[number] == id,
            "message {id} came in the place of {}",
            state.ids[number]
        );
        state.arrivals[number] += 1;
        if let Some((posted, tally)) = &state.posted {
            tally.record(posted.elapsed())?;
        }
        // Each stream takes them in order, so they also become complete in order.
        if state.arrivals[number] == self.count {
            state.complete += 1;
            self.window.add_permits(1);
            self.reached.notify_waiters();
        }
        Ok(())
    }
}

fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |number, digit| {
        number
            .wrapping_mul(10)
            .wrapping_add(u64::from(digit.wrapping_sub(b'0')))
    })
}
