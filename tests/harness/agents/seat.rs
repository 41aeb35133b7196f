//! Where an agent sits: its API key, its connection, its part of the history, and its turn among the
//! replicas. It asks for one thing at a time.

use std::sync::Arc;
use std::time::Duration;

use handoff_checker::Log;
use hyper::Method;
use hyper::header::HeaderValue;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::Shared;
use super::link::{Ask, Link, Reply};

/// The pauses after failed requests.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

pub(super) struct Seat {
    pub(super) shared: Arc<Shared>,
    pub(super) link: Link,
    pub(super) key: HeaderValue,
    pub(super) random: StdRng,
    pub(super) turn: usize,
    pause: Duration,
}

/// How a request that was recorded ended.
pub(super) enum Told {
    Ok(Reply),
    Refused(u16),
    Unknown(u16),
}

impl Seat {
    /// A seat of its own; agents of one plan draw different numbers.
    pub(super) fn new(shared: &Arc<Shared>, key: &HeaderValue, number: usize) -> Seat {
        let seed = shared.plan.seed.wrapping_mul(1_000_003) ^ number as u64;
        Seat {
            link: Link::new(shared.plan.timeout),
            shared: shared.clone(),
            key: key.clone(),
            random: StdRng::seed_from_u64(seed),
            turn: number,
            pause: FIRST_PAUSE,
        }
    }

    pub(super) fn log(&self) -> Log {
        self.shared.recorder.process()
    }

    pub(super) fn ask(&self, method: Method, path: impl Into<String>) -> Ask {
        Ask::new(method, path, &self.key)
    }

    /// One attempt, where its turn is; after a failure it is the next one's turn.
    pub(super) async fn attempt(&mut self, ask: &Ask) -> Told {
        let host = self.shared.host(self.turn);
        let told = self.attempt_at(&host, ask).await;
        if let Told::Unknown(_) = told {
            self.turn = self.turn.wrapping_add(1);
        }
        told
    }

    /// One attempt at a certain replica.
    pub(super) async fn attempt_at(
        &mut self,
        host: &hyper::http::uri::Authority,
        ask: &Ask,
    ) -> Told {
        match self.link.ask(host, ask).await {
            Some(reply) if reply.status < 300 => {
                self.pause = FIRST_PAUSE;
                Told::Ok(reply)
            }
            Some(reply) if reply.status < 500 => {
                self.pause = FIRST_PAUSE;
                Told::Refused(reply.status)
            }
            reply => {
                self.shared.meter.errors.one();
                // An answer of 5xx may be a proxy's that has lost its replica.
                self.link.close();
                Told::Unknown(reply.map_or(0, |reply| reply.status))
            }
        }
    }

    /// The pause after a failure: longer after each.
    pub(super) async fn rest(&mut self) {
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// Tries until there is an answer other than a failure, or patience is over.
    pub(super) async fn persist(&mut self, ask: &Ask) -> Told {
        let end = Instant::now() + self.shared.plan.patience;
        loop {
            let told = self.attempt(ask).await;
            if !matches!(told, Told::Unknown(_)) || Instant::now() >= end {
                return told;
            }
            self.rest().await;
        }
    }

    /// A 4xx that no healthy client should get.
    pub(super) fn refused(&self, what: &str, status: u16) {
        self.shared
            .meter
            .refused(format!("{what} was refused with {status}"));
    }

    /// One of the plan's channels, which come before those of the pulses.
    pub(super) fn any_channel(&mut self) -> usize {
        self.random.random_range(0..self.shared.plan.channels.len())
    }
}

/// Waits, but not beyond the stop; whether the load goes on.
pub(super) async fn goes_on(stop: &mut watch::Receiver<bool>, wait: Duration) -> bool {
    if *stop.borrow() {
        return false;
    }
    let stopped = timeout(wait, stop.wait_for(|stop| *stop)).await;
    stopped.is_err()
}
