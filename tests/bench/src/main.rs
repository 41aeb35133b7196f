//! `handoff-bench`: measures a relay beside the limits of the machine it runs on.
//!
//! A scenario is a module: it gets a [`Server`](environment::Server) and the options, deploys what
//! it needs, and hands back rows of figures and the bars that they have to reach.

mod environment;
mod http;
mod options;
mod processes;
mod report;
mod scenarios;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::environment::Server;
use crate::options::{Options, Selection};
use crate::report::Report;

/// One thread: the load shares the cores with what it measures, and has no work to share out.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let options = Options::parse();
    allow_many_files()?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // Whichever way it ends, what was started is dropped, and with that stopped.
    let report = tokio::select! {
        report = run(&options) => report?,
        _ = interrupt.recv() => return Ok(ExitCode::from(130)),
        _ = terminate.recv() => return Ok(ExitCode::from(143)),
    };
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(if options.check && !report.all_bars_met() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

async fn run(options: &Options) -> Result<Report> {
    let server = Server::start(options).await?;
    let about = server.about().await?;
    let mut scenarios = Vec::new();
    if options.selects(Selection::Post) {
        scenarios.push(
            scenarios::post::run(&server, options)
                .await
                .context("post failed")?,
        );
    }
    if options.selects(Selection::Read) {
        scenarios.push(
            scenarios::read::run(&server, options)
                .await
                .context("read failed")?,
        );
    }
    if options.selects(Selection::Streams) {
        scenarios.push(
            scenarios::streams::run(&server, options)
                .await
                .context("streams failed")?,
        );
    }
    if options.selects(Selection::Deliver) {
        scenarios.push(
            scenarios::deliver::run(&server, options)
                .await
                .context("deliver failed")?,
        );
    }
    if options.selects(Selection::Wake) {
        scenarios.push(
            scenarios::wake::run(&server, options)
                .await
                .context("wake failed")?,
        );
    }
    Ok(Report { about, scenarios })
}

/// Each stream is a file here and one in the relay, which inherits the limit.
fn allow_many_files() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
        .context("the limit of open files cannot be raised")
}
