//! The package's program, which hands everything on to `handoff`.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use harness::{TestRelay, eventually, within};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

use super::project::{Project, VERSION, platform};
use crate::mcp_client::handoff_binary;
use crate::programs::{finish, succeed};

impl Project {
    /// The processes that run the program installed here.
    fn running(&self) -> Vec<PathBuf> {
        let here = self.path().canonicalize().unwrap();
        let processes = fs::read_dir("/proc").unwrap().flatten();
        processes
            .filter_map(|process| fs::read_link(process.path().join("exe")).ok())
            .filter(|program| program.starts_with(&here))
            .collect()
    }

    /// Waits until none runs.
    pub(super) async fn left_alone(&self) {
        eventually("the program ends", || async {
            self.running().is_empty().then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn arguments_and_exit_codes_pass_through() {
    let project = Project::with_program().await;
    let mut npx = project.program("bin/npx");
    let version = succeed(npx.args(["-y", "handoff-sdk", "--version"])).await;
    assert_eq!(version, format!("handoff {VERSION}\n"));

    for (arguments, code) in [(&["read", "build"][..], 3), (&["no-such-command"], 2)] {
        let mut npx = project.program("bin/npx");
        let finished = finish(npx.arg("handoff-sdk").args(arguments)).await;
        assert_eq!(finished.status.code(), Some(code), "{finished:?}");
        assert_eq!(finished.stdout, "");
        assert!(!finished.stderr.is_empty());
    }
    // Without arguments it is the MCP server, which ends with its input.
    let finished = finish(project.launcher().env("RELAY_API_KEY", "relay_none")).await;
    assert!(finished.status.success(), "{finished:?}");
    assert_eq!(finished.stdout, "");
}

/// Processes that end with this: a launcher that is killed can't hand that on.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        killpg(self.0, Signal::SIGKILL).ok();
    }
}

#[tokio::test]
async fn signals_pass_through() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let project = Project::with_program().await;
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut tail = project
            .launcher()
            .args(["--json", "tail", "build"])
            .env("RELAY_API_URL", relay.replica(0).url())
            .env("RELAY_API_KEY", admin.key())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let process = Pid::from_raw(tail.id().unwrap().try_into().unwrap());
        let _group = Group(process);
        let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
        // Until it shows what is said, it may not follow yet.
        let shown = within("a message is shown", async {
            loop {
                admin.say("build", "hello").await;
                if let Ok(line) = timeout(Duration::from_millis(500), lines.next_line()).await {
                    break line.unwrap();
                }
            }
        })
        .await;
        assert!(shown.unwrap().contains("hello"));
        assert_eq!(project.running().len(), 1);

        kill(process, signal).unwrap();
        let status = within("it ends", tail.wait()).await.unwrap();
        assert_eq!(status.signal(), Some(signal as i32), "as the program ended");
        project.left_alone().await;
    }
}

#[tokio::test]
async fn without_a_program_it_says_what_to_do() {
    let project = Project::with_sdk().await;
    let finished = finish(project.program("bin/npx").args(["-y", "handoff-sdk"])).await;
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    assert_eq!(finished.stdout, "", "an MCP client reads this");
    let package = format!("@handoff-sdk/{}", platform());
    let again = format!("npm install --include=optional handoff-sdk@{VERSION}");
    for says in [&package, &again, "HANDOFF_BINARY=", "cargo install"] {
        assert!(
            finished.stderr.contains(says),
            "{says}: {}",
            finished.stderr
        );
    }

    let mut own = project.launcher();
    own.env("HANDOFF_BINARY", handoff_binary()).arg("--version");
    assert_eq!(succeed(&mut own).await, format!("handoff {VERSION}\n"));
}

#[tokio::test]
async fn a_platform_that_has_none_is_told_which_have() {
    let project = Project::with_sdk().await;
    let pretend = "data:text/javascript,\
                   Object.defineProperty(process,'platform',{value:'openbsd'})";
    let mut node = project.program("bin/node");
    node.args(["--import", pretend])
        .arg("node_modules/.bin/handoff-sdk");
    let finished = finish(&mut node).await;
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    for says in [
        "openbsd-",
        "linux-x64, linux-arm64, darwin-x64",
        "HANDOFF_BINARY=",
    ] {
        assert!(
            finished.stderr.contains(says),
            "{says}: {}",
            finished.stderr
        );
    }
}

#[tokio::test]
async fn a_program_of_ones_own_that_cannot_run_is_named() {
    let project = Project::with_program().await;
    let text = project.write("handoff", "not a program");
    let nowhere = project.path().join("nowhere");
    let cases = [
        (nowhere.as_path(), "no such file"),
        (project.path(), "not a file"),
        (text.as_path(), "may not be executed"),
    ];
    for (path, says) in cases {
        let finished = finish(project.launcher().env("HANDOFF_BINARY", path)).await;
        assert_eq!(finished.status.code(), Some(1), "{finished:?}");
        assert!(
            finished.stderr.contains(path.to_str().unwrap()),
            "{finished:?}"
        );
        assert!(finished.stderr.contains(says), "{finished:?}");
    }
    // One that names the launcher itself ends in the package's program, not in a circle.
    let mut launcher = project.launcher();
    launcher
        .env(
            "HANDOFF_BINARY",
            project.path().join("node_modules/.bin/handoff-sdk"),
        )
        .arg("--version");
    assert_eq!(succeed(&mut launcher).await, format!("handoff {VERSION}\n"));
}
