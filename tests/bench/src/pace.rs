//! The open loop: posts are due at fixed times, whether or not those before have been answered, and
//! latency counts from when one was due. So a stall is charged to every request that it delays.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::{Mutex, mpsc};

/// How far ahead a schedule begins: whoever follows it is up by then.
const AHEAD: Duration = Duration::from_millis(200);

/// When each request is due.
#[derive(Clone, Copy)]
pub(crate) struct Schedule {
    start: Instant,
    rate: u32,
}

impl Schedule {
    /// So many a second, from a moment on.
    pub(crate) fn new(rate: u32) -> Self {
        Self {
            start: Instant::now() + AHEAD,
            rate,
        }
    }

    pub(crate) fn due(self, number: u32) -> Instant {
        self.start + Duration::from_secs_f64(f64::from(number) / f64::from(self.rate))
    }

    /// How many are due in this time.
    pub(crate) fn count(self, duration: Duration) -> u32 {
        (f64::from(self.rate) * duration.as_secs_f64()).ceil() as u32
    }
}

/// Hands out the numbers of requests when they are due.
pub(crate) struct Pacer {
    numbers: Due,
    thread: JoinHandle<()>,
}

/// Where those who send get the numbers.
#[derive(Clone)]
pub(crate) struct Due(Arc<Mutex<mpsc::UnboundedReceiver<u32>>>);

impl Pacer {
    /// On a thread of its own: the runtime's timers are a millisecond coarse, which would be
    /// counted as the relay's.
    pub(crate) fn start(schedule: Schedule, total: u32) -> Self {
        let (due, numbers) = mpsc::unbounded_channel();
        let thread = std::thread::spawn(move || {
            for number in 0..total {
                let wait = schedule
                    .due(number)
                    .saturating_duration_since(Instant::now());
                std::thread::sleep(wait);
                if due.send(number).is_err() {
                    return;
                }
            }
        });
        Self {
            numbers: Due(Arc::new(Mutex::new(numbers))),
            thread,
        }
    }

    pub(crate) fn numbers(&self) -> Due {
        self.numbers.clone()
    }

    /// Ends once all numbers were handed out.
    pub(crate) fn finish(self) -> Result<()> {
        self.thread.join().ok().context("the pacer has panicked")
    }
}

impl Due {
    /// Waits for the next number; none when all have been handed out.
    pub(crate) async fn next(&self) -> Option<u32> {
        self.0.lock().await.recv().await
    }
}
