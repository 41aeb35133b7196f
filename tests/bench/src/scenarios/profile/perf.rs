//! `perf` on processes that run: between a beginning and an end, neither of which counts its start.
//!
//! Needs the kernel's tracepoints, and so root or `kernel.perf_event_paranoid = -1`.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

/// How long `perf` may take to be ready: it opens hundreds of events for each thread.
const PATIENCE: Duration = Duration::from_secs(60);
/// Samples a second of a processor. Not a round number, so as not to keep step with timers.
const FREQUENCY: &str = "997";
/// Of each stack so much is kept, which is all that `perf` can: a request's future and those inside
/// it take tens of kilobytes of it while they are moved.
const STACK: &str = "dwarf,65528";
/// What waits to be written may take so much, or samples are lost.
const BUFFER: &str = "32M";

/// Why `perf` is of no use here, if it isn't, and what would help.
pub(super) async fn hindrance() -> Result<Option<String>> {
    let tried = Command::new("perf")
        .args(["stat", "-e", "syscalls:sys_enter_read", "true"])
        .stdin(Stdio::null())
        .output()
        .await;
    match tried {
        Ok(tried) if tried.status.success() => Ok(None),
        Ok(tried) => Ok(Some(format!(
            "perf can't count syscalls here, which takes root and the kernel's tracepoints: {}",
            String::from_utf8_lossy(&tried.stderr).trim()
        ))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Some(
            "perf is not installed: Debian has it in linux-perf, Ubuntu in linux-tools-generic and \
             linux-tools-$(uname -r)"
                .to_owned(),
        )),
        Err(error) => Err(error).context("perf does not start"),
    }
}

/// A `perf` that looks at some processes.
pub(super) struct Perf {
    process: Child,
    control: pipe::Sender,
    answers: pipe::Receiver,
    folder: TempDir,
}

impl Perf {
    /// Counts each kind of syscall.
    pub(super) async fn count_syscalls(processes: &[u32]) -> Result<Self> {
        let arguments = [
            "stat",
            "--field-separator",
            ",",
            "-e",
            "syscalls:sys_enter_*",
        ];
        Self::start(&arguments, processes).await
    }

    /// Samples stacks, by time on a processor.
    ///
    /// Stacks are unwound by the tables that every build has, so what is looked at is the release
    /// itself, not a build with frame pointers.
    pub(super) async fn sample(processes: &[u32]) -> Result<Self> {
        let arguments = [
            "record",
            "-e",
            "cpu-clock",
            "-F",
            FREQUENCY,
            "--call-graph",
            STACK,
            "-m",
            BUFFER,
        ];
        Self::start(&arguments, processes).await
    }

    async fn start(arguments: &[&str], processes: &[u32]) -> Result<Self> {
        let folder = TempDir::with_prefix("handoff-perf-")?;
        let [control, answers] = ["control", "answers"].map(|name| folder.path().join(name));
        for pipe in [&control, &answers] {
            mkfifo(pipe, Mode::S_IRUSR | Mode::S_IWUSR)?;
        }
        let mut pipes = pipe::OpenOptions::new();
        // Both ends, so that neither waits for the other to open.
        pipes.read_write(true);
        let processes: Vec<_> = processes.iter().map(u32::to_string).collect();
        let process = Command::new("perf")
            .args(arguments)
            .args(["--delay=-1", "--pid", &processes.join(",")])
            .arg(format!(
                "--control=fifo:{},{}",
                control.display(),
                answers.display()
            ))
            .arg("--output")
            .arg(folder.path().join("output"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("said"))?)
            .kill_on_drop(true)
            .spawn()
            .context("perf does not start")?;
        Ok(Self {
            process,
            control: pipes.open_sender(&control)?,
            answers: pipes.open_receiver(&answers)?,
            folder,
        })
    }

    /// From here on everything counts.
    pub(super) async fn begin(&mut self) -> Result<()> {
        self.tell("enable").await
    }

    /// Nothing counts from here on; returns what was found.
    pub(super) async fn end(mut self) -> Result<Output> {
        self.tell("disable").await?;
        let id = self.process.id().context("perf has ended by itself")?;
        kill(Pid::from_raw(id.cast_signed()), Signal::SIGINT)?;
        // It dies of the signal once everything is written.
        self.process.wait().await?;
        let output = Output {
            folder: self.folder,
        };
        ensure!(output.file().is_file(), "perf wrote nothing");
        Ok(output)
    }

    /// Gives an order and waits until it was carried out.
    async fn tell(&mut self, order: &str) -> Result<()> {
        let answered = async {
            self.control.write_all(order.as_bytes()).await?;
            self.control.write_all(b"\n").await?;
            let mut answer = [0; 16];
            self.answers.read(&mut answer).await
        };
        tokio::select! {
            answer = tokio::time::timeout(PATIENCE, answered) => {
                answer.context("perf does not answer")??;
                Ok(())
            }
            status = self.process.wait() => {
                let said = std::fs::read_to_string(self.folder.path().join("said"))?;
                bail!("perf ended with {}: {}", status?, said.trim())
            }
        }
    }
}

/// What `perf` has written.
pub(super) struct Output {
    folder: TempDir,
}

impl Output {
    fn file(&self) -> PathBuf {
        self.folder.path().join("output")
    }

    /// How many of each syscall there were, those that there were.
    pub(super) fn syscalls(&self) -> Result<Vec<(String, u64)>> {
        Ok(syscalls(&std::fs::read_to_string(self.file())?))
    }

    /// Every sample, as text.
    pub(super) async fn samples(&self) -> Result<Vec<u8>> {
        let script = Command::new("perf")
            // Names of inlined functions take minutes, and the release has none.
            .args(["script", "--no-inline", "--force"])
            .args(["--fields", "comm,pid,tid,time,event,ip,sym,dso", "--input"])
            .arg(self.file())
            .stdin(Stdio::null())
            .output()
            .await?;
        ensure!(
            script.status.success(),
            "perf script ended with {}: {}",
            script.status,
            String::from_utf8_lossy(&script.stderr)
        );
        Ok(script.stdout)
    }
}

/// Reads the lines of `perf stat`, such as `56073,,syscalls:sys_enter_recvfrom,2867162478,100.00,,`.
fn syscalls(table: &str) -> Vec<(String, u64)> {
    let mut counts: Vec<_> = table
        .lines()
        .filter_map(|line| {
            let (count, rest) = line.split_once(',')?;
            let count = count.parse().ok().filter(|count| *count > 0)?;
            let (_, name) = rest.split_once("sys_enter_")?;
            Some((name.split(',').next()?.to_owned(), count))
        })
        .collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}

#[cfg(test)]
mod tests {
    use super::syscalls;

    #[test]
    fn counts_are_read_from_the_table() {
        let table = "# started on Sat Nov 28 20:18:00 2026\n\n\
                     7,,syscalls:sys_enter_getrandom,2867162478,100.00,,\n\
                     0,,syscalls:sys_enter_waitid,2878522700,100.00,,\n\
                     <not counted>,,syscalls:sys_enter_read,0,0.00,,\n\
                     56073,,syscalls:sys_enter_recvfrom,2867162478,100.00,,\n";
        let expected = [("recvfrom".to_owned(), 56_073), ("getrandom".to_owned(), 7)];
        assert_eq!(syscalls(table), expected);
    }
}
