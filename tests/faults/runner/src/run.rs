//! Leads through a run: the fleet comes up, the load begins, the faults of the schedule strike, the
//! load ends, the history is checked. What comes out is the outcome, for the report.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until};

use crate::bars::{self, Bar, Growth, Stepped, seconds};
use crate::fleet::{Fleet, Namespace};
use crate::load::Load;
use crate::nemesis::{Scene, deafens, strike};
use crate::options::Options;
use crate::probe::Probes;
use crate::sample::{Sample, Samples};
use crate::schedule::{Kind, Step, plan};

/// How long is waited for the fleet after a fault before the next one.
const WAIT: Duration = Duration::from_secs(30);

/// A run that is shorter than this says nothing of growth.
const GROWTH_NEEDS: Duration = Duration::from_secs(600);

/// What a run brought.
#[derive(Debug, Serialize)]
pub struct Outcome {
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
    /// The bars but the verdict's.
    pub bars: Vec<Bar>,
    /// The beginning and the end, where the run was long enough.
    pub growth: Option<Vec<Growth>>,
    /// Every second of it.
    #[serde(skip)]
    pub samples: Vec<Sample>,
}

/// Runs it.
pub async fn run(options: &Options, program: &Path, namespace: Namespace) -> Result<Outcome> {
    let (pace, left_out) = options.pace(namespace.is_own());
    let schedule = plan(options.seed, &pace);
    let temporary = tempfile::Builder::new().prefix("handoff-faults-").tempdir_in("/tmp")?;
    let folder = options.work.clone().unwrap_or_else(|| temporary.path().to_owned());
    open_to_all(&folder)?;

    eprintln!("Starting the fleet in {}", folder.display());
    let fleet = Arc::new(Fleet::start(program, &folder, namespace).await?);
    let urls: Vec<_> = fleet.members().iter().map(|member| member.url()).collect();
    let load = Arc::new(Load);
    let start = Instant::now();
    let probes = Probes::start(&urls, start).await?;

    let spans = windows(pace.length);
    let samples = Samples::default();
    let counted = spans.map_or_else(Vec::new, |spans| {
        spans.map(|(from, to)| (Duration::from_secs_f64(from), Duration::from_secs_f64(to))).into()
    });
    let sampling = tokio::spawn(samples.clone().take(fleet.clone(), load.clone(), start, counted));

    let scene = Scene {
        fleet: &fleet,
        probes: &probes,
        start,
    };
    let mut steps = Vec::new();
    for (number, step) in schedule.iter().enumerate() {
        sleep_until(start + step.at).await;
        eprintln!(
            "{:>6.1} s  {}/{} {step}",
            scene.now().as_secs_f64(),
            number + 1,
            schedule.len(),
        );
        let stepped = take(scene, step, &load).await;
        for occurrence in &stepped.occurrences {
            eprintln!("          {}", occurrence.evidence);
        }
        eprintln!(
            "          {}; served again after {}{}",
            if stepped.happened() { "it happened" } else { "IT DID NOT HAPPEN" },
            seconds(stepped.recovery()),
            stepped.others_silence.map_or_else(String::new, |silence| {
                format!("; the others answered nothing for {} at most", seconds(Some(silence)))
            }),
        );
        if stepped.ids.is_some() {
            let fleet = fleet.clone();
            tokio::spawn(async move {
                if let Err(error) = fleet.postgres().follow().await {
                    eprintln!("          no new standby: {error:#}");
                }
            });
        }
        steps.push(stepped);
    }
    sleep_until(start + pace.length).await;
    sampling.abort();

    let samples = samples.taken();
    let growth = spans.map(|[early, late]| bars::growth(&samples, early, late));
    let deaths = fleet.members().iter().map(|member| member.deaths()).sum();
    let bars = bars::judge(&steps, growth.as_deref(), deaths);
    Ok(Outcome {
        seed: options.seed,
        length: pace.length,
        schedule,
        left_out,
        steps,
        bars,
        growth,
        samples,
    })
}

/// Carries a step out, and waits until the fleet serves again.
async fn take(scene: Scene<'_>, step: &Step, load: &Load) -> Stepped {
    let strikes = step.faults.iter().map(|fault| strike(scene, fault));
    let occurrences = futures_util::future::join_all(strikes).await;
    let ended = occurrences.iter().map(|one| one.ended).max().unwrap_or_default();
    let limit = Instant::now() + WAIT;
    loop {
        let served = scene.probes.served(ended).map(|served| served.whole());
        let load_served = load.served_since(ended);
        let whole = served.iter().all(Option::is_some) && load_served.is_some();
        if whole || Instant::now() > limit {
            return Stepped::new(step, occurrences, &scene.probes.records(), load_served);
        }
        sleep(Duration::from_millis(50)).await;
    }
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
    Ok(std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?)
}
