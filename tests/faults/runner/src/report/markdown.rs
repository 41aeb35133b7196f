//! `REPORT.md`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use handoff_checker::Kind as Anomaly;

use crate::bars::{Stepped, seconds};
use crate::run::Outcome;
use crate::schedule::Kind;

/// Writes it.
pub(super) fn write(outcome: &Outcome) -> String {
    let mut text = String::new();
    // Writing to a string doesn't fail.
    let _ = head(&mut text, outcome)
        .and_then(|()| bars(&mut text, outcome))
        .and_then(|()| verdict(&mut text, outcome))
        .and_then(|()| faults(&mut text, outcome))
        .and_then(|()| failovers(&mut text, outcome))
        .and_then(|()| growth(&mut text, outcome))
        .and_then(|()| schedule(&mut text, outcome));
    text
}

fn head(text: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let about = &outcome.about;
    let totals = &outcome.totals;
    let minutes = outcome.length.as_secs_f64() / 60.0;
    writeln!(
        text,
        "# {}: {} posts acknowledged in {minutes:.1} minutes, {} faults\n",
        if outcome.passed() {
            "Passed"
        } else {
            "Not passed"
        },
        totals.acked,
        outcome
            .steps
            .iter()
            .map(|step| step.occurrences.len())
            .sum::<usize>(),
    )?;
    writeln!(
        text,
        "A run of `handoff-faults`: three replicas behind HAProxy, on a pair of durable Postgres \
         servers, under load and faults. [What is promised, what is checked, how it is read]\
         (../README.md).\n"
    )?;
    writeln!(text, "| | |\n| --- | --- |")?;
    let history = &outcome.history;
    let rows = [
        ("begun", about.began.clone()),
        ("commit", about.commit.clone().unwrap_or_default()),
        ("relay", about.relay.clone()),
        ("Postgres", about.postgres.clone()),
        (
            "its settings",
            about
                .settings
                .iter()
                .map(|(name, value)| format!("`{name}={value}`"))
                .collect::<Vec<_>>()
                .join(" "),
        ),
        ("balancer", about.haproxy.clone()),
        ("machine", about.machine.clone()),
        ("seed", outcome.seed.to_string()),
        ("made by", format!("`{}`", about.command)),
        (
            "its schedule alone",
            format!("`{} --schedule`", about.command),
        ),
        (
            "posts",
            format!(
                "{} acknowledged, {} of unknown outcome, {} left out since they were late; {} \
                 retries",
                totals.acked, totals.unknown, totals.late, totals.retries
            ),
        ),
        (
            "read",
            format!(
                "{} messages by streams ({} resumed), {} items by pages",
                totals.events, totals.resumed, totals.read
            ),
        ),
        (
            "errors",
            format!("{} requests answered 5xx or not at all", totals.errors),
        ),
        (
            "history",
            format!(
                "{} lines, {} MB, SHA-256 `{}`; not kept here, the command above makes another",
                history.lines,
                history.bytes / 1_000_000,
                history.sha256
            ),
        ),
    ];
    for (name, value) in rows {
        writeln!(text, "| {name} | {value} |")?;
    }
    for (kind, why) in &outcome.left_out {
        writeln!(text, "| left out | {kind}: {why} |")?;
    }
    writeln!(
        text,
        "\n![throughput](throughput.svg)\n\n![latency](latency.svg)\n\n![recovery](recovery.svg)\n"
    )
}

fn bars(text: &mut String, outcome: &Outcome) -> std::fmt::Result {
    writeln!(text, "## Bars\n\n| bar | found | |\n| --- | --- | --- |")?;
    for bar in &outcome.bars {
        let met = if bar.met { "met" } else { "**missed**" };
        writeln!(text, "| {} | {} | {met} |", bar.asked, bar.found)?;
    }
    writeln!(text)
}

fn verdict(text: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let verdict = &outcome.verdict;
    writeln!(
        text,
        "## Verdict of the checker\n\n{}. {} readers were given {} items; {} stand in the end.\n",
        if verdict.is_sound() {
            "Sound"
        } else {
            "**Not sound**"
        },
        verdict.readers,
        verdict.read,
        verdict.standing
    )?;
    writeln!(
        text,
        "| operation | ok | refused | unknown |\n| --- | ---: | ---: | ---: |"
    )?;
    for (name, counts) in &verdict.operations {
        writeln!(
            text,
            "| {name} | {} | {} | {} |",
            counts.ok, counts.failed, counts.unknown
        )?;
    }
    writeln!(
        text,
        "\n| anomaly | found | checked |\n| --- | ---: | ---: |"
    )?;
    for kind in Anomaly::ALL {
        let checked = match verdict.checked.get(&kind).copied().unwrap_or(0) {
            0 => "not in this history".to_owned(),
            count => count.to_string(),
        };
        writeln!(text, "| {kind} | {} | {checked} |", verdict.count(kind))?;
    }
    writeln!(text)?;
    for (kind, anomaly) in &verdict.anomalies {
        for example in &anomaly.examples {
            writeln!(text, "- {kind}: {example}")?;
        }
    }
    for undecided in &verdict.undecided {
        writeln!(text, "- undecided: {undecided}")?;
    }
    for flaw in &verdict.flaws {
        writeln!(text, "- the history proves nothing: {flaw}")?;
    }
    writeln!(text)
}

fn faults(text: &mut String, outcome: &Outcome) -> std::fmt::Result {
    writeln!(
        text,
        "## Faults\n\nThe time until every replica served again counts from the fault's end: until \
         each replica had answered a post sent after it, a stream on each had brought a message \
         posted after it, and each had answered the load's own team.\n"
    )?;
    writeln!(
        text,
        "| fault | times | happened | served again, p50 | max |\n| --- | ---: | ---: | ---: | ---: |"
    )?;
    let mut by_name: BTreeMap<&str, Vec<&Stepped>> = BTreeMap::new();
    for step in &outcome.steps {
        // Pairs together: each of them comes up once or twice.
        let name = match step.occurrences.len() {
            1 => step.name.as_str(),
            _ => "two at a time",
        };
        by_name.entry(name).or_default().push(step);
    }
    for (name, steps) in &by_name {
        // What never served again counts as the slowest.
        let mut took: Vec<_> = steps
            .iter()
            .map(|step| step.recovery().unwrap_or(Duration::MAX))
            .collect();
        took.sort();
        let shown = |took: Duration| seconds((took < Duration::MAX).then_some(took));
        writeln!(
            text,
            "| {name} | {} | {} | {} | {} |",
            steps.len(),
            steps.iter().filter(|step| step.happened()).count(),
            shown(took[took.len() / 2]),
            shown(took[took.len() - 1])
        )?;
    }
    writeln!(text, "\nWhat each of them does:\n")?;
    for kind in Kind::ALL {
        writeln!(text, "- **{kind}**: {}", kind.what())?;
    }
    writeln!(text)
}

fn failovers(text: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let failovers: Vec<_> = outcome
        .steps
        .iter()
        .filter(|step| step.is_failover())
        .collect();
    if failovers.is_empty() {
        return Ok(());
    }
    writeln!(
        text,
        "## Failovers\n\nA synchronous standby has every commit that was answered. An asynchronous \
         one lacks the last of them: what it lost is counted here, and is no anomaly.\n"
    )?;
    writeln!(
        text,
        "| at | failover | largest ID seen before | smallest after | acknowledged posts lost | \
         status changes lost | age of the oldest |\n| ---: | --- | ---: | ---: | ---: | ---: | ---: |"
    )?;
    for step in failovers {
        let (seen, given) = step.ids.map_or_else(
            || ("?".to_owned(), "?".to_owned()),
            |(seen, given)| (seen.to_string(), given.to_string()),
        );
        let at = step.ended.as_nanos();
        let lossy = step.occurrences.iter().any(|one| one.lossy_since.is_some());
        let lost = outcome.verdict.failovers.iter().find(|lost| {
            lossy && u128::from(lost.at).abs_diff(at) < Duration::from_secs(1).as_nanos()
        });
        let (posts, changes, oldest) =
            lost.map_or((0, 0, 0), |lost| (lost.posts, lost.changes, lost.oldest));
        writeln!(
            text,
            "| {:.0} s | {} | {seen} | {given} | {posts} | {changes} | {:.2} s |",
            step.ended.as_secs_f64(),
            step.name,
            oldest as f64 / 1e9
        )?;
    }
    writeln!(text)
}

fn growth(text: &mut String, outcome: &Outcome) -> std::fmt::Result {
    writeln!(text, "## Growth\n\n![resources](resources.svg)\n")?;
    let Some(growth) = &outcome.growth else {
        return writeln!(text, "The run was too short to speak of growth.\n");
    };
    writeln!(
        text,
        "Medians over the minute after the first two, and over the last minute. In both the load is \
         the same, all replicas run and nothing is broken.\n"
    )?;
    writeln!(
        text,
        "| | then | in the end | |\n| --- | ---: | ---: | ---: |"
    )?;
    for row in growth {
        writeln!(
            text,
            "| {} | {:.1} {unit} | {:.1} {unit} | {:+.1} % |",
            row.of,
            row.early,
            row.late,
            row.share() * 100.0,
            unit = row.unit
        )?;
    }
    let last = outcome.samples.last();
    let lives = last
        .iter()
        .flat_map(|sample| sample.replicas.iter().flatten());
    let lives: Vec<_> = lives
        .map(|process| {
            format!(
                "{:.0} s old with {:.0} MiB",
                process.age_s,
                process.resident_bytes as f64 / f64::from(1 << 20)
            )
        })
        .collect();
    writeln!(
        text,
        "\nIn the end the replicas were {}.\n",
        lives.join(", ")
    )
}

fn schedule(text: &mut String, outcome: &Outcome) -> std::fmt::Result {
    writeln!(
        text,
        "## Schedule, as it went\n\n| planned | began | ended | what | what shows it | served again \
         | others silent |\n| ---: | ---: | ---: | --- | --- | ---: | ---: |"
    )?;
    for (step, planned) in outcome.steps.iter().zip(&outcome.schedule) {
        let evidence: Vec<_> = step
            .occurrences
            .iter()
            .map(|one| match one.happened {
                true => one.evidence.replace('|', "/"),
                false => format!("**did not happen**: {}", one.evidence.replace('|', "/")),
            })
            .collect();
        writeln!(
            text,
            "| {:.0} s | {:.1} s | {:.1} s | {} | {} | {} | {} |",
            planned.at.as_secs_f64(),
            step.began.as_secs_f64(),
            step.ended.as_secs_f64(),
            step.what,
            evidence.join("; "),
            seconds(step.recovery()),
            step.others_silence
                .map_or_else(String::new, |silence| seconds(Some(silence)))
        )?;
    }
    Ok(())
}
