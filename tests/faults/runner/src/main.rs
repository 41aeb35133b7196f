//! The command `handoff-faults`.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Parser;
use handoff_faults::fleet::Namespace;
use handoff_faults::options::Options;
use handoff_faults::{report, run, schedule};
use harness::relay_binary;

fn main() -> ExitCode {
    match begin() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("handoff-faults: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn begin() -> Result<bool> {
    let options = Options::parse();
    if options.relay.is_none() && !options.schedule {
        return again_with(relay_binary());
    }
    // While there is one thread only: whatever another one starts would stay outside.
    let namespace = Namespace::enter()?;
    let (pace, left_out) = options.pace(namespace.is_own());
    for (kind, why) in left_out {
        eprintln!("Left out: {kind} ({why})");
    }
    if options.schedule {
        for step in schedule::plan(options.seed, &pace) {
            println!("{:>7.1} s  {step}", step.at.as_secs_f64());
        }
        return Ok(true);
    }
    let program = options
        .relay
        .as_deref()
        .unwrap_or(Path::new("handoff-relay"));
    let program = program.canonicalize().context("find the relay")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(run::run(&options, &program, namespace))?;
    report::write(&outcome, &options.report)?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&outcome)?);
    }
    for bar in &outcome.bars {
        eprintln!(
            "{}  {}: {}",
            if bar.met { "met   " } else { "MISSED" },
            bar.asked,
            bar.found
        );
    }
    eprintln!("The report is in {}", options.report.display());
    Ok(outcome.passed())
}

/// Becomes this program once more, told where the relay is: to build that took threads.
fn again_with(relay: &Path) -> Result<bool> {
    let mut again = Command::new(std::env::current_exe()?);
    again
        .args(std::env::args_os().skip(1))
        .arg("--relay")
        .arg(relay);
    Err(again.exec().into())
}
