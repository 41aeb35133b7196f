//! Reports as Markdown.

use std::fmt::Write;

use super::PLOTS;
use super::plots::Plot;
use crate::report::{About, Figures, Report, Scenario, shown};

/// All of it, with the plots below the scenarios that they are of.
pub(super) fn render(reports: &[Report], plots: &[Plot]) -> String {
    let mut page = String::new();
    for report in reports {
        about(&mut page, &report.about);
        for found in &report.scenarios {
            scenario(&mut page, found);
            for plot in plots.iter().filter(|plot| plot.scenario == found.name) {
                paragraph(
                    &mut page,
                    &format!("![{}]({PLOTS}/{}.svg)", plot.title, plot.name),
                );
            }
        }
    }
    page
}

/// One scenario alone.
pub(super) fn section(found: &Scenario) -> String {
    let mut page = String::new();
    scenario(&mut page, found);
    page
}

fn about(page: &mut String, about: &About) {
    let settings = about
        .postgres_settings
        .iter()
        .map(|(name, value)| format!("`{name} = {value}`"));
    let lines = [
        (
            "Machine",
            format!(
                "{} × {}, {:.1} GiB, load {:.2} at the start",
                about.cores, about.processor, about.memory_gib, about.load_average
            ),
        ),
        ("Kernel", format!("Linux {}", about.kernel)),
        (
            "Relay",
            format!(
                "{}, {} build, {}",
                about.relay_version, about.relay_build, about.rustc
            ),
        ),
        ("Postgres", about.postgres_version.clone()),
        ("Its settings", settings.collect::<Vec<_>>().join(", ")),
        (
            "A flush of 8 KiB",
            about
                .flush
                .as_ref()
                .map_or_else(|| "not measured".to_owned(), Figures::in_one_line),
        ),
    ];
    let mut table = "| | |\n| --- | --- |\n".to_owned();
    for (name, value) in lines {
        table += &format!("| {name} | {value} |\n");
    }
    paragraph(page, table.trim_end());
}

fn scenario(page: &mut String, scenario: &Scenario) {
    paragraph(page, &format!("### {}", scenario.name));
    paragraph(page, &format!("{}.", capitalized(&scenario.what)));
    let mut rows = scenario.rows.as_slice();
    while let Some(first) = rows.first() {
        let columns = first.figures.names();
        let alike = rows
            .iter()
            .take_while(|row| row.figures.names() == columns)
            .count();
        let mut table = format!("| | {} |\n| ---", columns.join(" | "));
        table += &" | ---:".repeat(columns.len());
        table += " |\n";
        for row in &rows[..alike] {
            let values = row.figures.iter().map(|(_, value)| shown(value));
            let values = values.collect::<Vec<_>>().join(" | ");
            let _ = writeln!(table, "| {} | {values} |", row.subject);
        }
        paragraph(page, table.trim_end());
        rows = &rows[alike..];
    }
    if !scenario.bars.is_empty() {
        let mut table = "| bar | wanted | measured | |\n| --- | ---: | ---: | --- |\n".to_owned();
        for bar in &scenario.bars {
            let verdict = if bar.met { "met" } else { "**missed**" };
            let _ = writeln!(
                table,
                "| {} | {} {} | {} | {verdict} |",
                bar.what,
                bar.relation,
                shown(bar.limit),
                shown(bar.figure)
            );
        }
        paragraph(page, table.trim_end());
    }
    let notes = scenario.notes.iter().map(|note| format!("- {note}\n"));
    paragraph(page, notes.collect::<String>().trim_end());
}

fn paragraph(page: &mut String, text: &str) {
    if text.is_empty() {
        return;
    }
    if !page.is_empty() {
        page.push('\n');
    }
    page.push_str(text);
    page.push('\n');
}

fn capitalized(text: &str) -> String {
    let mut signs = text.chars();
    let first = signs.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(signs).collect()
}
