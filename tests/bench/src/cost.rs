//! What a round costs: counts and latencies come in, figures go out.

use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

use crate::environment::Deployment;
use crate::processes;
use crate::report::Figures;

/// Processor times at the start of a round.
pub(crate) struct Cost<'deployment> {
    deployment: &'deployment Deployment<'deployment>,
    /// A server that stands in for the relay.
    stand_in: Option<u32>,
    start: Instant,
    before: Times,
}

#[derive(Clone, Copy)]
struct Times {
    relay: Duration,
    /// None where Postgres runs elsewhere.
    postgres: Option<Duration>,
    load: Duration,
}

impl<'deployment> Cost<'deployment> {
    /// Starts counting what the replicas, Postgres and the load use.
    pub(crate) fn start(deployment: &'deployment Deployment<'_>) -> Result<Self> {
        Self::start_with(deployment, None)
    }

    /// Counts another process in the place of the replicas.
    pub(crate) fn start_with(
        deployment: &'deployment Deployment<'_>,
        stand_in: Option<u32>,
    ) -> Result<Self> {
        Ok(Self {
            deployment,
            stand_in,
            start: Instant::now(),
            before: Times::now(deployment, stand_in)?,
        })
    }

    /// The figures of a round of `done` operations that ends now.
    pub(crate) fn figures(self, done: u64, latency: Option<&Histogram<u64>>) -> Result<Figures> {
        let seconds = self.start.elapsed().as_secs_f64();
        let now = Times::now(self.deployment, self.stand_in)?;
        let each = |now: Duration, before: Duration| {
            now.saturating_sub(before).as_secs_f64() * 1e6 / done as f64
        };
        let mut figures = Figures::default().with("per_s", done as f64 / seconds);
        if let Some(latency) = latency {
            figures = figures.with_latency(latency);
        }
        let relay = each(now.relay, self.before.relay);
        figures = figures.with("relay_us", relay);
        if let (Some(now), Some(before)) = (now.postgres, self.before.postgres) {
            let postgres = each(now, before);
            figures = figures
                .with("postgres_us", postgres)
                .with("both_us", relay + postgres);
        }
        Ok(figures.with("load_us", each(now.load, self.before.load)))
    }
}

impl Times {
    fn now(deployment: &Deployment<'_>, stand_in: Option<u32>) -> Result<Self> {
        Ok(Self {
            relay: match stand_in {
                Some(pid) => processes::processor_time(pid)?,
                None => deployment.relay_processor_time()?,
            },
            postgres: deployment.server.processor_time()?,
            load: load_time()?,
        })
    }
}

/// The processor time of this process and of the programs that it ran and that have ended.
fn load_time() -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
        let usage = getrusage(who)?;
        sum += duration(usage.user_time()) + duration(usage.system_time());
    }
    Ok(sum)
}

fn duration(time: TimeVal) -> Duration {
    Duration::from_secs(time.tv_sec().unsigned_abs())
        + Duration::from_micros(time.tv_usec().unsigned_abs())
}
