//! The balancer: HAProxy with the configuration that is shipped.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::{Daemon, Names};
use tokio::net::TcpStream;

use super::{program, until};

/// HAProxy, and the name server by which it finds the replicas.
pub struct Balancer {
    listen: SocketAddr,
    _haproxy: Daemon,
    _names: Names,
}

impl Balancer {
    /// Starts one before the replicas at these addresses, which all have this port.
    pub(super) async fn start(
        listen: SocketAddr,
        names_at: Ipv4Addr,
        port: u16,
        replicas: Vec<Ipv4Addr>,
    ) -> Result<Balancer> {
        let haproxy = program("haproxy").context("there is no HAProxy (Debian: haproxy)")?;
        let names = Names::serve(names_at, 0).await;
        names.are(replicas);
        let config = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../../services/proxy/haproxy.cfg")
            .canonicalize()
            .context("the configuration of HAProxy")?;
        let mut command = Command::new(haproxy);
        command
            .arg("-db")
            .arg("-f")
            .arg(config)
            .env("HANDOFF_LISTEN", listen.to_string())
            .env("HANDOFF_RELAYS", format!("relay:{port}"))
            .env("HANDOFF_DNS", names.address().to_string());
        let daemon = Daemon::start(command).context("start HAProxy")?;
        until("HAProxy listens", Duration::from_secs(20), || async {
            TcpStream::connect(listen).await.ok()
        })
        .await?;
        Ok(Balancer {
            listen,
            _haproxy: daemon,
            _names: names,
        })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.listen)
    }
}
