//! Child processes that never outlive the test process, not even when it is killed.
//!
//! The kernel kills a child when the *thread* that started it ends, and a test's thread ends with
//! the test. So one thread that lives as long as the process starts them all.

use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
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

/// Another program that serves a test. It is killed when it is dropped.
pub struct Daemon {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Daemon {
    /// Starts a program that stays in the foreground and has no children of its own.
    pub fn start(mut command: Command) -> io::Result<Daemon> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = spawn(command)?;
        let log = Arc::<Mutex<String>>::default();
        let written = log.clone();
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        thread::spawn(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).is_ok_and(|read| read > 0) {
                written.lock().expect("nobody panics").push_str(&line);
                line.clear();
            }
        });
        Ok(Daemon { child, log })
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it wrote to its standard error so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("nobody panics").clone()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if thread::panicking() {
            eprintln!("--- a daemon's log\n{}", self.log());
        }
    }
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
