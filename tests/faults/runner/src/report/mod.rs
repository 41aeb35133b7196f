//! The report.
use anyhow::Result;
use crate::options::Options;
use crate::run::Outcome;
/// Writes it.
pub fn write(outcome: &Outcome, options: &Options) -> Result<()> {
    std::fs::create_dir_all(&options.report)?;
    std::fs::write(options.report.join("summary.json"), serde_json::to_vec_pretty(outcome)?)?;
    Ok(())
}
