//! A pair of Postgres servers: the first serves, the second follows it and may take its place. Which
//! is which changes at a promotion. Nothing here decides to promote; that is done by hand.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use handoff_private_postgres::Mode;
use harness::Proxy;
use tokio::sync::RwLock;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, NoTls};

use super::server::Server;
use super::until;

/// How long anything may take that a server is asked to do.
const LIMIT: Duration = Duration::from_secs(60);

/// A connection to Postgres, or an answer, that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// How soon a server that has ended by itself is started again.
const WATCH: Duration = Duration::from_millis(250);

/// The two servers.
pub struct Pair {
    servers: [Arc<Server>; 2],
    /// Which of the two serves.
    first: RwLock<usize>,
    /// The link on which the standby follows.
    replication: Proxy,
    database: String,
    watching: JoinHandle<()>,
}

/// What a promotion was.
#[derive(Clone, Debug)]
pub struct Promotion {
    /// The timeline before and after.
    pub timelines: (u32, u32),
    /// How many bytes of the old first's log the standby never got.
    pub lost_bytes: u64,
}

impl Pair {
    /// Starts a server and a standby of it, in this folder, and creates the relay's database.
    pub async fn start(folder: &Path, database: &str, own_disks: bool) -> Result<Pair> {
        let one = Arc::new(Server::prepare(folder, "one", own_disks)?);
        let two = Arc::new(Server::prepare(folder, "two", own_disks)?);
        one.initialize().await?;
        one.start().await?;
        let maintenance = connect(&one.url("postgres").await?).await?;
        maintenance
            .batch_execute(&format!("create database {database}"))
            .await?;
        let address = address_of(&one.url("postgres").await?)?;
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let replication = Proxy::start_at(local, address).await;
        let servers = [one, two];
        let watched = servers.clone();
        let watching = tokio::spawn(async move {
            loop {
                for server in &watched {
                    // One that can't start yet, since its disk is full, is tried again.
                    server.start_if_down().await.ok();
                }
                sleep(WATCH).await;
            }
        });
        // Only what has been started once is watched over.
        servers[1].stop(Mode::Fast).await?;
        let pair = Pair {
            servers,
            first: RwLock::new(0),
            replication,
            database: database.to_owned(),
            watching,
        };
        pair.follow().await?;
        Ok(pair)
    }

    /// The server that serves.
    pub async fn primary(&self) -> Arc<Server> {
        self.servers[*self.first.read().await].clone()
    }

    /// The other one.
    pub async fn standby(&self) -> Arc<Server> {
        self.servers[1 - *self.first.read().await].clone()
    }

    /// The URL of the relay's database on the server that serves.
    pub async fn url(&self) -> String {
        let url = self.primary().await.url(&self.database).await;
        url.unwrap_or_default()
    }

    /// Where the server that serves listens.
    pub async fn address(&self) -> SocketAddr {
        address_of(&self.url().await).unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 1)))
    }

    /// A connection to the relay's database, past all links.
    pub async fn connect(&self) -> Result<Client> {
        connect(&self.url().await).await
    }

    /// The link on which the standby follows.
    pub fn replication(&self) -> &Proxy {
        &self.replication
    }

    /// Makes a new standby of the server that serves, in place of what the other one is, and waits
    /// until it follows.
    pub async fn follow(&self) -> Result<()> {
        let standby = self.standby().await;
        standby.stop(Mode::Immediate).await?;
        self.replication.lead_to(self.address().await);
        standby.copy(self.replication.address().port()).await?;
        standby.start().await?;
        self.until_it_follows("async").await
    }

    /// Has commits wait for the standby, or not.
    pub async fn wait_for_standby(&self, wait: bool) -> Result<()> {
        let (names, state) = match wait {
            true => ("*", "sync"),
            false => ("", "async"),
        };
        let client = self.connect().await?;
        client
            .batch_execute(&format!(
                "alter system set synchronous_standby_names = '{names}'"
            ))
            .await?;
        client.batch_execute("select pg_reload_conf()").await?;
        self.until_it_follows(state).await
    }

    /// Waits until the standby has all that is on the server that serves at this moment.
    pub async fn until_caught_up(&self) -> Result<()> {
        let client = self.connect().await?;
        let sql = "select pg_current_wal_flush_lsn()::text";
        let here: String = client.query_one(sql, &[]).await?.get(0);
        let sql = "select 1 from pg_stat_replication
            where application_name = 'standby' and flush_lsn >= $1::text::pg_lsn";
        until("the standby has caught up", LIMIT, || async {
            client.query_opt(sql, &[&here]).await.ok()?.map(|_| ())
        })
        .await
    }

    /// Whether the standby follows.
    pub async fn has_standby(&self) -> bool {
        self.replication_state()
            .await
            .is_ok_and(|state| state.is_some())
    }

    async fn until_it_follows(&self, expected: &str) -> Result<()> {
        let what = format!("the standby is {expected}");
        until(&what, LIMIT, || async {
            let state = self.replication_state().await.ok()??;
            (state == expected).then_some(())
        })
        .await
    }

    async fn replication_state(&self) -> Result<Option<String>> {
        let client = self.connect().await?;
        let sql = "select sync_state from pg_stat_replication
            where state = 'streaming' and application_name = 'standby'";
        let row = timeout(PATIENCE, client.query_opt(sql, &[])).await??;
        Ok(row.map(|row| row.get(0)))
    }

    /// Stops the server that serves, at once and for good, and promotes the standby.
    pub async fn promote(&self) -> Result<Promotion> {
        let (old, new) = (self.primary().await, self.standby().await);
        let old_place = connect(&old.url("postgres").await?).await?;
        let new_place = connect(&new.url("postgres").await?).await?;
        let timeline = "select timeline_id from pg_control_checkpoint()";
        let before: i32 = old_place.query_one(timeline, &[]).await?.get(0);
        let written: String = old_place
            .query_one("select pg_current_wal_flush_lsn()::text", &[])
            .await?
            .get(0);
        old.stop(Mode::Immediate).await?;

        let sql = "select greatest(0, pg_wal_lsn_diff($1::text::pg_lsn, pg_last_wal_receive_lsn()))::int8";
        let lost: i64 = new_place.query_one(sql, &[&written]).await?.get(0);
        let promoted = new_place.query_one("select pg_promote(true, 30)", &[]);
        let promoted: bool = timeout(LIMIT, promoted).await??.get(0);
        ensure!(promoted, "the standby was not promoted");
        new_place
            .batch_execute("alter system set synchronous_standby_names = ''")
            .await?;
        new_place.batch_execute("select pg_reload_conf()").await?;
        new_place.batch_execute("checkpoint").await?;
        let after: i32 = new_place.query_one(timeline, &[]).await?.get(0);
        let mut first = self.first.write().await;
        *first = 1 - *first;
        Ok(Promotion {
            timelines: (before.unsigned_abs(), after.unsigned_abs()),
            lost_bytes: lost.unsigned_abs(),
        })
    }

    /// Stops the server that serves at once; it stays down.
    pub async fn stop_at_once(&self) -> Result<()> {
        self.primary().await.stop(Mode::Immediate).await
    }

    /// Starts the server that serves after a stop.
    pub async fn start_again(&self) -> Result<()> {
        self.primary().await.start().await
    }

    /// The first process of the server that serves.
    pub async fn pid(&self) -> Result<Option<u32>> {
        self.primary().await.pid().await
    }

    /// What the server that serves has logged.
    pub async fn log(&self) -> String {
        self.primary().await.log()
    }

    /// Fills the disk of the server that serves; how many bytes that took.
    pub async fn fill_disk(&self) -> Result<u64> {
        self.primary().await.disk()?.fill()
    }

    /// How many bytes are free on that disk.
    pub async fn free_bytes(&self) -> Result<u64> {
        self.primary().await.disk()?.free()
    }

    /// Empties the disk again.
    pub async fn clear_disk(&self) -> Result<()> {
        self.primary().await.disk()?.clear()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// Connects without TLS; the connection's task ends when the client is dropped.
pub(crate) async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = timeout(PATIENCE, tokio_postgres::connect(url, NoTls))
        .await
        .context("no connection to Postgres in time")??;
    tokio::spawn(connection);
    Ok(client)
}

/// Where the server of a URL listens.
fn address_of(url: &str) -> Result<SocketAddr> {
    let config: tokio_postgres::Config = url.parse()?;
    let port = config.get_ports().first().context("a URL without a port")?;
    Ok(SocketAddr::from(([127, 0, 0, 1], *port)))
}
