//! What ran, on what machine, by which command: for the report and for the history's first line.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::fleet::{Fleet, program as find};
use crate::options::{Options, Tempo};

/// Settings of Postgres that a reader of the report wants to know.
const SETTINGS: [&str; 7] = [
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "shared_buffers",
    "max_wal_size",
    "autovacuum_naptime",
    "autovacuum_vacuum_scale_factor",
];

/// What ran.
#[derive(Clone, Debug, Serialize)]
pub struct About {
    /// When it began.
    pub began: String,
    /// The commit of the working folder, if it is one of git's.
    pub commit: Option<String>,
    /// The relay's version, and how it was built as far as its path tells.
    pub relay: String,
    /// Postgres.
    pub postgres: String,
    /// Some of its settings.
    pub settings: Vec<(String, String)>,
    /// HAProxy.
    pub haproxy: String,
    /// The machine.
    pub machine: String,
    /// Whether it had a network and mounts of its own.
    pub own_namespace: bool,
    /// What makes it again.
    pub command: String,
}

impl About {
    /// Asks the programs, the kernel and git.
    pub async fn of(fleet: &Fleet, program: &Path, options: &Options) -> Result<About> {
        let client = fleet.postgres().connect().await?;
        let postgres = client.query_one("select version()", &[]).await?.get(0);
        let rows = client
            .query(
                "select name, current_setting(name) from pg_settings where name = any($1)
                 order by name",
                &[&SETTINGS.as_slice()],
            )
            .await?;
        let build = program.parent().and_then(|folder| folder.file_name());
        let haproxy = find("haproxy").map(|haproxy| first_line(Command::new(haproxy).arg("-v")));
        Ok(About {
            began: OffsetDateTime::now_utc()
                .replace_nanosecond(0)?
                .format(&Rfc3339)?,
            commit: commit(),
            relay: format!(
                "{} ({} build)",
                first_line(Command::new(program).arg("--version")).unwrap_or_default(),
                build.unwrap_or_default().to_string_lossy()
            ),
            postgres,
            settings: rows.iter().map(|row| (row.get(0), row.get(1))).collect(),
            haproxy: haproxy.flatten().unwrap_or_default(),
            machine: machine(),
            own_namespace: fleet.packets().is_some(),
            command: command(options),
        })
    }

    /// In one line.
    pub fn what(&self) -> String {
        let commit = self.commit.as_deref().unwrap_or("unknown commit");
        format!("{}, {commit}, {}", self.relay, self.postgres)
    }
}

/// The command that makes such a run again.
fn command(options: &Options) -> String {
    let mut command = format!(
        "cargo run --release -p handoff-faults -- --seed {} --minutes {} --rate {} --followers {}",
        options.seed, options.minutes, options.rate, options.followers
    );
    if options.tempo == Tempo::Short {
        command += " --tempo short";
    }
    let only: Vec<_> = options
        .only
        .iter()
        .filter_map(|kind| Some(kind.to_possible_value()?.get_name().to_owned()))
        .collect();
    if !only.is_empty() {
        command += &format!(" --only {}", only.join(","));
    }
    command
}

fn commit() -> Option<String> {
    let commit = first_line(Command::new("git").args(["rev-parse", "HEAD"]))?;
    let mut status = Command::new("git");
    status.args(["status", "--porcelain", "--untracked-files=no"]);
    let changed = first_line(&mut status).is_some();
    Some(commit + if changed { " with changes" } else { "" })
}

/// Nothing where the command fails or says nothing.
fn first_line(command: &mut Command) -> Option<String> {
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout);
    Some(text.lines().next()?.trim().to_owned())
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let processor = value("/proc/cpuinfo", "model name");
    let memory: u64 = value("/proc/meminfo", "MemTotal")
        .split_whitespace()
        .next()
        .and_then(|kilobytes| kilobytes.parse().ok())
        .unwrap_or(0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cores} cores ({processor}), {} GiB, Linux {}",
        memory >> 20,
        kernel.trim()
    )
}

fn value(file: &str, label: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(label)?.split_once(':'));
    line.map_or_else(String::new, |(_, value)| value.trim().to_owned())
}
