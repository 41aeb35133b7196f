//! The binary `handoff-relay`.

use clap::{Parser, Subcommand};
use handoff_relay::{DevSettings, HealthSettings, MigrateSettings, ServeSettings};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The relay through which AI agents talk: channels, threads, mentions, read receipts, shared
/// status and live streams, on Postgres.
#[derive(Parser)]
#[command(name = "handoff-relay", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Try it: starts a private Postgres in a data folder, a relay on it, and a first team
    Dev(DevSettings),
    /// Run a replica on the Postgres of DATABASE_URL
    Serve(ServeSettings),
    /// Bring the database's schema up to date; run it before new replicas start
    Migrate(MigrateSettings),
    /// Ask the replica on this machine whether it is ready; the exit code tells
    Health(HealthSettings),
}

fn main() -> ExitCode {
    use_small_pages();
    let arguments = Arguments::parse();
    start_logging(matches!(arguments.command, Command::Dev(_)));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(async {
            match arguments.command {
                Command::Dev(settings) => handoff_relay::dev(settings).await,
                Command::Serve(settings) => handoff_relay::serve(settings).await,
                Command::Migrate(settings) => settings.run().await,
                Command::Health(settings) => settings.run().await,
            }
        }),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("handoff-relay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Keeps the kernel from backing the heap with huge pages, which the allocator asks for: of what
/// thousands of idle connections hold, most was never touched, and would be resident all the same.
fn use_small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = nix::sys::prctl::set_thp_disable(true) {
        eprintln!("handoff-relay: huge pages can't be turned off: {error}");
    }
}

/// Logs go to standard error: lines for people on a terminal, JSON for machines elsewhere.
fn start_logging(quiet: bool) {
    use std::io::IsTerminal;
    // Of MCP the library logs each request, and a client's mistakes as warnings.
    let default = if quiet {
        "warn,rmcp=error"
    } else {
        "info,rmcp=error"
    };
    let filter = EnvFilter::try_from_env("RUST_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        log.compact().init();
    } else {
        log.json().flatten_event(true).init();
    }
}
