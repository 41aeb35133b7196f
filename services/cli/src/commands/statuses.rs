//! Status entries: read, set, delete, and their history.

use crate::{
    args::StatusCommand,
    commands::text_or_input,
    output::{BOLD, DIM, GOOD, Output, SENDER, encryption, name, text, time},
};
use handoff_client::{
    Client,
    types::{Encryption, PageQuery, Status, StatusChange},
};
use serde_json::json;

/// `status …`
pub(crate) async fn run(
    client: &Client,
    command: StatusCommand,
    output: &Output,
) -> anyhow::Result<()> {
    match command {
        StatusCommand::Get { channel, key } => {
            let entries = match &channel {
                Some(channel) => client.list_statuses(channel, key.as_deref()).await?,
                None => client.list_all_statuses(None, None).await?,
            };
            output.show(&entries, |entries| entries.iter().map(entry).collect())
        }
        StatusCommand::Set {
            channel,
            key,
            value,
        } => {
            let value = text_or_input(value)?;
            let set = client.set_status(&channel, &key, &value).await?;
            output.show(&set, |set| vec![entry(set)])
        }
        StatusCommand::History {
            channel,
            after,
            limit,
        } => {
            let query = PageQuery {
                after_id: after,
                limit,
            };
            let page = client.list_status_changes(&channel, &query).await?;
            output.show(&page, |page| page.changes.iter().map(change).collect())?;
            if page.has_more {
                output.remark(format!("More follows: --after {}", page.next_after_id));
            }
            Ok(())
        }
        StatusCommand::Delete { channel, key } => {
            client.delete_status(&channel, &key).await?;
            let deleted = json!({"channel": channel, "key": key, "deleted": true});
            output.show(&deleted, |_| {
                vec![format!("{GOOD}deleted:{GOOD:#} {}", name(&key))]
            })
        }
    }
}

fn entry(entry: &Status) -> String {
    let about = format!(
        "{DIM}{}{DIM:#} {BOLD}{}{BOLD:#}",
        name(&entry.channel),
        name(&entry.key)
    );
    let by = format!(
        "{} {}",
        by(&entry.updated_by, &entry.encryption),
        dim(&time(&entry.updated_at))
    );
    with_value(&about, &entry.value, &by)
}

fn change(change: &StatusChange) -> String {
    let about = format!(
        "{} {BOLD}{}{BOLD:#}",
        dim(&format!("{} {}", change.id, time(&change.changed_at))),
        name(&change.key)
    );
    let by = by(&change.changed_by, &change.encryption);
    if change.deleted {
        return format!("{about} {} {by}", dim("deleted"));
    }
    with_value(&about, &change.value, &by)
}

fn by(sender: &str, how: &Encryption) -> String {
    let sender = name(sender);
    format!(
        "{} {SENDER}{sender}{SENDER:#}{}",
        dim("by"),
        encryption(how)
    )
}

fn dim(text: &str) -> String {
    format!("{DIM}{text}{DIM:#}")
}

/// A short value stands in the line, one of several lines below it.
fn with_value(about: &str, value: &str, by: &str) -> String {
    let value = text(value);
    if !value.contains('\n') {
        return format!("{about} = {value} {by}");
    }
    let lines = value.lines().map(|line| format!("\n    {line}"));
    format!("{about} {by}{}", lines.collect::<String>())
}
