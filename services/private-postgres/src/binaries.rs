//! Where Postgres' programs are: in comes a setting or nothing, out comes a folder with
//! `postgres` and `initdb` of a version that will do. It installs nothing.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::Error;

/// The oldest major version of Postgres that Handoff supports.
pub const MINIMUM_MAJOR: u32 = 15;

/// The environment variable that names the folder of Postgres' programs.
pub const BINARIES_SETTING: &str = "HANDOFF_POSTGRES_BIN";

/// Folders in which distributions and installers put a folder for each version: where they are,
/// what that folder's name begins with, and where in it the programs are.
const VERSIONED: [(&str, &str, &str); 8] = [
    ("/usr/lib/postgresql", "", "bin"), // Debian, Ubuntu, SUSE, Gentoo
    ("/usr", "pgsql-", "bin"),          // RPMs of postgresql.org
    ("/usr/libexec", "postgresql", ""), // Alpine
    ("/opt/homebrew/opt", "postgresql@", "bin"), // Homebrew on Apple silicon
    ("/usr/local/opt", "postgresql@", "bin"), // Homebrew on Intel
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"),
    ("/Library/PostgreSQL", "", "bin"), // the macOS installer
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
    fn inspect(dir: &Path) -> Result<Self, Error> {
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
        Ok(Self {
            dir: dir.to_owned(),
            version,
        })
    }
}

/// Finds Postgres' programs: in the folder that a setting names, or else (the setting absent) in
/// `PATH`, or else in the usual places of distributions, the newest first.
///
/// A setting that does not hold up is an error, not a reason to look elsewhere.
pub fn find_binaries(setting: Option<&Path>) -> Result<Binaries, Error> {
    if let Some(dir) = setting {
        return Binaries::inspect(dir);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path).find_map(|dir| Binaries::inspect(&dir).ok());
    in_path
        .or_else(|| installed().into_iter().next())
        .ok_or_else(|| Error::NotFound {
            minimum: MINIMUM_MAJOR,
            looked: [PathBuf::from("PATH")]
                .into_iter()
                .chain(VERSIONED.iter().map(|(parent, prefix, bin)| {
                    Path::new(parent).join(format!("{prefix}*")).join(bin)
                }))
                .chain(SINGLE.iter().map(PathBuf::from))
                .collect(),
        })
}

/// Everything usable in the usual places, the newest first.
fn installed() -> Vec<Binaries> {
    let versioned = VERSIONED.iter().flat_map(|(parent, prefix, bin)| {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        entries
            .filter(|entry| {
                entry
                    .file_name()
                    .as_encoded_bytes()
                    .starts_with(prefix.as_bytes())
            })
            .map(move |entry| entry.path().join(bin))
    });
    let mut found: Vec<_> = versioned
        .chain(SINGLE.iter().map(PathBuf::from))
        .filter_map(|dir| Binaries::inspect(&dir).ok())
        .collect();
    found.sort_by_key(|binaries| std::cmp::Reverse(binaries.version));
    found
}

/// A folder on this machine whose programs can serve a cluster of this major version.
pub(crate) fn installed_major(major: &str) -> Option<PathBuf> {
    installed()
        .into_iter()
        .find(|binaries| binaries.version.major.to_string() == major)
        .map(|binaries| binaries.dir)
}

#[cfg(test)]
mod tests {
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
}
