//! Databases: a migrated template once per server, a copy of it for each test, dropped with it.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};

use crate::postgres::{OwnPostgres, Server};
use crate::process::run;
use crate::programs::relay_binary;

const TEMPLATE: &str = "handoff_test_template";

/// Held (shared) while the template is copied and (exclusively) while it is made, so that
/// processes which share a server do not disturb each other.
const TEMPLATE_LOCK: i64 = 7_265_746;

/// A test's database.
pub struct Database {
    name: String,
    url: String,
    shared: bool,
}

impl Database {
    /// A migrated database on the server that all tests share.
    pub(crate) async fn create() -> Database {
        let server = Server::shared();
        template(server).await;
        let name = unique_name();
        let maintenance = connect(&server.maintenance_url()).await;
        maintenance
            .batch_execute(&format!("select pg_advisory_lock_shared({TEMPLATE_LOCK})"))
            .await
            .expect("the lock is to be had");
        maintenance
            .batch_execute(&format!("create database {name} template {TEMPLATE}"))
            .await
            .expect("a copy of the template");
        Database {
            url: server.url(&name),
            name,
            shared: true,
        }
    }

    /// A migrated database on a server of the test's own.
    pub(crate) async fn create_on(postgres: &OwnPostgres, program: &Path) -> Database {
        let name = unique_name();
        connect(&postgres.url("postgres"))
            .await
            .batch_execute(&format!("create database {name}"))
            .await
            .expect("a new database");
        let url = postgres.url(&name);
        migrate(&url, program)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        Database {
            name,
            url,
            shared: false,
        }
    }

    /// An empty database of somebody else's, to be migrated.
    pub(crate) async fn given(url: &str, program: &Path) -> Database {
        migrate(url, program)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        Database {
            name: String::new(),
            url: url.to_owned(),
            shared: false,
        }
    }

    /// Its URL, past any proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Brings its schema up to date, while replicas may be at work on it.
    ///
    /// # Panics
    ///
    /// When that fails.
    pub async fn migrate(&self) {
        migrate(&self.url, relay_binary())
            .await
            .unwrap_or_else(|error| panic!("{error}"));
    }

    /// A connection of the test's own, past any proxy. It closes when the client is dropped.
    pub async fn connect(&self) -> Client {
        connect(&self.url).await
    }

    /// Drops the database. Its relays are gone by now; a test's own connection may linger.
    pub(crate) fn drop_now(&self) {
        if !self.shared {
            return;
        }
        let name = self.name.clone();
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let (client, connection) =
                    tokio_postgres::connect(&Server::shared().maintenance_url(), NoTls).await?;
                let connection = tokio::spawn(connection);
                client
                    .batch_execute(&format!("drop database {name} with (force)"))
                    .await?;
                drop(client);
                connection.await.ok();
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
            })
        })
        .join();
        if !matches!(dropped, Ok(Ok(()))) {
            eprintln!("the database {} is left behind: {dropped:?}", self.name);
        }
    }
}

/// Connects without TLS; the connection's task ends when the client is dropped.
pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .unwrap_or_else(|error| panic!("no connection to {url}: {error}"));
    tokio::spawn(connection);
    client
}

fn unique_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    static START: OnceLock<u128> = OnceLock::new();
    let start = START.get_or_init(|| {
        std::time::UNIX_EPOCH
            .elapsed()
            .expect("the clock is past 1970")
            .as_micros()
    });
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("handoff_test_{}_{start}_{count}", std::process::id())
}

/// Brings the template up to date, once per process. It stays on a given server for the next one.
async fn template(server: &'static Server) {
    static READY: OnceCell<()> = OnceCell::const_new();
    READY
        .get_or_init(|| async {
            let maintenance = connect(&server.maintenance_url()).await;
            maintenance
                .batch_execute(&format!("select pg_advisory_lock({TEMPLATE_LOCK})"))
                .await
                .expect("the lock is to be had");
            // Other migrations than these may have made the one that is there.
            maintenance
                .batch_execute(&format!("drop database if exists {TEMPLATE} with (force)"))
                .await
                .expect("the old template can go");
            maintenance
                .batch_execute(&format!("create database {TEMPLATE}"))
                .await
                .expect("a new template");
            let migrated = migrate(&server.url(TEMPLATE), relay_binary()).await;
            migrated.unwrap_or_else(|error| panic!("{error}"));
        })
        .await;
}

async fn migrate(url: &str, program: &Path) -> Result<(), String> {
    let url = url.to_owned();
    let program = program.to_owned();
    let finished = tokio::task::spawn_blocking(move || {
        let mut migrate = Command::new(program);
        migrate.arg("migrate").env("DATABASE_URL", url);
        run(migrate)
    })
    .await
    .expect("no panic")
    .map_err(|error| error.to_string())?;
    if finished.status.success() {
        Ok(())
    } else {
        Err(format!(
            "`handoff-relay migrate` failed: {}",
            finished.stderr
        ))
    }
}
