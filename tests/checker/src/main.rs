//! `handoff-checker HISTORY.jsonl`: the verdict on a recorded history, on standard output.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use handoff_checker::{Options, check};

/// Checks a recorded history of a relay against its guarantees.
///
/// Prints how many operations there were, how many things each check looked at, and every kind of
/// anomaly with its first examples.
///
/// Exit status: 0 if the history is sound; 1 if it is not: something in it is wrong, or undecided, or
/// too little was looked at; 2 if it can't be read.
#[derive(Parser)]
#[command(name = "handoff-checker", version)]
struct Args {
    /// The history: JSON lines, as the load writes them.
    history: PathBuf,

    /// Print the verdict as JSON.
    #[arg(long)]
    json: bool,

    /// How many examples of each kind of anomaly to print.
    #[arg(long, default_value_t = 10)]
    examples: usize,

    /// How long another replica may go on with an API key as it was, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1_000)]
    key_bound: u64,

    /// The same while a fault keeps some replica from hearing of changes, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 5_000)]
    deaf_key_bound: u64,

    /// Steps after which the search for an order of compare-and-set operations gives up on an entry.
    #[arg(long, value_name = "STEPS", default_value_t = Options::default().search_steps)]
    search_steps: u64,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("handoff-checker: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<bool> {
    let milliseconds = |count: u64| {
        u64::try_from(Duration::from_millis(count).as_nanos()).context("a bound is too long")
    };
    let options = Options {
        examples: args.examples,
        key_bound: milliseconds(args.key_bound)?,
        deaf_key_bound: milliseconds(args.deaf_key_bound)?,
        search_steps: args.search_steps,
        ..Options::default()
    };
    let name = args.history.display();
    let file = File::open(&args.history).with_context(|| format!("{name} can't be opened"))?;
    let verdict = check(BufReader::with_capacity(1 << 20, file), &options)
        .with_context(|| name.to_string())?;
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &verdict)?;
        writeln!(out)?;
    } else {
        write!(out, "{verdict}")?;
    }
    Ok(verdict.is_sound())
}
