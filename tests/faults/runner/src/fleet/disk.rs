//! A small disk of a server's own: a file with a filesystem in it, mounted where Postgres keeps its
//! data. It can be filled to the last block, and emptied again.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;

use super::program;

/// Room for what a long run writes, twice over. The file takes up what is written only.
const BYTES: u64 = 6 << 30;

/// What fills it.
const BALLAST: &str = "ballast";

/// A disk. It is unmounted when it is dropped; its file goes with the folder that it is in.
#[derive(Debug)]
pub(super) struct Disk {
    mounted: PathBuf,
}

impl Disk {
    /// A new one, in this file, mounted on this folder.
    pub(super) fn make(image: &Path, folder: &Path) -> Result<Disk> {
        File::create(image)?.set_len(BYTES)?;
        let mkfs = program("mkfs.ext4").context("root needs `mkfs.ext4` (Debian: e2fsprogs)")?;
        // No blocks set apart for root: full is full.
        run(Command::new(mkfs).args(["-q", "-F", "-m", "0"]).arg(image))?;
        let mount = program("mount").context("root needs `mount`")?;
        run(Command::new(mount)
            .args(["-o", "loop"])
            .arg(image)
            .arg(folder))?;
        fs::remove_dir(folder.join("lost+found"))?;
        Ok(Disk {
            mounted: folder.to_owned(),
        })
    }

    /// Takes all that is free; how many bytes that was.
    pub(super) fn fill(&self) -> Result<u64> {
        let path = self.mounted.join(BALLAST);
        let mut file = File::create(&path)?;
        let mut taken = 0;
        // In ever smaller pieces, since Postgres writes at the same time.
        let mut piece: u64 = 1 << 30;
        while piece >= 4096 {
            let whole = fallocate(&file, FallocateFlags::empty(), taken as i64, piece as i64);
            match whole {
                Ok(()) => taken += piece,
                Err(_) => piece /= 2,
            }
        }
        file.flush()?;
        Ok(taken)
    }

    /// How many bytes are free.
    pub(super) fn free(&self) -> Result<u64> {
        let numbers = statvfs(&self.mounted)?;
        Ok(numbers.blocks_available() * numbers.fragment_size())
    }

    /// Gives all that was taken back.
    pub(super) fn clear(&self) -> Result<()> {
        Ok(fs::remove_file(self.mounted.join(BALLAST))?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(umount) = program("umount") {
            // Lazily: whoever still has a file open keeps the disk until then.
            Command::new(umount)
                .arg("-l")
                .arg(&self.mounted)
                .status()
                .ok();
        }
    }
}

fn run(command: &mut Command) -> Result<()> {
    let finished = command
        .output()
        .with_context(|| format!("run {command:?}"))?;
    ensure!(
        finished.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&finished.stderr)
    );
    Ok(())
}
