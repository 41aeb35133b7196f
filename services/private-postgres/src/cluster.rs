//! One cluster in one folder: made if it is missing, started, stopped, started again.
//!
//! In come a folder, programs and a few settings; out comes a URL that answers. The folder holds
//! `postgres/` (what initdb made), `socket/`, `postgres.log` and `lock`, which its owner keeps
//! locked. It does not change the settings of a cluster on disk: all are given at each start.

use std::{
    env, fs,
    fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read, Seek, SeekFrom},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    process::Child,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::{Pid, User, geteuid},
};
use tempfile::TempDir;

use crate::{
    Binaries, Error,
    binaries::installed_major,
    error::{Context, tail},
    guard::{Guard, Stop, wait},
    port::Port,
    user::RunAs,
    wire,
};

/// The superuser of every private cluster, and the one user in it.
const USER: &str = "handoff";

/// What the socket's file is named after; no TCP port when there is a socket only.
const SOCKET_PORT: u16 = 5432;

/// The longest path of a socket that every supported system takes: macOS has 104 bytes, Linux
/// 108, both with a final zero.
const SOCKET_PATH_MAX: usize = 103;

/// Recovery after a crash may take long, above all on a slow disk.
const START_LIMIT: Duration = Duration::from_secs(120);

/// How long initdb may take: a second, unless the disk is busy.
const INITDB_LIMIT: Duration = Duration::from_secs(120);

/// How long a postmaster whose owner died may take to be stopped by its guard.
const PREDECESSOR_LIMIT: Duration = Duration::from_secs(35);

/// What a cluster survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A crash of the machine, as Postgres promises.
    Durable,
    /// A crash of Postgres only: nothing is synced to disk. Several times faster on a slow disk.
    Disposable,
}

/// Who can reach a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// Whoever may enter the folder of its Unix socket: the user that it runs as, and root.
    SocketOnly,
    /// Everybody on this machine too, without a password: for tests.
    Loopback {
        /// The port on 127.0.0.1; 0 takes any free one, and keeps it for later starts.
        port: u16,
    },
}

/// How to stop Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Cuts all connections, then ends cleanly.
    Fast,
    /// Like a crash: the next start recovers.
    Immediate,
}

/// What to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The folder of the cluster and all that goes with it; made if it is missing.
    pub data_dir: PathBuf,
    /// The programs, as [`find_binaries`](crate::find_binaries) found them.
    pub binaries: Binaries,
    /// What it survives.
    pub durability: Durability,
    /// Who can reach it.
    pub listen: Listen,
    /// Postgres' limit on connections.
    pub max_connections: u32,
    /// Further settings of Postgres; they win over the ones made here.
    pub extra: Vec<(String, String)>,
}

impl Settings {
    /// A durable cluster that is reached through its socket only.
    pub fn new(data_dir: impl Into<PathBuf>, binaries: Binaries) -> Self {
        Self {
            data_dir: data_dir.into(),
            binaries,
            durability: Durability::Durable,
            listen: Listen::SocketOnly,
            max_connections: 100,
            extra: Vec::new(),
        }
    }
}

/// Where a cluster's data belong if nobody says otherwise: `/var/lib/handoff` for root,
/// `$XDG_DATA_HOME/handoff` or `~/.local/share/handoff` for everybody else.
pub fn default_data_dir() -> Result<PathBuf, Error> {
    if geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/handoff"));
    }
    // The XDG specification: a relative path there is to be ignored.
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let home = || absolute("HOME").or_else(|| Some(User::from_uid(geteuid()).ok()??.dir));
    let share = absolute("XDG_DATA_HOME").or_else(|| Some(home()?.join(".local/share")));
    share
        .map(|share| share.join("handoff"))
        .ok_or_else(|| Error::NoUser {
            reason: "there is no home folder to keep data in: HOME is not set".to_owned(),
        })
}

/// A running cluster (or one between [`stop`](Self::stop) and [`start_again`](Self::start_again)).
///
/// Postgres is a child of this process, and stops when this value is dropped or the process ends,
/// however it ends.
#[derive(Debug)]
pub struct PrivatePostgres {
    settings: Settings,
    run_as: Option<RunAs>,
    /// Nobody while it is stopped.
    postmaster: Option<Child>,
    port: Option<Port>,
    paths: Paths,
    // Dropped in this order: the guard removes folders, then others may have them.
    guard: Guard,
    _lock: File,
}

/// What lies where.
#[derive(Debug)]
struct Paths {
    /// What initdb made: Postgres' data directory.
    cluster: PathBuf,
    log: PathBuf,
    socket_dir: PathBuf,
    /// Where the socket is when the data folder's path is too long for one.
    _short: Option<TempDir>,
}

impl PrivatePostgres {
    /// Starts the cluster in a folder, which is set up first if it holds none, and waits until it
    /// answers.
    pub fn start(settings: &Settings) -> Result<Self, Error> {
        Self::start_guarded(settings, None)
    }

    /// Like [`start`](Self::start); a folder given is removed at the end.
    pub(crate) fn start_guarded(settings: &Settings, remove: Option<&Path>) -> Result<Self, Error> {
        let data_dir = make_data_dir(&settings.data_dir)?;
        let cluster = data_dir.join("postgres");
        let run_as = RunAs::choose(&cluster, &data_dir)?;
        if let Some(run_as) = run_as
            .as_ref()
            .filter(|run_as| !run_as.can_enter(&data_dir))
        {
            return Err(Error::Unreachable {
                path: data_dir,
                user: run_as.name.clone(),
            });
        }

        let lock = lock(&data_dir, &cluster)?;
        wait_for_predecessor(&data_dir, &cluster)?;
        check_major(&cluster, &settings.binaries)?;

        let log = data_dir.join("postgres.log");
        // Two runs are kept, so that the log cannot grow for ever.
        if log.exists() {
            let old = data_dir.join("postgres.log.old");
            fs::rename(&log, &old).context(|| format!("rename {}", log.display()))?;
        }
        let (socket_dir, short) = make_socket_dir(&data_dir, run_as.as_ref())?;
        let port = match settings.listen {
            Listen::SocketOnly => None,
            Listen::Loopback { port } => {
                Some(Port::take(port).context(|| format!("take port {port} of 127.0.0.1"))?)
            }
        };
        let stop = match settings.durability {
            Durability::Durable => Stop::Fast,
            Durability::Disposable => Stop::Immediate,
        };
        let remove: Vec<&Path> = remove
            .into_iter()
            .chain(short.as_ref().map(TempDir::path))
            .collect();
        let mut postgres = Self {
            settings: settings.clone(),
            run_as,
            postmaster: None,
            port,
            guard: Guard::start(stop, &remove)?,
            paths: Paths {
                cluster,
                log,
                socket_dir,
                _short: short,
            },
            _lock: lock,
        };
        if !postgres.paths.cluster.exists() {
            postgres.initialize(&data_dir.join("postgres.new"))?;
        }
        postgres.launch()?;
        Ok(postgres)
    }

    /// Starts a cluster that was stopped, or has crashed, where it was: same socket, same port.
    pub fn start_again(&mut self) -> Result<(), Error> {
        self.reap();
        match self.postmaster {
            Some(_) => Ok(()),
            None => self.launch(),
        }
    }

    /// Stops Postgres and waits for its end. One that takes too long is stopped in a harder way.
    pub fn stop(&mut self, mode: Mode) -> Result<(), Error> {
        let steps = [
            (Signal::SIGINT, Duration::from_secs(30)),
            (Signal::SIGQUIT, Duration::from_secs(10)),
            (Signal::SIGKILL, Duration::from_secs(10)),
        ];
        let skipped = usize::from(mode == Mode::Immediate);
        for (signal, limit) in &steps[skipped..] {
            let Some(postmaster) = &mut self.postmaster else {
                return Ok(());
            };
            // It may have ended by itself; then the wait says so.
            let _ = kill(Pid::from_raw(postmaster.id() as i32), *signal);
            let ended = wait(postmaster, *limit).context(|| "wait for Postgres".to_owned())?;
            if ended.is_some() {
                self.reap();
            }
        }
        match &self.postmaster {
            None => Ok(()),
            Some(_) => Err(self.failed("postgres", "does not even react to SIGKILL".to_owned(), 0)),
        }
    }

    /// The postmaster's process id, unless it is stopped.
    pub fn pid(&self) -> Option<u32> {
        self.postmaster.as_ref().map(Child::id)
    }

    /// The URL of a database in this cluster, as libpq, sqlx and tokio-postgres understand it.
    pub fn url(&self, database: &str) -> String {
        let database = percent_encode(database.as_bytes());
        match &self.port {
            Some(port) => format!("postgresql://{USER}@127.0.0.1:{}/{database}", port.number),
            None => format!(
                "postgresql:///{database}?host={}&port={SOCKET_PORT}&user={USER}",
                percent_encode(self.paths.socket_dir.as_os_str().as_bytes())
            ),
        }
    }

    /// Where Postgres writes what it has to say.
    pub fn log(&self) -> &Path {
        &self.paths.log
    }

    /// The programs that serve this cluster.
    pub fn binaries(&self) -> &Binaries {
        &self.settings.binaries
    }

    /// Makes sure that there is a database of this name.
    pub fn create_database_if_missing(&self, name: &str) -> Result<(), Error> {
        /// SQLSTATE `duplicate_database`.
        const DUPLICATE: &str = "42P04";
        /// SQLSTATE `unique_violation`: somebody else is creating it at this moment.
        const RACE_LOST: &str = "23505";
        let statement = format!("create database \"{}\"", name.replace('"', "\"\""));
        match self.execute("postgres", &statement) {
            Err(Error::Refused { sqlstate, .. })
                if [DUPLICATE, RACE_LOST].contains(&&*sqlstate) =>
            {
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Executes one or several statements, as one transaction, and drops what they return.
    pub fn execute(&self, database: &str, sql: &str) -> Result<(), Error> {
        let name = format!(".s.PGSQL.{}", self.socket_port());
        wire::execute(&self.paths.socket_dir.join(name), USER, database, sql)
    }

    fn socket_port(&self) -> u16 {
        self.port.as_ref().map_or(SOCKET_PORT, |port| port.number)
    }

    /// Runs initdb beside the place where the cluster is to be: a cluster half made, after a
    /// power cut for instance, is never taken for one.
    fn initialize(&mut self, new: &Path) -> Result<(), Error> {
        remove_folder(new)?;
        make_private_dir(new, self.run_as.as_ref())?;
        // Both sort by bytes, as the relay's lists do. macOS has no C.UTF-8 of its own.
        let mut outcome = Ok(());
        for locale in ["C.UTF-8", "C"] {
            let log = self.open_log()?;
            let from = log.metadata().map_or(0, |meta| meta.len());
            let program = self.settings.binaries.dir.join("initdb");
            let mut command = self
                .guard
                .command(&program, self.run_as.as_ref(), log)
                .context(|| "prepare initdb".to_owned())?;
            command.arg("--pgdata").arg(new);
            command.args(["--username", USER, "--auth", "trust", "--encoding", "UTF8"]);
            command.args(["--locale", locale, "--no-instructions"]);
            if self.settings.durability == Durability::Disposable {
                command.arg("--no-sync");
            }
            let mut initdb = command.spawn().context(|| "start initdb".to_owned())?;
            drop(command);
            let status =
                wait(&mut initdb, INITDB_LIMIT).context(|| "wait for initdb".to_owned())?;
            if status.is_none() {
                let _ = kill(Pid::from_raw(initdb.id() as i32), Signal::SIGINT);
                initdb.wait().context(|| "wait for initdb".to_owned())?;
            }
            self.guard.disarm();
            outcome = match status {
                Some(status) if status.success() => Ok(()),
                Some(status) => Err(self.failed("initdb", status.to_string(), from)),
                None => Err(self.failed("initdb", format!("not done in {INITDB_LIMIT:?}"), from)),
            };
            if outcome.is_ok() {
                break;
            }
        }
        outcome?;
        fs::rename(new, &self.paths.cluster).context(|| format!("rename {}", new.display()))
    }

    /// Starts the postmaster and waits until it takes connections.
    fn launch(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + START_LIMIT;
        'attempts: loop {
            let log = self.open_log()?;
            let from = log.metadata().map_or(0, |meta| meta.len());
            let program = self.settings.binaries.dir.join("postgres");
            let mut command = self
                .guard
                .command(&program, self.run_as.as_ref(), log)
                .context(|| "prepare postgres".to_owned())?;
            command.arg("-D").arg(&self.paths.cluster);
            for (name, value) in self.postgres_settings() {
                command.arg("-c").arg(format!("{name}={value}"));
            }
            let postmaster = command.spawn().context(|| "start postgres".to_owned())?;
            drop(command);
            let pid = postmaster.id();
            self.postmaster = Some(postmaster);

            while Instant::now() < deadline {
                let file = PidFile::read(&self.paths.cluster);
                if file.is_some_and(|file| file.pid == pid as i32 && file.ready) {
                    return Ok(());
                }
                if let Some(status) = self.reap() {
                    let failed = self.failed("postgres", status, from);
                    // The backends of a killed postmaster end soon after it.
                    let left_behind = matches!(&failed, Error::Failed { tail, .. }
                        if tail.contains("pre-existing shared memory block"));
                    if left_behind {
                        thread::sleep(Duration::from_millis(50));
                        continue 'attempts;
                    }
                    return Err(failed);
                }
                thread::sleep(Duration::from_millis(2));
            }
            let failed = self.failed("postgres", format!("not ready in {START_LIMIT:?}"), from);
            let _ = self.stop(Mode::Immediate);
            return Err(failed);
        }
    }

    /// All that is asked of Postgres; for a name given twice, the later one wins.
    fn postgres_settings(&self) -> Vec<(String, String)> {
        let socket_dir = self.paths.socket_dir.to_string_lossy();
        let mut settings = vec![
            (
                "listen_addresses",
                if self.port.is_some() { "127.0.0.1" } else { "" }.to_owned(),
            ),
            ("port", self.socket_port().to_string()),
            // A list of folders: quoted, because a comma or a space would end the first.
            (
                "unix_socket_directories",
                format!("\"{}\"", socket_dir.replace('"', "\"\"")),
            ),
            ("max_connections", self.settings.max_connections.to_string()),
            ("logging_collector", "off".to_owned()),
            ("log_destination", "stderr".to_owned()),
            // Part of what the relay promises, and never worth turning off.
            ("synchronous_commit", "on".to_owned()),
        ];
        if self.settings.durability == Durability::Disposable {
            settings.push(("fsync", "off".to_owned()));
            settings.push(("full_page_writes", "off".to_owned()));
        }
        let settings = settings
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        settings
            .chain(self.settings.extra.iter().cloned())
            .collect()
    }

    /// If the postmaster has ended, takes note of it and says how.
    fn reap(&mut self) -> Option<String> {
        let status = self.postmaster.as_mut()?.try_wait().ok()??;
        self.guard.disarm();
        self.postmaster = None;
        Some(status.to_string())
    }

    fn open_log(&self) -> Result<File, Error> {
        let log = &self.paths.log;
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(log)
            .context(|| format!("open {}", log.display()))
    }

    /// The error for a program whose output begins at `from` in the log.
    fn failed(&self, program: &'static str, status: String, from: u64) -> Error {
        const LINES: usize = 20;
        let read = || -> io::Result<Vec<u8>> {
            let mut log = File::open(&self.paths.log)?;
            log.seek(SeekFrom::Start(from))?;
            let mut text = Vec::new();
            log.read_to_end(&mut text)?;
            Ok(text)
        };
        let tail = tail(&read().unwrap_or_default(), LINES);
        Error::Failed {
            program,
            status,
            log: self.paths.log.clone(),
            tail,
        }
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        // Nothing in a disposable cluster is worth a checkpoint.
        let mode = match self.settings.durability {
            Durability::Durable => Mode::Fast,
            Durability::Disposable => Mode::Immediate,
        };
        // The guard goes on where this fails.
        let _ = self.stop(mode);
    }
}

/// Makes the data folder if it is missing, and gives its full path.
pub(crate) fn make_data_dir(data_dir: &Path) -> Result<PathBuf, Error> {
    if !data_dir.exists() {
        fs::create_dir_all(data_dir).context(|| format!("create {}", data_dir.display()))?;
        // Root's stays root's: the user that Postgres runs as passes through.
        let mode = if geteuid().is_root() { 0o711 } else { 0o700 };
        fs::set_permissions(data_dir, Permissions::from_mode(mode))
            .context(|| format!("set the permissions of {}", data_dir.display()))?;
    }
    data_dir
        .canonicalize()
        .context(|| format!("find {}", data_dir.display()))
}

/// Makes a folder that the user Postgres runs as has for itself.
fn make_private_dir(dir: &Path, run_as: Option<&RunAs>) -> Result<(), Error> {
    DirBuilder::new()
        .mode(0o700)
        .create(dir)
        .context(|| format!("create {}", dir.display()))?;
    run_as.map_or(Ok(()), |run_as| run_as.own(dir))
}

/// Makes the folder of the socket: in the data folder, or, where that path is too long for a
/// socket or not text, in a temporary folder.
fn make_socket_dir(
    data_dir: &Path,
    run_as: Option<&RunAs>,
) -> Result<(PathBuf, Option<TempDir>), Error> {
    let dir = data_dir.join("socket");
    // What a crash left there: nobody serves this cluster, so nobody needs it.
    remove_folder(&dir)?;
    let longest = dir.join(".s.PGSQL.65535");
    if longest.as_os_str().len() <= SOCKET_PATH_MAX && dir.to_str().is_some() {
        make_private_dir(&dir, run_as)?;
        return Ok((dir, None));
    }
    let short = tempfile::Builder::new()
        .prefix("handoff-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in("/tmp")
        .context(|| "create a folder in /tmp".to_owned())?;
    if let Some(run_as) = run_as {
        run_as.own(short.path())?;
    }
    Ok((short.path().to_owned(), Some(short)))
}

fn remove_folder(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).context(|| format!("remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Takes the data folder for this process: the lock is free again when the process ends, however
/// it ends.
fn lock(data_dir: &Path, cluster: &Path) -> Result<File, Error> {
    let path = data_dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .context(|| format!("open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::AlreadyRunning {
            data_dir: data_dir.to_owned(),
            pid: PidFile::read(cluster).map(|file| file.pid),
        }),
        Err(TryLockError::Error(error)) => {
            Err(error).context(|| format!("lock {}", path.display()))
        }
    }
}

/// With the lock in hand, makes sure that no postmaster serves the cluster any more.
///
/// One whose owner was killed is being stopped by its guard: waited for. And after a crash of the
/// machine the process id in `postmaster.pid` may belong to any program by now, for which
/// Postgres would refuse to start; nobody answers at its socket then. Our own id in its place is
/// one that Postgres, as our child, knows to be no postmaster's, and it can still look for
/// backends left behind (which it could not if the file were gone).
fn wait_for_predecessor(data_dir: &Path, cluster: &Path) -> Result<(), Error> {
    /// Between closing its socket and removing the file a postmaster takes a moment.
    const SILENCE: Duration = Duration::from_secs(1);
    let deadline = Instant::now() + PREDECESSOR_LIMIT;
    let mut silent_since = Instant::now();
    loop {
        let Some(file) = PidFile::read(cluster) else {
            return Ok(());
        };
        if kill(Pid::from_raw(file.pid), None) == Err(Errno::ESRCH) {
            return Ok(());
        }
        if file.answers() {
            silent_since = Instant::now();
        }
        if silent_since.elapsed() > SILENCE {
            return file.put_own_pid(cluster);
        }
        if Instant::now() > deadline {
            let data_dir = data_dir.to_owned();
            return Err(Error::AlreadyRunning {
                data_dir,
                pid: Some(file.pid),
            });
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// A cluster can be served by its own major version only.
fn check_major(cluster: &Path, binaries: &Binaries) -> Result<(), Error> {
    let Ok(version) = fs::read_to_string(cluster.join("PG_VERSION")) else {
        return Ok(());
    };
    let found = version.trim().to_owned();
    if found == binaries.version.major.to_string() {
        return Ok(());
    }
    Err(Error::OtherMajor {
        cluster: cluster.to_owned(),
        matching: installed_major(&found),
        found,
        dir: binaries.dir.clone(),
        binaries: binaries.version,
    })
}

/// What a postmaster writes into `postmaster.pid`.
#[derive(Debug)]
struct PidFile {
    text: String,
    pid: i32,
    ready: bool,
}

impl PidFile {
    /// Nothing where there is no such file, or none that can be understood yet.
    fn read(cluster: &Path) -> Option<Self> {
        let text = fs::read_to_string(cluster.join("postmaster.pid")).ok()?;
        let pid = text
            .lines()
            .next()?
            .trim()
            .parse()
            .ok()
            .filter(|pid| *pid > 0)?;
        // A standby takes connections too, and says so in this way.
        let ready = text
            .lines()
            .nth(7)
            .is_some_and(|status| matches!(status.trim(), "ready" | "standby"));
        Some(Self { text, pid, ready })
    }

    /// Whether somebody accepts connections at the socket that is named here.
    fn answers(&self) -> bool {
        let line = |index| self.text.lines().nth(index);
        let (Some(port), Some(dir)) = (line(3), line(4)) else {
            return false;
        };
        UnixStream::connect(Path::new(dir).join(format!(".s.PGSQL.{port}"))).is_ok()
    }

    fn put_own_pid(&self, cluster: &Path) -> Result<(), Error> {
        let path = cluster.join("postmaster.pid");
        let rest = self.text.split_once('\n').map_or("", |(_, rest)| rest);
        fs::write(&path, format!("{}\n{rest}", std::process::id()))
            .context(|| format!("write {}", path.display()))
    }
}

/// Leaves what is safe in a path or a query of a URL, and escapes the rest.
fn percent_encode(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|&byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
