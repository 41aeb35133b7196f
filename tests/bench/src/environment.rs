//! What is measured: a Postgres, databases in it and the relay's replicas come up here, and go
//! away when they are dropped.

use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use handoff_private_postgres::{PrivatePostgres, Settings, find_binaries};
use hyper::StatusCode;
use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempDir};
use tokio_postgres::{Client, NoTls};

use crate::http::{Connection, Prepared};
use crate::options::Common;
use crate::processes;
use crate::report::{self, About, Figures};

/// How long a replica may take to open its port.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// Room for the connections of the load and of several replicas.
const MAX_CONNECTIONS: u32 = 500;

/// The settings of Postgres without which a figure says little.
const TELLING_SETTINGS: [&str; 11] = [
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "wal_level",
    "commit_delay",
    "shared_buffers",
    "max_wal_size",
    "checkpoint_timeout",
    "max_connections",
    "autovacuum",
];

/// The Postgres under the relay.
pub(crate) struct Server {
    /// Stops with this value.
    private: Option<Private>,
    url: String,
    relay_bin: PathBuf,
    /// Postgres' first process; none when it runs on another machine.
    postmaster: Option<u32>,
}

impl Server {
    /// Starts a private Postgres with these further settings, unless the options name one.
    pub(crate) async fn start(options: &Common, settings: &[(&str, &str)]) -> Result<Self> {
        let relay_bin = relay_bin(options)?;
        let (private, url) = match &options.database_url {
            Some(url) => (None, url.clone()),
            None => {
                let private = Private::start(settings)?;
                let url = private.postgres.url("postgres");
                (Some(private), url)
            }
        };
        let mut server = Self {
            private,
            url,
            relay_bin,
            postmaster: None,
        };
        server.postmaster = server.find_postmaster().await?;
        Ok(server)
    }

    /// Creates a database of that name, migrates it and starts replicas on it.
    pub(crate) async fn deploy(&self, name: &str, replicas: u16) -> Result<Deployment<'_>> {
        self.deploy_program(&self.relay_bin, name, replicas).await
    }

    /// The same with another build of the relay.
    pub(crate) async fn deploy_program(
        &self,
        relay_bin: &Path,
        name: &str,
        replicas: u16,
    ) -> Result<Deployment<'_>> {
        let admin = connect(&self.url).await?;
        let name = format!("handoff_bench_{name}");
        admin
            .batch_execute(&format!("drop database if exists {name} with (force)"))
            .await?;
        admin
            .batch_execute(&format!("create database {name}"))
            .await?;
        let database_url = with_database(&self.url, &name)?;
        let mut migrate = Command::new(relay_bin);
        migrate
            .arg("migrate")
            .env("DATABASE_URL", &database_url)
            .stdout(Stdio::null());
        let status = migrate
            .status()
            .context("handoff-relay migrate does not start")?;
        ensure!(status.success(), "handoff-relay migrate failed: {status}");
        let mut deployment = Deployment {
            server: self,
            relay_bin: relay_bin.to_owned(),
            name,
            database_url,
            replicas: Vec::new(),
        };
        deployment.add_replicas(replicas).await?;
        Ok(deployment)
    }

    /// What the private Postgres has logged.
    pub(crate) fn postgres_log(&self) -> Option<PathBuf> {
        let private = self.private.as_ref()?;
        Some(private.folder.path().join("data/postgres.log"))
    }

    /// Postgres' processes as they are now; none when it runs elsewhere.
    pub(crate) fn postgres_processes(&self) -> Result<Vec<u32>> {
        self.postmaster.map_or(Ok(Vec::new()), processes::children)
    }

    /// The folder of the private Postgres' programs.
    pub(crate) fn postgres_bin(&self) -> Option<&Path> {
        let private = self.private.as_ref()?;
        Some(&private.postgres.binaries().dir)
    }

    /// The cost of a flush as it is now; none where the data folder is out of reach.
    pub(crate) fn flush_cost(&self) -> Result<Option<Figures>> {
        // Nobody else's data folder gets a file of ours.
        self.private
            .as_ref()
            .map(|private| flush_cost(&private.folder.path().join("data")))
            .transpose()
    }

    /// Brings to the disk what was written so far, so that nothing pays for what was measured before it:
    /// a timed checkpoint, or the host that catches up.
    pub(crate) async fn settle(&self) -> Result<()> {
        const FLUSH_MAX_MS: f64 = 1.0;
        const TRIES: usize = 20;
        let Some(private) = &self.private else {
            return Ok(());
        };
        let client = connect(&self.url).await?;
        client.batch_execute("checkpoint").await?;
        nix::unistd::sync();
        for _ in 0..TRIES {
            let flush = flush_cost(&private.folder.path().join("data"))?;
            if flush.value("p99_ms") <= FLUSH_MAX_MS {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        eprintln!("The disk stays slow: 1 flush of 100 takes over {FLUSH_MAX_MS} ms");
        Ok(())
    }

    /// A program that was built beside the relay.
    pub(crate) fn program(&self, name: &str) -> Result<PathBuf> {
        let path = self.relay_bin.with_file_name(name);
        ensure!(
            path.is_file(),
            "no {}: build it with `cargo build --release -p handoff-cli`",
            path.display()
        );
        Ok(path)
    }

    /// The head of the report, with the cost of a flush as it is now.
    pub(crate) async fn about(&self) -> Result<About> {
        let client = connect(&self.url).await?;
        let version: String = client.query_one("select version()", &[]).await?.get(0);
        let settings = client
            .query(
                "select name, current_setting(name)
                 from pg_settings
                 join unnest($1::text[]) with ordinality as telling (wanted, place) on name = wanted
                 order by place",
                &[&TELLING_SETTINGS.as_slice()],
            )
            .await?;
        let relay = Command::new(&self.relay_bin).arg("--version").output()?;
        Ok(About {
            cores: std::thread::available_parallelism()?.get(),
            processor: processes::processor_model(),
            memory_gib: processes::memory_bytes()? as f64 / f64::from(1 << 30),
            load_average: processes::load_average(),
            kernel: nix::sys::utsname::uname()?
                .release()
                .to_string_lossy()
                .into_owned(),
            rustc: env!("HANDOFF_BENCH_RUSTC").to_owned(),
            relay_version: String::from_utf8_lossy(&relay.stdout).trim().to_owned(),
            relay_build: build_of(&self.relay_bin).to_owned(),
            postgres_version: version,
            postgres_settings: settings
                .iter()
                .map(|row| (row.get(0), row.get(1)))
                .collect(),
            flush: self.flush_cost()?,
        })
    }

    /// The processor time of Postgres as a whole; none when it runs elsewhere.
    pub(crate) fn processor_time(&self) -> Result<Option<Duration>> {
        let Some(postmaster) = self.postmaster else {
            return Ok(None);
        };
        let mut sum = processes::processor_time(postmaster)?;
        for backend in processes::children(postmaster)? {
            // One that has just exited is counted in the postmaster's own time from now on.
            sum += processes::processor_time(backend).unwrap_or_default();
        }
        Ok(Some(sum))
    }

    async fn find_postmaster(&self) -> Result<Option<u32>> {
        let client = connect(&self.url).await?;
        let backend: i32 = client
            .query_one("select pg_backend_pid()", &[])
            .await?
            .get(0);
        let backend = backend.unsigned_abs();
        // A backend on another machine, or behind a pooler, has no such process here.
        if !processes::name(backend).is_ok_and(|name| name.starts_with("postgres")) {
            return Ok(None);
        }
        processes::parent(backend).map(Some)
    }
}

/// A Postgres of our own, as durable as a real one, in a temporary folder (`TMPDIR` says where).
struct Private {
    // Dropped in this order: Postgres stops before its folder goes.
    postgres: PrivatePostgres,
    folder: TempDir,
}

impl Private {
    fn start(settings: &[(&str, &str)]) -> Result<Self> {
        let extra = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let folder = TempDir::with_prefix("handoff-bench-")?;
        // Postgres does not run as root, and its own user has to pass through.
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o711))?;
        let postgres_bin = std::env::var_os("HANDOFF_POSTGRES_BIN").map(PathBuf::from);
        let settings = Settings {
            max_connections: MAX_CONNECTIONS,
            extra: extra.collect(),
            ..Settings::new(
                folder.path().join("data"),
                find_binaries(postgres_bin.as_deref())?,
            )
        };
        Ok(Self {
            postgres: PrivatePostgres::start(&settings)?,
            folder,
        })
    }
}

/// One database with the replicas that serve it.
pub(crate) struct Deployment<'server> {
    pub(crate) server: &'server Server,
    relay_bin: PathBuf,
    name: String,
    database_url: String,
    replicas: Vec<Replica>,
}

impl Deployment<'_> {
    /// A connection to the database, past the relay.
    pub(crate) async fn sql(&self) -> Result<Client> {
        connect(&self.database_url).await
    }

    /// The address of a replica; counting past the last one starts over.
    pub(crate) fn address(&self, replica: usize) -> SocketAddr {
        self.replicas[replica % self.replicas.len()].address
    }

    /// The process of a replica.
    pub(crate) fn pid(&self, replica: usize) -> u32 {
        self.replicas[replica].process.id()
    }

    /// Where a replica shows its metrics.
    pub(crate) fn metrics_address(&self, replica: usize) -> Result<SocketAddr> {
        let log = self.replicas[replica].logged();
        let address = log.split("http://").skip(1).find_map(|rest| {
            let (address, _) = rest.split_once("/metrics")?;
            address.parse().ok()
        });
        address.context("the relay has not said where its metrics are")
    }

    pub(crate) fn database_url(&self) -> &str {
        &self.database_url
    }

    pub(crate) fn replica_count(&self) -> usize {
        self.replicas.len()
    }

    /// Starts more replicas.
    pub(crate) async fn add_replicas(&mut self, replicas: u16) -> Result<()> {
        for _ in 0..replicas {
            let replica = Replica::start(&self.relay_bin, &self.database_url).await?;
            self.replicas.push(replica);
        }
        Ok(())
    }

    /// Opens a team; its key may do everything.
    pub(crate) async fn sign_up(&self, team_name: &str) -> Result<Team> {
        let body = json!({"team_name": team_name, "sender_name": "bench"});
        let request = Prepared::post("/api/signup", "", &body);
        let mut connection = Connection::open(self.address(0)).await?;
        let answer = connection
            .send(&request)
            .await?
            .expect(StatusCode::CREATED)?;
        let answer: Value = serde_json::from_slice(answer)?;
        let key = answer["api_key"]
            .as_str()
            .context("a signup without a key")?
            .to_owned();
        let id = answer["team"]["id"]
            .as_str()
            .context("a signup without a team")?
            .parse()?;
        Ok(Team { id, key })
    }

    /// Makes a key of a team that may write everywhere, for an agent of this name.
    pub(crate) async fn add_key(&self, team: &Team, agent: &str) -> Result<String> {
        let body = json!({"sender_name": agent, "permissions": {"*": "write"}});
        let request = Prepared::post("/api/keys", &team.key, &body);
        let mut connection = Connection::open(self.address(0)).await?;
        let made = connection
            .send(&request)
            .await?
            .expect(StatusCode::CREATED)?;
        let made: Value = serde_json::from_slice(made)?;
        Ok(made["api_key"].as_str().context("no key")?.to_owned())
    }

    /// The processor time of all replicas.
    pub(crate) fn relay_processor_time(&self) -> Result<Duration> {
        self.replicas
            .iter()
            .map(|replica| processes::processor_time(replica.process.id()))
            .sum()
    }

    /// Stops the replicas, asking first, and drops the database.
    pub(crate) async fn stop(mut self) -> Result<()> {
        for replica in &mut self.replicas {
            replica.terminate()?;
        }
        self.replicas.clear();
        let admin = connect(&self.server.url).await?;
        Ok(admin
            .batch_execute(&format!("drop database {} with (force)", self.name))
            .await?)
    }
}

/// A team of the relay, and a key of it.
pub(crate) struct Team {
    pub(crate) id: i64,
    pub(crate) key: String,
}

/// A running `handoff-relay serve`; killed when dropped.
struct Replica {
    process: std::process::Child,
    address: SocketAddr,
    /// What it has logged, shown when it fails.
    log: NamedTempFile,
}

impl Replica {
    async fn start(relay_bin: &Path, database_url: &str) -> Result<Self> {
        let log = NamedTempFile::new()?;
        let mut output = NamedTempFile::new()?;
        let process = Command::new(relay_bin)
            .arg("serve")
            .env("PORT", "0")
            .env("HANDOFF_BIND", "127.0.0.1")
            .env("DATABASE_URL", database_url)
            .env_remove("DATABASE_LISTEN_URL")
            // Limits are checked, but never reached.
            .env("RATE_LIMIT_MAX", "100000000")
            .env("HANDOFF_SIGNUPS_PER_HOUR", "1000000")
            .env("HANDOFF_STREAMS_PER_KEY", "1000000")
            .env("HANDOFF_KEYS_PER_TEAM", "1000000")
            .env("HANDOFF_CHANNELS_PER_TEAM", "1000000")
            // What is measured has everything switched on.
            .env("HANDOFF_METRICS_PORT", "0")
            .stdin(Stdio::null())
            .stdout(output.reopen()?)
            .stderr(log.reopen()?)
            .spawn()
            .context("handoff-relay serve does not start")?;
        let address = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut replica = Self {
            process,
            address,
            log,
        };
        let deadline = Instant::now() + START_DEADLINE;
        let mut said = String::new();
        loop {
            output.as_file_mut().read_to_string(&mut said)?;
            if let Some(address) = said.lines().find_map(|line| line.split_once("http://")) {
                // The line may not have been written to its end yet.
                if said.ends_with('\n') {
                    replica.address = address.1.trim().parse()?;
                    return Ok(replica);
                }
            }
            if let Some(status) = replica.process.try_wait()? {
                bail!(
                    "handoff-relay serve ended with {status}: {}",
                    replica.logged()
                );
            }
            ensure!(
                Instant::now() < deadline,
                "handoff-relay serve opens no port: {}",
                replica.logged()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Asks the replica to end and waits until it has.
    fn terminate(&mut self) -> Result<()> {
        let pid = nix::unistd::Pid::from_raw(self.process.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        let status = self.process.wait()?;
        ensure!(
            status.success(),
            "handoff-relay serve ended with {status}: {}",
            self.logged()
        );
        Ok(())
    }

    fn logged(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap_or_default()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // Neither can fail but for a process that has ended and been waited for already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Connects, with a task that drives the connection until the client is dropped.
pub(crate) async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .context("Postgres takes no connection")?;
    tokio::spawn(async move {
        // Whoever uses the client sees the error as well.
        let _ = connection.await;
    });
    Ok(client)
}

/// The URL with another database in it.
fn with_database(url: &str, database: &str) -> Result<String> {
    let (base, parameters) = url
        .split_once('?')
        .map_or((url, None), |(base, rest)| (base, Some(rest)));
    let (scheme, rest) = base
        .split_once("://")
        .context("the database is to be given as a URL")?;
    let authority = rest
        .split_once('/')
        .map_or(rest, |(authority, _)| authority);
    let parameters = parameters
        .map(|parameters| format!("?{parameters}"))
        .unwrap_or_default();
    Ok(format!("{scheme}://{authority}/{database}{parameters}"))
}

/// Times flushes of one page, as a commit does them.
fn flush_cost(data_folder: &Path) -> Result<Figures> {
    let mut file = tempfile_in(data_folder)?;
    let page = [0x5a_u8; 8192];
    // Space that is there already, as in a recycled WAL segment.
    for _ in 0..256 {
        file.write_all(&page)?;
    }
    file.sync_all()?;
    let mut cost = report::histogram();
    for number in 0..1_000 {
        let start = Instant::now();
        file.write_all_at(&page, number % 256 * 8192)?;
        file.sync_data()?;
        cost.record(start.elapsed().as_nanos() as u64)?;
    }
    Ok(Figures::default().with_latency(&cost))
}

fn tempfile_in(folder: &Path) -> Result<File> {
    tempfile::tempfile_in(folder)
        .with_context(|| format!("no file can be made in {}", folder.display()))
}

/// The relay to measure: the one asked for, else the one that was built with this program.
fn relay_bin(options: &Common) -> Result<PathBuf> {
    let path = match &options.relay_bin {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("handoff-relay"),
    };
    ensure!(
        path.is_file(),
        "no relay at {}: build it with `cargo build --release -p handoff-relay`, or name it with --relay-bin",
        path.display()
    );
    Ok(path)
}

/// Cargo names the folder by the profile.
fn build_of(relay_bin: &Path) -> &'static str {
    match relay_bin
        .parent()
        .and_then(Path::file_name)
        .and_then(|name| name.to_str())
    {
        Some("debug") => "debug",
        Some("release") => "release",
        Some("bench-quick") => "bench-quick",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::with_database;

    #[test]
    fn only_the_database_of_a_url_changes() {
        let cases = [
            (
                "postgresql://handoff@127.0.0.1:5432/postgres",
                "postgresql://handoff@127.0.0.1:5432/new",
            ),
            ("postgres://u:p%2Fq@db", "postgres://u:p%2Fq@db/new"),
            (
                "postgresql:///postgres?host=%2Frun&port=1",
                "postgresql:///new?host=%2Frun&port=1",
            ),
        ];
        for (url, expected) in cases {
            assert_eq!(with_database(url, "new").unwrap(), expected);
        }
        assert!(with_database("host=db dbname=postgres", "new").is_err());
    }
}
