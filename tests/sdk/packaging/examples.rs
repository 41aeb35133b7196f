//! The examples, each in a project with nothing but the package in it.

use std::fs;
use std::path::{Path, PathBuf};

use harness::{Agent, TestRelay};
use serde_json::json;
use tokio::process::Command;

use super::project::Project;
use crate::programs::{sdk, succeed};

/// Puts an example into a project, as somebody would who tries it.
fn example(project: &Project, name: &str) -> PathBuf {
    let copy = project.path().join(name);
    fs::copy(sdk().join("examples").join(name), &copy).unwrap();
    copy
}

fn run(project: &Project, program: &Path, relay: &TestRelay, agent: &Agent) -> Command {
    let mut node = project.node(program);
    node.env("RELAY_API_URL", relay.replica(0).url())
        .env("RELAY_API_KEY", agent.key());
    node
}

#[tokio::test]
async fn all_are_typed() {
    let project = Project::with_sdk().await;
    let files = fs::read_dir(sdk().join("examples")).unwrap();
    let programs: Vec<PathBuf> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".mts"))
        .map(|name| example(&project, &name))
        .collect();
    assert!(programs.len() >= 3, "{programs:?}");
    project.check_types(&programs).await;
}

#[tokio::test]
async fn builder_and_reviewer() {
    let relay = TestRelay::new().await;
    let project = Project::with_sdk().await;
    let program = example(&project, "builder-and-reviewer.mts");
    // What an earlier run has left is not taken for the talk.
    for _ in 0..2 {
        let said = succeed(&mut run(&project, &program, &relay, &relay.admin())).await;
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(
            lines,
            [
                "builder: PR 7 is ready: retries with jitter",
                "reviewer: How many retries at most?",
                "builder: Five at most, see http.ts",
                "reviewer: approved",
                "pr-7 is merged, says builder",
            ]
        );
    }
}

#[tokio::test]
async fn lock() {
    const AGENTS: usize = 3;
    const TIMES: usize = 5;
    let relay = TestRelay::builder().replicas(2).start().await;
    let project = Project::with_sdk().await;
    let program = example(&project, "lock.mts");

    let mut counters = Vec::new();
    for number in 0..AGENTS {
        let agent = relay
            .agent(&format!("agent-{number}"), json!({"lock-counter": "write"}))
            .await;
        // Agents on different replicas see one queue.
        let mut node = run(&project, &program, &relay, &agent);
        node.env("RELAY_API_URL", relay.replica(number % 2).url())
            .arg(TIMES.to_string());
        counters.push(node);
    }
    let said = futures_util::future::join_all(counters.iter_mut().map(succeed)).await;

    let mut counts: Vec<usize> = said
        .iter()
        .flat_map(|output| output.lines())
        .map(|line| line.strip_prefix("counted to ").unwrap().parse().unwrap())
        .collect();
    counts.sort_unstable();
    let expected: Vec<usize> = (1..=AGENTS * TIMES).collect();
    assert_eq!(counts, expected, "each number once");
}

#[tokio::test]
async fn encrypted_channel() {
    let relay = TestRelay::new().await;
    let project = Project::with_sdk().await;
    let program = example(&project, "encrypted-channel.mts");
    let said = succeed(&mut run(&project, &program, &relay, &relay.admin())).await;
    let lines: Vec<&str> = said.lines().collect();
    let [with, without, another, status] = lines[..] else {
        panic!("four lines: {said}");
    };
    assert_eq!(
        with,
        "with the key:    The staging password is in the vault now (encrypted)"
    );
    assert!(without.starts_with("without the key: e2ee"), "{without}");
    assert_eq!(another, "with another:    not readable");
    assert_eq!(status, "vault: sealed");

    let stored = relay.admin().get("/api/channels/secrets/messages").await;
    assert!(!stored.expect(200).to_string().contains("staging"));
}
