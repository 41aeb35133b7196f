//! Where Postgres' programs are: in comes a setting or nothing, out comes a folder with
//! `postgres` and `initdb` of a version that will do. It installs nothing.

use std::{
    env,
    ffi::OsStr,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Error, default_data_dir};

/// The oldest major version of Postgres that Handoff supports.
pub const MINIMUM_MAJOR: u32 = 15;

/// The environment variable that names the folder of Postgres' programs.
pub const BINARIES_SETTING: &str = "HANDOFF_POSTGRES_BIN";

/// Folders that hold a folder for each version: where they are, what that folder's name begins
/// with, and where in it the programs are.
const VERSIONED: [(&str, &str, &str); 8] = [
    // Debian, Ubuntu, SUSE, Gentoo
    ("/usr/lib/postgresql", "", "bin"),
    // RPMs of postgresql.org
    ("/usr", "pgsql-", "bin"),
    // Alpine
    ("/usr/libexec", "postgresql", ""),
    // Homebrew: on Apple silicon, on Intel, on Linux
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"),
    // The installers for macOS
    ("/Library/PostgreSQL", "", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];

/// Folders with one version of their own.
const SINGLE: [&str; 3] = ["/usr/local/pgsql/bin", "/usr/local/bin", "/usr/bin"];

/// A version of Postgres, such as 15.14.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Clusters of different majors cannot read each other.
    pub major: u32,
    /// Zero for a beta.
    pub minor: u32,
}

impl Version {
    /// Reads the answer of `postgres --version`, such as
    /// `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`.
    fn parse(answer: &str) -> Option<Self> {
        let (_, number) = answer.split_once("(PostgreSQL) ")?;
        let number = number.split_whitespace().next()?;
        let digits = |text: &str| -> Option<u32> {
            let end = text
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(text.len());
            text[..end].parse().ok()
        };
        let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
        Some(Self {
            major: digits(major)?,
            minor: digits(minor)?,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The programs of one Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// The folder that holds `postgres` and `initdb`.
    pub dir: PathBuf,
    /// What `postgres --version` says.
    pub version: Version,
}

impl Binaries {
    /// Looks whether a folder holds what is needed, in a version that will do.
    pub(crate) fn inspect(dir: &Path) -> Result<Self, Error> {
        let bad = |reason| Error::BadBinaries {
            dir: dir.to_owned(),
            reason,
        };
        for program in ["postgres", "initdb"] {
            if !dir.join(program).is_file() {
                return Err(bad(format!("it has no program named {program}")));
            }
        }
        let output = Command::new(dir.join("postgres"))
            .arg("--version")
            .env("LC_ALL", "C")
            .output()
            .map_err(|error| bad(format!("postgres does not start: {error}")))?;
        let answer = String::from_utf8_lossy(&output.stdout);
        let version = Version::parse(&answer)
            .ok_or_else(|| bad(format!("postgres --version answered {:?}", answer.trim())))?;
        if version.major < MINIMUM_MAJOR {
            return Err(bad(format!(
                "it holds Postgres {version}, and Handoff needs {MINIMUM_MAJOR} or later"
            )));
        }
        // They are started from another folder.
        let dir = std::path::absolute(dir).map_err(|error| bad(error.to_string()))?;
        Ok(Self { dir, version })
    }
}

/// Finds Postgres' programs: in the folder that a setting names, or else (the setting absent) in
/// `PATH`, or else in the usual places of distributions, or else where a download put them; of
/// several the newest.
///
/// A setting that does not hold up is an error, not a reason to look elsewhere.
pub fn find_binaries(setting: Option<&Path>) -> Result<Binaries, Error> {
    if let Some(dir) = setting {
        return Binaries::inspect(dir);
    }
    find_below(Path::new("/"), &env::var_os("PATH").unwrap_or_default())
}

/// Where downloads are put, a folder for each version.
pub(crate) fn downloads_dir() -> Result<PathBuf, Error> {
    Ok(default_data_dir()?.join("programs"))
}

/// A folder on this machine whose programs can serve a cluster of this major version.
pub(crate) fn installed_major(major: &str) -> Option<PathBuf> {
    usual_places(Path::new("/"))
        .iter()
        .filter_map(|dir| Binaries::inspect(dir).ok())
        .find(|binaries| binaries.version.major.to_string() == major)
        .map(|binaries| binaries.dir)
}

/// Looks in this `PATH`, then in the usual places below a root folder (in tests not the system's).
fn find_below(root: &Path, path: &OsStr) -> Result<Binaries, Error> {
    let in_path = env::split_paths(path).find_map(|dir| Binaries::inspect(&dir).ok());
    let newest = || {
        let usable = usual_places(root)
            .into_iter()
            .filter_map(|dir| Binaries::inspect(&dir).ok());
        usable.max_by_key(|binaries| binaries.version)
    };
    in_path.or_else(newest).ok_or_else(|| {
        let versioned = VERSIONED
            .iter()
            .map(|(parent, prefix, bin)| Path::new(parent).join(format!("{prefix}*")).join(bin));
        let looked = [PathBuf::from("PATH")].into_iter().chain(versioned);
        Error::NotFound {
            looked: looked.chain(SINGLE.iter().map(PathBuf::from)).collect(),
        }
    })
}

/// Every folder in the usual places that may hold programs.
fn usual_places(root: &Path) -> Vec<PathBuf> {
    let below = |place: &str| root.join(place.trim_start_matches('/'));
    let mut versioned: Vec<_> = VERSIONED
        .iter()
        .map(|(parent, prefix, bin)| (below(parent), *prefix, *bin))
        .collect();
    if let (true, Ok(downloads)) = (root == Path::new("/"), downloads_dir()) {
        versioned.push((downloads, "postgresql-", "bin"));
    }
    let mut places = Vec::new();
    for (parent, prefix, bin) in versioned {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        let ours = entries.filter(|entry| {
            entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(prefix.as_bytes())
        });
        places.extend(ours.map(|entry| entry.path().join(bin)));
    }
    places.extend(SINGLE.iter().map(|place| below(place)));
    places
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn versions_are_read() {
        let version = |answer| Version::parse(answer).map(|v| (v.major, v.minor));
        assert_eq!(
            version("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"),
            Some((15, 14))
        );
        assert_eq!(version("postgres (PostgreSQL) 19devel\n"), Some((19, 0)));
        assert_eq!(version("postgres (PostgreSQL) 18beta1\n"), Some((18, 0)));
        assert_eq!(version("postgres (PostgreSQL) 9.6.24\n"), Some((9, 6)));
        assert_eq!(version("psql: not found"), None);
        assert!(
            Version {
                major: 15,
                minor: 2
            } < Version {
                major: 15,
                minor: 14
            }
        );
    }

    /// Programs that do nothing but tell a version.
    fn pretend(dir: &Path, version: &str) {
        fs::create_dir_all(dir).unwrap();
        for program in ["postgres", "initdb"] {
            let script = format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n");
            fs::write(dir.join(program), script).unwrap();
            fs::set_permissions(dir.join(program), Permissions::from_mode(0o755)).unwrap();
        }
    }

    #[test]
    fn the_newest_of_the_usual_places_is_taken() {
        let root = tempfile::tempdir().unwrap();
        pretend(&root.path().join("usr/lib/postgresql/9.6/bin"), "9.6.24");
        pretend(&root.path().join("usr/lib/postgresql/15/bin"), "15.2");
        pretend(&root.path().join("usr/pgsql-17/bin"), "17.1");
        pretend(
            &root.path().join("opt/homebrew/opt/postgresql@16/bin"),
            "16.9",
        );
        let found = find_below(root.path(), OsStr::new("")).unwrap();
        assert_eq!(found.dir, root.path().join("usr/pgsql-17/bin"));
        assert_eq!(
            found.version,
            Version {
                major: 17,
                minor: 1
            }
        );
    }

    #[test]
    fn path_wins_over_the_usual_places() {
        let root = tempfile::tempdir().unwrap();
        pretend(&root.path().join("usr/lib/postgresql/17/bin"), "17.1");
        let old = root.path().join("old");
        let good = root.path().join("good");
        pretend(&old, "14.9");
        pretend(&good, "16.1");
        let path = env::join_paths([Path::new("/nowhere"), &old, &good]).unwrap();
        assert_eq!(find_below(root.path(), &path).unwrap().dir, good);
    }

    #[test]
    fn what_is_missing_and_what_to_do_is_said_plainly() {
        let root = tempfile::tempdir().unwrap();
        pretend(&root.path().join("usr/lib/postgresql/14/bin"), "14.9");
        let message = find_below(root.path(), OsStr::new("/nowhere"))
            .unwrap_err()
            .to_string();
        for part in [
            "no Postgres 15 or later",
            "/usr/lib/postgresql/*/bin",
            "apt-get",
            BINARIES_SETTING,
        ] {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
    }

    #[test]
    fn a_setting_is_not_made_up_for() {
        let root = tempfile::tempdir().unwrap();
        let message = find_binaries(Some(root.path())).unwrap_err().to_string();
        assert!(message.contains("no program named postgres"), "{message}");
        pretend(root.path(), "14.9");
        let message = find_binaries(Some(root.path())).unwrap_err().to_string();
        assert!(
            message.contains("Postgres 14.9") && message.contains("15 or later"),
            "{message}"
        );
    }
}
