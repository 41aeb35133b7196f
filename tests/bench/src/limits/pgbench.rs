//! Limits (b) and (d) by Postgres' own load program, `pgbench`.
//!
//! It runs a script of prepared statements, one of them a transaction each, over as many connections
//! as the relay's load has.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::NamedTempFile;

use super::sql::Limit;
use crate::cost::Cost;
use crate::environment::Deployment;
use crate::options::PostLoad;
use crate::report::Figures;

/// The program, and the scripts it runs.
pub(crate) struct Pgbench {
    program: PathBuf,
    /// A script of each limit.
    scripts: Vec<(Limit, NamedTempFile)>,
}

impl Pgbench {
    /// None where it is not installed beside the server.
    pub(crate) fn find(postgres_bin: Option<&Path>, load: &PostLoad) -> Result<Option<Self>> {
        let Some(program) = postgres_bin.and_then(beside_server) else {
            return Ok(None);
        };
        let mut scripts = Vec::new();
        for limit in [Limit::Insert, Limit::InsertAndNotify] {
            let statement = |with_key| {
                let statement = limit
                    .statement(with_key)
                    .replace("$1", ":team")
                    .replace("$2", ":channel")
                    .replace("$3", ":content")
                    // Its variables have no more than 19 digits, a UUID has 32.
                    .replace("$4", "'0000000000000' || :key");
                statement.split_whitespace().collect::<Vec<_>>().join(" ")
            };
            let mut script = NamedTempFile::new()?;
            write!(
                script,
                "\\set channel :client_id % {channels} + 1\n\
                 \\set team (:client_id % {channels}) % {teams} + 1\n\
                 \\if random(1, 100) <= {percent}\n\
                 \\set key random(1000000000000000000, 9000000000000000000)\n\
                 {};\n\
                 \\else\n\
                 {};\n\
                 \\endif\n",
                statement(true),
                statement(false),
                channels = load.channels,
                teams = load.teams,
                percent = load.idempotency,
            )?;
            scripts.push((limit, script));
        }
        Ok(Some(Self { program, scripts }))
    }

    /// Runs the limit's script; the figures are pgbench's own, but for processor time.
    pub(crate) async fn round(
        &self,
        deployment: &Deployment<'_>,
        limit: Limit,
        connections: u16,
        size: u16,
        duration: Duration,
    ) -> Result<Figures> {
        let (_, script) = self
            .scripts
            .iter()
            .find(|(known, _)| *known == limit)
            .context("pgbench has no script for this limit")?;
        deployment.sql().await?.batch_execute("checkpoint").await?;
        let mut command = Command::new(&self.program);
        command
            .args(["--no-vacuum", "--protocol=prepared", "--jobs=1"])
            .arg(format!("--client={connections}"))
            // Whole seconds only.
            .arg(format!("--time={}", duration.as_secs().max(1)))
            .arg(format!(
                "--define=content={}",
                "x".repeat(usize::from(size))
            ))
            .arg(format!("--file={}", script.path().display()))
            .arg(deployment.database_url());
        let cost = Cost::start(deployment)?;
        // Its connections are opened within the time whose cost is counted; it does so once.
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "pgbench failed: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let done = number_after(&said, "number of transactions actually processed: ")?;
        let rate = number_after(&said, "tps = ")?;
        let mean = number_after(&said, "latency average = ")?;
        let cost = cost.figures(done as u64, None)?;
        Ok(cost.set("per_s", rate).with("mean_ms", mean))
    }
}

/// The program in the server's folder, or where the server's program is a link to.
fn beside_server(folder: &Path) -> Option<PathBuf> {
    let linked = folder.join("postgres").canonicalize().ok()?;
    [folder, linked.parent()?]
        .map(|folder| folder.join("pgbench"))
        .into_iter()
        .find(|program| program.is_file())
}

fn number_after(said: &str, label: &str) -> Result<f64> {
    said.split_once(label)
        .and_then(|(_, rest)| {
            rest.split(|sign: char| !matches!(sign, '0'..='9' | '.'))
                .next()
        })
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("pgbench says nothing of {label:?}: {said}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::number_after;

    #[test]
    fn figures_are_read_from_what_pgbench_says() {
        let said = "number of transactions actually processed: 71283\n\
                    latency average = 1.795 ms\n\
                    tps = 35651.108347 (without initial connection time)\n";
        let number = |label| number_after(said, label).unwrap();
        assert_eq!(number("actually processed: "), 71283.0);
        assert_eq!(number("latency average = "), 1.795);
        assert_eq!(number("tps = "), 35651.108347);
        assert!(number_after(said, "stddev = ").is_err());
    }
}
