//! What these tests share: folders, processes, and conditions waited for.

#![allow(dead_code, reason = "not every test needs all of it")]

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use handoff_private_postgres::{BINARIES_SETTING, Binaries, find_binaries};
use nix::{sys::signal::kill, unistd::Pid};
use tempfile::TempDir;

/// The Postgres that the tests run with.
pub(crate) fn binaries() -> Binaries {
    let setting = std::env::var_os(BINARIES_SETTING);
    find_binaries(setting.as_ref().map(Path::new)).unwrap()
}

/// A temporary folder that every user can pass through.
pub(crate) fn folder() -> TempDir {
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).unwrap();
    folder
}

/// Waits for something to become true.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process is there; one that has ended and was not reaped is not.
pub(crate) fn lives(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    kill(Pid::from_raw(pid), None).is_ok() && !status.contains("State:\tZ")
}

/// Runs one statement and gives the first column of the first row, as tokio-postgres sees it.
pub(crate) fn query(url: &str, sql: &str) -> Option<String> {
    runtime().block_on(async {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
            .await
            .unwrap();
        let connection = tokio::spawn(connection);
        let messages = client.simple_query(sql).await.unwrap();
        drop(client);
        connection.await.unwrap().unwrap();
        messages.into_iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
    })
}

/// A runtime for one conversation.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}
