//! What was found of a load, as Markdown, with its graphs and plans in files beside the page.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::Found;
use super::flame::Stacks;
use super::statements::{Plan, Statement};
use crate::report::{About, shown};
use crate::results::{marks, put_between};

/// The folder of the graphs and plans, beside the page.
const FOLDER: &str = "profiles";
const PAGE: &str = "PROFILES.md";
/// Lines of the table of what a process was busy with.
const SHARES: usize = 14;
/// Syscalls of which an operation has less than so many are left out.
const RARE: f64 = 0.01;

/// Writes the section of a load between its marks, which are added at the end of a page that has
/// none.
pub(super) fn write(out: &Path, about: &About, found: &Found) -> Result<()> {
    let folder = out.join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("no folder {}", folder.display()))?;
    let load = found.load.name();
    let put = |name: &str, bytes: &[u8]| {
        let file = folder.join(name);
        fs::write(&file, bytes).with_context(|| format!("{} can't be written", file.display()))
    };
    for (process, stacks) in found.stacks() {
        let title = format!("{process}, {load}: {}", found.what);
        let file = format!("{load}-{}.svg", process.to_lowercase());
        put(&file, &stacks.draw(title)?)?;
    }
    if !found.plans.is_empty() {
        put(&format!("{load}-plans.txt"), plans(&found.plans).as_bytes())?;
    }
    let page = out.join(PAGE);
    let command = format!("profile {load}");
    let [begin, end] = marks(&command);
    let text = fs::read_to_string(&page).unwrap_or_default();
    if !text.contains(&begin) {
        fs::write(&page, format!("{text}\n{begin}\n{end}\n"))
            .with_context(|| format!("{} can't be written", page.display()))?;
    }
    put_between(&page, &command, &section(about, found))
}

fn section(about: &About, found: &Found) -> String {
    let load = found.load.name();
    let one = found.load.operation();
    let mut text = format!(
        "### {load}\n\n{}: {} a second, {:.0} s long, on {} × {} with Linux {}, {} ({} build) and {}.\n",
        found.what,
        shown(found.done.operations as f64 / found.done.seconds),
        found.done.seconds,
        about.cores,
        about.processor,
        about.kernel,
        about.relay_version,
        about.relay_build,
        about
            .postgres_version
            .split(" on ")
            .next()
            .unwrap_or_default(),
    );
    if let Some(allocations) = found.allocations {
        let _ = writeln!(
            text,
            "\nThe relay allocates {} blocks with {} bytes a {one}.",
            shown(allocations.count),
            shown(allocations.bytes)
        );
    }
    syscalls(&mut text, found);
    if !found.statements.is_empty() {
        statements(&mut text, one, found);
    }
    if !found.plans.is_empty() {
        let names: Vec<_> = found.plans.iter().map(|plan| plan.name.as_str()).collect();
        let _ = writeln!(
            text,
            "\nPlans with times, rows, buffers and WAL, as the load's own runs had them: \
             [{}]({FOLDER}/{load}-plans.txt).",
            names.join(", ")
        );
    }
    for (process, stacks) in found.stacks() {
        shares(&mut text, load, process, stacks);
    }
    text
}

fn syscalls(text: &mut String, found: &Found) {
    let Some([relay, postgres]) = &found.syscalls else {
        return;
    };
    let one = found.load.operation();
    let mut names: Vec<_> = relay.iter().map(|(name, _)| name).collect();
    let of_postgres = postgres.iter().map(|(name, _)| name);
    names.extend(of_postgres.filter(|name| !relay.iter().any(|(known, _)| known == *name)));
    let _ = writeln!(
        text,
        "\n| syscalls a {one} | relay | Postgres |\n| --- | ---: | ---: |"
    );
    let each = |counts: &[(String, f64)], name: &str| {
        let count = counts.iter().find(|(known, _)| known == name);
        count.map_or(0.0, |(_, count)| *count)
    };
    let all = |counts: &[(String, f64)]| few(counts.iter().map(|(_, count)| count).sum());
    let _ = writeln!(text, "| all | {} | {} |", all(relay), all(postgres));
    for name in names {
        let counts = [each(relay, name), each(postgres, name)];
        if counts.iter().any(|count| *count >= RARE) {
            let [relay, postgres] = counts.map(few);
            let _ = writeln!(text, "| `{name}` | {relay} | {postgres} |");
        }
    }
}

fn statements(text: &mut String, one: &str, found: &Found) {
    let _ = writeln!(
        text,
        "\n| statement | runs a {one} | rows | µs | blocks hit | read | dirtied | WAL bytes | µs a {one} | WAL bytes a {one} |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    );
    let operations = found.done.operations as f64;
    for Statement {
        name,
        calls,
        rows,
        milliseconds,
        hit,
        read,
        dirtied,
        wal_bytes,
    } in &found.statements
    {
        let calls = *calls as f64;
        let of_a_run = [
            *rows as f64,
            milliseconds * 1_000.0,
            *hit as f64,
            *read as f64,
            *dirtied as f64,
            *wal_bytes,
        ]
        .map(|sum| few(sum / calls));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            in_table(name),
            few(calls / operations),
            of_a_run.join(" | "),
            few(milliseconds * 1_000.0 / operations),
            few(wal_bytes / operations)
        );
    }
}

fn shares(text: &mut String, load: &str, process: &str, stacks: &Stacks) {
    let file = format!("{FOLDER}/{load}-{}.svg", process.to_lowercase());
    let _ = writeln!(
        text,
        "\n[![Flame graph of {process} under {load}]({file})]({file})\n\n\
         | {process} was busy with | % of {} samples |\n| --- | ---: |\n\
         | the kernel, all in all | {} |",
        stacks.samples(),
        shown(stacks.kernel_share() * 100.0)
    );
    for (name, share) in stacks.shares().into_iter().take(SHARES) {
        let _ = writeln!(text, "| {} | {} |", in_table(&name), shown(share * 100.0));
    }
}

/// A count or a cost of one operation: what is small is not nothing.
fn few(value: f64) -> String {
    if value > 0.0 && value < 0.005 {
        return "< 0.01".to_owned();
    }
    shown(value)
}

/// As code, where a bar doesn't end the cell.
fn in_table(name: &str) -> String {
    format!("`{}`", name.replace('`', "'").replace('|', "\\|"))
}

fn plans(plans: &[Plan]) -> String {
    let mut text = String::new();
    for plan in plans {
        let _ = writeln!(
            text,
            "{}\n{}\n{} ms with all nodes timed: the median of {} runs that were looked at\n\n{}\n",
            plan.name,
            "-".repeat(plan.name.chars().count()),
            shown(plan.milliseconds),
            plan.runs,
            plan.text
        );
    }
    text
}
