//! Every scenario runs to its end, and finds what it looks for: that nothing was lost, and that
//! figures are there. How fast a debug build is on a busy machine says nothing, so no bar counts.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Runs the benchmark beside the relay under test, and returns what it prints.
fn bench(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_handoff-bench"))
        .args(arguments)
        .env_remove("HANDOFF_BENCH_DATABASE_URL")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "handoff-bench {arguments:?} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A test of each scenario that writes nothing but its report.
macro_rules! scenarios {
    ($($scenario:ident),*) => {
        $(
            #[test]
            fn $scenario() {
                let report = bench(&measure(stringify!($scenario)));
                check(stringify!($scenario), &serde_json::from_str(&report).unwrap());
            }
        )*
    };
}

scenarios!(
    post, mixed, fanout, streams, read, deliver, wake, mcp, growth, storage
);

fn measure(scenario: &'static str) -> Vec<&'static str> {
    let relay = harness::relay_binary().to_str().unwrap();
    vec![scenario, "--quick", "--json", "--relay-bin", relay]
}

#[test]
fn a_saved_report_becomes_a_page_with_plots() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("RESULTS.md");
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/RESULTS.md"), &page).unwrap();
    let saved = folder.path().join("deliver.json");
    let saved = saved.to_str().unwrap();
    let mut arguments = measure("deliver");
    arguments.extend(["--save", saved]);
    let printed = bench(&arguments);
    assert_eq!(
        std::fs::read_to_string(saved).unwrap().trim(),
        printed.trim()
    );

    bench(&["report", saved, "--out", folder.path().to_str().unwrap()]);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("### deliver\n"), "{page}");
    assert!(page.contains("(plots/deliver.svg)"), "{page}");
    let plot = std::fs::read_to_string(folder.path().join("plots/deliver.svg")).unwrap();
    assert!(plot.starts_with("<svg"), "{plot}");
}

#[test]
fn a_profile_becomes_a_page_with_what_each_load_is_made_of() {
    let folder = tempfile::tempdir().unwrap();
    let counting = harness::planted_relay_binary();
    let mut arguments = measure("profile");
    arguments.extend(["--counting-relay-bin", counting.to_str().unwrap()]);
    arguments.extend(["--out", folder.path().to_str().unwrap()]);
    let report: Value = serde_json::from_str(&bench(&arguments)).unwrap();
    check("profile", &report);
    for row in report["scenarios"][0]["rows"].as_array().unwrap() {
        assert!(
            row["figures"]["allocations"].as_f64().unwrap() > 0.0,
            "{row}"
        );
    }
    let page = std::fs::read_to_string(folder.path().join("PROFILES.md")).unwrap();
    let plans = std::fs::read_to_string(folder.path().join("profiles/post-plans.txt")).unwrap();
    for load in ["post", "read", "mixed", "fanout"] {
        assert!(page.contains(&format!("### {load}\n")), "{page}");
    }
    assert!(page.contains("| `lane: append messages alone` |"), "{page}");
    assert!(plans.contains("lane: append messages alone\n"), "{plans}");
    assert!(plans.contains("Buffers: shared hit="), "{plans}");

    // Where `perf` can't be used, the report says so.
    let notes = report["scenarios"][0]["notes"].to_string();
    let graph = folder.path().join("profiles/post-relay.svg");
    if notes.contains("perf") {
        println!("no flame graphs: {notes}");
        assert!(!graph.exists());
    } else {
        let graph = std::fs::read_to_string(graph).unwrap();
        assert!(graph.contains("<svg"), "{graph}");
        assert!(page.contains("| `recvfrom` |"), "{page}");
    }
}

#[test]
fn a_release_counts_no_allocations() {
    let counts = |program: &Path| {
        let program = std::fs::read(program).unwrap();
        memchr::memmem::find(&program, b"handoff_allocations_total").is_some()
    };
    assert!(counts(&harness::planted_relay_binary()));
    assert!(
        !counts(harness::relay_binary()),
        "the counters are compiled in"
    );
}

/// Holds a report against what every report has to say.
fn check(scenario: &str, report: &Value) {
    let about = &report["about"];
    let text = |name: &str| about[name].as_str().unwrap_or_default();
    assert!(text("postgres_version").contains("PostgreSQL"), "{about}");
    assert!(text("rustc").starts_with("rustc "), "{about}");
    assert!(about["flush"]["p50_ms"].as_f64().unwrap() > 0.0, "{about}");
    let scenarios = report["scenarios"].as_array().unwrap();
    assert_eq!(scenarios.len(), 1);
    assert_eq!(scenarios[0]["name"], scenario);
    let rows = scenarios[0]["rows"].as_array().unwrap();
    assert!(!rows.is_empty(), "{scenario} has measured nothing");
    for row in rows {
        for (name, figure) in row["figures"].as_object().unwrap() {
            let figure = figure.as_f64();
            // What a short round costs may be less than `/proc` counts.
            let positive = name == "per_s" || name.ends_with("_ms");
            assert!(
                figure.is_some_and(|figure| figure > 0.0 || !positive),
                "{scenario}: {name} of {row}"
            );
        }
    }
}
