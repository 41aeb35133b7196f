//! The short mix: every kind of fault but the slowest, one after the other, on a fleet that is
//! loaded, by the command that makes the long runs too. Nothing may be wrong in what the agents saw.
//!
//! How soon the fleet serves again is not judged here, only that it does: a machine that runs tests
//! is busy, and the bars are for one that isn't.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::{Command, Stdio};

use serde_json::Value;

/// What decides the schedule. With another one the same faults come in another order.
const SEED: &str = "13";

/// All kinds that can be had everywhere. A transaction that is held open lasts long, and has a test
/// of its own (`tests/faults/postgres.rs`).
const KINDS: &str = "kill,pause,rolling,crash,backends,listener,bells,partition-postgres,\
    reset-postgres,partition-clients,reset-clients,delay,loss,full-disk,failover-sync,\
    failover-async,clock";

/// The short mix is worth nothing with fewer.
const POSTS: u64 = 3_000;
/// Some 20 fit into the time; on a machine that is busy with other things far fewer.
const FAULTS: usize = 6;

#[test]
fn g1_g2_g3_g4_g5_a_short_mix_of_all_faults_is_sound() {
    let folder = tempfile::tempdir().unwrap();
    let history = folder.path().join("history.jsonl");
    let report = folder.path().join("report");
    let run = Command::new(env!("CARGO_BIN_EXE_handoff-faults"))
        .args([
            "--seed",
            SEED,
            "--minutes",
            "2.5",
            "--rate",
            "60",
            "--followers",
            "4",
        ])
        .args(["--tempo", "short", "--only", KINDS, "--json"])
        .arg("--history")
        .arg(&history)
        .arg("--report")
        .arg(&report)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let outcome: Value = serde_json::from_slice(&run.stdout)
        .unwrap_or_else(|error| panic!("no summary ({error}), {}", run.status));

    let verdict = &outcome["verdict"];
    assert_eq!(verdict["sound"], true, "{verdict:#}");
    let acked = outcome["totals"]["acked"].as_u64().unwrap();
    assert!(acked >= POSTS, "only {acked} posts were acknowledged");
    assert_eq!(outcome["totals"]["behind"], serde_json::json!([]));
    for bar in outcome["bars"].as_array().unwrap() {
        let asked = bar["asked"].as_str().unwrap();
        let is_of_time = asked.contains(" within ");
        assert!(bar["met"] == true || is_of_time, "{bar:#}");
    }

    let steps = outcome["steps"].as_array().unwrap();
    assert!(steps.len() >= FAULTS, "only {} faults", steps.len());
    for step in steps {
        for occurrence in step["occurrences"].as_array().unwrap() {
            assert_eq!(occurrence["happened"], true, "{step:#}");
        }
        for served in step["served"].as_array().unwrap() {
            let [posts, streams] = [&served[0], &served[1]];
            assert!(!posts.is_null() && !streams.is_null(), "{step:#}");
        }
    }
    for name in [
        "REPORT.md",
        "throughput.svg",
        "latency.svg",
        "recovery.svg",
        "resources.svg",
    ] {
        let written = std::fs::read_to_string(report.join(name)).unwrap();
        assert!(written.len() > 1_000, "{name}: {written}");
    }
}
