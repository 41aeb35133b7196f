//! Waking an agent: the channel of `handoff mcp`, and the monitor `handoff watch`.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use harness::{Agent, DEADLINE, TestRelay};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::client::handoff_binary;

/// Long enough to show that nothing comes.
const SILENCE: Duration = Duration::from_secs(2);

/// A `handoff` command that runs on and prints lines.
struct Running {
    _child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(relay: &TestRelay, agent: &Agent, arguments: &[&str]) -> Self {
        let mut child = Command::new(handoff_binary())
            .args(arguments)
            .env("RELAY_API_URL", relay.replica(0).url())
            .env("RELAY_API_KEY", agent.key())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            _child: child,
            stdin,
            stdout,
        }
    }

    async fn line(&mut self) -> String {
        let line = timeout(DEADLINE, self.stdout.next_line()).await;
        line.expect("a line comes").unwrap().expect("it runs on")
    }

    async fn stays_silent(&mut self) {
        let line = timeout(SILENCE, self.stdout.next_line()).await;
        assert!(line.is_err(), "{line:?}");
    }

    async fn send(&mut self, message: Value) {
        let line = format!("{message}\n");
        self.stdin.write_all(line.as_bytes()).await.unwrap();
    }

    async fn message(&mut self) -> Value {
        let line = self.line().await;
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Connects as Claude Code does; answers the server's capabilities.
    async fn initialize(&mut self) -> Value {
        self.send(json!({
            "jsonrpc": "2.0", "id": 1, "method": "initialize",
            "params": {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "claude-code", "version": "2.1.330"},
            },
        }))
        .await;
        let answer = self.message().await;
        self.send(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
            .await;
        answer["result"]["capabilities"].clone()
    }

    /// Waits until what is said to bob is pushed, trying with messages from an agent.
    async fn is_pushing(&mut self, from: &Agent) {
        loop {
            let body = json!({"content": "do you hear me?", "mention": "bob"});
            let posted = post(from, "ops", body).await;
            if let Ok(mut pushed) = timeout(SILENCE, self.pushed()).await {
                // Those that were given up on may have come late: then this one follows.
                while pushed["meta"]["message_id"] != posted["id"] {
                    pushed = self.pushed().await;
                }
                return;
            }
        }
    }

    async fn pushed(&mut self) -> Value {
        let notification = self.message().await;
        assert_eq!(
            notification["method"], "notifications/claude/channel",
            "{notification}"
        );
        notification["params"].clone()
    }
}

async fn post(agent: &Agent, channel: &str, body: Value) -> Value {
    agent
        .post(format!("/api/channels/{channel}/messages"), body)
        .await
        .expect(201)
}

#[tokio::test]
async fn a_channel_pushes_mentions_and_moves_no_read_position() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let bob = relay.agent("bob", json!({"*": "write"})).await;
    post(
        &admin,
        "ops",
        json!({"content": "before", "mention": "bob"}),
    )
    .await;
    let mut mcp = Running::start(&relay, &bob, &["mcp", "--channel"]);
    let capabilities = mcp.initialize().await;
    assert_eq!(
        capabilities["experimental"]["claude/channel"],
        json!({}),
        "{capabilities}"
    );
    mcp.is_pushing(&admin).await;
    let mut expected = Vec::new();
    for (channel, n) in [("ops", 1), ("opened-later", 2), ("ops", 3)] {
        let parent = post(&admin, channel, json!({"content": "of no concern"})).await;
        post(
            &bob,
            channel,
            json!({"content": "to myself", "mention": "bob"}),
        )
        .await;
        let body = json!({
            "content": format!("call {n}\nwith two lines"),
            "mention": "bob",
            "thread_id": parent["id"],
        });
        let posted = post(&admin, channel, body).await;
        expected.push(posted["id"].clone());
        let pushed = mcp.pushed().await;
        assert!(
            pushed["content"]
                .as_str()
                .unwrap()
                .contains(&format!("call {n}")),
            "{pushed}"
        );
        let meta: BTreeMap<String, String> =
            serde_json::from_value(pushed["meta"].clone()).unwrap();
        assert_eq!(meta["sender"], posted["sender"].as_str().unwrap());
        assert_eq!(meta["channel"], channel);
        assert_eq!(meta["message_id"], posted["id"].as_str().unwrap());
        assert_eq!(meta["thread_id"], parent["id"].as_str().unwrap());
        for key in meta.keys() {
            assert!(
                key.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
                "{key}"
            );
        }
    }
    mcp.stays_silent().await;
    let inbox = bob.get("/api/inbox").await.expect(200);
    let unread = inbox["unread"]["mentions"].as_u64().unwrap();
    assert!(unread >= 5, "all are unread still: {inbox}");
}

#[tokio::test]
async fn a_channel_is_off_unless_asked_for_and_may_be_for_some_senders_only() {
    let relay = TestRelay::new().await;
    let bob = relay.agent("bob", json!({"*": "write"})).await;
    let carol = relay.agent("carol", json!({"*": "write"})).await;
    let mut off = Running::start(&relay, &bob, &["mcp"]);
    let capabilities = off.initialize().await;
    assert!(
        capabilities["experimental"]["claude/channel"].is_null(),
        "{capabilities}"
    );
    let mut on = Running::start(
        &relay,
        &bob,
        &["mcp", "--channel", "--channel-from", "carol"],
    );
    on.initialize().await;
    on.is_pushing(&carol).await;
    post(
        &relay.admin(),
        "ops",
        json!({"content": "not allowed", "mention": "bob"}),
    )
    .await;
    let posted = post(
        &carol,
        "ops",
        json!({"content": "allowed", "mention": "bob"}),
    )
    .await;
    assert_eq!(on.pushed().await["meta"]["message_id"], posted["id"]);
    off.stays_silent().await;
    on.stays_silent().await;
}

#[tokio::test]
async fn a_monitor_prints_one_line_for_a_burst_of_mentions() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let bob = relay.agent("bob", json!({"*": "write"})).await;
    admin.say("ops", "opens the channel").await;
    let mut watch = Running::start(&relay, &bob, &["watch", "--burst-ms", "500"]);
    watch.stays_silent().await;
    post(
        &admin,
        "ops",
        json!({"content": "one\n\u{1b}[31mred", "mention": "bob"}),
    )
    .await;
    let line = watch.line().await;
    assert!(line.contains("ops") && line.contains("one"), "{line}");
    assert!(!line.contains('\u{1b}'), "{line:?}");

    // Several at once: a line or two, and together they count them all.
    for channel in ["ops", "opened-later", "ops"] {
        post(
            &admin,
            channel,
            json!({"content": "burst", "mention": "bob"}),
        )
        .await;
    }
    let line = watch.line().await;
    assert!(line.contains('3') || line.contains("burst"), "{line}");
    post(&admin, "ops", json!({"content": "no mention"})).await;
    post(&bob, "ops", json!({"content": "my own", "mention": "bob"})).await;
    watch.stays_silent().await;

    // A relay that is killed and replaced is no reason to stop, and nothing is told twice.
    let port = relay.replica(0).address().port().to_string();
    relay.replica(0).kill().await;
    relay.start_replica(&[("PORT", &port)]).await;
    let admin = admin.on(1);
    post(
        &admin,
        "ops",
        json!({"content": "after the fall", "mention": "bob"}),
    )
    .await;
    let line = watch.line().await;
    assert!(line.contains("after the fall"), "{line}");
    watch.stays_silent().await;
}

#[tokio::test]
async fn g3_a_tail_goes_on_when_its_relay_is_killed_and_replaced() {
    let relay = TestRelay::new().await;
    let mut admin = relay.admin();
    admin.say("ops", "opens the channel").await;
    let mut tail = Running::start(&relay, &admin, &["tail", "ops", "--after", "0", "--json"]);
    let mut expected = vec!["opens the channel".to_owned()];
    for round in 0..3 {
        for n in 0..20 {
            let content = format!("{round}-{n}");
            admin.say("ops", &content).await;
            expected.push(content);
        }
        let replica = relay.replica(relay.replicas() - 1);
        let port = replica.address().port().to_string();
        replica.kill().await;
        let started = relay.start_replica(&[("PORT", &port)]).await;
        admin = admin.on(started);
    }
    for content in expected {
        assert_eq!(tail.message().await["content"], content.as_str());
    }
    tail.stays_silent().await;
}
