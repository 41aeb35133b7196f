//! Backups that are restored, and a standby that takes over: the procedures of
//! helm/handoff/OPERATIONS.md, on real Postgres servers with Postgres' own programs.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use handoff_private_postgres::{BINARIES_SETTING, find_binaries};
use harness::{TestRelay, eventually, run};
use nix::unistd::{Uid, User, chown};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::rolling::begin;

/// Postgres servers in a folder of their own, run as a user who isn't root.
struct Servers {
    folder: TempDir,
    programs: PathBuf,
}

impl Servers {
    fn new() -> Servers {
        let setting = std::env::var_os(BINARIES_SETTING).map(PathBuf::from);
        let found = find_binaries(setting.as_deref()).unwrap().dir;
        // Where a link leads to, all of Postgres' programs lie together.
        let postgres = found.join("postgres").canonicalize().unwrap();
        let programs = postgres.parent().unwrap().to_owned();
        // Not where a private TMPDIR of root's would keep others out.
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        if Uid::effective().is_root() {
            let user = User::from_name("postgres").unwrap();
            let user = user.expect("Debian's Postgres brings its user");
            chown(folder.path(), Some(user.uid), Some(user.gid)).unwrap();
        }
        Servers { folder, programs }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Runs one of Postgres' programs to its end; its standard output.
    async fn run(&self, program: &str, arguments: &[&str]) -> String {
        let program = self.programs.join(program);
        let mut command = match Uid::effective().is_root() {
            true => {
                let mut command = Command::new("runuser");
                command.args(["-u", "postgres", "--"]).arg(&program);
                command
            }
            false => Command::new(&program),
        };
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("LC_ALL", "C");
        let finished = tokio::task::spawn_blocking(|| run(command)).await.unwrap();
        let finished = finished.unwrap();
        let arguments = arguments.join(" ");
        assert!(
            finished.status.success(),
            "{} {arguments}: {finished:?}",
            program.display()
        );
        finished.stdout
    }

    /// Makes a server's data folder.
    async fn init(&self, name: &str) {
        let data = self.path(name);
        let options = ["--auth=trust", "--username=handoff", "--encoding=UTF8"];
        self.run("initdb", &[&["-D", &data], &options[..]].concat())
            .await;
    }

    async fn start(&self, name: &str, port: u16) {
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={port} -c max_connections=200 \
             -c unix_socket_directories={}",
            self.folder.path().display()
        );
        let (data, log) = (self.path(name), self.path(&format!("{name}.log")));
        let start = ["start", "-w", "-D", &data, "-l", &log, "-o", &options];
        self.run("pg_ctl", &start).await;
    }

    async fn stop(&self, name: &str, mode: &str) {
        let data = self.path(name);
        self.run("pg_ctl", &["stop", "-w", "-m", mode, "-D", &data])
            .await;
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.folder.path()).into_iter().flatten() {
            let data = entry.unwrap().path();
            let pid = std::fs::read_to_string(data.join("postmaster.pid"));
            let pid = pid.ok().and_then(|pid| pid.lines().next()?.parse().ok());
            if let Some(pid) = pid {
                let pid = nix::unistd::Pid::from_raw(pid);
                // SIGQUIT: at once, together with all of its backends.
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGQUIT).ok();
            }
        }
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn url(port: u16, database: &str) -> String {
    format!("postgres://handoff@127.0.0.1:{port}/{database}?sslmode=disable")
}

#[tokio::test]
async fn g1_g2_g3_a_synchronous_standby_takes_over_and_nothing_is_lost() {
    let servers = Servers::new();
    let port = free_port();
    servers.init("first").await;
    servers.start("first", port).await;
    let postgres = url(port, "postgres");
    let relay = TestRelay::builder()
        .database(&postgres)
        .replicas(2)
        .start()
        .await;
    let mut load = harness::load::Load::new(&relay.admin(), [0, 1]);
    begin(&mut load);
    load.stored_more(50).await;

    // The standby is made while all goes on; from then on a commit waits for it.
    let data = servers.path("second");
    let copy = [
        "--checkpoint=fast",
        "--wal-method=stream",
        "--write-recovery-conf",
    ];
    servers
        .run(
            "pg_basebackup",
            &[&["-d", &postgres, "-D", &data], &copy[..]].concat(),
        )
        .await;
    servers.start("second", free_port()).await;
    let sql = |statement: &'static str| {
        let (servers, postgres) = (&servers, &postgres);
        async move {
            let options = ["-X", "-q", "-A", "-t", "-d", postgres, "-c", statement];
            servers.run("psql", &options).await
        }
    };
    sql("alter system set synchronous_standby_names = '*'").await;
    sql("select pg_reload_conf()").await;
    eventually("the standby is synchronous", || async {
        let state = sql("select sync_state from pg_stat_replication").await;
        (state.trim() == "sync").then_some(())
    })
    .await;
    load.stored_more(200).await;

    // The power of the first is cut; the second takes its place and its address.
    let cut = Instant::now();
    servers.stop("first", "immediate").await;
    servers.run("pg_ctl", &["promote", "-w", "-D", &data]).await;
    servers.stop("second", "fast").await;
    servers.start("second", port).await;
    sql("alter system set synchronous_standby_names = ''").await;
    sql("select pg_reload_conf()").await;
    load.stored_more(1).await;
    let down = cut.elapsed();
    load.stored_more(200).await;
    let history = load.finish().await;
    println!(
        "{} writes, {} of unknown outcome; no write was stored for {down:?}",
        history.writes(),
        history.unknown()
    );
    history.assert_sound();
}

#[tokio::test]
async fn a_dump_is_restored_and_serves_on() {
    let servers = Servers::new();
    let port = free_port();
    servers.init("first").await;
    servers.start("first", port).await;
    servers
        .run(
            "createdb",
            &[
                "-h",
                "127.0.0.1",
                "-p",
                &port.to_string(),
                "-U",
                "handoff",
                "live",
            ],
        )
        .await;
    let live = url(port, "live");
    let relay = TestRelay::builder().database(&live).start().await;
    let admin = relay.admin();
    let bob = relay.agent("bob", json!({"ops": "write"})).await;
    for n in 0..20 {
        bob.say("ops", &format!("message {n}")).await;
    }
    let ack = json!({"last_read_id": bob.say("ops", "the last").await["id"]});
    bob.post("/api/channels/ops/ack", ack).await.expect(200);
    let status = json!({"key": "build", "value": "green"});
    bob.put("/api/channels/ops/status", status)
        .await
        .expect(200);

    // Taken while the relay serves; what comes after it is not in it.
    let dump = servers.path("handoff.dump");
    servers
        .run(
            "pg_dump",
            &["--format=custom", "--file", &dump, "-d", &live],
        )
        .await;
    let pages = [
        "/api/channels/ops/messages?after_id=0&limit=100",
        "/api/channels/ops/acks",
        "/api/channels/ops/status",
        "/api/channels/ops/status/changes?after_id=0",
        "/api/keys",
    ];
    let before = read(&admin, &pages).await;
    bob.say("ops", "after the backup").await;

    let restored = url(port, "restored");
    servers
        .run(
            "createdb",
            &[
                "-h",
                "127.0.0.1",
                "-p",
                &port.to_string(),
                "-U",
                "handoff",
                "restored",
            ],
        )
        .await;
    let load = [
        "--exit-on-error",
        "--single-transaction",
        "--no-owner",
        "-d",
        &restored,
        &dump,
    ];
    servers.run("pg_restore", &load).await;
    let places = [
        ("DATABASE_URL", restored.as_str()),
        ("DATABASE_LISTEN_URL", restored.as_str()),
    ];
    let replica = relay.start_replica(&places).await;
    assert_eq!(read(&admin.on(replica), &pages).await, before);

    // The team's order and the channel's numbers go on where the backup was taken.
    let next = bob.on(replica).say("ops", "after the restore").await;
    let messages = before[0]["messages"].as_array().unwrap();
    let newest = messages.last().unwrap();
    assert!(id(&next) > id(newest), "{next} {newest}");
    assert_eq!(next["seq"], 22);
}

async fn read(agent: &harness::Agent, pages: &[&str]) -> Vec<Value> {
    let mut read = Vec::new();
    for page in pages {
        read.push(agent.get(page).await.expect(200));
    }
    read
}

fn id(message: &Value) -> u64 {
    message["id"].as_str().unwrap().parse().unwrap()
}
