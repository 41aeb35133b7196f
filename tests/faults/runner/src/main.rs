//! The command `handoff-faults`.

use std::process::ExitCode;

use anyhow::Result;
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
    // While there is one thread only.
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
    let program = options.relay.clone().unwrap_or_else(|| relay_binary().clone());
    let program = program.canonicalize()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(run::run(&options, &program, namespace))?;
    report::write(&outcome, &options.report)?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&outcome)?);
    }
    for bar in &outcome.bars {
        eprintln!("{}  {}: {}", if bar.met { "met   " } else { "MISSED" }, bar.asked, bar.found);
    }
    eprintln!("The report is in {}", options.report.display());
    Ok(outcome.passed())
}
