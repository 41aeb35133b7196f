//! `npx -y handoff-sdk` from a registry, in an empty folder: what users do.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use harness::{TestRelay, within};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::pack::pe;
use super::project::{Project, VERSION, pack, packages, platform};
use crate::mcp_client::{Language, McpClient};
use crate::programs::succeed;

/// Serves the tarballs of a folder as npm's registry does, and prints what it was asked for.
const REGISTRY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/sdk/packaging/registry.mjs");

#[tokio::test]
async fn npx_fetches_the_program_of_this_platform_alone() {
    let relay = TestRelay::new().await;
    let packages = packages().await;
    let project = Project::empty();
    let foreign = foreign_package(&project).await;
    let mut registry = project
        .program("bin/node")
        .arg(REGISTRY)
        .args([&packages.sdk, &packages.platform, &foreign])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut requests = BufReader::new(registry.stdout.take().unwrap()).lines();
    let url = within("the registry listens", requests.next_line()).await;
    let url = url.unwrap().unwrap();

    let alice = relay.agent("alice", json!({"*": "write"})).await;
    let command = json!(["npx", "-y", "handoff-sdk"]);
    let mut options = project.mcp_options(&command, &relay, &alice);
    options["env"]["npm_config_offline"] = "false".into();
    options["env"]["npm_config_registry"] = url.clone().into();
    let mut client = McpClient::start_in(project.path(), Language::Python, options).await;
    let posted = json!({"channel": "build", "content": "from nothing"});
    client.call("post_message", posted).await;
    let page = relay.admin().get("/api/channels/build/messages").await;
    assert_eq!(page.expect(200)["messages"][0]["sender"], "alice");
    drop(client);
    project.left_alone().await;

    // The second start finds everything where the first has put it.
    let mut npx = project.program("bin/npx");
    npx.env("npm_config_registry", &url)
        .env("npm_config_offline", "true")
        .args(["-y", "handoff-sdk", "--version"]);
    assert_eq!(succeed(&mut npx).await, format!("handoff {VERSION}\n"));

    registry.kill().await.unwrap();
    let mut asked = Vec::new();
    while let Some(line) = requests.next_line().await.unwrap() {
        asked.push(line);
    }
    let mut fetched: Vec<&str> = asked
        .iter()
        .filter_map(|path| path.strip_prefix('/')?.strip_suffix(".tgz"))
        .collect();
    fetched.sort_unstable();
    // The others were looked for, found or not, and left alone.
    let own = format!("handoff-sdk-{}-{VERSION}", platform());
    assert_eq!(
        fetched,
        [format!("handoff-sdk-{VERSION}"), own],
        "{asked:?}"
    );
    for package in ["/@handoff-sdk/win32-x64", "/@handoff-sdk/darwin-x64"] {
        assert!(asked.iter().any(|path| path == package), "{asked:?}");
    }
}

/// The package of a platform that this machine is not.
async fn foreign_package(project: &Project) -> PathBuf {
    let binary = project.path().join("program");
    fs::write(&binary, pe(0x8664)).unwrap();
    let out = project.path().join("packages");
    let packed = pack(&[
        "--binary",
        binary.to_str().unwrap(),
        "--target",
        "win32-x64",
        "--without-sdk",
        "--out",
        out.to_str().unwrap(),
    ])
    .await;
    assert!(packed.status.success(), "{packed:?}");
    out.join(format!("handoff-sdk-win32-x64-{VERSION}.tgz"))
}
