//! Other people's programs as they are: the conformance suite of MCP, and Claude Code.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use harness::TestRelay;
use tokio::process::Command;
use tokio::time::timeout;

use crate::client::handoff_binary;

/// These programs do a lot, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(180);

fn clients() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/mcp/clients"))
}

async fn run(mut command: Command) -> (bool, String) {
    let output = timeout(DEADLINE, command.kill_on_drop(true).output()).await;
    let Output {
        status,
        stdout,
        stderr,
    } = output.expect("it ends").unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    );
    (status.success(), text)
}

#[tokio::test]
async fn the_conformance_suite_passes_but_for_what_does_not_apply() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let suite = clients().join("node_modules/@modelcontextprotocol/conformance/dist/index.js");
    let mut command = Command::new(harness::tool("bin/node"));
    let replica = relay.replica(0);
    let url = replica.url();
    command
        .arg(suite)
        .args(["server", "--suite", "all", "--url"])
        .arg(format!("{url}/mcp?token={}", relay.admin().key()))
        .arg("--expected-failures")
        .arg(clients().join("expected-failures.yaml"));
    let (passed, text) = run(command).await;
    assert!(passed, "{text}");
    for scenario in ["server-initialize", "ping", "tools-list"] {
        assert!(
            text.contains(&format!("✓ {scenario}")),
            "{scenario}: {text}"
        );
    }
}

/// Claude Code with a home of its own, where nobody has logged in.
struct ClaudeCode {
    home: tempfile::TempDir,
    path: String,
}

impl ClaudeCode {
    fn new() -> Self {
        let node = harness::tool("bin/node");
        let handoff = PathBuf::from(handoff_binary());
        let folders = [node.parent().unwrap(), handoff.parent().unwrap()];
        let folders = folders.map(|folder| folder.display().to_string()).join(":");
        let path = format!("{folders}:{}", std::env::var("PATH").unwrap_or_default());
        Self {
            home: tempfile::tempdir().unwrap(),
            path,
        }
    }

    async fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(clients().join("node_modules/.bin/claude"));
        command
            .args(arguments)
            .env("HOME", self.home.path())
            .env("PATH", &self.path)
            .current_dir(self.home.path());
        let (succeeded, text) = run(command).await;
        assert!(succeeded, "claude {arguments:?}: {text}");
        text
    }
}

#[tokio::test]
async fn claude_code_connects_by_the_lines_of_the_readme() {
    let readme = include_str!("../../README.md");
    let relay = TestRelay::new().await;
    let (url, key) = (
        relay.replica(0).url().to_owned(),
        relay.admin().key().to_owned(),
    );
    let claude = ClaudeCode::new();
    let lines = [
        "claude mcp add --transport http handoff URL/mcp --header \"Authorization: Bearer KEY\"",
        "claude mcp add handoff -e RELAY_API_URL=URL -e RELAY_API_KEY=KEY -- handoff mcp",
    ];
    for line in lines {
        assert!(readme.contains(line), "the README has no line {line:?}");
        let mut arguments: Vec<String> = Vec::new();
        let mut quoted = false;
        for part in line.split('"') {
            if quoted {
                arguments.push(part.to_owned());
            } else {
                arguments.extend(part.split_whitespace().map(str::to_owned));
            }
            quoted = !quoted;
        }
        let arguments: Vec<String> = arguments
            .iter()
            .map(|argument| argument.replace("URL/mcp", &format!("{url}/mcp")))
            .map(|argument| argument.replace("RELAY_API_URL=URL", &format!("RELAY_API_URL={url}")))
            .map(|argument| argument.replace("Bearer KEY", &format!("Bearer {key}")))
            .map(|argument| argument.replace("RELAY_API_KEY=KEY", &format!("RELAY_API_KEY={key}")))
            .collect();
        let arguments: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
        claude.run(&arguments).await;
        let listed = claude.run(&["mcp", "list"]).await;
        assert!(
            listed.contains("handoff") && listed.contains("Connected"),
            "{line}: {listed}"
        );
        claude.run(&["mcp", "remove", "handoff"]).await;
    }
}

#[tokio::test]
async fn claude_code_takes_the_plugin_and_its_marketplace() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let claude = ClaudeCode::new();
    for manifest in ["services/claude-plugin", "."] {
        let path = format!("{root}/{manifest}");
        claude.run(&["plugin", "validate", &path]).await;
    }
}
