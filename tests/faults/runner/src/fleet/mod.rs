//! What is broken: three replicas behind HAProxy on a pair of Postgres servers, with a proxy on
//! every link between them.
//!
//! ```text
//! clients → HAProxy → link → replica → link (lanes, listener, notifier) → Postgres → link → standby
//!                                    → link (pools)                     ↗
//! ```
//!
//! Comes up here and goes away when it is dropped. It breaks nothing by itself.

mod balancer;
mod disk;
mod namespace;
mod packets;
mod pair;
mod replicas;
mod server;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::run;

pub use balancer::Balancer;
pub use namespace::Namespace;
pub use packets::Packets;
pub(crate) use pair::connect;
pub use pair::{Pair, Promotion};
pub(crate) use replicas::false_clock;
pub use replicas::{Links, Member};
pub use server::Server;

/// How many replicas a fleet has.
pub const REPLICAS: usize = 3;

/// The database of the relay.
const DATABASE: &str = "handoff";

/// The port of every replica's link, each at an address of its own, as containers are.
const PORT: u16 = 3000;

/// The whole of it.
pub struct Fleet {
    // Dropped in this order: clients go first.
    balancer: Balancer,
    members: Vec<Arc<Member>>,
    postgres: Pair,
    namespace: Namespace,
}

impl Fleet {
    /// Starts all of it, in this folder, and waits until it serves.
    pub async fn start(program: &Path, folder: &Path, namespace: Namespace) -> Result<Fleet> {
        let postgres = Pair::start(folder, DATABASE, namespace.is_own()).await?;
        let mut migrate = Command::new(program);
        migrate
            .arg("migrate")
            .env_clear()
            .env("DATABASE_URL", postgres.url().await);
        let finished = blocking(move || run(migrate)).await??;
        ensure!(
            finished.status.success(),
            "`handoff-relay migrate` failed: {}",
            finished.stderr
        );

        let network = [rand::random_range(2..=250), rand::random_range(0..=250)];
        let host = |host: u8| Ipv4Addr::new(127, network[0], network[1], host);
        let mut members = Vec::new();
        for index in 0..REPLICAS {
            let at = SocketAddr::from((host(index as u8 + 1), PORT));
            let links = Links::start(&postgres.url().await, at).await;
            members.push(Member::start(index, program, folder, links).await?);
        }
        let listen = SocketAddr::from((host(254), 8080));
        let addresses = (1..=REPLICAS as u8).map(host).collect();
        let balancer = Balancer::start(listen, host(253), PORT, addresses).await?;
        Ok(Fleet {
            balancer,
            members,
            postgres,
            namespace,
        })
    }

    /// Where clients go: the balancer.
    pub fn url(&self) -> String {
        self.balancer.url()
    }

    /// The replicas.
    pub fn members(&self) -> &[Arc<Member>] {
        &self.members
    }

    /// The replica of that number.
    pub fn member(&self, index: usize) -> &Arc<Member> {
        &self.members[index]
    }

    /// Postgres.
    pub fn postgres(&self) -> &Pair {
        &self.postgres
    }

    /// Where packets can be dropped, if this process has a network of its own.
    pub fn packets(&self) -> Option<Packets> {
        self.namespace.is_own().then_some(Packets)
    }

    /// Has all replicas talk to the server that is the first of the pair now.
    pub async fn follow_primary(&self) {
        let address = self.postgres.address().await;
        for member in &self.members {
            for link in [&member.links.database, &member.links.listen] {
                link.lead_to(address);
            }
        }
    }
}

/// Runs what blocks on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(job)
        .await
        .context("a task panicked")
}

/// A program of somebody else's: among those that `tests/tools/install` brought, or installed.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let tools =
        std::env::var_os("HANDOFF_TEST_TOOLS").map(|tools| PathBuf::from(tools).join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Where Debian puts programs such as HAProxy.
    let sbin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut places = tools
        .into_iter()
        .chain(std::env::split_paths(&path))
        .chain(sbin);
    places.find_map(|place| Some(place.join(name)).filter(|program| program.is_file()))
}

/// Asks again and again, for a time, until there is an answer.
pub(crate) async fn until<T, F>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = Option<T>>,
{
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(limit, asking)
        .await
        .with_context(|| format!("waited {limit:?} in vain: {what}"))
}
