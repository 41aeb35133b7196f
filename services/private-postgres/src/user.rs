//! Whom Postgres runs as. It refuses root, so for root somebody else is chosen; everybody else
//! runs it as themselves.

use std::{
    fs, io,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
};

use nix::unistd::{Gid, Uid, User, chown, geteuid};

use crate::{Error, error::Context};

/// An unprivileged user that root runs Postgres as.
#[derive(Debug, Clone)]
pub(crate) struct RunAs {
    pub(crate) name: String,
    uid: Uid,
    gid: Gid,
}

impl RunAs {
    /// Nobody else unless we are root; then the owner of the cluster, or of the folder that it is
    /// to be in, or else `postgres`, or else `nobody`.
    pub(crate) fn choose(cluster: &Path, data_dir: &Path) -> Result<Option<Self>, Error> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        let owner = |path: &Path| fs::metadata(path).ok().map(|meta| (meta.uid(), meta.gid()));
        if let Some((0, _)) = owner(cluster) {
            return Err(Error::NoUser {
                reason: format!(
                    "{0} belongs to root, and Postgres refuses to run as root; give the folder to \
                     another user: chown -R postgres {0}",
                    cluster.display()
                ),
            });
        }
        if let Some((uid, gid)) = owner(cluster)
            .or(owner(data_dir))
            .filter(|(uid, _)| *uid != 0)
        {
            let uid = Uid::from_raw(uid);
            let user = User::from_uid(uid).ok().flatten();
            let name = user.map_or_else(|| uid.to_string(), |user| user.name);
            return Ok(Some(Self {
                name,
                uid,
                gid: Gid::from_raw(gid),
            }));
        }
        Self::unprivileged()
    }

    /// `postgres`, or else `nobody`; nobody else unless we are root.
    pub(crate) fn unprivileged() -> Result<Option<Self>, Error> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        let user = ["postgres", "nobody"].into_iter().find_map(|name| {
            User::from_name(name)
                .ok()
                .flatten()
                .filter(|user| !user.uid.is_root())
        });
        let user = user.ok_or_else(|| Error::NoUser {
            reason: "Postgres refuses to run as root, and this machine has neither a user named \
                     postgres nor one named nobody; create one, or run this as another user"
                .to_owned(),
        })?;
        Ok(Some(Self {
            name: user.name,
            uid: user.uid,
            gid: user.gid,
        }))
    }

    /// Makes a command run as this user, with no supplementary groups.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.uid(self.uid.as_raw()).gid(self.gid.as_raw());
    }

    /// Hands a file or folder over to this user.
    pub(crate) fn own(&self, path: &Path) -> Result<(), Error> {
        chown(path, Some(self.uid), Some(self.gid))
            .map_err(io::Error::from)
            .context(|| format!("give {} to {}", path.display(), self.name))
    }

    /// Asks the system, as this user, whether a folder can be entered.
    pub(crate) fn can_enter(&self, folder: &Path) -> bool {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", r#"cd "$0""#])
            .arg(folder)
            .current_dir("/");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.apply(&mut command);
        command.status().is_ok_and(|status| status.success())
    }
}
