//! One scenario on every run-time: the package as it is built, with nothing around it.

use std::path::{Path, PathBuf};

use harness::TestRelay;

use crate::node::build;
use crate::programs::{command, sdk, succeed_as};

/// Runs the scenario with this program and these arguments before the script.
async fn run(
    what: &str,
    program: impl AsRef<Path>,
    arguments: &[&str],
    script: &str,
    last: &[&str],
) {
    build().await;
    let relay = TestRelay::new().await;
    let mut run = command(program.as_ref());
    run.args(arguments)
        .arg(format!("tests/runtimes/{script}"))
        .args([relay.replica(0).url(), relay.admin().key(), "ops"])
        .args(last)
        // Deno and Bun keep what they compile; a test leaves nothing behind.
        .env("DENO_DIR", std::env::temp_dir().join("handoff-test-deno"))
        .env("DENO_NO_UPDATE_CHECK", "1");
    succeed_as(what, &mut run).await;
}

/// A binary that an npm package carries: it lies in the platform's package, or, where npm ran the install
/// script, in the one that stands for them all.
fn carried(scope: &str, package: &str, names: &[&str]) -> PathBuf {
    let modules = sdk().join("node_modules");
    let platforms = std::fs::read_dir(modules.join(scope));
    let platforms = platforms.into_iter().flatten().flatten();
    platforms
        .map(|platform| platform.path())
        .chain([modules.join(package)])
        .flat_map(|folder| [folder.clone(), folder.join("bin")])
        .flat_map(|folder| names.iter().map(move |name| folder.join(name)))
        // A package may hold a script of the same name.
        .find(|path| std::fs::metadata(path).is_ok_and(|file| file.len() > 1 << 20))
        .unwrap_or_else(|| panic!("tests/tools/install brings {package}"))
}

#[tokio::test]
async fn node() {
    run("Node", harness::tool("bin/node"), &[], "run.mjs", &[]).await;
}

#[tokio::test]
async fn node_20() {
    run("Node 20", harness::tool("bin/node20"), &[], "run.mjs", &[]).await;
}

#[tokio::test]
async fn node_20_commonjs() {
    run(
        "Node 20, CommonJS",
        harness::tool("bin/node20"),
        &[],
        "run.cjs",
        &[],
    )
    .await;
}

#[tokio::test]
async fn deno() {
    let deno = carried("@deno", "deno", &["deno"]);
    // Nothing but the network is allowed: it reads no environment and no files.
    let arguments = ["run", "--no-prompt", "--no-config", "--allow-net=127.0.0.1"];
    run("Deno", deno, &arguments, "run.mjs", &[]).await;
}

#[tokio::test]
async fn bun() {
    run(
        "Bun",
        carried("@oven", "bun", &["bun", "bun.exe"]),
        &["run"],
        "run.mjs",
        &[],
    )
    .await;
}

#[tokio::test]
async fn browser_same_origin() {
    run(
        "Chromium",
        harness::tool("bin/node"),
        &[],
        "browser.mjs",
        &["same"],
    )
    .await;
}

#[tokio::test]
async fn browser_other_origin() {
    run(
        "Chromium, another origin",
        harness::tool("bin/node"),
        &[],
        "browser.mjs",
        &["other"],
    )
    .await;
}
