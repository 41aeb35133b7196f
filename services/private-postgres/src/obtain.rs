//! Gets Postgres where there is none: in comes leave to talk, out come programs or a plain error.
//!
//! First the package manager of the system, where it may be used: as root with apt, dnf or apk,
//! as anybody else with Homebrew. Then, with the feature `download`, a build made for such uses,
//! into our own data folder. It never asks for a password, changes no package source, and leaves
//! no service running.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::unistd::geteuid;

use crate::{Binaries, Error, MINIMUM_MAJOR, error::Context, find_binaries};

/// Finds Postgres' programs, and obtains them where there are none.
///
/// A folder that was asked for is never made up for: if it does not hold up, that is the error.
pub fn find_or_obtain(
    setting: Option<&Path>,
    report: &mut dyn FnMut(&str),
) -> Result<Binaries, Error> {
    match find_binaries(setting) {
        Err(Error::NotFound { .. }) => obtain(report),
        outcome => outcome,
    }
}

/// A way to Postgres' programs.
type Source = fn(&mut dyn FnMut(&str)) -> Result<Binaries, Error>;

/// Obtains Postgres' programs. What is about to be done is said through `report` first.
pub fn obtain(report: &mut dyn FnMut(&str)) -> Result<Binaries, Error> {
    let sources: &[Source] = &[
        install,
        #[cfg(feature = "download")]
        crate::download::download,
    ];
    let mut attempts = Vec::new();
    for source in sources {
        match source(report) {
            Ok(binaries) => return Ok(binaries),
            Err(error) => attempts.push(error),
        }
    }
    Err(Error::NotObtained { attempts })
}

/// A way to install packages.
struct Manager {
    program: &'static str,
    /// Whom it serves: root, or everybody else (Homebrew refuses root).
    for_root: bool,
    by_hand: &'static str,
    install: fn(&Manager) -> Result<(), Error>,
}

const MANAGERS: [Manager; 4] = [
    Manager {
        program: "apt-get",
        for_root: true,
        by_hand: "sudo apt-get install postgresql",
        install: install_with_apt,
    },
    Manager {
        program: "dnf",
        for_root: true,
        by_hand: "sudo dnf install postgresql-server",
        install: |dnf| dnf.run(&["install", "--assumeyes", "postgresql-server"]),
    },
    Manager {
        program: "apk",
        for_root: true,
        by_hand: "doas apk add postgresql",
        install: |apk| apk.run(&["add", "postgresql"]),
    },
    Manager {
        program: "brew",
        for_root: false,
        by_hand: "brew install postgresql@18",
        install: |brew| brew.run(&["install", "postgresql@18"]),
    },
];

/// Lets the system's package manager install the server.
fn install(report: &mut dyn FnMut(&str)) -> Result<Binaries, Error> {
    let manager = MANAGERS
        .into_iter()
        .find(|manager| manager.is_there())
        .ok_or(Error::NoPackageManager)?;
    if manager.for_root != geteuid().is_root() {
        return Err(Error::NotAllowed {
            by_hand: manager.by_hand,
        });
    }
    report(&format!(
        "Postgres is missing: installing it with {}, which may take a minute",
        manager.program
    ));
    (manager.install)(&manager)?;
    find_binaries(None)
}

/// Installs the newest server that the archive has.
fn install_with_apt(apt: &Manager) -> Result<(), Error> {
    // An archive out of reach need not matter: what is needed may be there already.
    let updated = apt.run(&["--quiet", "update"]);
    let newest = apt_servers()?
        .into_iter()
        .max()
        .filter(|major| *major >= MINIMUM_MAJOR);
    let Some(newest) = newest else {
        updated?;
        return Err(Error::PackageManager {
            command: "apt-cache search postgresql".to_owned(),
            output: format!("the archive has no server of version {MINIMUM_MAJOR} or later"),
        });
    };
    let _without_cluster = NoMainCluster::promise()?;
    apt.run(&[
        "--quiet",
        "--yes",
        "--no-install-recommends",
        "--option=DPkg::Lock::Timeout=300",
        "install",
        &format!("postgresql-{newest}"),
    ])
}

/// The major versions of the servers in apt's lists.
fn apt_servers() -> Result<Vec<u32>, Error> {
    let output = Command::new("apt-cache")
        .args(["search", "--names-only", "^postgresql-[0-9]+$"])
        .stdin(Stdio::null())
        .output()
        .context(|| "run apt-cache".to_owned())?;
    let listing = String::from_utf8_lossy(&output.stdout);
    let majors = listing.lines().filter_map(|line| {
        line.split_whitespace()
            .next()?
            .strip_prefix("postgresql-")?
            .parse()
            .ok()
    });
    Ok(majors.collect())
}

/// While it exists, Debian's server package makes no cluster of the system's when installed, and
/// so starts none.
struct NoMainCluster {
    path: Option<PathBuf>,
}

impl NoMainCluster {
    fn promise() -> Result<Self, Error> {
        let path = Path::new("/etc/postgresql-common/createcluster.d/handoff.conf");
        if path.exists() {
            return Ok(Self { path: None });
        }
        let folder = path.parent().unwrap_or(path);
        fs::create_dir_all(folder).context(|| format!("create {}", folder.display()))?;
        fs::write(path, "create_main_cluster = false\n")
            .context(|| format!("write {}", path.display()))?;
        Ok(Self {
            path: Some(path.to_owned()),
        })
    }
}

impl Drop for NoMainCluster {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

impl Manager {
    fn is_there(&self) -> bool {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path).any(|dir| dir.join(self.program).is_file())
    }

    /// Runs it without questions; what it prints is shown only when it fails.
    fn run(&self, arguments: &[&str]) -> Result<(), Error> {
        let output = Command::new(self.program)
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .output()
            .context(|| format!("run {}", self.program))?;
        if output.status.success() {
            return Ok(());
        }
        let printed = [output.stdout, output.stderr].concat();
        Err(Error::PackageManager {
            command: format!("{} {}", self.program, arguments.join(" ")),
            output: crate::error::tail(&printed, 10),
        })
    }
}
