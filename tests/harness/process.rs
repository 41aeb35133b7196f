//! Child processes that never outlive the test process, not even when it is killed.
//!
//! The kernel kills a child when the *thread* that started it ends, and a test's thread ends with
//! the test. So one thread that lives as long as the process starts them all.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;

use nix::sys::prctl;
use nix::sys::signal::Signal;

type Job = Box<dyn FnOnce() + Send>;

/// Runs the closure on the thread that lives as long as the process does.
fn on_lasting_thread<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> T {
    static THREAD: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    let jobs = THREAD.get_or_init(|| {
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::Builder::new()
            .name("spawner".into())
            .spawn(move || queue.iter().for_each(|job| job()))
            .expect("a thread can be started");
        jobs
    });
    let (answer, outcome) = mpsc::channel();
    jobs.send(Box::new(move || {
        answer.send(job()).ok();
    }))
    .expect("the spawner never ends");
    outcome.recv().expect("the job did not panic")
}

/// Starts a child that is killed when this process ends, however it ends.
pub(crate) fn spawn(mut command: Command) -> io::Result<Child> {
    // SAFETY: between fork and exec only `prctl` is called, which is safe there.
    unsafe {
        command.pre_exec(|| prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from));
    }
    on_lasting_thread(move || command.spawn())
}

/// What a command that ran to its end left: its status and what it wrote.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
}

/// Runs a command to its end.
pub fn run(mut command: Command) -> io::Result<Finished> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = spawn(command)?;
    let stderr = child.stderr.take().expect("piped");
    let stderr = thread::spawn(move || read_all(stderr));
    let stdout = read_all(child.stdout.take().expect("piped"));
    let stderr = stderr.join().expect("the reader does not panic");
    Ok(Finished {
        status: child.wait()?,
        stdout,
        stderr,
    })
}

fn read_all(mut from: impl Read) -> String {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).ok();
    String::from_utf8_lossy(&bytes).into_owned()
}
