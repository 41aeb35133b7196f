//! The OpenAPI document: it is valid, it holds every route, and what it says of them is true.
//!
//! Besides, every answer that any test gets is held against it: `harness::contract`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use harness::TestRelay;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::fixtures::text;

/// Other people's programs on a busy machine.
const DEADLINE: Duration = Duration::from_secs(400);

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/api/openapi"))
}

fn python(program: &str) -> PathBuf {
    harness::tool(&format!("python/openapi/bin/{program}"))
}

/// Runs a program to its end; whether it was content, and what it wrote.
async fn run(mut command: Command, input: &[u8]) -> (bool, String) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input).await.unwrap();
    drop(stdin);
    let output = timeout(DEADLINE, child.wait_with_output());
    let output = output.await.expect("it ends").unwrap();
    let written = [output.stdout, output.stderr].concat();
    let written = String::from_utf8_lossy(&written).into_owned();
    (output.status.success(), written)
}

#[tokio::test]
async fn the_document_is_valid_and_so_are_its_examples() {
    let relay = TestRelay::new().await;
    let document = relay.anyone().get("/api/openapi.json").await;
    document.expect(200);
    let mut validate = Command::new(python("python"));
    validate.arg(folder().join("validate.py"));
    let (valid, complaints) = run(validate, document.bytes()).await;
    assert!(valid, "{complaints}");
}

#[tokio::test]
async fn the_validator_finds_mistakes() {
    let relay = TestRelay::new().await;
    let good = relay.anyone().get("/api/openapi.json").await.expect(200);
    let broken = |pointer: &str, value: Value| {
        let mut document = good.clone();
        *document.pointer_mut(pointer).unwrap() = value;
        document.to_string()
    };
    for document in [
        broken("/components/schemas/Id/example", "forty-two".into()),
        broken("/components/schemas/Id/type", "text".into()),
        broken("/paths/~1api~1me/get/responses", Value::Null),
    ] {
        let mut validate = Command::new(python("python"));
        validate.arg(folder().join("validate.py"));
        let (valid, _) = run(validate, document.as_bytes()).await;
        assert!(!valid);
    }
}

#[tokio::test]
async fn the_program_prints_what_the_relay_serves() {
    let relay = TestRelay::new().await;
    let served = relay.anyone().get("/api/openapi.json").await.expect(200);
    let mut print = Command::new(harness::relay_binary());
    // No database, no settings.
    print.arg("openapi").env_clear();
    let (printed, document) = run(print, b"").await;
    assert!(printed, "{document}");
    let printed: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(printed, served);
}

#[tokio::test]
async fn every_route_stands_in_the_document_and_nothing_else() {
    let relay = TestRelay::new().await;
    let about = relay.anyone().get("/api").await.expect(200);
    let served: BTreeSet<String> = about["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|endpoint| format!("{} {}", text(endpoint, "method"), text(endpoint, "path")))
        // These speak protocols of others.
        .filter(|route| route != "POST /mcp" && route != "POST /hooks/claude")
        .collect();
    let document = relay.anyone().get("/api/openapi.json").await.expect(200);
    let described: BTreeSet<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, operations)| {
            let methods = operations.as_object().unwrap().keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    assert_eq!(served, described);
}

#[tokio::test]
async fn schemathesis_finds_nothing() {
    let relay = TestRelay::builder()
        .env("RATE_LIMIT_MAX", 1_000_000)
        .env("HANDOFF_SIGNUPS_PER_HOUR", 1_000_000)
        .env("HANDOFF_KEYS_PER_TEAM", 1_000_000)
        .env("HANDOFF_CHANNELS_PER_TEAM", 1_000_000)
        .env("HANDOFF_STREAMS_PER_KEY", 0)
        .start()
        .await;
    let scratch = tempfile::tempdir().unwrap();
    let replica = relay.replica(0);
    let mut schemathesis = Command::new(python("schemathesis"));
    schemathesis
        .arg("--config-file")
        .arg(folder().join("schemathesis.toml"))
        .args(["--no-color", "run", "--max-examples", "5"])
        .args([
            "--header",
            &format!("Authorization: Bearer {}", relay.admin().key()),
        ])
        .arg(format!("{}/api/openapi.json", replica.url()))
        // What it remembers between runs would make them differ.
        .current_dir(scratch.path());
    let (content, report) = run(schemathesis, b"").await;
    assert!(content, "{report}");
    for phase in ["Examples", "Coverage", "Fuzzing", "Stateful"] {
        assert!(report.contains(&format!("✅ {phase}")), "{phase}: {report}");
    }
    // It didn't spend the run being refused: its key is what it was.
    relay.admin().get("/api/audit").await.expect(200);
}
