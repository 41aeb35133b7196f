//! A cluster for tests: fast, in a temporary folder, gone at the end in every case.

use std::{
    env,
    fs::Permissions,
    ops::{Deref, DerefMut},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

use tempfile::TempDir;

use crate::{
    BINARIES_SETTING, Binaries, Durability, Error, Listen, PrivatePostgres, Settings,
    error::Context, find_binaries, user::RunAs,
};

/// A cluster that is removed when this value is dropped or its process ends, however it ends.
///
/// It syncs nothing to disk, so it survives a crash of Postgres but not one of the machine.
#[derive(Debug)]
pub struct Ephemeral {
    postgres: PrivatePostgres,
}

impl Ephemeral {
    /// Starts a cluster on 127.0.0.1, of the Postgres that `HANDOFF_POSTGRES_BIN` names or that
    /// is found.
    pub fn start() -> Result<Self, Error> {
        let setting = env::var_os(BINARIES_SETTING).map(PathBuf::from);
        Self::start_with(find_binaries(setting.as_deref())?)
    }

    /// Starts a cluster on 127.0.0.1, of this Postgres.
    pub fn start_with(binaries: Binaries) -> Result<Self, Error> {
        let folder = make_folder()?;
        let settings = Settings {
            durability: Durability::Disposable,
            listen: Listen::Loopback { port: 0 },
            // Many tests at once, each with relays of its own.
            max_connections: 500,
            extra: vec![("shared_buffers".to_owned(), "64MB".to_owned())],
            ..Settings::new(folder.path(), binaries)
        };
        let postgres = PrivatePostgres::start_guarded(&settings, Some(folder.path()))?;
        // The guard sees to it from here on.
        let _ = folder.keep();
        Ok(Self { postgres })
    }
}

impl Deref for Ephemeral {
    type Target = PrivatePostgres;

    fn deref(&self) -> &PrivatePostgres {
        &self.postgres
    }
}

impl DerefMut for Ephemeral {
    fn deref_mut(&mut self) -> &mut PrivatePostgres {
        &mut self.postgres
    }
}

/// A temporary folder that the user who will run Postgres can enter: root's `TMPDIR` may be a
/// private one.
fn make_folder() -> Result<TempDir, Error> {
    let run_as = RunAs::unprivileged()?;
    let fits = |folder: &PathBuf| {
        run_as
            .as_ref()
            .is_none_or(|run_as| run_as.can_enter(folder))
    };
    let temp = env::temp_dir();
    let parent = [
        temp.clone(),
        PathBuf::from("/tmp"),
        PathBuf::from("/var/tmp"),
    ]
    .into_iter()
    .find(fits)
    .unwrap_or(temp);
    // Root's stays root's: the user that Postgres runs as passes through.
    let mode = if run_as.is_some() { 0o711 } else { 0o700 };
    tempfile::Builder::new()
        .prefix("handoff-postgres-")
        .permissions(Permissions::from_mode(mode))
        .tempdir_in(&parent)
        .context(|| format!("create a folder in {}", parent.display()))
}
