//! The Postgres servers of the tests: one shared by the whole process, or one of a test's own that
//! it may stop, kill and start again.

use std::sync::{Arc, Mutex, OnceLock};

use handoff_private_postgres::{Ephemeral, Error, Mode};

/// A server on which test databases are made.
pub(crate) enum Server {
    /// Named by `TEST_DATABASE_URL`; other processes may use it too.
    Given(String),
    /// A private cluster, gone when the process ends.
    Private(Box<Ephemeral>),
}

impl Server {
    /// The server that all tests of this process share.
    pub(crate) fn shared() -> &'static Server {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| match std::env::var("TEST_DATABASE_URL") {
            Ok(url) if !url.is_empty() => Server::Given(url),
            _ => Server::Private(Box::new(ephemeral())),
        })
    }

    /// The URL of a database on this server.
    pub(crate) fn url(&self, database: &str) -> String {
        match self {
            Server::Given(url) => with_database(url, database),
            Server::Private(cluster) => cluster.url(database),
        }
    }

    /// The URL of the database from which others are created and dropped.
    pub(crate) fn maintenance_url(&self) -> String {
        match self {
            Server::Given(url) => url.clone(),
            Server::Private(cluster) => cluster.url("postgres"),
        }
    }
}

fn ephemeral() -> Ephemeral {
    Ephemeral::start().unwrap_or_else(|error| panic!("no private Postgres: {error}"))
}

fn with_database(url: &str, database: &str) -> String {
    let (address, options) = match url.split_once('?') {
        Some((address, options)) => (address, format!("?{options}")),
        None => (url, String::new()),
    };
    let host = address.find("://").map_or(0, |at| at + 3);
    let end = address[host..]
        .find('/')
        .map_or(address.len(), |at| host + at);
    format!("{}/{database}{options}", &address[..end])
}

/// A Postgres cluster of a test's own.
pub struct OwnPostgres {
    cluster: Arc<Mutex<Ephemeral>>,
    maintenance_url: String,
}

impl OwnPostgres {
    /// A new cluster with nothing in it.
    pub async fn new() -> OwnPostgres {
        let cluster = tokio::task::spawn_blocking(ephemeral)
            .await
            .expect("Postgres starts");
        let maintenance_url = cluster.url("postgres");
        OwnPostgres {
            cluster: Arc::new(Mutex::new(cluster)),
            maintenance_url,
        }
    }

    /// The URL of a database on it.
    pub fn url(&self, database: &str) -> String {
        with_database(&self.maintenance_url, database)
    }

    /// Stops it as a power cut would: no goodbye to anybody, recovery at the next start.
    pub async fn stop_immediate(&self) {
        self.tell(|cluster| cluster.stop(Mode::Immediate)).await;
    }

    /// Stops it in order: clients are sent away, nothing needs recovery.
    pub async fn stop_fast(&self) {
        self.tell(|cluster| cluster.stop(Mode::Fast)).await;
    }

    /// Starts it again after a stop, at the same address with the same data.
    pub async fn start(&self) {
        self.tell(|cluster| cluster.start_again()).await;
    }

    /// Stops it in order and starts it again.
    pub async fn restart(&self) {
        self.stop_fast().await;
        self.start().await;
    }

    async fn tell(&self, order: impl FnOnce(&mut Ephemeral) -> Result<(), Error> + Send + 'static) {
        let cluster = self.cluster.clone();
        let obey = move || order(&mut cluster.lock().unwrap()).map_err(|error| error.to_string());
        tokio::task::spawn_blocking(obey)
            .await
            .expect("no panic")
            .unwrap_or_else(|error| panic!("Postgres does not obey: {error}"));
    }
}
