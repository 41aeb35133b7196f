//! The caller, channels, keys and the audit log.

use super::{Call, Outcome, Result};
use crate::present::{counted, name, to_the_second};
use handoff_client::types::{Channel, PageQuery, Permissions};
use serde_json::{Value, json};
use std::fmt::Write;

pub(super) async fn whoami(call: &Call<'_>) -> Result<Outcome> {
    let me = call.client.me().await?;
    let encrypts = call.client.keyring().is_some();
    let mut text = format!(
        "You are {} in team {} ({}). ",
        name(&me.sender),
        name(&me.team.name),
        granted(&me.permissions)
    );
    if encrypts {
        text.push_str("Messages are end-to-end encrypted.");
    }
    Ok(Outcome::new(
        text,
        json!({
            "sender": me.sender,
            "team": {"id": me.team.id, "name": me.team.name},
            "permissions": me.permissions,
            "encrypts": encrypts,
        }),
    ))
}

/// Permissions in words.
fn granted(permissions: &Permissions) -> String {
    if permissions.is_empty() {
        return "no permissions".to_owned();
    }
    let granted: Vec<String> = permissions
        .iter()
        .map(|(channel, level)| match channel.as_str() {
            "*" => format!("{level} on all channels"),
            channel => format!("{level} on {channel}"),
        })
        .collect();
    granted.join(", ")
}

pub(super) async fn list_channels(call: &Call<'_>) -> Result<Outcome> {
    let channels = call.client.list_channels().await?;
    let mut text = format!("{}.\n", counted(channels.len(), "channel", "channels"));
    for channel in &channels {
        text.push_str(&channel.name);
        if let Some(description) = &channel.description {
            let _ = write!(text, " {}", one_line(description));
        }
        text.push('\n');
    }
    let data: Value = channels.iter().map(channel_data).collect();
    Ok(Outcome::new(text, json!({"channels": data})))
}

/// A text that must stay on its line: quoted, as a name would be.
fn one_line(text: &str) -> std::borrow::Cow<'_, str> {
    name(text)
}

pub(super) async fn create_channel(call: &Call<'_>) -> Result<Outcome> {
    let channel = call
        .client
        .create_channel(
            call.arguments.required("name"),
            call.arguments.text("description"),
        )
        .await?;
    Ok(Outcome::new(
        format!("Channel {} is there.", channel.name),
        channel_data(&channel),
    ))
}

fn channel_data(channel: &Channel) -> Value {
    let mut data = json!({
        "name": channel.name,
        "created_at": to_the_second(&channel.created_at),
    });
    if let Some(description) = &channel.description {
        data["description"] = description.as_str().into();
    }
    data
}

pub(super) async fn delete_channel(call: &Call<'_>) -> Result<Outcome> {
    let channel = call.arguments.required("channel");
    call.client.delete_channel(channel).await?;
    Ok(Outcome::new(
        format!("Deleted channel {channel} and everything in it."),
        json!({"deleted": true, "channel": channel}),
    ))
}

pub(super) async fn create_key(call: &Call<'_>) -> Result<Outcome> {
    let permissions = call.arguments.permissions("permissions");
    let created = call
        .client
        .create_key(call.arguments.required("sender_name"), permissions.as_ref())
        .await?;
    Ok(Outcome::new(
        format!(
            "Key for {}, shown only now: {}\nIts hash: {}",
            name(&created.sender),
            created.api_key,
            created.key
        ),
        json!({"api_key": created.api_key, "key": created.key, "sender": created.sender}),
    ))
}

pub(super) async fn list_keys(call: &Call<'_>) -> Result<Outcome> {
    let keys = call.client.list_keys().await?;
    let mut text = format!("{}.\n", counted(keys.len(), "key", "keys"));
    let mut list = Vec::new();
    for key in &keys {
        let _ = writeln!(
            text,
            "{} {} ({})",
            key.key,
            name(&key.sender),
            granted(&key.permissions)
        );
        let mut data = json!({
            "key": key.key,
            "sender": key.sender,
            "permissions": key.permissions,
            "created_at": to_the_second(&key.created_at),
        });
        if let Some(expires_at) = &key.expires_at {
            data["expires_at"] = to_the_second(expires_at).into();
        }
        list.push(data);
    }
    Ok(Outcome::new(text, json!({"keys": list})))
}

pub(super) async fn set_key_permissions(call: &Call<'_>) -> Result<Outcome> {
    let permissions = call
        .arguments
        .permissions("permissions")
        .unwrap_or_default();
    let now = call
        .client
        .set_key_permissions(call.arguments.required("key_hash"), &permissions)
        .await?;
    Ok(Outcome::new(
        format!("Key {} now has: {}.", now.key, granted(&now.permissions)),
        json!({"key": now.key, "permissions": now.permissions}),
    ))
}

pub(super) async fn read_audit_log(call: &Call<'_>) -> Result<Outcome> {
    let arguments = call.arguments;
    let query = PageQuery {
        after_id: arguments.owned("after_id"),
        limit: arguments.number("limit"),
    };
    let page = call
        .client
        .read_audit(&query, arguments.text("result"))
        .await?;
    let count = counted(page.entries.len(), "entry", "entries");
    let next = if page.has_more {
        "more follows after_id"
    } else {
        "next after_id"
    };
    let mut text = format!("{count}; {next} {}.\n", page.next_after_id);
    let mut entries = Vec::new();
    for entry in &page.entries {
        let _ = writeln!(
            text,
            "#{} {} {} {}: {}",
            entry.id,
            to_the_second(&entry.timestamp),
            entry.result,
            name(&entry.sender_name),
            name(&entry.action),
        );
        entries.push(json!({
            "id": entry.id,
            "key_hash": entry.key_hash,
            "sender_name": entry.sender_name,
            "action": entry.action,
            "channel": entry.channel,
            "result": entry.result,
            "timestamp": to_the_second(&entry.timestamp),
        }));
    }
    Ok(Outcome::new(
        text,
        json!({
            "entries": entries,
            "next_after_id": page.next_after_id,
            "has_more": page.has_more,
        }),
    ))
}
