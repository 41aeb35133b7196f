//! `handoff-relay health`: asks the replica on this machine whether it is ready, for container
//! runtimes whose health checks can't count on a shell or on curl. It starts nothing.

use anyhow::{Context, bail};
use clap::Args;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::net::TcpStream;

/// The replica answers within 2 s whether Postgres does.
const PATIENCE: Duration = Duration::from_secs(4);
/// What is read of the answer, at most.
const BODY_MAX_BYTES: usize = 64 << 10;

/// Settings of `health`: those that tell `serve` where to listen.
#[derive(Args, Clone, Debug)]
pub struct HealthSettings {
    /// The port that the replica listens on
    #[arg(long, env = "PORT", default_value_t = 3000)]
    port: u16,
    /// The address that it listens on; of an address for all interfaces, loopback is asked
    #[arg(
        long,
        env = "HANDOFF_BIND",
        value_name = "ADDRESS",
        default_value = "0.0.0.0"
    )]
    bind: IpAddr,
}

impl HealthSettings {
    /// Asks `/readyz`.
    ///
    /// # Errors
    /// When the replica doesn't answer, or answers that it isn't ready.
    pub async fn run(self) -> anyhow::Result<()> {
        let address = self.address();
        tokio::time::timeout(PATIENCE, ask(address))
            .await
            .with_context(|| format!("{address} doesn't answer within {PATIENCE:?}"))?
    }

    fn address(&self) -> SocketAddr {
        let host = match self.bind {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
            host => host,
        };
        SocketAddr::new(host, self.port)
    }
}

async fn ask(address: SocketAddr) -> anyhow::Result<()> {
    let unreachable = || format!("{address} can't be reached");
    let stream = TcpStream::connect(address)
        .await
        .with_context(unreachable)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .with_context(unreachable)?;
    // Ends with the answer, or with this program.
    tokio::spawn(connection);
    let request = http::Request::get("/readyz")
        .header(http::header::HOST, address.to_string())
        .body(Empty::<bytes::Bytes>::new())?;
    let answer = sender
        .send_request(request)
        .await
        .with_context(unreachable)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), BODY_MAX_BYTES)
        .collect()
        .await
        .map_err(|error| anyhow::anyhow!("{address} broke off: {error}"))?
        .to_bytes();
    if !status.is_success() {
        let body = String::from_utf8_lossy(&body);
        bail!("{address} is not ready: {status} {body}");
    }
    println!("ready");
    Ok(())
}
