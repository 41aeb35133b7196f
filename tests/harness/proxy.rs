//! A TCP proxy between a replica and Postgres that a test can spoil.
//!
//! It reads the frames of the Postgres protocol in both directions and passes them on unchanged
//! until told otherwise. It speaks no TLS: a client that asks for it is told that there is none.

use std::collections::HashMap;
use std::future;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::eventually::within;

/// A proxy on a port of its own. Its connections end when it is dropped.
pub struct Proxy {
    url: String,
    control: Arc<Control>,
    accepting: tokio::task::JoinHandle<()>,
}

/// How the next commit of a transaction goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitFault {
    /// The COMMIT never reaches Postgres: the transaction is rolled back.
    LoseRequest,
    /// The COMMIT reaches Postgres and is carried out; its answer never reaches the client.
    LoseAnswer,
}

#[derive(Debug, Clone, Default)]
struct Mode {
    refuse: bool,
    stall: bool,
    delay: Duration,
    swallow_notifications: bool,
}

struct ArmedFault {
    fault: CommitFault,
    /// The transaction must have run a statement with this text.
    after: String,
}

struct Control {
    upstream: Upstream,
    mode: watch::Sender<Mode>,
    /// Goes up to cut every connection that is open.
    cuts: watch::Sender<u64>,
    armed: Mutex<Option<ArmedFault>>,
    lost_commits: watch::Sender<u64>,
    open: AtomicUsize,
    swallowed: AtomicUsize,
}

#[derive(Clone)]
enum Upstream {
    Tcp(String, u16),
    Unix(PathBuf),
}

impl Proxy {
    /// A proxy in front of the server that the URL names.
    pub async fn start(url: &str) -> Proxy {
        let config = Config::from_str(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let upstream = match config.get_hosts().first() {
            Some(Host::Tcp(host)) => Upstream::Tcp(host.clone(), port),
            Some(Host::Unix(folder)) => Upstream::Unix(folder.join(format!(".s.PGSQL.{port}"))),
            None => panic!("{url} names no host"),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let control = Arc::new(Control {
            upstream,
            mode: watch::Sender::new(Mode::default()),
            cuts: watch::Sender::new(0),
            armed: Mutex::new(None),
            lost_commits: watch::Sender::new(0),
            open: AtomicUsize::new(0),
            swallowed: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, control.clone()));
        Proxy {
            url: through(&config, address),
            control,
            accepting,
        }
    }

    /// The database's URL, through this proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.control.open.load(Ordering::SeqCst)
    }

    /// Passes everything on again: ends what was refused, stalled, delayed or swallowed.
    pub fn pass(&self) {
        self.control.mode.send_replace(Mode::default());
    }

    /// Cuts every connection that is open. New ones are accepted as before.
    pub fn cut(&self) {
        self.control.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Closes new connections at once, until [`Proxy::pass`].
    pub fn refuse_new(&self) {
        self.control.mode.send_modify(|mode| mode.refuse = true);
    }

    /// Holds everything back, in both directions, until [`Proxy::pass`]; connections stay open.
    pub fn stall(&self) {
        self.control.mode.send_modify(|mode| mode.stall = true);
    }

    /// Passes everything on this much later, in both directions, in order.
    pub fn delay(&self, delay: Duration) {
        self.control.mode.send_modify(|mode| mode.delay = delay);
    }

    /// Drops notifications (what LISTEN brings), until [`Proxy::pass`].
    pub fn swallow_notifications(&self) {
        self.control
            .mode
            .send_modify(|mode| mode.swallow_notifications = true);
    }

    /// How many notifications were dropped.
    pub fn swallowed(&self) -> usize {
        self.control.swallowed.load(Ordering::SeqCst)
    }

    /// Spoils the next commit of a transaction that has run a statement containing `after` (in any
    /// case; empty: any transaction), and cuts that connection. Wait for it with
    /// [`Proxy::commit_lost`].
    pub fn lose_commit(&self, fault: CommitFault, after: &str) {
        let armed = ArmedFault {
            fault,
            after: after.to_lowercase(),
        };
        *self.control.armed.lock().unwrap() = Some(armed);
    }

    /// Waits until a commit was lost, as asked of [`Proxy::lose_commit`].
    pub async fn commit_lost(&self) {
        let mut lost = self.control.lost_commits.subscribe();
        let lost = lost.wait_for(|_| self.control.armed.lock().unwrap().is_none());
        within("a commit is lost", lost)
            .await
            .expect("the proxy lives");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

/// The same database and user through another address.
fn through(config: &Config, address: std::net::SocketAddr) -> String {
    let escape = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let user = escape(config.get_user().unwrap_or("postgres"));
    let password = config
        .get_password()
        .map(|password| format!(":{}", escape(&String::from_utf8_lossy(password))))
        .unwrap_or_default();
    let database = escape(config.get_dbname().unwrap_or("postgres"));
    format!("postgres://{user}{password}@{address}/{database}?sslmode=disable")
}

async fn accept(listener: TcpListener, control: Arc<Control>) {
    while let Ok((client, _)) = listener.accept().await {
        if control.mode.borrow().refuse {
            continue;
        }
        let control = control.clone();
        tokio::spawn(async move {
            control.open.fetch_add(1, Ordering::SeqCst);
            let mut cuts = control.cuts.subscribe();
            let connection = async {
                client.set_nodelay(true)?;
                let (from_client, to_client) = client.into_split();
                match &control.upstream {
                    Upstream::Tcp(host, port) => {
                        let server = TcpStream::connect((host.as_str(), *port)).await?;
                        server.set_nodelay(true)?;
                        let (from_server, to_server) = server.into_split();
                        carry(&control, from_client, to_client, from_server, to_server).await
                    }
                    Upstream::Unix(path) => {
                        let server = UnixStream::connect(path).await?;
                        let (from_server, to_server) = server.into_split();
                        carry(&control, from_client, to_client, from_server, to_server).await
                    }
                }
            };
            tokio::select! {
                _ = cuts.changed() => {}
                _ = connection => {}
            }
            control.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

/// Carries one connection until either side closes it or a fault cuts it.
async fn carry(
    control: &Control,
    mut from_client: impl AsyncRead + Unpin,
    mut to_client: impl AsyncWrite + Unpin,
    mut from_server: impl AsyncRead + Unpin,
    mut to_server: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        let startup = read_startup(&mut from_client, &mut buffer).await?;
        match startup.get(4..8) {
            // SSLRequest and GSSENCRequest: the proxy could not read on.
            Some([0x04, 0xd2, 0x16, 0x2f | 0x30]) => to_client.write_all(b"N").await?,
            _ => {
                to_server.write_all(&startup).await?;
                break;
            }
        }
    }

    // Set while a commit whose answer is to be lost is under way.
    let doomed = &Mutex::new(false);
    let (to_server_queue, server_queue) = mpsc::channel(1024);
    let (to_client_queue, client_queue) = mpsc::channel(1024);

    // Who reads ends the connection on a fault only: at an end of input it drops its queue, so
    // that what was read before still goes out.
    let upward = async move {
        let mut transaction = Transaction::default();
        loop {
            let Ok(frame) = read_frame(&mut from_client, &mut buffer).await else {
                drop(to_server_queue);
                return future::pending().await;
            };
            if transaction.sees_commit(&frame) {
                let mut armed = control.armed.lock().unwrap();
                if armed
                    .as_ref()
                    .is_some_and(|armed| transaction.has_run(&armed.after))
                {
                    match armed.as_ref().map(|armed| armed.fault) {
                        Some(CommitFault::LoseRequest) => {
                            *armed = None;
                            drop(armed);
                            control.lost_commits.send_modify(|lost| *lost += 1);
                            return Ok(());
                        }
                        _ => *doomed.lock().unwrap() = true,
                    }
                }
                transaction.statements.clear();
            }
            pass_on(control, &to_server_queue, frame).await?;
        }
    };
    let downward = async move {
        let mut buffer = BytesMut::new();
        loop {
            let Ok(frame) = read_frame(&mut from_server, &mut buffer).await else {
                drop(to_client_queue);
                return future::pending().await;
            };
            if frame[0] == b'A' && control.mode.borrow().swallow_notifications {
                control.swallowed.fetch_add(1, Ordering::SeqCst);
                continue;
            }
            if *doomed.lock().unwrap() && frame[0] == b'C' && frame[5..].starts_with(b"COMMIT") {
                *control.armed.lock().unwrap() = None;
                control.lost_commits.send_modify(|lost| *lost += 1);
                return Ok(());
            }
            pass_on(control, &to_client_queue, frame).await?;
        }
    };
    tokio::select! {
        outcome = upward => outcome,
        outcome = downward => outcome,
        outcome = write_out(control, server_queue, &mut to_server) => outcome,
        outcome = write_out(control, client_queue, &mut to_client) => outcome,
    }
}

type Queue = mpsc::Sender<(Instant, Bytes)>;

async fn pass_on(control: &Control, queue: &Queue, frame: Bytes) -> io::Result<()> {
    let due = Instant::now() + control.mode.borrow().delay;
    queue
        .send((due, frame))
        .await
        .map_err(|_| io::ErrorKind::BrokenPipe.into())
}

async fn write_out(
    control: &Control,
    mut queue: mpsc::Receiver<(Instant, Bytes)>,
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut mode = control.mode.subscribe();
    while let Some((due, frame)) = queue.recv().await {
        sleep_until(due).await;
        mode.wait_for(|mode| !mode.stall)
            .await
            .map_err(|_| io::ErrorKind::BrokenPipe)?;
        to.write_all(&frame).await?;
    }
    Ok(())
}

/// The first message of a client: a length, no type.
async fn read_startup(
    from: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> io::Result<Bytes> {
    loop {
        if let Some(mut length) = buffer.get(..4) {
            let length = length.get_u32() as usize;
            if buffer.len() >= length {
                return Ok(buffer.split_to(length).freeze());
            }
        }
        if from.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Any later message: a type, and a length that counts itself.
async fn read_frame(
    from: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> io::Result<Bytes> {
    loop {
        if let Some(mut length) = buffer.get(1..5) {
            let length = length.get_u32() as usize + 1;
            if buffer.len() >= length {
                return Ok(buffer.split_to(length).freeze());
            }
        }
        if from.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// What a client has run since its last commit, by the texts of the statements.
#[derive(Default)]
struct Transaction {
    prepared: HashMap<Vec<u8>, String>,
    statements: Vec<String>,
}

impl Transaction {
    /// Takes note of a message; true if it carries a COMMIT.
    fn sees_commit(&mut self, frame: &[u8]) -> bool {
        let mut fields = frame[5..].split(|byte| *byte == 0);
        let mut field = || fields.next().unwrap_or_default();
        let statement = match frame[0] {
            b'Q' => String::from_utf8_lossy(field()).to_lowercase(),
            b'P' => {
                let name = field().to_vec();
                let text = String::from_utf8_lossy(field()).to_lowercase();
                self.prepared.insert(name, text);
                return false;
            }
            b'B' => {
                field();
                self.prepared.get(field()).cloned().unwrap_or_default()
            }
            _ => return false,
        };
        let commits = statement
            .trim()
            .trim_end_matches(';')
            .rsplit(';')
            .next()
            .is_some_and(|last| last.trim() == "commit");
        self.statements.push(statement);
        commits
    }

    fn has_run(&self, text: &str) -> bool {
        self.statements
            .iter()
            .any(|statement| statement.contains(text))
    }
}
