//! `handoff-private-postgres run`, from the outside.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use support::{eventually, folder, lives, query};
use tempfile::TempDir;

mod support;

/// The program with a shell script as its command, in a process group and with a `TMPDIR` of its
/// own, so that what it leaves behind can be seen.
struct Run {
    program: Child,
    output: Receiver<String>,
    temp: TempDir,
}

impl Run {
    fn start(script: &str) -> Self {
        let temp = folder();
        let mut program = program(&temp)
            .args(["run", "--", "/bin/sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let stdout = BufReader::new(program.stdout.take().unwrap());
        let (sender, output) = mpsc::channel();
        thread::spawn(move || {
            stdout
                .lines()
                .try_for_each(|line| sender.send(line.unwrap()))
        });
        Self {
            program,
            output,
            temp,
        }
    }

    #[track_caller]
    fn line(&self) -> String {
        self.output.recv_timeout(Duration::from_secs(180)).unwrap()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.program.id() as i32)
    }

    /// Every process that serves the folder of this run, by looking at all command lines.
    fn processes(&self) -> HashMap<i32, String> {
        processes_naming(self.temp.path())
    }

    fn left_behind(&self) -> Vec<PathBuf> {
        fs::read_dir(self.temp.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    }

    fn wait(&mut self) -> ExitStatus {
        drop(self.program.stdin.take());
        self.program.wait().unwrap()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

fn program(temp: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handoff-private-postgres"));
    command.env("TMPDIR", temp.path());
    command
}

fn processes_naming(folder: &Path) -> HashMap<i32, String> {
    let folder = folder.to_str().unwrap();
    let pids = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains(folder).then_some((pid, line))
    })
    .collect()
}

#[test]
fn the_command_has_a_database_and_its_exit_code_is_ours() {
    let mut run = Run::start("echo $TEST_DATABASE_URL; echo $DATABASE_URL; read wait; exit 7");
    let url = run.line();
    assert_eq!(run.line(), url);
    assert_eq!(
        query(&url, "select current_user").as_deref(),
        Some("handoff")
    );
    assert!(
        !run.processes().is_empty(),
        "so that the next look can fail"
    );
    assert_eq!(run.wait().code(), Some(7));
    assert_eq!(run.left_behind(), Vec::<PathBuf>::new());
    assert_eq!(run.processes(), HashMap::new());
}

#[test]
fn files_of_sql_are_loaded_first() {
    let temp = folder();
    let (first, second) = (temp.path().join("1.sql"), temp.path().join("2.sql"));
    fs::write(
        &first,
        "create table a (b int); -- and\ncreate index on a (b);",
    )
    .unwrap();
    fs::write(
        &second,
        "insert into a values (1);\nselect no_such_column from a;",
    )
    .unwrap();
    let run = |files: &[&PathBuf]| {
        let mut command = program(&temp);
        command.arg("run");
        for file in files {
            command.arg("--load").arg(file);
        }
        command
            .args(["--", "/bin/echo", "it ran"])
            .output()
            .unwrap()
    };
    let output = run(&[&first]);
    assert_eq!(output.stdout, b"it ran\n", "{output:?}");
    let output = run(&[&first, &second]);
    assert_eq!((output.status.code(), &*output.stdout), (Some(1), &b""[..]));
    let message = String::from_utf8(output.stderr).unwrap();
    for part in ["2.sql", "no_such_column", "42703"] {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[test]
fn a_command_killed_by_a_signal_is_told_as_a_shell_would() {
    let mut run = Run::start("kill -KILL $$");
    assert_eq!(run.wait().code(), Some(128 + 9));
}

#[test]
fn killed_it_leaves_neither_process_nor_folder() {
    let mut run = Run::start("echo $DATABASE_URL; read wait");
    let url = run.line();
    query(&url, "create table t as select 1");
    let running = run.processes();
    assert!(
        running.values().any(|line| line.contains("postgres -D")),
        "{running:?}"
    );
    assert!(!run.left_behind().is_empty());
    kill(run.pid(), Signal::SIGKILL).unwrap();
    assert_eq!(run.wait().signal(), Some(9));
    eventually("its processes are gone", || {
        running.keys().all(|pid| !lives(*pid))
    });
    eventually("its folder is gone", || run.left_behind().is_empty());
}

#[test]
fn killed_while_it_sets_up_it_leaves_nothing_either() {
    let temp = folder();
    let mut program = program(&temp)
        .args(["run", "--", "/bin/true"])
        .spawn()
        .unwrap();
    eventually("initdb is at work", || {
        processes_naming(temp.path())
            .values()
            .any(|line| line.contains("initdb"))
    });
    program.kill().unwrap();
    assert_eq!(program.wait().unwrap().signal(), Some(9));
    eventually("its processes are gone", || {
        processes_naming(temp.path()).is_empty()
    });
    eventually("its folder is gone", || {
        fs::read_dir(temp.path()).unwrap().next().is_none()
    });
}

#[test]
fn ctrl_c_is_for_the_command() {
    let mut run = Run::start(
        "trap 'echo interrupted' INT; echo $DATABASE_URL;
         while test ! -e $TMPDIR/go -a -d $TMPDIR; do sleep 0.05; done; exit 3",
    );
    let url = run.line();
    // What a terminal does: the whole foreground group gets it.
    killpg(run.pid(), Signal::SIGINT).unwrap();
    assert_eq!(run.line(), "interrupted");
    // Postgres is not part of that group, and the program waits for its command.
    assert_eq!(query(&url, "select 'up'").as_deref(), Some("up"));
    fs::write(run.temp.path().join("go"), "").unwrap();
    assert_eq!(run.wait().code(), Some(3));
    assert_eq!(run.left_behind(), [run.temp.path().join("go")]);
}

#[test]
fn a_termination_is_passed_on() {
    let mut run = Run::start(
        "trap 'echo terminated; exit 5' TERM; echo up; while test -d $TMPDIR; do sleep 0.05; done",
    );
    assert_eq!(run.line(), "up");
    kill(run.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(run.line(), "terminated");
    assert_eq!(run.wait().code(), Some(5));
    assert_eq!(run.left_behind(), Vec::<PathBuf>::new());
}

#[test]
fn a_folder_of_programs_may_be_given_relative_to_ours() {
    let temp = folder();
    let output = program(&temp)
        .current_dir(support::binaries().dir)
        .args(["run", "--postgres-bin", ".", "--", "/bin/echo", "it ran"])
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"it ran\n", "{output:?}");
}

#[test]
fn what_is_missing_is_said_plainly() {
    let temp = folder();
    let run = |folder: &Path| {
        let output = program(&temp)
            .arg("run")
            .arg("--postgres-bin")
            .arg(folder)
            .args(["--", "/bin/true"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let message = run(temp.path());
    assert!(
        message.contains("has no program named postgres"),
        "{message}"
    );
    assert_eq!(message.lines().count(), 1, "{message}");

    let output = program(&temp)
        .args(["run", "--", "/no/such/command"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("could not run /no/such/command"),
        "{message}"
    );
    assert!(fs::read_dir(temp.path()).unwrap().next().is_none());
}
