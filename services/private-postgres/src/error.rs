//! What can go wrong, each said so that the reader knows what to do next.

use std::{io, path::PathBuf};

use crate::{BINARIES_SETTING, MINIMUM_MAJOR, Version};

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No usable binaries in any of the places looked at.
    #[error(
        "no Postgres {MINIMUM_MAJOR} or later was found (looked in {}). Install it (Debian and \
         Ubuntu: apt-get install postgresql; Fedora: dnf install postgresql-server; macOS: brew \
         install postgresql@18), or name the folder of its programs with {BINARIES_SETTING}",
        looked.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    NotFound {
        /// Every place that was looked at, older versions found there included.
        looked: Vec<PathBuf>,
    },

    /// The folder that was asked for holds no usable binaries.
    #[error("{} cannot be used as the folder of Postgres' programs: {reason}", dir.display())]
    BadBinaries {
        /// The folder.
        dir: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// Postgres is missing, and no way to obtain it worked.
    #[error(
        "Postgres is missing, and could not be obtained: {}. Install Postgres {MINIMUM_MAJOR} or \
         later, or name the folder of its programs with {BINARIES_SETTING}",
        attempts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    NotObtained {
        /// What became of each way.
        attempts: Vec<Error>,
    },

    /// There is no way to install packages that is known here.
    #[error("this machine has no package manager that is known here (apt, dnf, apk or brew)")]
    NoPackageManager,

    /// Packages can be installed, but not by us.
    #[error("this user may not install packages; who may, runs: {by_hand}")]
    NotAllowed {
        /// The command.
        by_hand: &'static str,
    },

    /// A package manager failed.
    #[error("{command} failed: {output}")]
    PackageManager {
        /// What was run.
        command: String,
        /// The last lines that it printed.
        output: String,
    },

    /// A download failed.
    #[error("the download from {url} failed: {reason}")]
    Download {
        /// Where from.
        url: &'static str,
        /// What happened.
        reason: String,
    },

    /// Another process serves this data folder.
    #[error(
        "{} is already in use by {}; stop that one first, or choose another folder",
        data_dir.display(),
        pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    AlreadyRunning {
        /// The folder.
        data_dir: PathBuf,
        /// The postmaster that serves it, if it is up already.
        pid: Option<i32>,
    },

    /// The data were written by another major version of Postgres.
    #[error(
        "{} was written by Postgres {found}, but {} holds Postgres {binaries}, which cannot read \
         it. {}, or move the folder away to begin anew",
        cluster.display(),
        dir.display(),
        matching.as_ref().map_or_else(
            || format!("Install Postgres {found} and name its folder with {BINARIES_SETTING}"),
            |dir| format!("Set {BINARIES_SETTING}={}", dir.display()),
        )
    )]
    OtherMajor {
        /// The folder of the cluster.
        cluster: PathBuf,
        /// The major version that wrote it.
        found: String,
        /// The folder of the programs that were to serve it.
        dir: PathBuf,
        /// Their version.
        binaries: Version,
        /// A folder with programs that would fit, if this machine has one.
        matching: Option<PathBuf>,
    },

    /// Postgres refuses to run as root, and there is nobody to run it as.
    #[error("{reason}")]
    NoUser {
        /// What is wrong and what to do.
        reason: String,
    },

    /// The user that Postgres runs as cannot reach the data folder.
    #[error(
        "Postgres runs as the user {user:?} here, who cannot reach {}; choose a folder whose \
         parents that user may enter (not one under root's home)",
        path.display()
    )]
    Unreachable {
        /// What cannot be reached.
        path: PathBuf,
        /// The user.
        user: String,
    },

    /// A program of Postgres ended before its work was done.
    #[error("{program} failed ({status}). Its last words, from {}:\n{tail}", log.display())]
    Failed {
        /// Which program.
        program: &'static str,
        /// How it ended.
        status: String,
        /// Where its output is.
        log: PathBuf,
        /// The last lines of that.
        tail: String,
    },

    /// Postgres refused a statement.
    #[error("Postgres refused a statement: {message} (SQLSTATE {sqlstate})")]
    Refused {
        /// The five characters that say what kind of error it is.
        sqlstate: String,
        /// Postgres' own sentence.
        message: String,
    },

    /// The operating system said no.
    #[error("could not {action}")]
    Io {
        /// What was attempted, naming the thing.
        action: String,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

/// Adds what was attempted to an [`io::Error`].
pub(crate) trait Context<T> {
    fn context(self, action: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, action: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Io {
            action: action(),
            source: source.into(),
        })
    }
}

/// The last lines of what a program printed.
pub(crate) fn tail(output: &[u8], lines: usize) -> String {
    let text = String::from_utf8_lossy(output);
    let all: Vec<&str> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
