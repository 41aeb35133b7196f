//! A relay for the demo alone: `handoff-relay dev` on any free port, its data in a folder that is
//! gone with it.

use anyhow::{Context, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

const PROGRAM: &str = "handoff-relay";
/// It may have to install Postgres first.
const START_LIMIT: Duration = Duration::from_secs(300);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A relay that this program started and stops.
pub(super) struct OwnRelay {
    process: Child,
    output: Option<Lines<BufReader<ChildStdout>>>,
    /// Gone when this is dropped.
    _data: TempDir,
}

impl OwnRelay {
    /// Starts it.
    pub(super) fn spawn() -> anyhow::Result<Self> {
        let program = find()?;
        let data = tempfile::Builder::new().prefix("handoff-demo-").tempdir()?;
        let mut command = Command::new(&program);
        command
            .args(["dev", "--port", "0", "--bind", "127.0.0.1", "--data-dir"])
            .arg(data.path().join("relay"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "error");
        }
        let mut process = command
            .spawn()
            .with_context(|| format!("{} can't be started", program.display()))?;
        let output = process.stdout.take().map(|out| BufReader::new(out).lines());
        Ok(Self {
            process,
            output,
            _data: data,
        })
    }

    /// Where it listens, as soon as it does.
    pub(super) async fn url(&mut self) -> anyhow::Result<String> {
        let mut output = self.output.take().context("the relay has no output")?;
        let told = timeout(START_LIMIT, async {
            while let Some(line) = output.next_line().await? {
                if let Some((_, url)) = line.split_once("listening on ") {
                    return anyhow::Ok(Some(url.trim().to_owned()));
                }
            }
            Ok(None)
        });
        let url = told.await.context("the relay takes too long to start")??;
        // It would fail if nobody took the rest of what it says. Ends with the relay.
        tokio::spawn(async move { while let Ok(Some(_)) = output.next_line().await {} });
        match url {
            Some(url) => Ok(url),
            None => bail!("the relay did not start: {}", self.process.wait().await?),
        }
    }

    /// Stops it, and Postgres with it.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        let Some(id) = self.process.id() else {
            return Ok(()); // It has ended, and was waited for.
        };
        kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGTERM)
            .context("the relay can't be told to stop")?;
        timeout(STOP_LIMIT, self.process.wait())
            .await
            .context("the relay does not stop")??;
        Ok(())
    }
}

/// The relay's program: beside this one, as both are built and installed together, else on PATH.
fn find() -> anyhow::Result<PathBuf> {
    let beside = env::current_exe()
        .ok()
        .and_then(|own| Some(own.parent()?.join(PROGRAM)));
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).map(|folder| folder.join(PROGRAM));
    beside
        .into_iter()
        .chain(on_path)
        .find(|file: &PathBuf| Path::is_file(file))
        .with_context(|| {
            format!(
                "the program {PROGRAM} is neither beside this one nor on PATH: install it, or \
                 name a relay that runs with --relay URL"
            )
        })
}
