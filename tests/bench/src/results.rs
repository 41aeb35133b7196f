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
use crate::report::Report;

/// Between these lines of the page stands what is written here.
const BEGIN: &str = "<!-- handoff-bench report: begin -->";
const END: &str = "<!-- handoff-bench report: end -->";
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
    put_between(&page, &tables::render(&reports, &drawn))
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

/// Replaces what stands between the marks of a file.
fn put_between(file: &Path, text: &str) -> Result<()> {
    let shown = file.display();
    let page = fs::read_to_string(file).with_context(|| format!("{shown} can't be read"))?;
    let marks = page.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) =
        marks.with_context(|| format!("{shown} has no lines {BEGIN:?} and {END:?}"))?;
    let page = format!("{before}{BEGIN}\n\n{text}\n{END}{after}");
    fs::write(file, page).with_context(|| format!("{shown} can't be written"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::{BEGIN, END, put_between, write};
    use crate::options::ReportOptions;
    use crate::report::sample;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let folder = tempfile::tempdir().unwrap();
        let page = folder.path().join("RESULTS.md");
        std::fs::write(&page, format!("above\n{BEGIN}\nold\n{END}\nbelow\n")).unwrap();
        for text in ["new\n", "newer\n"] {
            put_between(&page, text).unwrap();
            let expected = format!("above\n{BEGIN}\n\n{text}\n{END}\nbelow\n");
            assert_eq!(std::fs::read_to_string(&page).unwrap(), expected);
        }
        std::fs::write(&page, "no marks").unwrap();
        assert!(put_between(&page, "new").is_err());
    }

    #[test]
    fn a_scenario_is_taken_from_the_last_report_that_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let page = folder.path().join("RESULTS.md");
        std::fs::write(&page, format!("{BEGIN}{END}")).unwrap();
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
