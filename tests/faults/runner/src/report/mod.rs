//! The report: an outcome comes in; a folder with `REPORT.md`, plots and `summary.json` comes out.
//! It measures nothing and judges nothing.

mod markdown;
mod plots;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::run::Outcome;

/// Writes it into this folder.
pub fn write(outcome: &Outcome, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    plots::throughput(outcome, &folder.join("throughput.svg"))?;
    plots::latency(outcome, &folder.join("latency.svg"))?;
    plots::recovery(outcome, &folder.join("recovery.svg"))?;
    plots::resources(outcome, &folder.join("resources.svg"))?;
    fs::write(folder.join("REPORT.md"), markdown::write(outcome))?;
    fs::write(
        folder.join("summary.json"),
        serde_json::to_vec_pretty(outcome)?,
    )?;
    Ok(())
}
