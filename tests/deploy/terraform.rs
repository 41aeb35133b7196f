//! The checks of `terraform/`, which are written in Python (`tests/deploy/terraform/check.py`), and
//! run the program `terraform` with stand-ins for its providers: nothing is asked of any cloud. No
//! package registry has that program: where it is missing only the checks that do without are run,
//! and the others say so.

use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

/// Terraform starts often, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(540);

/// What a check exits with where `terraform` is missing.
const NOT_RUN: i32 = 77;

/// Runs a check; it prints what is wrong.
async fn check(name: &str) {
    let mut command = Command::new(harness::tool("python/terraform/bin/python"));
    command
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/deploy/terraform/check.py"
        ))
        .arg(name)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .kill_on_drop(true);
    let output = timeout(DEADLINE, command.output())
        .await
        .expect("it ends")
        .unwrap();
    if output.status.code() == Some(NOT_RUN) {
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn files_are_formatted() {
    check("formatted").await;
}

#[tokio::test]
async fn modules_and_environments_are_written_alike() {
    check("conventions").await;
}

#[tokio::test]
async fn modules_are_valid_and_pass_their_tests() {
    check("modules").await;
}

#[tokio::test]
async fn environments_are_protected_and_fit_the_chart() {
    check("environments").await;
}

#[tokio::test]
async fn policies_hold() {
    check("policies").await;
}
