//! The Helm chart: rendered by Helm's own code with every example and many other values, and
//! checked. The checks are in Python, like the programs that they use; each module of `chart/` is a
//! test here, so that they run side by side.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

/// The slowest takes some 10 s by itself.
const DEADLINE: Duration = Duration::from_secs(300);

/// Runs the checks of a module.
async fn check(module: &str) {
    let node = harness::tool("bin/node");
    let node = node.parent().map(Path::to_path_buf).into_iter();
    let others = std::env::var_os("PATH").unwrap_or_default();
    let path: Vec<PathBuf> = node.chain(std::env::split_paths(&others)).collect();
    let command = Command::new(harness::tool("python/chart/bin/python"))
        .args(["-B", "-m", "unittest", module])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/chart"))
        .env("PATH", std::env::join_paths(path).unwrap())
        .kill_on_drop(true)
        .output();
    let output = timeout(DEADLINE, command).await;
    let Output { status, stderr, .. } = output.expect("it ends").unwrap();
    let report = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{report}");
    assert!(!report.contains("Ran 0 tests"), "{report}");
}

#[tokio::test]
async fn what_must_hold_holds_with_all_values() {
    check("test_manifests").await;
}

#[tokio::test]
async fn wrong_values_are_refused_and_earlier_ones_go_on_working() {
    check("test_values").await;
}

#[tokio::test]
async fn helm_and_the_schemas_of_kubernetes_take_it() {
    check("test_kubernetes").await;
}

#[tokio::test]
async fn custom_resources_fit_their_definitions() {
    check("test_crds").await;
}

#[tokio::test]
async fn checkov_has_nothing_to_object() {
    check("test_checkov").await;
}

#[tokio::test]
async fn its_readme_is_up_to_date() {
    check("test_docs").await;
}
