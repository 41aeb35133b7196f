//! Packed and installed once a test process, copied into a project for each test.

use std::env::consts;
use std::fs;
use std::path::{Path, PathBuf};

use harness::{Agent, Finished, TestRelay};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::programs::{finish, npm_environment, program, sdk, succeed};

/// The version that everything of the project has.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// This machine, in npm's words: `linux-x64`.
pub(super) fn platform() -> String {
    let cpu = match consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}-{cpu}", consts::OS.replace("macos", "darwin"))
}

/// The packing script with these arguments.
pub(super) async fn pack(arguments: &[&str]) -> Finished {
    let home = tempfile::tempdir().unwrap();
    let mut node = program("bin/node", home.path());
    node.arg(sdk().join("scripts/pack.mjs")).args(arguments);
    finish(&mut node).await
}

/// The tarballs of this machine.
pub(crate) struct Packages {
    pub(crate) sdk: PathBuf,
    pub(super) platform: PathBuf,
}

/// The tarballs, which the first that asks for them makes.
pub(crate) async fn packages() -> &'static Packages {
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

/// Has npm install packages into an empty project of this name, and returns where it is.
async fn install(name: &str, tarballs: &[&Path]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::remove_dir_all(&folder).ok();
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("package.json"), "{}").unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut npm = program("bin/npm", home.path());
    npm.arg("install").args(tarballs).current_dir(&folder);
    succeed(&mut npm).await;
    folder
}

/// A project with packages installed, gone when it is dropped.
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
        static INSTALLED: OnceCell<PathBuf> = OnceCell::const_new();
        let installed = INSTALLED.get_or_init(|| async {
            let packages = packages().await;
            install("sdk-project", &[&packages.sdk]).await
        });
        Project::copy_of(installed.await).await
    }

    /// With the SDK and the program for this machine.
    pub(super) async fn with_program() -> Project {
        static INSTALLED: OnceCell<PathBuf> = OnceCell::const_new();
        let installed = INSTALLED.get_or_init(|| async {
            let packages = packages().await;
            install("sdk-program-project", &[&packages.sdk, &packages.platform]).await
        });
        Project::copy_of(installed.await).await
    }

    async fn copy_of(installed: &Path) -> Project {
        let project = Project::empty();
        let mut cp = Command::new("cp");
        succeed(cp.arg("-a").arg(installed.join(".")).arg(project.path())).await;
        project
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
