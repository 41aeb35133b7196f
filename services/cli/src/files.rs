//! Where the command line keeps its files, and how it writes them: whole or not at all, for the
//! owner's eyes only.

use anyhow::Context;
use std::{
    env, fs,
    io::Write,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// An environment variable; an empty one counts as absent.
pub(crate) fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// A folder of the XDG specification: the variable if it holds an absolute path, else the place
/// under the home folder.
pub(crate) fn xdg_dir(name: &str, under_home: &str) -> anyhow::Result<PathBuf> {
    if let Some(dir) = env::var_os(name).map(PathBuf::from)
        && dir.is_absolute()
    {
        return Ok(dir);
    }
    let home = env::home_dir().filter(|home| home.is_absolute());
    let home = home.with_context(|| format!("there is no home folder; set {name}"))?;
    Ok(home.join(under_home))
}

/// Writes a file that only its owner can read, in a folder made likewise. A reader sees the old
/// text or the new, never a part.
pub(crate) fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        // Such a file is made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("{} can't be written", path.display()))
}
