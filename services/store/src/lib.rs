//! Everything Handoff keeps, in Postgres: every SQL statement, the lanes that write, the listener
//! and the notifier.
//!
//! Typed requests come in, rows go out. Nothing here decides who may do what; every statement on
//! a team's data asks for a [`handoff_protocol::TeamId`], which only authentication and signup
//! make.
//!
//! Two drivers share the work: sqlx migrates and does the control plane (teams, keys), with
//! queries checked at compile time; tokio-postgres does the data plane, where statements are
//! pipelined, and listens, where a lost connection must be seen.

#[macro_use]
pub mod planted;

pub mod acks;
mod append;
pub mod audit;
pub mod bell;
pub mod channels;
pub mod cleaner;
mod connection;
mod database_url;
pub mod digest;
pub mod epochs;
mod error;
pub mod feed;
pub mod inbox;
pub mod keys;
pub mod lane;
pub mod listener;
pub mod messages;
mod metrics;
pub mod migrations;
mod notifier;
pub mod rate_limits;
mod readers;
pub mod replicas;
pub mod signing_keys;
pub mod slots;
pub mod statements;
pub mod statuses;
pub mod teams;
pub mod trace;
pub mod waits;

pub use connection::{DataPlane, PLANNER_SETTINGS};
pub use database_url::{DatabaseUrl, DatabaseUrlError};
pub use error::{Error, Result};
pub use notifier::Notifier;

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

/// Names a channel inside the relay: drawn from its team's slot, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub i64);

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where Postgres is, and how much of it to use.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// For the pools; may lead through PgBouncer.
    pub database_url: DatabaseUrl,
    /// For what needs a session of its own: lanes, notifier, listener, migrations.
    pub listen_url: DatabaseUrl,
    /// Lanes of this replica, 1 to 64, each with a connection, and under load a second one.
    pub lanes: usize,
    /// Connections of the data plane's pool.
    pub pool_size: usize,
    /// Channels that a team may have.
    pub channels_per_team: u32,
}

/// How long a read, or a wait for a pooled connection, may take.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Postgres, as the rest of the relay sees it.
pub struct Store {
    pub(crate) data: DataPlane,
    pub(crate) control: sqlx::PgPool,
    pub(crate) lanes: lane::Lanes,
    replica: replicas::ReplicaId,
    /// What the last heartbeat found.
    saw_no_other: AtomicBool,
}

impl Store {
    /// Connects the pools, announces this replica and starts its lanes; what the lanes commit goes
    /// to `commits`, the feed's inbox, and to the notifier. Where one lives that takes itself for the
    /// only one it takes up to [`ALONE_FOR`](replicas::ALONE_FOR), until that knows of this one.
    ///
    /// # Errors
    /// When Postgres can't be reached, or its schema is older than this program.
    pub async fn open(
        config: StoreConfig,
        commits: Arc<dyn lane::Commits>,
    ) -> Result<(Arc<Self>, Notifier)> {
        let control = connection::control_plane(&config)?;
        migrations::ensure_current(&control).await?;
        let data = DataPlane::new(&config)?;
        slots::check_sequences(&data).await?;
        let own = connection::session(
            &config.listen_url,
            "handoff start",
            connection::SessionKind::Bell,
        );
        commits.in_epoch(&epochs::establish(&own.await?.client).await?);
        let replica = replicas::announce(&data).await?;
        let notifier = Notifier::start(config.listen_url.clone(), replica);
        let lanes = lane::Lanes::start(&config, commits, notifier.handle())?;
        replicas::wait_to_be_known(&data, replica).await?;
        Ok((
            Arc::new(Self {
                data,
                control,
                lanes,
                replica,
                saw_no_other: AtomicBool::new(false),
            }),
            notifier,
        ))
    }

    /// This replica's number in the table of replicas.
    pub fn replica(&self) -> replicas::ReplicaId {
        self.replica
    }

    /// Whether Postgres answers.
    pub async fn ping(&self) -> Result<()> {
        self.data
            .run("ping", async |client| {
                client.simple_query("select 1").await.map(drop)
            })
            .await
    }

    /// Takes no more writes, and finishes those that the lanes have queued.
    pub async fn close_lanes(&self) {
        self.lanes.close().await;
    }

    /// Withdraws this replica and closes the pools.
    pub async fn close(&self) {
        let _ = replicas::withdraw(&self.data, self.replica).await;
        self.control.close().await;
        self.data.close();
    }
}
