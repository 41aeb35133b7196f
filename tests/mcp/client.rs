//! MCP clients of others' making, driven line by line: see `clients/`.

use std::path::Path;
use std::process::Stdio;

use harness::{Agent, DEADLINE, TestRelay};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// The revision without a handshake.
pub(crate) const MODERN: &str = "2026-07-28";
/// The handshake of the revisions before.
pub(crate) const LEGACY: &str = "legacy";

/// Whose client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Python,
    TypeScript,
}

/// How it reaches the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// `/mcp`, each request to the next replica.
    Http,
    /// `handoff mcp`.
    Stdio,
}

/// Every official client over every transport, in both generations of the protocol.
pub(crate) const WAYS: [(Language, Transport, &str); 8] = [
    (Language::Python, Transport::Http, MODERN),
    (Language::Python, Transport::Http, LEGACY),
    (Language::Python, Transport::Stdio, "auto"),
    (Language::Python, Transport::Stdio, LEGACY),
    (Language::TypeScript, Transport::Http, MODERN),
    (Language::TypeScript, Transport::Http, LEGACY),
    (Language::TypeScript, Transport::Stdio, "auto"),
    (Language::TypeScript, Transport::Stdio, LEGACY),
];

/// A client that is connected.
pub(crate) struct McpClient {
    _child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    /// The revision that it speaks, where it tells.
    pub(crate) protocol_version: Option<String>,
}

/// The `handoff` binary, beside the relay's.
pub(crate) fn handoff_binary() -> String {
    let relay = harness::relay_binary();
    let handoff = relay.with_file_name("handoff");
    assert!(
        handoff.exists(),
        "{} is missing: tests/run builds it",
        handoff.display()
    );
    handoff.display().to_string()
}

impl McpClient {
    pub(crate) async fn connect(
        (language, transport, mode): (Language, Transport, &str),
        relay: &TestRelay,
        agent: &Agent,
    ) -> Self {
        let options = match transport {
            Transport::Http => {
                let urls = (0..relay.replicas())
                    .map(|replica| format!("{}/mcp", relay.replica(replica).url()));
                json!({"mode": mode, "key": agent.key(), "urls": urls.collect::<Vec<_>>()})
            }
            Transport::Stdio => json!({
                "mode": mode,
                "command": [handoff_binary(), "mcp"],
                "env": {
                    "RELAY_API_URL": relay.replica(0).url(),
                    "RELAY_API_KEY": agent.key(),
                },
            }),
        };
        Self::start(language, options).await
    }

    /// `handoff mcp` with a key to encrypt with.
    pub(crate) async fn encrypting(
        language: Language,
        relay: &TestRelay,
        agent: &Agent,
        encryption_key: &str,
    ) -> Self {
        let options = json!({
            "mode": LEGACY,
            "command": [handoff_binary(), "mcp"],
            "env": {
                "RELAY_API_URL": relay.replica(0).url(),
                "RELAY_API_KEY": agent.key(),
                "HANDOFF_ENCRYPTION_KEY": encryption_key,
            },
        });
        Self::start(language, options).await
    }

    /// With the driver's own options: see `clients/driver.py`.
    pub(crate) async fn start(language: Language, options: Value) -> Self {
        let folder = std::env::current_dir().unwrap();
        Self::start_in(&folder, language, options).await
    }

    /// The same, in a folder: a server that it starts finds itself there.
    pub(crate) async fn start_in(folder: &Path, language: Language, options: Value) -> Self {
        let clients = concat!(env!("CARGO_MANIFEST_DIR"), "/mcp/clients");
        let mut command = match language {
            Language::Python => {
                let mut command = Command::new(harness::tool("python/mcp/bin/python"));
                command.arg(format!("{clients}/driver.py"));
                command
            }
            Language::TypeScript => {
                let mut command = Command::new(harness::tool("bin/node"));
                command.arg(format!("{clients}/driver.mjs"));
                command
            }
        };
        let mut child = command
            .arg(options.to_string())
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{language:?} does not start: {error}"));
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut client = Self {
            _child: child,
            stdin,
            stdout,
            protocol_version: None,
        };
        let hello = client.answer().await;
        client.protocol_version = hello["protocol_version"].as_str().map(str::to_owned);
        client
    }

    async fn answer(&mut self) -> Value {
        let line = timeout(DEADLINE, self.stdout.next_line())
            .await
            .expect("the client answers in time")
            .unwrap()
            .expect("the client goes on: see its standard error");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    async fn ask(&mut self, request: Value) -> Value {
        let line = format!("{request}\n");
        self.stdin.write_all(line.as_bytes()).await.unwrap();
        let answer = self.answer().await;
        assert!(answer["error"].is_null(), "{request}: {answer}");
        answer
    }

    pub(crate) async fn list_tools(&mut self) -> Value {
        self.ask(json!({"list": true})).await
    }

    pub(crate) async fn instructions(&mut self) -> Value {
        self.ask(json!({"instructions": true})).await["instructions"].clone()
    }

    /// The whole result of a tool.
    pub(crate) async fn result(&mut self, tool: &str, arguments: Value) -> Value {
        self.ask(json!({"call": tool, "arguments": arguments}))
            .await
    }

    /// The structured content of a tool that does what it is asked for.
    pub(crate) async fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let result = self.result(tool, arguments).await;
        assert_ne!(result["isError"], true, "{tool}: {result}");
        let text = result["content"][0]["text"].as_str().unwrap_or_default();
        assert!(!text.is_empty(), "{tool}: {result}");
        result["structuredContent"].clone()
    }

    /// The text of a tool's refusal.
    pub(crate) async fn refused(&mut self, tool: &str, arguments: Value) -> String {
        let result = self.result(tool, arguments).await;
        assert_eq!(result["isError"], true, "{tool}: {result}");
        result["content"][0]["text"].as_str().unwrap().to_owned()
    }
}
