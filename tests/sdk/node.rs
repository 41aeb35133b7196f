//! Runs a file of the SDK's tests in Node, beside a relay that it can have killed and replaced.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use harness::TestRelay;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::OnceCell;

use crate::packaging::packages;
use crate::programs::{command, succeed, succeed_as};

/// Puts the package's modules, as they are published, where the tests of the run-times look for them.
pub(crate) async fn build() {
    static BUILT: OnceCell<()> = OnceCell::const_new();
    let unpack = || async {
        let mut tar = command("tar");
        tar.args(["--strip-components=1", "-xzf"])
            .arg(&packages().await.sdk)
            .arg("package/dist");
        succeed(&mut tar).await;
    };
    BUILT.get_or_init(unpack).await;
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
    succeed_as(file, &mut node).await;
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

/// Types, lint and the reference; of the package as it is published, see `packaging`.
#[tokio::test]
async fn sources_are_sound() {
    let mut npm = command(harness::tool("bin/npm"));
    succeed(npm.args(["run", "--silent", "check"])).await;
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
