//! A Postgres cluster of one's own: found, set up, started, stopped.
//!
//! In goes a folder and the wish for a database; out comes a URL that answers, and the promise
//! that whatever was started is stopped again, even when its owner is killed. For
//! `handoff-relay dev`, which keeps its cluster's state, and for tests, which throw theirs away.
//! It is not for production: it does no backups, no upgrades and no passwords.

mod binaries;
mod cluster;
#[cfg(feature = "download")]
mod download;
mod ephemeral;
mod error;
mod guard;
mod obtain;
mod port;
mod user;
mod wire;

pub use binaries::{BINARIES_SETTING, Binaries, MINIMUM_MAJOR, Version, find_binaries};
pub use cluster::{Durability, Listen, Mode, PrivatePostgres, Settings, default_data_dir};
pub use ephemeral::Ephemeral;
pub use error::Error;
pub use obtain::{find_or_obtain, obtain};
