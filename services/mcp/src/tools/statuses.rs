//! Status entries and their history.

use super::{Call, Outcome, Result};
use crate::present::{
    NOTE, counted, encryption_word, name, readable, to_the_second, write_content,
};
use handoff_client::types::{PageQuery, Status};
use serde_json::{Value, json};
use std::fmt::Write;

pub(super) async fn set_status(call: &Call<'_>) -> Result<Outcome> {
    let arguments = call.arguments;
    let status = call
        .client
        .set_status(
            arguments.required("channel"),
            arguments.required("key"),
            arguments.required("value"),
        )
        .await?;
    Ok(Outcome::new(
        format!("Set {} in {}.", name(&status.key), status.channel),
        status_data(&status),
    ))
}

pub(super) async fn get_status(call: &Call<'_>) -> Result<Outcome> {
    let key = call.arguments.text("key");
    let (statuses, place) = match call.arguments.text("channel") {
        Some(channel) => (
            call.client.list_statuses(channel, key).await?,
            format!("in {channel}"),
        ),
        None => (
            call.client.list_all_statuses(None, key).await?,
            "in all channels".to_owned(),
        ),
    };
    let count = counted(statuses.len(), "status entry", "status entries");
    let mut text = format!("{count} {place}. ");
    let mut data = json!({"statuses": statuses.iter().map(status_data).collect::<Value>()});
    if !statuses.is_empty() {
        text.push_str(NOTE);
        data["note"] = NOTE.into();
    }
    text.push('\n');
    for status in &statuses {
        let _ = write!(
            text,
            "{} {} ({}, {})",
            status.channel,
            name(&status.key),
            name(&status.updated_by),
            to_the_second(&status.updated_at),
        );
        write_content(&mut text, " = ", &status.value, &status.encryption);
    }
    Ok(Outcome::new(text, data))
}

pub(super) async fn get_status_changes(call: &Call<'_>) -> Result<Outcome> {
    let arguments = call.arguments;
    let channel = arguments.required("channel");
    let query = PageQuery {
        after_id: arguments.owned("after_id"),
        limit: arguments.number("limit"),
    };
    let page = call.client.list_status_changes(channel, &query).await?;
    let count = counted(page.changes.len(), "status change", "status changes");
    let next = if page.has_more {
        "more follows after_id"
    } else {
        "next after_id"
    };
    let mut text = format!("{count} in {channel}; {next} {}. ", page.next_after_id);
    let mut changes = Vec::new();
    for change in &page.changes {
        let mut data = json!({
            "id": change.id,
            "key": change.key,
            "value": readable(&change.value, &change.encryption),
            "changed_by": change.changed_by,
            "changed_at": to_the_second(&change.changed_at),
        });
        if change.deleted {
            data["deleted"] = true.into();
        }
        if let Some(word) = encryption_word(&change.encryption) {
            data["encryption"] = word.into();
        }
        changes.push(data);
    }
    let mut data = json!({
        "channel": channel,
        "changes": changes,
        "next_after_id": page.next_after_id,
        "has_more": page.has_more,
    });
    if !page.changes.is_empty() {
        text.push_str(NOTE);
        data["note"] = NOTE.into();
    }
    text.push('\n');
    for change in &page.changes {
        let _ = write!(
            text,
            "#{} {} ({}, {})",
            change.id,
            name(&change.key),
            name(&change.changed_by),
            to_the_second(&change.changed_at),
        );
        if change.deleted {
            text.push_str(" deleted\n");
        } else {
            write_content(&mut text, " = ", &change.value, &change.encryption);
        }
    }
    Ok(Outcome::new(text, data))
}

pub(super) async fn delete_status(call: &Call<'_>) -> Result<Outcome> {
    let channel = call.arguments.required("channel");
    let key = call.arguments.required("key");
    call.client.delete_status(channel, key).await?;
    Ok(Outcome::new(
        format!("Deleted {} from {channel}.", name(key)),
        json!({"deleted": true, "channel": channel, "key": key}),
    ))
}

fn status_data(status: &Status) -> Value {
    let mut data = json!({
        "channel": status.channel,
        "key": status.key,
        "value": readable(&status.value, &status.encryption),
        "updated_by": status.updated_by,
        "updated_at": to_the_second(&status.updated_at),
    });
    if let Some(word) = encryption_word(&status.encryption) {
        data["encryption"] = word.into();
    }
    data
}
