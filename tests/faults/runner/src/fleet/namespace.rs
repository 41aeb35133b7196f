//! A network and a table of mounts of this process's own, so that packets can be dropped and disks
//! be filled without anybody noticing, and all is gone with the process. Only root gets them.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

use super::program;

/// Whether this process has one.
#[derive(Clone, Copy, Debug)]
pub struct Namespace {
    own: bool,
}

impl Namespace {
    /// Enters one, if this process may. There must be no other thread yet: each would stay outside.
    pub fn enter() -> Result<Namespace> {
        if !geteuid().is_root() {
            return Ok(Namespace { own: false });
        }
        if unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).is_err() {
            return Ok(Namespace { own: false });
        }
        let nothing: Option<&str> = None;
        mount(
            nothing,
            "/",
            nothing,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            nothing,
        )
        .context("keep mounts to ourselves")?;
        let ip = program("ip").context("root needs `ip` (Debian: iproute2)")?;
        let up = Command::new(ip).args(["link", "set", "lo", "up"]).status();
        ensure!(up.context("run ip")?.success(), "no loopback interface");
        Ok(Namespace { own: true })
    }

    /// Stays in the one that everybody shares.
    pub fn shared() -> Namespace {
        Namespace { own: false }
    }

    /// Whether packets and disks are this process's own.
    pub fn is_own(self) -> bool {
        self.own
    }
}
