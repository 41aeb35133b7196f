//! Runs a file of the SDK's tests in Node, beside a relay that it can have killed and replaced.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use harness::{TestRelay, run};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// The folder of the SDK.
pub(crate) fn sdk() -> PathBuf {
    Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../services/sdk-typescript"
    ))
    .canonicalize()
    .unwrap()
}

/// A command in the SDK's folder, with the pinned Node first in its path.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap_or_default();
    let tools = harness::tool("bin");
    command
        .current_dir(sdk())
        .env("PATH", format!("{}:{path}", tools.display()))
        .stdin(Stdio::null());
    command
}

/// Runs a command to its end, which must be a good one.
pub(crate) async fn succeed(what: &str, command: Command) {
    let finished = tokio::task::spawn_blocking(move || run(command))
        .await
        .unwrap()
        .unwrap_or_else(|error| panic!("{what} does not start: {error}"));
    assert!(
        finished.status.success(),
        "{what}: {}\n{}\n{}",
        finished.status,
        finished.stdout,
        finished.stderr
    );
}

/// The package as it is published, built once for all tests of this process.
pub(crate) fn build() {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut build = command(harness::tool("bin/npm"));
        build.args(["run", "--silent", "build"]);
        let built = run(build).unwrap();
        assert!(
            built.status.success(),
            "the SDK does not build:\n{}\n{}",
            built.stdout,
            built.stderr
        );
    });
}

/// What a test file is told in `HANDOFF_SDK_TEST`.
pub(crate) async fn describe(relay: &TestRelay, control: &Path) -> Value {
    let admin = relay.admin();
    let urls = (0..relay.replicas()).map(|index| relay.replica(index).url().to_owned());
    json!({
        "urls": urls.collect::<Vec<_>>(),
        "key": admin.key(),
        "team_id": admin.team()["id"],
        "control": control,
        "relay": harness::relay_binary(),
        "handoff": handoff_binary(),
        "vectors": concat!(env!("CARGO_MANIFEST_DIR"), "/../services/client/tests/e2ee-vectors.json"),
    })
}

/// The `handoff` binary, beside the relay's.
fn handoff_binary() -> PathBuf {
    harness::relay_binary().with_file_name("handoff")
}

/// Runs a file of tests against this relay.
pub(crate) async fn run_tests(file: &str, relay: TestRelay) {
    let relay = Arc::new(relay);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control");
    let listener = UnixListener::bind(&path).unwrap();
    let controlled = relay.clone();
    let control = tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            obey(&controlled, connection).await;
        }
    });
    let mut node = command(harness::tool("bin/node"));
    node.args(["--test-reporter=spec", &format!("tests/{file}")])
        .env(
            "HANDOFF_SDK_TEST",
            describe(&relay, &path).await.to_string(),
        );
    succeed(file, node).await;
    control.abort();
}

/// Carries out one command of a test: a line of JSON each way.
async fn obey(relay: &TestRelay, connection: UnixStream) {
    let (read, mut write) = connection.into_split();
    let Ok(Some(line)) = BufReader::new(read).lines().next_line().await else {
        return;
    };
    let command: Value = serde_json::from_str(&line).unwrap();
    let replica = || relay.replica(command["replica"].as_u64().unwrap() as usize);
    let answer = match command["do"].as_str().unwrap() {
        "kill" => {
            replica().kill().await;
            Value::Null
        }
        "terminate" => {
            replica().terminate().await;
            Value::Null
        }
        "start" => {
            let index = relay.start_replica(&[]).await;
            json!(relay.replica(index).url())
        }
        // Whether a text stands anywhere in what the relay keeps.
        "search" => json!(stands_in_database(relay, command["text"].as_str().unwrap()).await),
        other => panic!("no command: {other}"),
    };
    let _ = write.write_all(format!("{answer}\n").as_bytes()).await;
}

async fn stands_in_database(relay: &TestRelay, text: &str) -> bool {
    let client = relay.database().connect().await;
    let tables = client
        .query(
            "select format('%I.%I', schemaname, tablename) from pg_tables
             where schemaname not in ('pg_catalog', 'information_schema')",
            &[],
        )
        .await
        .unwrap();
    for table in tables {
        let table: String = table.get(0);
        let found = client
            .query_one(
                &format!("select count(*) from {table} t where position($1 in t::text) > 0"),
                &[&text],
            )
            .await
            .unwrap();
        if found.get::<_, i64>(0) > 0 {
            return true;
        }
    }
    false
}

/// Types, lint, and the package as others' tools see it.
#[tokio::test]
async fn package_is_sound() {
    build();
    for arguments in [
        ["run", "--silent", "check"],
        ["run", "--silent", "check:package"],
    ] {
        let mut npm = command(harness::tool("bin/npm"));
        npm.args(arguments);
        succeed(arguments[2], npm).await;
    }
}

#[tokio::test]
async fn pure_parts() {
    run_tests("pure.test.ts", TestRelay::new().await).await;
}

#[tokio::test]
async fn vectors_of_the_encryption() {
    run_tests("vectors.test.ts", TestRelay::new().await).await;
}

#[tokio::test]
async fn whole_surface() {
    run_tests("surface.test.ts", TestRelay::new().await).await;
}

#[tokio::test]
async fn types_are_those_of_the_document() {
    run_tests("openapi.test.ts", TestRelay::new().await).await;
}

#[tokio::test]
async fn tokens() {
    run_tests("tokens.test.ts", TestRelay::new().await).await;
}

#[tokio::test]
async fn waits() {
    run_tests("waits.test.ts", TestRelay::new().await).await;
}

#[tokio::test]
async fn retries() {
    run_tests("retries.test.ts", TestRelay::new().await).await;
}

#[tokio::test]
async fn limits() {
    let relay = TestRelay::builder()
        .env("RATE_LIMIT_MAX", 5)
        .env("HANDOFF_STREAMS_PER_KEY", 1)
        .start()
        .await;
    run_tests("limits.test.ts", relay).await;
}

#[tokio::test]
async fn g3_streams_over_replaced_relays() {
    let relay = TestRelay::builder().replicas(2).start().await;
    run_tests("streams.test.ts", relay).await;
}

#[tokio::test]
async fn encryption_with_the_rust_client() {
    assert!(
        handoff_binary().exists(),
        "tests/run builds {}",
        handoff_binary().display()
    );
    run_tests("encryption.test.ts", TestRelay::new().await).await;
}
