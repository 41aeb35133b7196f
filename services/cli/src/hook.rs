//! `handoff hook`: what Claude Code sends to a hook on standard input, unread mentions as the
//! hook's output. Whatever goes wrong, the session goes on: the exit code is 0 and standard output
//! empty.
//!
//! What was announced to a session is kept in a file, as the newest ID: acks alone would not do,
//! since an agent may leave a message unread for long, and should be told of it once.

use crate::{
    failure::sentence,
    files::{write_private, xdg_dir},
    output::Output,
    settings::Settings,
};
use anyhow::Context;
use handoff_client::{
    Client,
    types::{InboxQuery, Message},
};
use handoff_mcp::claude_hook::{HookInput, answer};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use tokio::io::AsyncReadExt;

/// How long a session may be held up, everything included.
const TIME_LIMIT: Duration = Duration::from_secs(5);
/// Hook input is a few hundred bytes, and the user's prompt.
const MAX_INPUT: u64 = 16 << 20;
/// How much text to ask for: somewhat more than is shown.
const MAX_BYTES: u32 = 12_000;
/// How long a session is remembered that has not asked again.
const KEEP: Duration = Duration::from_secs(7 * 24 * 3600);

/// Runs the hook.
pub(crate) async fn run(
    load: impl Fn() -> anyhow::Result<Settings>,
    output: &Output,
) -> anyhow::Result<()> {
    let outcome = tokio::time::timeout(TIME_LIMIT, answer_hook(load, output)).await;
    let note = match outcome {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => sentence(&error),
        Err(_) => format!("no answer within {} s", TIME_LIMIT.as_secs()),
    };
    anstream::eprintln!("handoff hook: {}", crate::output::name(&note));
    Ok(())
}

async fn answer_hook(
    load: impl Fn() -> anyhow::Result<Settings>,
    output: &Output,
) -> anyhow::Result<()> {
    let mut text = Vec::new();
    let mut input = tokio::io::stdin().take(MAX_INPUT);
    input.read_to_end(&mut text).await?;
    let input: HookInput =
        serde_json::from_slice(&text).context("standard input holds no hook's JSON")?;
    if !input.wants_unread() {
        return Ok(());
    }
    let client = load()?.client()?;
    let mut announced = Announced::load(&input.session_id)?;
    let unread = unread_mentions(&client, announced.up_to()).await?;
    let Some(answer) = answer(&input, &unread) else {
        return Ok(());
    };
    // Remembered before it is said: said twice would be worse than, after a crash, once too few;
    // the message stays unread either way.
    if let Some(newest) = unread.iter().filter_map(id).max() {
        announced.move_to(newest)?;
    }
    output.json(&answer)
}

/// Unread messages that mention the caller and are newer than this, oldest first.
async fn unread_mentions(client: &Client, after: u64) -> anyhow::Result<Vec<Message>> {
    let query = InboxQuery {
        max_bytes: Some(MAX_BYTES),
        after_id: (after > 0).then(|| after.to_string()),
        mentions_only: true,
        ..InboxQuery::default()
    };
    let mut mentions = client.inbox(&query).await?.mentions;
    // After a restore from a backup IDs may come again: rather once too few than twice.
    mentions.retain(|message| id(message).is_some_and(|id| id > after));
    Ok(mentions)
}

fn id(message: &Message) -> Option<u64> {
    message.id.parse().ok()
}

/// What a session was told of.
struct Announced {
    file: PathBuf,
    kept: Kept,
}

#[derive(Default, Serialize, Deserialize)]
struct Kept {
    /// The newest message announced.
    announced_id: u64,
}

impl Announced {
    fn load(session: &str) -> anyhow::Result<Self> {
        let folder = xdg_dir("XDG_STATE_HOME", ".local/state")?
            .join("handoff")
            .join("hooks");
        forget_old_sessions(&folder);
        let file = folder.join(format!("{}.json", file_name(session)));
        let kept = match fs::read_to_string(&file) {
            // A file that makes no sense is as good as none.
            Ok(text) => serde_json::from_str(&text).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::default(),
            Err(error) => {
                return Err(error).with_context(|| format!("{} can't be read", file.display()));
            }
        };
        Ok(Self { file, kept })
    }

    fn up_to(&self) -> u64 {
        self.kept.announced_id
    }

    fn move_to(&mut self, id: u64) -> anyhow::Result<()> {
        self.kept.announced_id = id;
        write_private(&self.file, &serde_json::to_string(&self.kept)?)
    }
}

/// A session's name as a file's: it comes from outside and must not lead out of the folder.
fn file_name(session: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let name: String = session
        .chars()
        .map(|c| if safe(c) { c } else { '_' })
        .take(128)
        .collect();
    if name.is_empty() {
        "none".to_owned()
    } else {
        name
    }
}

/// Takes away the files of sessions that have long ended. What can't be removed stays.
fn forget_old_sessions(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let now = SystemTime::now();
    for entry in entries.flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|time| now.duration_since(time).ok());
        if age.is_some_and(|age| age > KEEP) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_s_name_stays_in_the_folder() {
        assert_eq!(file_name("../../etc/x"), "______etc_x");
        assert_eq!(file_name(""), "none");
        assert_eq!(file_name("ab-12_X"), "ab-12_X");
        assert_eq!(file_name(&"x".repeat(500)).len(), 128);
    }
}
