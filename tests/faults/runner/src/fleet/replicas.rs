//! A replica, its links, and whoever watches over it: one that ends is started again, unless it is
//! down on purpose.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::{Proxy, Replica};
use tokio::time::sleep;

use super::until;

/// How soon a replica that has ended is started again.
const WATCH: Duration = Duration::from_millis(50);

/// How long a replica may take to start where nothing is broken.
const LIMIT: Duration = Duration::from_secs(60);

/// What stands between a replica and the rest, one proxy each.
pub struct Links {
    /// To Postgres: the pools that read.
    pub database: Proxy,
    /// To Postgres: what needs sessions, which is the lanes, the listener and the notifier.
    pub listen: Proxy,
    /// From its clients, the balancer among them.
    pub clients: Proxy,
}

impl Links {
    pub(super) async fn start(database_url: &str, at: SocketAddr) -> Links {
        // Where nobody listens, until the replica runs.
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        Links {
            database: Proxy::start(database_url).await,
            listen: Proxy::start(database_url).await,
            clients: Proxy::start_at(at, nowhere).await,
        }
    }
}

/// One replica of the fleet, in all its lives.
pub struct Member {
    /// Its number.
    pub index: usize,
    /// Its links, which outlive its process.
    pub links: Links,
    program: PathBuf,
    folder: PathBuf,
    process: Mutex<Option<Life>>,
    /// It is down on purpose.
    held: AtomicBool,
    /// How often it ended without having been asked to.
    deaths: AtomicUsize,
    /// Ends of it that are asked for.
    asked: AtomicBool,
}

#[derive(Clone)]
struct Life {
    replica: Arc<Replica>,
    began: Instant,
}

impl Member {
    pub(super) async fn start(
        index: usize,
        program: &Path,
        folder: &Path,
        links: Links,
    ) -> Result<Arc<Member>> {
        let member = Arc::new(Member {
            index,
            links,
            program: program.to_owned(),
            folder: folder.to_owned(),
            process: Mutex::new(None),
            held: AtomicBool::new(false),
            deaths: AtomicUsize::new(0),
            asked: AtomicBool::new(false),
        });
        fs::write(member.clock_file(), "+0\n")?;
        member.launch().await?;
        tokio::spawn(watch(Arc::downgrade(&member)));
        Ok(member)
    }

    /// Where its clients find it: its link.
    pub fn url(&self) -> String {
        self.links.clients.url().to_owned()
    }

    /// Its process, while there is one.
    pub fn process(&self) -> Option<Arc<Replica>> {
        Some(self.life()?.replica)
    }

    /// Its process's number, and for how long it has run.
    pub fn age(&self) -> Option<(i32, Duration)> {
        let life = self.life()?;
        Some((life.replica.pid().as_raw(), life.began.elapsed()))
    }

    /// How often it has ended by itself.
    pub fn deaths(&self) -> usize {
        self.deaths.load(Ordering::SeqCst)
    }

    /// Its process, which is there.
    pub fn running(&self) -> Result<Arc<Replica>> {
        self.process()
            .with_context(|| format!("replica {} doesn't run", self.index))
    }

    /// From now on nobody starts it.
    pub fn hold(&self) {
        self.held.store(true, Ordering::SeqCst);
        self.asked.store(true, Ordering::SeqCst);
    }

    /// Starts it again, now.
    pub fn release(&self) {
        self.held.store(false, Ordering::SeqCst);
    }

    /// Waits until another process than this one runs.
    pub async fn until_replaced(&self, old: i32) -> Result<()> {
        until("a replica is replaced", LIMIT, || async {
            let life = self.life()?;
            (life.replica.pid().as_raw() != old && !life.replica.has_ended()).then_some(())
        })
        .await
    }

    /// By how many seconds its clock is wrong from now on.
    pub fn step_clock(&self, seconds: i64) -> Result<()> {
        // Renamed into place: the replica reads it at any moment.
        let new = self.clock_file().with_extension("new");
        fs::write(&new, format!("{seconds:+}\n"))?;
        Ok(fs::rename(new, self.clock_file())?)
    }

    fn clock_file(&self) -> PathBuf {
        self.folder.join(format!("clock-{}", self.index))
    }

    fn life(&self) -> Option<Life> {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        process.clone()
    }

    async fn launch(&self) -> Result<()> {
        let replica = Replica::try_start(&self.program, self.environment());
        let replica = replica.await.map_err(anyhow::Error::msg)?;
        self.links.clients.lead_to(replica.address());
        self.asked.store(false, Ordering::SeqCst);
        let life = Life {
            replica: Arc::new(replica),
            began: Instant::now(),
        };
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(life);
        Ok(())
    }

    fn environment(&self) -> Vec<(String, String)> {
        let mut environment: Vec<(String, String)> = [
            ("PORT", "0"),
            ("HANDOFF_BIND", "127.0.0.1"),
            ("DATABASE_URL", self.links.database.url()),
            ("DATABASE_LISTEN_URL", self.links.listen.url()),
            // Limits are checked, but never reached.
            ("RATE_LIMIT_MAX", "1000000"),
            ("HANDOFF_SIGNUPS_PER_HOUR", "1000000"),
            ("HANDOFF_STREAMS_PER_KEY", "100000"),
            ("HANDOFF_KEYS_PER_TEAM", "100000"),
            ("HANDOFF_CHANNELS_PER_TEAM", "10000"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        if let Ok(filter) = std::env::var("RUST_LOG") {
            environment.push(("RUST_LOG".to_owned(), filter));
        }
        if let Some(library) = false_clock() {
            let file = self.clock_file().display().to_string();
            environment.extend(
                [
                    ("LD_PRELOAD", library.display().to_string()),
                    ("FAKETIME_TIMESTAMP_FILE", file),
                    // A clock that steps is the one of the wall; timers go by another.
                    ("DONT_FAKE_MONOTONIC", "1".to_owned()),
                    ("FAKETIME_CACHE_DURATION", "1".to_owned()),
                ]
                .map(|(name, value)| (name.to_owned(), value)),
            );
        }
        environment
    }

    /// Adds the log of a life that is over to the replica's file.
    fn keep_log(&self, life: &Life) {
        use std::io::Write;
        let path = self.folder.join(format!("replica-{}.log", self.index));
        let file = fs::OpenOptions::new().create(true).append(true).open(path);
        if let Ok(mut file) = file {
            // Without its log a run is as good.
            file.write_all(life.replica.logs().as_bytes()).ok();
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(life) = self.life() {
            self.keep_log(&life);
        }
    }
}

/// The library that shows a process another time, where it is installed.
pub(crate) fn false_clock() -> Option<PathBuf> {
    let places = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib",
    ];
    let library = |place| Path::new(place).join("faketime/libfaketimeMT.so.1");
    places.into_iter().map(library).find(|path| path.is_file())
}

/// Starts a replica again whenever it has ended; ends with the fleet.
async fn watch(member: Weak<Member>) {
    loop {
        sleep(WATCH).await;
        let Some(member) = member.upgrade() else {
            return;
        };
        let life = member.life();
        if let Some(life) = &life {
            if !life.replica.has_ended() {
                continue;
            }
            member.keep_log(life);
            if !member.asked.load(Ordering::SeqCst) {
                member.deaths.fetch_add(1, Ordering::SeqCst);
            }
            *member
                .process
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = None;
        }
        if !member.held.load(Ordering::SeqCst) {
            // It ends where it finds no Postgres, and is started again, as by any orchestrator.
            member.launch().await.ok();
        }
    }
}
