//! The page of results: saved reports come in, the tables of `RESULTS.md` and its plots go out.
//!
//! What people wrote around the tables stays as it is. No figure is computed here: each stands in a
//! report as it does on the page.

mod plots;
mod tables;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::options::ReportOptions;
use crate::report::{Report, Scenario};

/// Between the marks of this command stands what is written here.
const COMMAND: &str = "report";
/// The folder of the plots, beside the page.
const PLOTS: &str = "plots";

/// Writes tables into the page and plots beside it.
pub(crate) fn write(options: &ReportOptions) -> Result<()> {
    let mut reports = Vec::new();
    for file in &options.files {
        let shown = file.display();
        let json = fs::read(file).with_context(|| format!("{shown} can't be read"))?;
        let report: Report =
            serde_json::from_slice(&json).with_context(|| format!("{shown} is no report"))?;
        reports.push(report);
    }
    let reports = newest(reports);
    let folder = options.out.join(PLOTS);
    fs::create_dir_all(&folder)?;
    let mut drawn = Vec::new();
    for plot in plots::of(&reports) {
        let file = folder.join(format!("{}.svg", plot.name));
        fs::write(&file, plot.draw()?)
            .with_context(|| format!("{} can't be written", file.display()))?;
        drawn.push(plot);
    }
    let page = options.out.join("RESULTS.md");
    put_between(&page, COMMAND, &tables::render(&reports, &drawn))
}

/// A scenario that several reports have is taken from the last of them.
fn newest(mut reports: Vec<Report>) -> Vec<Report> {
    for at in (0..reports.len()).rev() {
        let (earlier, later) = reports.split_at_mut(at);
        for scenario in &later[0].scenarios {
            for report in &mut *earlier {
                report.scenarios.retain(|old| old.name != scenario.name);
            }
        }
    }
    reports.retain(|report| !report.scenarios.is_empty());
    reports
}

/// A scenario's tables.
pub(crate) fn section(scenario: &Scenario) -> String {
    tables::section(scenario)
}

/// The lines between which a command writes.
pub(crate) fn marks(command: &str) -> [String; 2] {
    ["begin", "end"].map(|place| format!("<!-- handoff-bench {command}: {place} -->"))
}

/// Replaces what stands between a command's marks in a file.
pub(crate) fn put_between(file: &Path, command: &str, text: &str) -> Result<()> {
    let shown = file.display();
    let page = fs::read_to_string(file).with_context(|| format!("{shown} can't be read"))?;
    let [begin, end] = marks(command);
    let around = page.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    });
    let (before, after) =
        around.with_context(|| format!("{shown} has no lines {begin:?} and {end:?}"))?;
    let page = format!("{before}{begin}\n\n{text}\n{end}{after}");
    fs::write(file, page).with_context(|| format!("{shown} can't be written"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::{COMMAND, marks, put_between, write};
    use crate::options::ReportOptions;
    use crate::report::sample;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let folder = tempfile::tempdir().unwrap();
        let page = folder.path().join("RESULTS.md");
        let [begin, end] = marks(COMMAND);
        std::fs::write(&page, format!("above\n{begin}\nold\n{end}\nbelow\n")).unwrap();
        for text in ["new\n", "newer\n"] {
            put_between(&page, COMMAND, text).unwrap();
            let expected = format!("above\n{begin}\n\n{text}\n{end}\nbelow\n");
            assert_eq!(std::fs::read_to_string(&page).unwrap(), expected);
        }
        std::fs::write(&page, "no marks").unwrap();
        assert!(put_between(&page, COMMAND, "new").is_err());
    }

    #[test]
    fn a_scenario_is_taken_from_the_last_report_that_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let page = folder.path().join("RESULTS.md");
        std::fs::write(&page, marks(COMMAND).concat()).unwrap();
        let mut files = Vec::new();
        for (number, report) in [
            sample(&[("post", 111.0), ("read", 222.0)]),
            sample(&[("post", 333.0)]),
        ]
        .iter()
        .enumerate()
        {
            let file = folder.path().join(format!("{number}.json"));
            std::fs::write(&file, serde_json::to_vec(report).unwrap()).unwrap();
            files.push(file);
        }
        let out = folder.path().to_owned();
        write(&ReportOptions { files, out }).unwrap();
        let page = std::fs::read_to_string(page).unwrap();
        assert!(!page.contains("111") && page.contains("222") && page.contains("333"));
        assert_eq!(page.matches("### post").count(), 1, "{page}");
    }
}
