//! Every scenario runs to its end, and finds what it looks for: that nothing was lost, and that
//! figures are there. How fast a debug build is on a busy machine says nothing, so no bar counts.

use std::process::Command;

use serde_json::Value;

/// What `handoff-bench all` has to have run, in its order.
const SCENARIOS: [&str; 9] = [
    "post", "mixed", "fanout", "streams", "read", "deliver", "wake", "mcp", "growth",
];

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

#[test]
fn every_scenario_runs_and_its_report_becomes_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("report.json");
    let saved = saved.to_str().unwrap();
    let relay = harness::relay_binary().to_str().unwrap();
    let printed = bench(&[
        "all",
        "--quick",
        "--json",
        "--relay-bin",
        relay,
        "--save",
        saved,
    ]);
    assert_eq!(
        std::fs::read_to_string(saved).unwrap().trim(),
        printed.trim()
    );

    let report: Value = serde_json::from_str(&printed).unwrap();
    let about = &report["about"];
    assert!(
        about["postgres_version"]
            .as_str()
            .unwrap()
            .contains("PostgreSQL")
    );
    assert!(about["rustc"].as_str().unwrap().starts_with("rustc "));
    assert!(about["flush"]["p50_ms"].as_f64().unwrap() > 0.0);
    let scenarios = report["scenarios"].as_array().unwrap();
    let names = scenarios
        .iter()
        .map(|scenario| scenario["name"].as_str().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), SCENARIOS);
    for scenario in scenarios {
        let rows = scenario["rows"].as_array().unwrap();
        assert!(!rows.is_empty(), "{scenario}");
        for row in rows {
            for name in ["per_s", "p50_ms", "event_per_s"] {
                let figure = &row["figures"][name];
                assert!(
                    figure.is_null() && row["figures"].get(name).is_none()
                        || figure.as_f64().unwrap() > 0.0,
                    "{name} of {row}"
                );
            }
        }
        for bar in scenario["bars"].as_array().unwrap() {
            assert!(bar["figure"].is_number(), "not measured: {bar}");
        }
    }

    let page = folder.path().join("RESULTS.md");
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/RESULTS.md"), &page).unwrap();
    bench(&["report", saved, "--out", folder.path().to_str().unwrap()]);
    let page = std::fs::read_to_string(page).unwrap();
    for scenario in SCENARIOS {
        assert!(
            page.contains(&format!("### {scenario}\n")),
            "{scenario} is not on the page"
        );
    }
    for line in page.lines().filter(|line| line.starts_with("![")) {
        let (_, file) = line.trim_end_matches(')').split_once("](").unwrap();
        let plot = std::fs::read_to_string(folder.path().join(file)).unwrap();
        assert!(plot.starts_with("<svg"), "{file}");
    }
}
