//! Stops what we started when we are gone: a small `/bin/sh` that holds the read end of a pipe.
//!
//! In come process ids, written to the pipe by each process about to be guarded; when the pipe
//! ends, because its owner let go of it or died by any means, the last one named is stopped and
//! the given folders are removed. It never acts while its owner lives.
//!
//! The owner stays the parent of what is guarded, so it alone reaps it and a process id cannot
//! be taken over by a stranger while it is armed. (The kernel's own parent-death signal would
//! not do: it fires when the *thread* that spawned ends.)

use std::{
    fs::{self, File},
    io::{self, PipeWriter, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{Error, error::Context, user::RunAs};

/// `$1`: the signal to stop with; the rest: folders to remove. A stopped process that nobody
/// reaps (a container whose first process is not an init) counts as gone. After 30 s it insists,
/// after 40 s it kills. Terminals and service managers signal whole groups: not for us.
const SCRIPT: &str = r#"
trap '' HUP INT QUIT TERM
pid=0
while read -r line; do pid=$line; done
alive() {
  [ "$pid" -gt 0 ] && kill -0 "$pid" 2>/dev/null &&
    ! grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" 2>/dev/null
}
if alive; then kill -s "$1" "$pid"; kill -s CONT "$pid"; fi
tenths=0
while alive; do
  tenths=$((tenths + 1))
  [ "$tenths" -eq 300 ] && kill -s QUIT "$pid"
  [ "$tenths" -eq 400 ] && kill -s KILL "$pid"
  [ "$tenths" -eq 410 ] && break
  sleep 0.1
done
shift
for folder do
  for attempt in 1 2 3 4 5; do rm -rf -- "$folder" && break; sleep 0.2; done
done
"#;

/// Names itself to the guard, then becomes the program: at no moment does the program run
/// unguarded, because the pipe stays open until its id is in it.
const LAUNCHER: &str = r#"echo $$; exec "$0" "$@" >&2"#;

/// How the guard stops what outlives us.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stop {
    /// Postgres' fast shutdown: disconnects everybody, writes a checkpoint.
    Fast,
    /// Postgres' immediate shutdown: nothing is worth keeping.
    Immediate,
}

/// The guard, and the pipe that keeps it waiting.
#[derive(Debug)]
pub(crate) struct Guard {
    /// Always there; an option only because dropping has to close it before it waits.
    pipe: Option<PipeWriter>,
    shell: Child,
    remove: Vec<PathBuf>,
}

impl Guard {
    /// Starts a guard that will also remove these folders.
    pub(crate) fn start(stop: Stop, remove: &[&Path]) -> Result<Self, Error> {
        let signal = match stop {
            Stop::Fast => "INT",
            Stop::Immediate => "QUIT",
        };
        let (reader, writer) = io::pipe().context(|| "open a pipe".to_owned())?;
        let shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "handoff-private-postgres-guard", signal])
            .args(remove)
            .stdin(reader)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0)
            .spawn()
            .context(|| "start /bin/sh".to_owned())?;
        Ok(Self {
            pipe: Some(writer),
            shell,
            remove: remove.iter().map(|folder| folder.to_path_buf()).collect(),
        })
    }

    /// A command for a program that is guarded from its first moment. It runs as that user, in a
    /// process group of its own (a terminal's Ctrl-C is not for it), without any of our `PG…`
    /// variables, and all that it prints goes to the log.
    pub(crate) fn command(
        &self,
        program: &Path,
        run_as: Option<&RunAs>,
        log: File,
    ) -> io::Result<Command> {
        let pipe = self
            .pipe
            .as_ref()
            .expect("open until dropped")
            .try_clone()?;
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", LAUNCHER])
            .arg(program)
            .stdin(Stdio::null())
            .stdout(pipe)
            .stderr(log)
            .current_dir("/")
            .process_group(0);
        if let Some(run_as) = run_as {
            run_as.apply(&mut command);
        }
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        command.env("LC_ALL", "C").env("TZ", "UTC");
        Ok(command)
    }

    /// What was guarded has been reaped: its id may belong to anybody from now on.
    pub(crate) fn disarm(&mut self) {
        if let Some(pipe) = &mut self.pipe {
            // Without a guard there is nothing to disarm.
            let _ = pipe.write_all(b"0\n");
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = wait(&mut self.shell, Duration::from_secs(60));
        // Its work, unless somebody killed it.
        for folder in &self.remove {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// Waits for a child, up to a limit.
pub(crate) fn wait(
    child: &mut Child,
    limit: Duration,
) -> io::Result<Option<std::process::ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait()? {
            None if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
            outcome => return Ok(outcome),
        }
    }
}
