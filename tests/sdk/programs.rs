//! Other people's programs, run to their end in good time.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use harness::Finished;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;

/// npm and compilers do a lot, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(180);

/// Where the SDK's sources are.
pub(crate) fn sdk() -> &'static Path {
    Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../services/sdk-typescript"
    ))
}

/// Runs a command to its end, which must come in time.
pub(crate) async fn finish(command: &mut Command) -> Finished {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let status = timeout(DEADLINE, async {
        tokio::try_join!(out.read_to_end(&mut stdout), err.read_to_end(&mut stderr))?;
        child.wait().await
    })
    .await;
    let (stdout, stderr) = (
        String::from_utf8_lossy(&stdout).into_owned(),
        String::from_utf8_lossy(&stderr).into_owned(),
    );
    let status = status
        .unwrap_or_else(|_| panic!("waited {DEADLINE:?} in vain: {command:?}\n{stdout}{stderr}"))
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Finished {
        status,
        stdout,
        stderr,
    }
}

/// Runs a command that must end well, and returns what it wrote.
pub(crate) async fn succeed(command: &mut Command) -> String {
    let what = format!("{command:?}");
    succeed_as(&what, command).await
}

/// The same, under a name of its own.
pub(crate) async fn succeed_as(what: &str, command: &mut Command) -> String {
    let finished = finish(command).await;
    assert!(
        finished.status.success(),
        "{what}: {}\n{}{}",
        finished.status,
        finished.stdout,
        finished.stderr
    );
    finished.stdout
}

/// Where programs are looked for: the pinned Node first.
fn path() -> String {
    let path = std::env::var("PATH").unwrap();
    format!("{}:{path}", harness::tool("bin").display())
}

/// A program in the SDK's folder.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(sdk()).env("PATH", path());
    command
}

/// The environment in which npm knows of nothing but a home of its own, and asks no registry.
pub(crate) fn npm_environment(home: &Path) -> Vec<(String, String)> {
    [
        ("PATH", path()),
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
pub(crate) fn program(name: &str, home: &Path) -> Command {
    let mut command = Command::new(harness::tool(name));
    command.env_clear().envs(npm_environment(home));
    command
}
