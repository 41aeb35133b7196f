//! Every scenario runs to its end, and finds what it looks for: that nothing was lost, and that
//! figures are there. How fast a debug build is on a busy machine says nothing, so no bar counts.

use std::process::Command;

use serde_json::Value;

/// What `handoff-bench all` runs.
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
fn every_scenario_runs_and_the_reports_become_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let relay = harness::relay_binary().to_str().unwrap();
    // Side by side: most of their time they wait.
    let reports = std::thread::scope(|scope| {
        let running = SCENARIOS.map(|scenario| {
            let file = folder.path().join(format!("{scenario}.json"));
            scope.spawn(move || {
                let saved = file.to_str().unwrap();
                let arguments = [
                    scenario,
                    "--quick",
                    "--json",
                    "--relay-bin",
                    relay,
                    "--save",
                    saved,
                ];
                let printed = bench(&arguments);
                let in_file = std::fs::read_to_string(saved).unwrap();
                assert_eq!(in_file.trim(), printed.trim());
                check(scenario, &serde_json::from_str(&printed).unwrap());
                saved.to_owned()
            })
        });
        running.map(|running| running.join().unwrap())
    });

    let page = folder.path().join("RESULTS.md");
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/RESULTS.md"), &page).unwrap();
    let mut arguments = vec!["report", "--out", folder.path().to_str().unwrap()];
    arguments.extend(reports.iter().map(String::as_str));
    bench(&arguments);
    let page = std::fs::read_to_string(page).unwrap();
    for scenario in SCENARIOS {
        let heading = format!("### {scenario}\n");
        assert!(page.contains(&heading), "{scenario} is not on the page");
    }
    let plots = page.lines().filter(|line| line.starts_with("!["));
    let mut drawn = 0;
    for plot in plots {
        let (_, file) = plot.trim_end_matches(')').split_once("](").unwrap();
        let svg = std::fs::read_to_string(folder.path().join(file)).unwrap();
        assert!(svg.starts_with("<svg"), "{file}");
        drawn += 1;
    }
    assert!(drawn >= SCENARIOS.len(), "{drawn} plots");
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
