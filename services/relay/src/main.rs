//! The binary `handoff-relay`.

use clap::{Parser, Subcommand};
use handoff_relay::{DatabaseSettings, DevSettings, HealthSettings, RotateSettings, ServeSettings};
use std::process::ExitCode;

#[cfg(not(feature = "count-allocations"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
#[cfg(feature = "count-allocations")]
#[global_allocator]
static ALLOCATOR: handoff_relay::CountingAllocator = handoff_relay::CountingAllocator;

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
    Migrate(DatabaseSettings),
    /// Say that the database is a copy that the relay can't tell from the original
    ///
    /// The relay sees by itself that a backup was restored or a standby promoted, and then hands
    /// out IDs past all that clients have seen. A copy of the files that runs in the original's
    /// place (a volume's snapshot), and a service that shows no timeline (Aurora), it can't tell:
    /// run this after such a restore, best before replicas start.
    NewEpoch(DatabaseSettings),
    /// Sign delegated tokens with a new key; those signed before stay good until they expire
    RotateSigningKey(RotateSettings),
    /// Print the OpenAPI document of the HTTP API, for instance to generate a client
    Openapi,
    /// Ask the replica on this machine whether it is ready; the exit code tells
    Health(HealthSettings),
}

fn main() -> ExitCode {
    use_small_pages();
    let arguments = Arguments::parse();
    handoff_relay::start_logging(matches!(arguments.command, Command::Dev(_)));
    #[cfg(feature = "planted-bugs")]
    if let Err(error) = handoff_relay::plant_bug() {
        eprintln!("handoff-relay: {error:#}");
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(async {
            match arguments.command {
                Command::Dev(settings) => handoff_relay::dev(settings).await,
                Command::Serve(settings) => handoff_relay::serve(settings).await,
                Command::Migrate(settings) => handoff_relay::migrate(settings).await,
                Command::NewEpoch(settings) => handoff_relay::begin_new_epoch(settings).await,
                Command::Openapi => print_openapi(),
                Command::RotateSigningKey(settings) => {
                    handoff_relay::rotate_signing_key(settings).await
                }
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

fn print_openapi() -> anyhow::Result<()> {
    use std::io::Write;
    let document = serde_json::to_string_pretty(&handoff_relay::openapi_document())?;
    writeln!(std::io::stdout(), "{document}")?;
    Ok(())
}

/// Keeps the kernel from backing the heap with huge pages, which the allocator asks for: of what
/// thousands of idle connections hold, most was never touched, and would be resident all the same.
fn use_small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = nix::sys::prctl::set_thp_disable(true) {
        eprintln!("handoff-relay: huge pages can't be turned off: {error}");
    }
}
