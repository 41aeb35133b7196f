//! Packed once a test process, installed into a project for each test.

use std::env::consts;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use harness::{Agent, Finished, TestRelay};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio::time::timeout;

/// npm and compilers do a lot, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(180);

/// The version that everything of the project has.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where the SDK's sources are.
pub(super) fn sdk() -> &'static Path {
    Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../services/sdk-typescript"
    ))
}

/// This machine, in npm's words: `linux-x64`.
pub(super) fn platform() -> String {
    let cpu = match consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}-{cpu}", consts::OS.replace("macos", "darwin"))
}

/// Runs a command to its end, which must come in time.
pub(super) async fn finish(command: &mut Command) -> Finished {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(DEADLINE, command.output()).await;
    let Output {
        status,
        stdout,
        stderr,
    } = output
        .unwrap_or_else(|_| panic!("waited {DEADLINE:?} in vain: {command:?}"))
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Finished {
        status,
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

/// Runs a command that must end well, and returns what it wrote.
pub(super) async fn succeed(command: &mut Command) -> String {
    let finished = finish(command).await;
    assert!(
        finished.status.success(),
        "{command:?}: {}\n{}{}",
        finished.status,
        finished.stdout,
        finished.stderr
    );
    finished.stdout
}

/// The environment in which npm knows of nothing but a home of its own, and asks no registry.
pub(super) fn npm_environment(home: &Path) -> Vec<(String, String)> {
    let tools = harness::tool("bin");
    let path = std::env::var("PATH").unwrap();
    [
        ("PATH", format!("{}:{path}", tools.display())),
        ("HOME", home.display().to_string()),
        ("npm_config_cache", home.join("cache").display().to_string()),
        ("npm_config_offline", "true".to_owned()),
        ("npm_config_audit", "false".to_owned()),
        ("npm_config_fund", "false".to_owned()),
        ("npm_config_update_notifier", "false".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// A program of `tests/tools/install`, in npm's environment.
pub(super) fn program(name: &str, home: &Path) -> Command {
    let mut command = Command::new(harness::tool(name));
    command.env_clear().envs(npm_environment(home));
    command
}

/// The packing script with these arguments.
pub(super) async fn pack(arguments: &[&str]) -> Finished {
    let home = tempfile::tempdir().unwrap();
    let mut node = program("bin/node", home.path());
    node.arg(sdk().join("scripts/pack.mjs")).args(arguments);
    finish(&mut node).await
}

/// The tarballs of this machine.
pub(super) struct Packages {
    pub(super) sdk: PathBuf,
    pub(super) platform: PathBuf,
}

/// The tarballs, which the first that asks for them makes.
pub(super) async fn packages() -> &'static Packages {
    static PACKAGES: OnceCell<Packages> = OnceCell::const_new();
    PACKAGES
        .get_or_init(|| async {
            let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sdk-packages");
            let binary = crate::mcp_client::handoff_binary();
            let home = tempfile::tempdir().unwrap();
            let mut npm = program("bin/npm", home.path());
            npm.args(["run", "pack", "--", "--binary", &binary, "--out"])
                .arg(&out)
                .current_dir(sdk());
            succeed(&mut npm).await;
            Packages {
                sdk: out.join(format!("handoff-sdk-{VERSION}.tgz")),
                platform: out.join(format!("handoff-sdk-{}-{VERSION}.tgz", platform())),
            }
        })
        .await
}

/// A file of a tarball, as text.
pub(super) async fn unpacked(tarball: &Path, file: &str) -> String {
    let mut tar = Command::new("tar");
    tar.arg("-xOf").arg(tarball).arg(format!("package/{file}"));
    succeed(&mut tar).await
}

/// An empty project with packages installed, gone when it is dropped.
pub(super) struct Project {
    folder: TempDir,
}

impl Project {
    /// With nothing in it.
    pub(super) fn empty() -> Project {
        // npm writes what it resolved: without links on the way both say the same.
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("package.json"), "{}").unwrap();
        Project { folder }
    }

    /// With the SDK, and without a program for this machine.
    pub(super) async fn with_sdk() -> Project {
        let project = Project::empty();
        project.install(&[&packages().await.sdk]).await;
        project
    }

    /// With the SDK and the program for this machine.
    pub(super) async fn with_program() -> Project {
        let project = Project::empty();
        let packages = packages().await;
        project.install(&[&packages.sdk, &packages.platform]).await;
        project
    }

    async fn install(&self, tarballs: &[&Path]) {
        succeed(self.program("bin/npm").arg("install").args(tarballs)).await;
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file and returns where it is.
    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// A program of `tests/tools/install`, in this project.
    pub(super) fn program(&self, name: &str) -> Command {
        let mut command = program(name, &self.home());
        command.current_dir(self.path());
        command
    }

    /// Node on a file.
    pub(super) fn node(&self, file: &Path) -> Command {
        let mut node = self.program("bin/node");
        node.arg(file);
        node
    }

    /// Node on the package's program, as `npx` starts it.
    pub(super) fn launcher(&self) -> Command {
        self.node(&self.path().join("node_modules/.bin/handoff-sdk"))
    }

    /// What an MCP client is told to start the package's program with `npx`, as this agent.
    pub(super) fn mcp_options(&self, command: &Value, relay: &TestRelay, agent: &Agent) -> Value {
        let mut environment: serde_json::Map<String, Value> = npm_environment(&self.home())
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect();
        environment.insert("RELAY_API_URL".into(), relay.replica(0).url().into());
        environment.insert("RELAY_API_KEY".into(), agent.key().into());
        json!({"mode": crate::mcp_client::LEGACY, "command": command, "env": environment})
    }

    /// Checks the types of programs as strictly as the compiler can.
    pub(super) async fn check_types(&self, files: &[PathBuf]) {
        let compiler = sdk().join("node_modules/typescript/bin/tsc");
        let mut tsc = self.node(&compiler);
        tsc.args(["--noEmit", "--strict", "--noUncheckedIndexedAccess"])
            .args([
                "--noPropertyAccessFromIndexSignature",
                "--exactOptionalPropertyTypes",
            ])
            .args([
                "--module", "nodenext", "--target", "es2022", "--types", "node",
            ])
            .arg("--typeRoots")
            .arg(sdk().join("node_modules/@types"))
            .args(files);
        succeed(&mut tsc).await;
    }

    /// A home for npm, outside of the project's own files.
    fn home(&self) -> PathBuf {
        self.path().join(".home")
    }
}
