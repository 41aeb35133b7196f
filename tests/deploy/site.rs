//! A site: replicas, a proxy before them with the configuration that is shipped, and the name under
//! which the proxy finds them. Every site has a loopback network of its own, so that all replicas
//! listen on the same port, as containers do.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use harness::load::Load;
use harness::{Agent, Builder, Daemon, Method, Names, TestRelay, eventually, tool};
use tempfile::TempDir;

/// Where replicas listen in their containers.
const PORT: u16 = 3000;

/// The proxies that configurations are shipped for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Haproxy,
    Nginx,
}

pub(crate) struct Site {
    pub(crate) relay: TestRelay,
    url: String,
    network: [u8; 2],
    next_host: Mutex<u8>,
    /// The replicas that the name leads to.
    members: Mutex<Vec<(usize, Ipv4Addr)>>,
    names: Names,
    _proxy: Daemon,
    _folder: TempDir,
}

impl Site {
    /// Replicas as the builder says, behind a proxy that knows all of them.
    pub(crate) async fn start(kind: Kind, replicas: usize, mut builder: Builder) -> Site {
        let network = [rand::random_range(2..=250), rand::random_range(0..=250)];
        let hosts = 1..=u8::try_from(replicas).unwrap();
        let members: Vec<_> = hosts
            .map(|host| address(network, host))
            .enumerate()
            .collect();
        for (replica, ip) in &members {
            builder = builder
                .replica_env(*replica, "HANDOFF_BIND", ip)
                .replica_env(*replica, "PORT", PORT);
        }
        let relay = builder.replicas(replicas).start().await;
        let names = Names::serve(address(network, 253), 0).await;
        names.are(members.iter().map(|(_, ip)| *ip));
        let listen = SocketAddr::from((address(network, 254), 8080));
        let folder = tempfile::tempdir().unwrap();
        let proxy = match kind {
            Kind::Haproxy => haproxy(listen, names.address(), folder.path()),
            Kind::Nginx => nginx(listen, names.address(), folder.path()),
        };
        let mut proxy = Daemon::start(proxy).unwrap_or_else(|error| panic!("no {kind:?}: {error}"));
        let anyone = relay.anyone().through(&format!("http://{listen}"));
        while passes_on(&anyone).await.is_none() {
            assert!(proxy.runs(), "{kind:?} does not run");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Site {
            relay,
            url: format!("http://{listen}"),
            network,
            next_host: Mutex::new(u8::try_from(replicas).unwrap() + 1),
            members: Mutex::new(members),
            names,
            _proxy: proxy,
            _folder: folder,
        }
    }

    /// Where clients go.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Where clients go, as an address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.url.trim_start_matches("http://").parse().unwrap()
    }

    /// The team's first key, through the proxy.
    pub(crate) fn admin(&self) -> Agent {
        self.relay.admin().through(&self.url)
    }

    /// A load that goes through the proxy.
    pub(crate) fn load(&self) -> Load {
        Load::with_seats(vec![self.admin()])
    }

    /// The numbers of the replicas that serve, oldest first.
    pub(crate) fn members(&self) -> Vec<usize> {
        let members = self.members.lock().unwrap();
        members.iter().map(|(replica, _)| *replica).collect()
    }

    /// Stops a replica as an upgrade does; how long it took to exit.
    pub(crate) async fn leave(&self, replica: usize) -> Duration {
        let started = Instant::now();
        let status = self.relay.replica(replica).terminate().await;
        let took = started.elapsed();
        let logs = self.relay.replica(replica).logs();
        assert_eq!(status.code(), Some(0), "{logs}");
        assert!(!logs.contains("Stopped before"), "{logs}");
        let mut members = self.members.lock().unwrap();
        members.retain(|(member, _)| *member != replica);
        self.names.are(members.iter().map(|(_, ip)| *ip));
        took
    }

    /// Starts a replica at an address of its own; how long it took to be ready. Like a container,
    /// it has its name before it is ready.
    pub(crate) async fn join(&self, program: Option<&Path>) -> Duration {
        let host = {
            let mut next = self.next_host.lock().unwrap();
            *next += 1;
            *next - 1
        };
        let ip = address(self.network, host);
        let replica = self.relay.replicas();
        {
            let mut members = self.members.lock().unwrap();
            members.push((replica, ip));
            self.names.are(members.iter().map(|(_, ip)| *ip));
        }
        let (bind, port) = (ip.to_string(), PORT.to_string());
        let environment = [("HANDOFF_BIND", bind.as_str()), ("PORT", port.as_str())];
        let started = Instant::now();
        let number = match program {
            Some(program) => self.relay.start_replica_of(program, &environment).await,
            None => self.relay.start_replica(&environment).await,
        };
        assert_eq!(number, replica);
        let fresh = self.relay.anyone().on(replica);
        eventually("the new replica is ready", || async {
            (fresh.get("/readyz").await.status() == 200).then_some(())
        })
        .await;
        started.elapsed()
    }
}

/// Whether the proxy passes requests on.
async fn passes_on(anyone: &Agent) -> Option<()> {
    let answer = anyone.request(Method::GET, "/readyz").try_send().await;
    (answer.ok()?.status() == 200).then_some(())
}

fn address(network: [u8; 2], host: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, network[0], network[1], host)
}

/// The folder with the configurations that are shipped.
fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../services/proxy")
}

fn haproxy(listen: SocketAddr, dns: SocketAddr, _folder: &Path) -> Command {
    let mut haproxy = Command::new(tool("bin/haproxy"));
    haproxy
        .arg("-db")
        .arg("-f")
        .arg(shipped().join("haproxy.cfg"))
        .env("HANDOFF_LISTEN", listen.to_string())
        .env("HANDOFF_RELAYS", format!("relay:{PORT}"))
        .env("HANDOFF_DNS", dns.to_string());
    haproxy
}

fn nginx(listen: SocketAddr, dns: SocketAddr, folder: &Path) -> Command {
    let template = std::fs::read_to_string(shipped().join("nginx.conf")).unwrap();
    let filled = template
        .replace("${HANDOFF_LISTEN}", &listen.to_string())
        .replace("${HANDOFF_RELAYS}", &format!("relay:{PORT}"))
        .replace("${HANDOFF_DNS}", &dns.to_string())
        // The image has a /tmp of its own; here every nginx needs another.
        .replace("/tmp/", &format!("{}/", folder.display()));
    let config = folder.join("nginx.conf");
    std::fs::write(&config, filled).unwrap();
    let mut nginx = Command::new(tool("bin/nginx"));
    nginx
        .arg("-p")
        .arg(folder)
        .arg("-e")
        .arg("stderr")
        .arg("-c")
        .arg(config)
        // One process, which a test can't leave behind.
        .args(["-g", "daemon off; master_process off;"]);
    nginx
}
