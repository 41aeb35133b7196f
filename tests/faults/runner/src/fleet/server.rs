//! One Postgres server: its folder, its disk, its process. Durable: `fsync` is on.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use handoff_private_postgres::{
    BINARIES_SETTING, Binaries, Listen, Mode, PrivatePostgres, Settings, find_binaries,
};
use nix::unistd::{User, chown, geteuid};

use super::blocking;
use super::disk::Disk;

/// The superuser that a private cluster has.
const USER: &str = "handoff";

/// Settings beside those of a private cluster.
const SETTINGS: [(&str, &str); 6] = [
    ("shared_buffers", "128MB"),
    ("max_wal_size", "1GB"),
    // A standby that was cut off finds what it missed.
    ("wal_keep_size", "512MB"),
    // So that the dead rows of two minutes can be compared: by default it looks once a minute.
    ("autovacuum_naptime", "5s"),
    ("log_line_prefix", "%m [%p] "),
    // The server's own statistics of a table after a crash begin at nothing; vacuum goes by them.
    ("track_counts", "on"),
];

/// A server, running or not.
pub struct Server {
    name: &'static str,
    settings: Settings,
    disk: Option<Disk>,
    postgres: Arc<Mutex<Option<PrivatePostgres>>>,
    /// It is down on purpose.
    held: AtomicBool,
}

impl Server {
    /// An empty folder for one, on a disk of its own if there can be one.
    pub(super) fn prepare(folder: &Path, name: &'static str, own_disk: bool) -> Result<Server> {
        let setting = std::env::var_os(BINARIES_SETTING).map(PathBuf::from);
        let binaries = find_binaries(setting.as_deref())?;
        let data = folder.join(name);
        let cluster = data.join("postgres");
        fs::create_dir_all(&cluster)?;
        let disk = match own_disk {
            true => Some(Disk::make(&folder.join(format!("{name}.img")), &cluster)?),
            false => None,
        };
        fs::set_permissions(&data, Permissions::from_mode(0o711))?;
        fs::set_permissions(&cluster, Permissions::from_mode(0o700))?;
        if let Some(user) = user()? {
            chown(&cluster, Some(user.uid), Some(user.gid))?;
        }
        let settings = Settings {
            listen: Listen::Loopback { port: 0 },
            max_connections: 200,
            extra: SETTINGS
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..Settings::new(data, binaries)
        };
        Ok(Server {
            name,
            settings,
            disk,
            postgres: Arc::default(),
            held: AtomicBool::new(false),
        })
    }

    /// Its name, of the two.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Makes an empty cluster in its folder.
    pub(super) async fn initialize(&self) -> Result<()> {
        let cluster = self.cluster();
        let mut arguments: Vec<String> = vec!["--pgdata".into(), cluster.display().to_string()];
        let options = [
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--username",
        ];
        arguments.extend(options.map(String::from));
        arguments.push(USER.into());
        self.run("initdb", arguments).await
    }

    /// Makes a copy of the server at this address, which follows it as a standby.
    pub(super) async fn copy(&self, port: u16) -> Result<()> {
        let cluster = self.cluster();
        for entry in fs::read_dir(&cluster)? {
            let path = entry?.path();
            match path.is_dir() {
                true => fs::remove_dir_all(path)?,
                false => fs::remove_file(path)?,
            }
        }
        let source = format!("host=127.0.0.1 port={port} user={USER} application_name=standby");
        let cluster = cluster.display().to_string();
        let arguments = [
            "--dbname",
            &source,
            "--pgdata",
            &cluster,
            "--checkpoint=fast",
            "--wal-method=stream",
            "--write-recovery-conf",
        ];
        self.run("pg_basebackup", arguments.map(String::from).into())
            .await
    }

    /// Starts it; it is to run from now on.
    pub(super) async fn start(&self) -> Result<()> {
        self.held.store(false, Ordering::SeqCst);
        self.start_if_down().await
    }

    /// Starts it if it has ended without having been asked to, as whoever watches over a server
    /// does.
    pub(super) async fn start_if_down(&self) -> Result<()> {
        let (postgres, settings) = (self.postgres.clone(), self.settings.clone());
        if self.held.load(Ordering::SeqCst) {
            return Ok(());
        }
        let start = move || {
            let mut postgres = postgres.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *postgres {
                Some(postgres) => postgres.start_again(),
                None => PrivatePostgres::start(&settings).map(|started| *postgres = Some(started)),
            }
        };
        blocking(start)
            .await?
            .with_context(|| format!("start the {} server", self.name))
    }

    /// Stops it; it stays down.
    pub(super) async fn stop(&self, mode: Mode) -> Result<()> {
        self.held.store(true, Ordering::SeqCst);
        let postgres = self.postgres.clone();
        let stop = move || {
            let mut postgres = postgres.lock().unwrap_or_else(PoisonError::into_inner);
            postgres
                .as_mut()
                .map_or(Ok(()), |postgres| postgres.stop(mode))
        };
        Ok(blocking(stop).await??)
    }

    /// The URL of a database on it, while it is or was running.
    pub(super) async fn url(&self, database: &str) -> Result<String> {
        let (postgres, database) = (self.postgres.clone(), database.to_owned());
        let url = move || {
            let postgres = postgres.lock().unwrap_or_else(PoisonError::into_inner);
            Some(postgres.as_ref()?.url(&database))
        };
        blocking(url)
            .await?
            .with_context(|| format!("the {} server never ran", self.name))
    }

    /// Its first process, while it runs.
    pub(super) async fn pid(&self) -> Result<Option<u32>> {
        let postgres = self.postgres.clone();
        let pid = move || {
            let postgres = postgres.lock().unwrap_or_else(PoisonError::into_inner);
            postgres.as_ref()?.pid()
        };
        blocking(pid).await
    }

    /// What it has logged since it was started for the first time or made anew.
    pub(super) fn log(&self) -> String {
        let log = fs::read(self.settings.data_dir.join("postgres.log"));
        String::from_utf8_lossy(&log.unwrap_or_default()).into_owned()
    }

    pub(super) fn disk(&self) -> Result<&Disk> {
        self.disk.as_ref().context("a disk of its own needs root")
    }

    fn cluster(&self) -> PathBuf {
        self.settings.data_dir.join("postgres")
    }

    /// Runs one of Postgres' programs to its end, as the user that Postgres runs as.
    async fn run(&self, name: &str, arguments: Vec<String>) -> Result<()> {
        let program = beside(&self.settings.binaries, name)?;
        let mut command = match user()? {
            Some(user) => {
                let mut command = Command::new("runuser");
                command.args(["-u", &user.name, "--"]).arg(&program);
                command
            }
            None => Command::new(&program),
        };
        command.args(arguments).current_dir("/").env("LC_ALL", "C");
        let finished = blocking(move || harness::run(command)).await??;
        ensure!(finished.status.success(), "{name}: {}", finished.stderr);
        Ok(())
    }
}

/// A program that lies beside `postgres`, where links lead to.
fn beside(binaries: &Binaries, name: &str) -> Result<PathBuf> {
    let postgres = binaries.dir.join("postgres").canonicalize()?;
    let program = postgres.with_file_name(name);
    match program.is_file() {
        true => Ok(program),
        false => bail!("no {}", program.display()),
    }
}

/// Whom Postgres runs as, where it isn't ourselves.
fn user() -> Result<Option<User>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(user));
        }
    }
    bail!("Postgres doesn't run as root, and there is no user postgres")
}
