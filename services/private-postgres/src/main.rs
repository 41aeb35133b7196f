//! The binary `handoff-private-postgres`: in comes a command, out goes its exit code; in between
//! it has a Postgres to itself. It keeps nothing.

use std::{
    error::Error,
    fs,
    io::{self, IsTerminal},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Command, ExitCode, ExitStatus, exit},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use clap::{Parser, Subcommand};
use handoff_private_postgres::{BINARIES_SETTING, Ephemeral, find_or_obtain};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::signal::unix::SignalKind;

/// A throw-away Postgres for the length of one command.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run a command with a Postgres of its own.
    ///
    /// Starts an empty Postgres on a free port of 127.0.0.1, runs the command with
    /// TEST_DATABASE_URL and DATABASE_URL set to it, passes on signals and the exit code, and
    /// removes Postgres and its data whatever happens. Data are not synced to disk.
    ///
    /// Postgres 15 or later is looked for in the folder given, else in PATH, else in the usual
    /// places of distributions. Where there is none, root on a machine with a package manager
    /// gets it installed (without a service); others are told what to do.
    Run {
        /// The folder of Postgres' programs
        #[arg(long, env = BINARIES_SETTING, value_name = "FOLDER")]
        postgres_bin: Option<PathBuf>,

        /// A file of SQL to execute first, in the order given
        #[arg(long, value_name = "FILE")]
        load: Vec<PathBuf>,

        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    let Task::Run {
        postgres_bin,
        load,
        command,
    } = Arguments::parse().task;
    match run(postgres_bin, &load, &command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("handoff-private-postgres: {}", with_sources(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(
    postgres_bin: Option<PathBuf>,
    load: &[PathBuf],
    command: &[String],
) -> Result<ExitCode, Box<dyn Error>> {
    let signals = Signals::take()?;
    let binaries = find_or_obtain(postgres_bin.as_deref(), &mut |line| eprintln!("{line}"))?;
    let postgres = Ephemeral::start_with(binaries)?;
    for file in load {
        fs::read_to_string(file)
            .map_err(Box::<dyn Error>::from)
            .and_then(|sql| Ok(postgres.execute("postgres", &sql)?))
            .map_err(|error| format!("could not load {}: {error}", file.display()))?;
    }
    let url = postgres.url("postgres");
    let status = signals
        .lend_to(
            Command::new(&command[0])
                .args(&command[1..])
                .env("TEST_DATABASE_URL", &url)
                .env("DATABASE_URL", &url),
        )
        .map_err(|error| format!("could not run {}: {error}", command[0]))?;
    Ok(exit_code(status))
}

/// What a shell makes of an exit: a death by signal is 128 and the signal's number.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or(status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    ExitCode::from(code as u8)
}

/// The signals that would end us: they are the command's to answer, and we end with it.
struct Signals {
    child: Arc<Mutex<Option<Pid>>>,
}

impl Signals {
    /// Takes the signals over from this moment on. Without a command to pass them on to they end
    /// us at once; whatever was started is then stopped as when we are killed.
    ///
    /// Handled, not blocked: a blocked signal would be blocked in everything that we start.
    fn take() -> io::Result<Self> {
        let kinds = [
            (Signal::SIGHUP, SignalKind::hangup()),
            (Signal::SIGINT, SignalKind::interrupt()),
            (Signal::SIGQUIT, SignalKind::quit()),
            (Signal::SIGTERM, SignalKind::terminate()),
        ];
        let child = Arc::new(Mutex::new(None::<Pid>));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let in_runtime = runtime.enter();
        for (signal, kind) in kinds {
            let mut received = tokio::signal::unix::signal(kind)?;
            let child = Arc::clone(&child);
            runtime.spawn(async move {
                while received.recv().await.is_some() {
                    let child = *child.lock().unwrap_or_else(PoisonError::into_inner);
                    pass_on(signal, child);
                }
            });
        }
        drop(in_runtime);
        // It needs no stop: it sleeps until the process ends.
        thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        Ok(Self { child })
    }

    /// Runs the command to its end. From its first moment on it gets our signals.
    fn lend_to(&self, command: &mut Command) -> io::Result<ExitStatus> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let mut running = command.spawn()?;
        *child = Some(Pid::from_raw(running.id() as i32));
        drop(child);
        let status = running.wait();
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = None;
        status
    }
}

fn pass_on(signal: Signal, child: Option<Pid>) {
    match child {
        None => exit(128 + signal as i32),
        // The terminal has sent it to the command too.
        Some(_) if by_terminal(signal) => {}
        Some(child) => {
            let _ = kill(child, signal);
        }
    }
}

/// Whether a signal looks like a key pressed, which goes to the whole foreground group.
fn by_terminal(signal: Signal) -> bool {
    matches!(signal, Signal::SIGINT | Signal::SIGQUIT) && io::stdin().is_terminal()
}

/// An error and what it came from, on one line.
fn with_sources(error: &dyn Error) -> String {
    let sources = std::iter::successors(error.source(), |error| (**error).source());
    sources.fold(error.to_string(), |line, source| {
        format!("{line}: {source}")
    })
}
