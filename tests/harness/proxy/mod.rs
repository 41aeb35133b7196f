//! A TCP proxy that a test can spoil: between a replica and Postgres, or on any other link.
//!
//! Before Postgres it reads the frames of the protocol in both directions; on other links it sees
//! bytes. It passes on unchanged what comes until told otherwise. It speaks no TLS: a client of
//! Postgres that asks for it is told that there is none.

mod carry;
mod frames;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::eventually::within;

/// A proxy on a port of its own. Its connections end when it is dropped.
pub struct Proxy {
    url: String,
    address: SocketAddr,
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
    loss: f64,
    swallow_notifications: bool,
}

struct ArmedFault {
    fault: CommitFault,
    /// The transaction must have run a statement with this text.
    after: String,
}

struct Control {
    wire: Wire,
    upstream: Mutex<Upstream>,
    mode: watch::Sender<Mode>,
    connections: Mutex<HashMap<u64, Arc<Connection>>>,
    next_connection: AtomicU64,
    armed: Mutex<Option<ArmedFault>>,
    lost_commits: watch::Sender<u64>,
    swallowed: AtomicUsize,
    lost_packets: AtomicUsize,
}

/// One connection that is open.
struct Connection {
    /// The port from which the server sees it come, once it is connected; 0 on a Unix socket.
    port: AtomicUsize,
    listens: AtomicBool,
    /// Goes true to cut it.
    cut: watch::Sender<Option<Cut>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// Both sides read an end.
    Closed,
    /// Both sides are told that the connection was reset.
    Reset,
}

/// What the proxy makes of what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Postgres,
    Bytes,
}

#[derive(Clone)]
enum Upstream {
    Tcp(String, u16),
    Unix(PathBuf),
}

impl Upstream {
    fn of(config: &Config) -> Option<Upstream> {
        let port = config.get_ports().first().copied().unwrap_or(5432);
        Some(match config.get_hosts().first()? {
            Host::Tcp(host) => Upstream::Tcp(host.clone(), port),
            Host::Unix(folder) => Upstream::Unix(folder.join(format!(".s.PGSQL.{port}"))),
        })
    }
}

impl Proxy {
    /// A proxy in front of the Postgres server that the URL names.
    pub async fn start(url: &str) -> Proxy {
        let config = Config::from_str(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        let upstream = Upstream::of(&config).unwrap_or_else(|| panic!("{url} names no host"));
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut proxy = Proxy::listen(Wire::Postgres, local, upstream).await;
        proxy.url = through(&config, proxy.address);
        proxy
    }

    /// A proxy at this address, in front of any server. It understands nothing of what it carries.
    pub async fn start_at(address: SocketAddr, server: SocketAddr) -> Proxy {
        let upstream = Upstream::Tcp(server.ip().to_string(), server.port());
        Proxy::listen(Wire::Bytes, address, upstream).await
    }

    async fn listen(wire: Wire, address: SocketAddr, upstream: Upstream) -> Proxy {
        let listener = TcpListener::bind(address)
            .await
            .unwrap_or_else(|error| panic!("listen at {address}: {error}"));
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let control = Arc::new(Control {
            wire,
            upstream: Mutex::new(upstream),
            mode: watch::Sender::new(Mode::default()),
            connections: Mutex::default(),
            next_connection: AtomicU64::new(0),
            armed: Mutex::new(None),
            lost_commits: watch::Sender::new(0),
            swallowed: AtomicUsize::new(0),
            lost_packets: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(carry::accept(listener, control.clone()));
        Proxy {
            url: format!("http://{address}"),
            address,
            control,
            accepting,
        }
    }

    /// The URL of what is behind it, through this proxy: a database's, or an HTTP server's.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it leads to this server. Connections that are open stay where they are.
    pub fn lead_to(&self, server: SocketAddr) {
        *self.control.upstream.lock().unwrap() =
            Upstream::Tcp(server.ip().to_string(), server.port());
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.control.connections.lock().unwrap().len()
    }

    /// The ports from which the server sees the open connections come.
    pub fn ports(&self) -> Vec<u16> {
        let connections = self.control.connections.lock().unwrap();
        let ports = connections
            .values()
            .map(|connection| connection.port.load(Ordering::SeqCst) as u16);
        ports.filter(|port| *port != 0).collect()
    }

    /// Passes everything on again: ends what was refused, stalled, delayed, lost or swallowed.
    pub fn pass(&self) {
        self.control.mode.send_replace(Mode::default());
    }

    /// Cuts every connection that is open. New ones are accepted as before.
    pub fn cut(&self) -> usize {
        self.control.cut(Cut::Closed, |_| true)
    }

    /// Cuts every connection that is open, as a router does that has lost its state: both sides are
    /// told that the connection was reset.
    pub fn reset(&self) -> usize {
        self.control.cut(Cut::Reset, |_| true)
    }

    /// Cuts those connections alone whose client listens for notifications.
    pub fn cut_listeners(&self) -> usize {
        self.control.cut(Cut::Closed, |connection| {
            connection.listens.load(Ordering::SeqCst)
        })
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

    /// Loses this share of what it carries, in both directions: what is lost comes as late as it
    /// would when it is sent again, 200 ms and twice that for every further loss, and all that
    /// follows waits for it.
    pub fn lose(&self, share: f64) {
        self.control.mode.send_modify(|mode| mode.loss = share);
    }

    /// How many pieces were lost by [`Proxy::lose`].
    pub fn lost(&self) -> usize {
        self.control.lost_packets.load(Ordering::SeqCst)
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

impl Control {
    /// Cuts the open connections that are meant; how many there were.
    fn cut(&self, cut: Cut, meant: impl Fn(&Connection) -> bool) -> usize {
        let connections = self.connections.lock().unwrap();
        let mut count = 0;
        for connection in connections.values().filter(|connection| meant(connection)) {
            connection.cut.send_replace(Some(cut));
            count += 1;
        }
        count
    }
}

/// The same database and user through another address.
fn through(config: &Config, address: SocketAddr) -> String {
    let escape = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let user = escape(config.get_user().unwrap_or("postgres"));
    let password = config
        .get_password()
        .map(|password| format!(":{}", escape(&String::from_utf8_lossy(password))))
        .unwrap_or_default();
    let database = escape(config.get_dbname().unwrap_or("postgres"));
    format!("postgres://{user}{password}@{address}/{database}?sslmode=disable")
}
