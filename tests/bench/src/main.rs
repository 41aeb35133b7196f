//! `handoff-bench`: measures a relay beside the limits of the machine it runs on.
//!
//! A scenario is a module: it gets a [`Server`](environment::Server) and the options, deploys what
//! it needs, and hands back rows of figures and the bars that they have to reach.

mod cost;
mod environment;
mod http;
mod limits;
mod options;
mod pace;
mod processes;
mod report;
mod results;
mod scenarios;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::environment::Server;
use crate::options::{Common, Measure, Options, ScenarioOptions};
use crate::report::{Report, Scenario};

/// The relay's, so that limit (a) has it as well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    match options.command {
        Measure::AnswerWithoutStoring => {
            limits::http::serve()?;
            Ok(ExitCode::SUCCESS)
        }
        Measure::Report(options) => {
            results::write(&options)?;
            Ok(ExitCode::SUCCESS)
        }
        command => measure(&options.common, command),
    }
}

/// One thread: the load shares the cores with what it measures, and has no work to share out.
#[tokio::main(flavor = "current_thread")]
async fn measure(common: &Common, command: Measure) -> Result<ExitCode> {
    allow_many_files()?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // Whichever way it ends, what was started is dropped, and with that stopped.
    let report = tokio::select! {
        report = run(common, command) => report?,
        _ = interrupt.recv() => return Ok(ExitCode::from(130)),
        _ = terminate.recv() => return Ok(ExitCode::from(143)),
    };
    let json = serde_json::to_string_pretty(&report)?;
    if let Some(file) = &common.save {
        std::fs::write(file, &json)
            .with_context(|| format!("{} can't be written", file.display()))?;
    }
    if common.json {
        println!("{json}");
    } else {
        print!("{report}");
    }
    Ok(if common.check && !report.all_bars_met() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

async fn run(common: &Common, command: Measure) -> Result<Report> {
    let settings: &[_] = match &command {
        Measure::Profile(_) => &scenarios::profile::POSTGRES_SETTINGS,
        _ => &[],
    };
    let server = Server::start(common, settings).await?;
    let about = server.about().await?;
    let mut scenarios = Vec::new();
    if let Measure::All = command {
        for command in every_scenario(common.quick)? {
            scenarios.push(run_scenario(&server, common, command).await?);
        }
    } else {
        let command = if common.quick {
            command.quick()?
        } else {
            command
        };
        scenarios.push(run_scenario(&server, common, command).await?);
    }
    Ok(Report { about, scenarios })
}

fn every_scenario(quick: bool) -> Result<Vec<Measure>> {
    Ok(vec![
        Measure::Post(ScenarioOptions::defaults(quick)?),
        Measure::Mixed(ScenarioOptions::defaults(quick)?),
        Measure::Fanout(ScenarioOptions::defaults(quick)?),
        Measure::Streams(ScenarioOptions::defaults(quick)?),
        Measure::Read(ScenarioOptions::defaults(quick)?),
        Measure::Deliver(ScenarioOptions::defaults(quick)?),
        Measure::Wake(ScenarioOptions::defaults(quick)?),
        Measure::Mcp(ScenarioOptions::defaults(quick)?),
        Measure::Growth(ScenarioOptions::defaults(quick)?),
    ])
}

async fn run_scenario(server: &Server, common: &Common, command: Measure) -> Result<Scenario> {
    server.settle().await?;
    let start = std::time::Instant::now();
    let scenario = measure_scenario(server, common, command).await?;
    // A run takes minutes: whoever watches sees how far it is.
    eprintln!("{}: {:.1} s", scenario.name, start.elapsed().as_secs_f64());
    Ok(scenario)
}

async fn measure_scenario(server: &Server, common: &Common, command: Measure) -> Result<Scenario> {
    use scenarios::{
        deliver, fanout, growth, mcp, mixed, post, profile, read, storage, streams, wake,
    };
    match command {
        Measure::Post(options) => {
            let scenario = post::run(server, common, &options);
            scenario.await.context("post failed")
        }
        Measure::Mixed(options) => {
            let scenario = mixed::run(server, common, &options);
            scenario.await.context("mixed failed")
        }
        Measure::Fanout(options) => {
            let scenario = fanout::run(server, common, &options);
            scenario.await.context("fanout failed")
        }
        Measure::Streams(options) => {
            let scenario = streams::run(server, common, &options);
            scenario.await.context("streams failed")
        }
        Measure::Read(options) => {
            let scenario = read::run(server, common, &options);
            scenario.await.context("read failed")
        }
        Measure::Deliver(options) => {
            let scenario = deliver::run(server, common, &options);
            scenario.await.context("deliver failed")
        }
        Measure::Wake(options) => {
            let scenario = wake::run(server, common, &options);
            scenario.await.context("wake failed")
        }
        Measure::Mcp(options) => {
            let scenario = mcp::run(server, common, &options);
            scenario.await.context("mcp failed")
        }
        Measure::Growth(options) => {
            let scenario = growth::run(server, common, &options);
            scenario.await.context("growth failed")
        }
        Measure::Profile(options) => {
            let scenario = profile::run(server, common, &options);
            scenario.await.context("profile failed")
        }
        Measure::Storage(options) => {
            let scenario = storage::run(server, common, &options);
            scenario.await.context("storage failed")
        }
        Measure::All | Measure::Report(_) | Measure::AnswerWithoutStoring => {
            bail!("this is no scenario")
        }
    }
}

/// Each stream is a file here and one in the relay, which inherits the limit.
fn allow_many_files() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
        .context("the limit of open files cannot be raised")
}
