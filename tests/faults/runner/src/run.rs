//! Leads through a run: the fleet comes up, the load begins, the faults of the schedule strike, the
//! load ends, the history is checked. What comes out is the outcome, for the report.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use handoff_checker::Verdict;
use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until};

use crate::about::About;
use crate::bars::{self, Bar, Growth, Stepped, seconds};
use crate::fleet::{Fleet, Namespace};
use crate::load::{self, Load, Totals, Written};
use crate::nemesis::{Scene, deafens, strike};
use crate::options::Options;
use crate::probe::Probes;
use crate::sample::{Sample, Samples};
use crate::schedule::{Fault, Kind, Step, plan};

/// How long is waited for the fleet after a fault before the next one.
const WAIT: Duration = Duration::from_secs(30);

/// A run that is shorter than this says nothing of growth.
const GROWTH_NEEDS: Duration = Duration::from_secs(600);

/// How often a new standby is tried to be made.
const STANDBY_ATTEMPTS: usize = 30;

/// How often is told how far the run is.
const PROGRESS: Duration = Duration::from_secs(15);

/// What a run brought.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// What ran, on what.
    pub about: About,
    /// The seed.
    pub seed: u64,
    /// How long the load ran.
    pub length: Duration,
    /// What was planned.
    pub schedule: Vec<Step>,
    /// What can't be done here, and why.
    pub left_out: Vec<(Kind, &'static str)>,
    /// How it went.
    pub steps: Vec<Stepped>,
    /// The bars, the verdict's among them.
    pub bars: Vec<Bar>,
    /// The beginning and the end, where the run was long enough.
    pub growth: Option<Vec<Growth>>,
    /// What the agents did.
    pub totals: Totals,
    /// Posts of the probes that were answered, and that were not.
    pub probes: (usize, usize),
    /// Where their history is.
    pub history: Written,
    /// What the checker says of it.
    pub verdict: Verdict,
    /// Every second of it.
    #[serde(skip)]
    pub samples: Vec<Sample>,
}

impl Outcome {
    /// Whether nothing is wrong and no bar was missed.
    pub fn passed(&self) -> bool {
        self.bars.iter().all(|bar| bar.met)
    }
}

/// Runs it.
pub async fn run(options: &Options, program: &Path, namespace: Namespace) -> Result<Outcome> {
    let (pace, left_out) = options.pace(namespace.is_own());
    let schedule = plan(options.seed, &pace);
    let temporary = tempfile::Builder::new()
        .prefix("handoff-faults-")
        .tempdir_in("/tmp")?;
    let folder = options
        .work
        .clone()
        .unwrap_or_else(|| temporary.path().to_owned());
    open_to_all(&folder)?;
    let history = options.history.clone().unwrap_or_else(|| {
        std::env::temp_dir().join(format!("handoff-history-{}.jsonl", options.seed))
    });

    eprintln!("Starting the fleet in {}", folder.display());
    let fleet = Arc::new(Fleet::start(program, &folder, namespace).await?);
    let about = About::of(&fleet, program, options).await?;
    let urls: Vec<_> = fleet.members().iter().map(|member| member.url()).collect();
    let (load, start) = Load::start(&fleet, options, &history, &about.what()).await?;
    let load = Arc::new(load);
    let probes = Probes::start(&urls, start).await?;

    let spans = windows(pace.length);
    let samples = Samples::default();
    let counted = spans.map_or_else(Vec::new, |spans| {
        spans
            .map(|(from, to)| (Duration::from_secs_f64(from), Duration::from_secs_f64(to)))
            .into()
    });
    let sampling = tokio::spawn(
        samples
            .clone()
            .take(fleet.clone(), load.clone(), start, counted),
    );
    let telling = tokio::spawn(tell(samples.clone(), load.clone(), pace.length));

    let scene = Scene {
        fleet: &fleet,
        probes: &probes,
        start,
    };
    let mut steps = Vec::new();
    for (number, step) in schedule.iter().enumerate() {
        sleep_until(start + step.at).await;
        if scene.now() + pace.calm.1 / 2 > pace.length {
            eprintln!("What came before took so long that the rest is left out.");
            break;
        }
        let (at, count) = (scene.now().as_secs_f64(), schedule.len());
        eprintln!("{at:>7.1} s  {}/{count} {step}", number + 1);
        let stepped = take(scene, step, &load).await;
        say(&stepped);
        if stepped.is_failover() {
            make_standby(fleet.clone());
        }
        steps.push(stepped);
    }
    sleep_until(start + pace.length).await;
    telling.abort();
    sampling.abort();
    // Whoever was aborted lets go of the load.
    telling.await.ok();
    sampling.await.ok();

    eprintln!("The load ends; readers catch up");
    let counts = probes.counts();
    let load = Arc::into_inner(load).context("the load is in use")?;
    let (totals, written) = load.finish(&history).await?;
    eprintln!("Checking {} lines", written.lines);
    let verdict = load::check(&history).await?;

    let samples = samples.taken();
    let growth = spans.map(|[early, late]| bars::growth(&samples, early, late));
    let deaths = fleet.members().iter().map(|member| member.deaths()).sum();
    let bars = bars::judge(&verdict, &totals, &steps, growth.as_deref(), deaths);
    Ok(Outcome {
        about,
        seed: options.seed,
        length: pace.length,
        schedule,
        left_out,
        steps,
        bars,
        growth,
        totals,
        probes: counts,
        history: written,
        verdict,
        samples,
    })
}

/// Tells every now and then how far it is.
async fn tell(samples: Samples, load: Arc<Load>, length: Duration) {
    loop {
        sleep(PROGRESS).await;
        if let Some(sample) = samples.last() {
            eprintln!(
                "{:>7.1} s  of {:.0} s: {} posts acknowledged, {} a second now, {} events a second",
                sample.at,
                length.as_secs_f64(),
                load.acked(),
                sample.rates.acked,
                sample.rates.events
            );
        }
    }
}

fn say(stepped: &Stepped) {
    for occurrence in &stepped.occurrences {
        let happened = if occurrence.happened {
            ""
        } else {
            "IT DID NOT HAPPEN: "
        };
        eprintln!("           {happened}{}", occurrence.evidence);
    }
    let others = stepped.others_silence.map_or_else(String::new, |silence| {
        format!(
            "; the others answered nothing for {} at most",
            seconds(Some(silence))
        )
    });
    eprintln!(
        "           served again after {}{others}",
        seconds(stepped.recovery())
    );
}

/// Makes a new standby while the fleet serves. The next fault may come in between, a full disk for
/// one; then it is made again.
fn make_standby(fleet: Arc<Fleet>) {
    tokio::spawn(async move {
        for _ in 0..STANDBY_ATTEMPTS {
            match fleet.postgres().follow().await {
                Ok(()) => return,
                Err(error) => eprintln!("           no new standby yet: {error:#}"),
            }
            sleep(Duration::from_secs(2)).await;
        }
    });
}

/// Carries a step out, and waits until the fleet serves again.
async fn take(scene: Scene<'_>, step: &Step, load: &Load) -> Stepped {
    for fault in &step.faults {
        load.fault_begins(fault.kind.name(), &target(fault), deafens(fault.kind));
    }
    let strikes = step.faults.iter().map(|fault| strike(scene, fault));
    let occurrences = futures_util::future::join_all(strikes).await;
    let ended = occurrences
        .iter()
        .map(|one| one.ended)
        .max()
        .unwrap_or_default();
    let limit = Instant::now() + WAIT;
    let load_served = loop {
        let served = scene.probes.served(ended).map(|served| served.whole());
        let load_served = load.served_since(ended);
        let whole = served.iter().all(Option::is_some) && load_served.is_some();
        if whole || Instant::now() > limit {
            break load_served;
        }
        sleep(Duration::from_millis(50)).await;
    };
    for occurrence in &occurrences {
        load.fault_is_over(occurrence, &target(&occurrence.fault));
    }
    let records = scene.probes.records();
    Stepped::new(
        step,
        occurrences,
        &records,
        load_served,
        |replica, from, to| load.silence(replica, from, to),
    )
}

fn target(fault: &Fault) -> String {
    fault
        .replica
        .map_or_else(String::new, |replica| format!("replica {replica}"))
}

/// The minute after the first two, and the last one; nothing of a run that is too short.
fn windows(length: Duration) -> Option<[(f64, f64); 2]> {
    let end = length.as_secs_f64();
    (length >= GROWTH_NEEDS).then_some([(120.0, 180.0), (end - 60.0, end)])
}

/// The user that Postgres runs as has to pass through.
fn open_to_all(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(folder)?;
    Ok(std::fs::set_permissions(
        folder,
        std::fs::Permissions::from_mode(0o755),
    )?)
}
