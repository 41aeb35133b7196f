//! A replica: one real `handoff-relay serve` process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::DEADLINE;
use crate::process::spawn;

/// A running relay process. It is killed when it is dropped.
pub struct Replica {
    url: String,
    address: SocketAddr,
    pid: Pid,
    child: Mutex<Child>,
    logs: Arc<Mutex<String>>,
}

impl Replica {
    /// Starts a process of this program with exactly this environment and waits until its port is
    /// open.
    pub(crate) async fn start(program: &Path, environment: Vec<(String, String)>) -> Replica {
        Replica::try_start(program, environment)
            .await
            .unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// The same where it may well fail, for instance while there is no Postgres; then what it
    /// logged is told.
    pub async fn try_start(
        program: &Path,
        environment: Vec<(String, String)>,
    ) -> Result<Replica, String> {
        let program = program.to_owned();
        tokio::task::spawn_blocking(move || Replica::start_blocking(&program, &environment))
            .await
            .expect("the start does not panic")
    }

    fn start_blocking(program: &Path, environment: &[(String, String)]) -> Result<Replica, String> {
        let mut serve = Command::new(program);
        serve
            .arg("serve")
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = spawn(serve).map_err(|error| format!("the relay cannot run: {error}"))?;

        let logs = Arc::new(Mutex::new(String::new()));
        let written = logs.clone();
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        thread::spawn(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).is_ok_and(|read| read > 0) {
                written.lock().unwrap().push_str(&line);
                line.clear();
            }
        });

        let (announce, announced) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        thread::spawn(move || {
            // Read on after the first line: a full pipe would stop the relay.
            for line in stdout.lines().map_while(Result::ok) {
                announce.send(line).ok();
            }
        });
        let line = announced.recv_timeout(DEADLINE).unwrap_or_default();
        let Some(url) = line.strip_prefix("Handoff relay is listening on ") else {
            child.kill().ok();
            let status = child.wait();
            let logs = logs.lock().unwrap();
            return Err(format!(
                "the relay did not start ({status:?}, {line:?}):\n{logs}"
            ));
        };
        let address = url
            .strip_prefix("http://")
            .and_then(|address| address.parse().ok())
            .ok_or_else(|| format!("no address in {line:?}"))?;
        let pid = Pid::from_raw(child.id() as i32);
        Ok(Replica {
            url: url.to_owned(),
            address,
            pid,
            child: Mutex::new(child),
            logs,
        })
    }

    /// Where it listens, as `http://ADDRESS:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// What it has logged so far.
    pub fn logs(&self) -> String {
        self.logs.lock().unwrap().clone()
    }

    /// Stops it in its tracks (SIGSTOP), as a swapped-out machine would.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on after [`Replica::pause`].
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub async fn kill(&self) {
        self.signal(Signal::SIGKILL);
        self.exited().await;
    }

    /// Asks it to shut down (SIGTERM) and waits until it has.
    pub async fn terminate(&self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.exited().await
    }

    /// Sends a signal; a process that is gone already gets none.
    pub fn signal(&self, signal: Signal) {
        let mut child = self.child.lock().unwrap();
        // Once waited for, the number may belong to somebody else.
        if matches!(child.try_wait(), Ok(None)) {
            kill(self.pid, signal).ok();
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        let mut child = self.child.lock().unwrap();
        !matches!(child.try_wait(), Ok(None))
    }

    /// Waits until it has ended by itself.
    pub async fn exited(&self) -> ExitStatus {
        crate::eventually("the replica ends", || async {
            self.child
                .lock()
                .unwrap()
                .try_wait()
                .expect("a child can be waited for")
        })
        .await
    }

    /// Sends bytes on a connection of their own and returns everything that comes back until the
    /// relay closes it. For requests that no HTTP library would send; they should ask for
    /// `Connection: close`.
    pub async fn raw(&self, bytes: impl Into<Vec<u8>>) -> String {
        let (address, bytes) = (self.address, bytes.into());
        tokio::task::spawn_blocking(move || {
            let mut connection = TcpStream::connect(address).expect("the port is open");
            connection
                .set_read_timeout(Some(DEADLINE))
                .expect("a timeout can be set");
            let mut writer = connection.try_clone().expect("a socket can be shared");
            // The relay may well answer and close before it has read everything.
            let writing = thread::spawn(move || writer.write_all(&bytes).ok());
            let mut answer = Vec::new();
            connection.read_to_end(&mut answer).ok();
            connection.shutdown(std::net::Shutdown::Both).ok();
            writing.join().ok();
            String::from_utf8_lossy(&answer).into_owned()
        })
        .await
        .expect("no panic")
    }

    /// Kills it and waits, without a runtime.
    pub(crate) fn kill_now(&self) {
        let mut child = self.child.lock().unwrap();
        child.kill().ok();
        child.wait().ok();
    }

    /// The last lines of its log.
    pub(crate) fn last_words(&self) -> String {
        let logs = self.logs();
        let lines: Vec<&str> = logs.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kill_now();
    }
}
