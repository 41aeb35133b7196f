//! Clusters made, stopped, crashed and started again, as their owners see it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    io::{self, BufRead, BufReader},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::Path,
    process::{Command, Stdio},
};

use handoff_private_postgres::{
    Durability, Ephemeral, Error, Listen, Mode, PrivatePostgres, Settings,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use support::{binaries, eventually, folder, lives, query, runtime};

mod support;

fn start(data_dir: &Path) -> PrivatePostgres {
    PrivatePostgres::start(&settings(data_dir)).unwrap()
}

/// Like a cluster that is kept, but does not make a slow disk slower.
fn settings(data_dir: &Path) -> Settings {
    Settings {
        durability: Durability::Disposable,
        ..Settings::new(data_dir, binaries())
    }
}

fn start_durable(data_dir: &Path) -> PrivatePostgres {
    PrivatePostgres::start(&Settings::new(data_dir, binaries())).unwrap()
}

#[test]
fn state_is_kept_between_runs() {
    let folder = folder();
    let data_dir = folder.path().join("data");
    {
        let postgres = start_durable(&data_dir);
        postgres.create_database_if_missing("relay").unwrap();
        postgres.create_database_if_missing("relay").unwrap();
        query(
            &postgres.url("relay"),
            "create table kept as select 'still here' as words",
        );
    }
    let postgres = start_durable(&data_dir);
    postgres.create_database_if_missing("relay").unwrap();
    let words = query(&postgres.url("relay"), "select words from kept");
    assert_eq!(words.as_deref(), Some("still here"));
}

/// What `an_owner_that_is_killed_loses_nothing` runs as a process of its own: a durable cluster
/// in the folder given, until it is killed.
#[test]
#[ignore = "only a part of another test"]
fn owner() {
    let Some(folder) = std::env::var_os(OWNED) else {
        return;
    };
    let postgres = start_durable(Path::new(&folder));
    query(&postgres.url("postgres"), "create table kept as select 1");
    println!("{}", postgres.pid().unwrap());
    // Until the other test is gone too, should it fail.
    io::stdin().read_line(&mut String::new()).unwrap();
}

/// The variable that names the folder for `owner`.
const OWNED: &str = "HANDOFF_TEST_OWNED";

#[test]
fn an_owner_that_is_killed_loses_nothing() {
    let folder = folder();
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "owner", "--nocapture"])
        .env(OWNED, folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let pid: i32 = lines
        .map_while(Result::ok)
        .find_map(|line| line.parse().ok())
        .unwrap();
    owner.kill().unwrap();
    owner.wait().unwrap();
    // Without waiting for the guard: whoever comes next does that.
    let postgres = start_durable(folder.path());
    assert!(!lives(pid));
    let kept = query(&postgres.url("postgres"), "select count(*) from kept");
    assert_eq!(kept.as_deref(), Some("1"));
}

#[test]
fn dropping_it_stops_it_cleanly() {
    let folder = folder();
    let postgres = start_durable(folder.path());
    let pid = postgres.pid().unwrap() as i32;
    assert!(lives(pid));
    drop(postgres);
    assert!(!lives(pid));
    assert!(!folder.path().join("postgres/postmaster.pid").exists());
}

#[test]
fn both_drivers_understand_the_urls() {
    let folder = folder();
    let by_socket = start(folder.path());
    let by_port = Ephemeral::start().unwrap();
    let odd = "odd \"name\" / 100% ü?&=#";
    for postgres in [&by_socket, &*by_port] {
        postgres.create_database_if_missing(odd).unwrap();
        for database in ["postgres", odd] {
            let url = postgres.url(database);
            let seen = query(&url, "select current_database() || ' ' || current_user");
            assert_eq!(
                seen,
                Some(format!("{database} handoff")),
                "tokio-postgres, {url}"
            );
            let seen: String = runtime().block_on(async {
                use sqlx::Connection;
                let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
                let row: (String,) = sqlx::query_as("select current_database()::text")
                    .fetch_one(&mut connection)
                    .await
                    .unwrap();
                connection.close().await.unwrap();
                row.0
            });
            assert_eq!(seen, database, "sqlx, {url}");
        }
    }
}

#[test]
fn text_is_utf8_and_sorts_by_bytes() {
    let postgres = Ephemeral::start().unwrap();
    let url = postgres.url("postgres");
    assert_eq!(query(&url, "show server_encoding").as_deref(), Some("UTF8"));
    let sorted = query(
        &url,
        "select string_agg(name, ' ' order by name) from unnest(array['alerts', 'Zoo', 'ü']) name",
    );
    assert_eq!(sorted.as_deref(), Some("Zoo alerts ü"));
}

#[test]
fn a_commit_waits_for_its_record_and_a_durable_one_for_the_disk() {
    let folder = folder();
    let durable = start_durable(folder.path());
    let disposable = Ephemeral::start().unwrap();
    let setting = |postgres: &PrivatePostgres, name: &str| {
        query(&postgres.url("postgres"), &format!("show {name}")).unwrap()
    };
    for (name, expected) in [
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
    ] {
        assert_eq!(setting(&durable, name), expected, "{name}");
    }
    for (name, expected) in [
        ("fsync", "off"),
        ("full_page_writes", "off"),
        ("synchronous_commit", "on"),
    ] {
        assert_eq!(setting(&disposable, name), expected, "{name}");
    }
    assert_eq!(setting(&disposable, "max_connections"), "500");
    assert_eq!(setting(&durable, "listen_addresses"), "");
}

#[test]
fn after_an_immediate_stop_it_starts_again_at_the_same_place() {
    let mut postgres = Ephemeral::start().unwrap();
    let url = postgres.url("postgres");
    query(&url, "create table kept as select 1");
    let before = postgres.pid().unwrap();
    for mode in [Mode::Immediate, Mode::Fast] {
        postgres.stop(mode).unwrap();
        assert_eq!(postgres.pid(), None);
        assert!(!lives(before as i32));
        postgres.stop(mode).unwrap();
        postgres.start_again().unwrap();
        assert_eq!(postgres.url("postgres"), url);
        assert_eq!(
            query(&url, "select count(*) from kept").as_deref(),
            Some("1")
        );
    }
    let running = postgres.pid().unwrap();
    assert_ne!(running, before);
    postgres.start_again().unwrap();
    assert_eq!(postgres.pid(), Some(running));
}

#[test]
fn a_killed_postmaster_is_replaced() {
    let mut postgres = Ephemeral::start().unwrap();
    let url = postgres.url("postgres");
    let before = postgres.pid().unwrap();
    kill(Pid::from_raw(before as i32), Signal::SIGKILL).unwrap();
    eventually("the postmaster is dead", || !lives(before as i32));
    postgres.start_again().unwrap();
    assert_ne!(postgres.pid(), Some(before));
    assert_eq!(query(&url, "select 'up'").as_deref(), Some("up"));
}

#[test]
#[cfg(target_os = "linux")]
fn nobody_else_gets_the_port_while_it_is_down() {
    let mut postgres = Ephemeral::start().unwrap();
    postgres.stop(Mode::Immediate).unwrap();
    let url = postgres.url("postgres");
    let port: u16 = url.rsplit([':', '/']).nth(1).unwrap().parse().unwrap();
    // More than enough for the port to come up if it were free to be given away.
    let others: Vec<_> = (0..2000)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    assert!(
        others
            .iter()
            .all(|other| other.local_addr().unwrap().port() != port)
    );
    drop(others);
    postgres.start_again().unwrap();
    assert_eq!(query(&url, "select 'up'").as_deref(), Some("up"));
}

#[test]
fn a_folder_in_use_is_refused_with_the_process_that_uses_it() {
    let folder = folder();
    let first = start(folder.path());
    let refused = PrivatePostgres::start(&settings(folder.path())).unwrap_err();
    let message = refused.to_string();
    assert!(matches!(refused, Error::AlreadyRunning { .. }), "{message}");
    assert!(
        message.contains(&format!("process {}", first.pid().unwrap())),
        "{message}"
    );
    // The refusal did the first one no harm.
    assert_eq!(
        query(&first.url("postgres"), "select 'up'").as_deref(),
        Some("up")
    );
}

#[test]
fn a_process_id_left_by_a_crash_and_taken_by_a_stranger_does_no_harm() {
    let folder = folder();
    let mut postgres = start(folder.path());
    postgres.stop(Mode::Fast).unwrap();
    let cluster = folder.path().join("postgres");
    let owner = fs::metadata(&cluster).unwrap();
    drop(postgres);

    // A stranger of the same user: Postgres by itself takes it for a postmaster.
    let mut stranger = Command::new("sleep")
        .arg("600")
        .uid(owner.uid())
        .gid(owner.gid())
        .spawn()
        .unwrap();
    let left = format!(
        "{}\n{}\n1\n5432\n{}\n\n0 0\nready   \n",
        stranger.id(),
        cluster.display(),
        folder.path().join("socket").display()
    );
    fs::write(cluster.join("postmaster.pid"), left).unwrap();

    let postgres = start(folder.path());
    assert_eq!(
        query(&postgres.url("postgres"), "select 'up'").as_deref(),
        Some("up")
    );
    assert!(
        stranger.try_wait().unwrap().is_none(),
        "the stranger was not touched"
    );
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn a_cluster_half_made_is_made_anew() {
    let folder = folder();
    let half = folder.path().join("postgres.new");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("PG_VERSION"), "15\n").unwrap();
    let postgres = start(folder.path());
    assert_eq!(
        query(&postgres.url("postgres"), "select 'up'").as_deref(),
        Some("up")
    );
    assert!(!half.exists());
}

#[test]
fn data_of_another_major_version_are_left_alone() {
    let folder = folder();
    drop(start(folder.path()));
    let version = folder.path().join("postgres/PG_VERSION");
    fs::write(&version, "14\n").unwrap();
    let refused = PrivatePostgres::start(&settings(folder.path())).unwrap_err();
    let message = refused.to_string();
    for part in [
        "written by Postgres 14",
        &binaries().version.to_string(),
        "HANDOFF_POSTGRES_BIN",
    ] {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[test]
fn what_postgres_says_is_in_the_error() {
    let folder = folder();
    let settings = Settings {
        extra: vec![(
            "shared_buffers".to_owned(),
            "as much as you like".to_owned(),
        )],
        ..settings(folder.path())
    };
    let message = PrivatePostgres::start(&settings).unwrap_err().to_string();
    for part in [
        "postgres failed",
        "postgres.log",
        "shared_buffers",
        "as much as you like",
    ] {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[test]
fn a_taken_port_is_an_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let folder = folder();
    let settings = Settings {
        listen: Listen::Loopback { port },
        ..settings(folder.path())
    };
    let message = PrivatePostgres::start(&settings).unwrap_err().to_string();
    assert!(message.contains(&format!("port {port}")), "{message}");
}

#[test]
fn a_folder_with_a_long_or_odd_name_works() {
    let folder = folder();
    for name in ["x".repeat(150), "a comma, a \"quote\" & 100 % ü".to_owned()] {
        let postgres = start(&folder.path().join(&name));
        let seen = query(&postgres.url("postgres"), "show unix_socket_directories").unwrap();
        let socket_dir = Path::new(seen.trim_matches('"')).to_owned();
        drop(postgres);
        if name.starts_with('x') {
            assert!(socket_dir.starts_with("/tmp"), "{}", socket_dir.display());
            assert!(
                !socket_dir.exists(),
                "{} was left behind",
                socket_dir.display()
            );
        }
    }
}

#[test]
fn it_never_runs_as_root() {
    let folder = folder();
    let postgres = start(folder.path());
    let cluster = fs::metadata(folder.path().join("postgres")).unwrap();
    let socket = fs::metadata(folder.path().join("socket")).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", postgres.pid().unwrap())).unwrap();
    let line = |name| status.lines().find(|line| line.starts_with(name)).unwrap();
    let uids = format!("Uid:\t{0}\t{0}\t{0}\t{0}", cluster.uid());
    assert_eq!(line("Uid:"), uids);
    assert_ne!(cluster.uid(), 0);
    assert_eq!(
        (cluster.mode() & 0o777, socket.mode() & 0o777),
        (0o700, 0o700)
    );
    if geteuid().is_root() {
        assert_eq!(
            line("Groups:").trim_end(),
            "Groups:",
            "root's groups are dropped too"
        );
    } else {
        assert_eq!(cluster.uid(), geteuid().as_raw());
    }
}

#[test]
fn a_folder_that_its_user_cannot_reach_is_named() {
    if !geteuid().is_root() {
        // Everybody else runs Postgres as themselves.
        return;
    }
    let private = folder();
    fs::set_permissions(private.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let data_dir = private.path().join("data");
    let refused = PrivatePostgres::start(&settings(&data_dir)).unwrap_err();
    let message = refused.to_string();
    assert!(matches!(refused, Error::Unreachable { .. }), "{message}");
    assert!(message.contains(data_dir.to_str().unwrap()), "{message}");
}

#[test]
fn an_ephemeral_one_leaves_nothing() {
    let postgres = Ephemeral::start().unwrap();
    let pid = postgres.pid().unwrap() as i32;
    let folder = postgres.log().parent().unwrap().to_owned();
    assert!(folder.exists() && lives(pid));
    drop(postgres);
    assert!(!folder.exists() && !lives(pid));
}
