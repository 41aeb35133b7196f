//! The JSON schemas of arguments and results, kept lean: every model pays for them in every
//! session.

use crate::catalogue::{Kind, Parameter};
use rmcp::model::JsonObject;
use serde_json::{Value, json};

/// The schema of these arguments.
pub(crate) fn input(parameters: &[Parameter]) -> JsonObject {
    let mut properties = JsonObject::new();
    let mut required = Vec::new();
    for parameter in parameters {
        let mut schema = match parameter.kind {
            Kind::Text | Kind::AnyText | Kind::Channel | Kind::Id => json!({"type": "string"}),
            Kind::Number(from, to) => json!({"type": "integer", "minimum": from, "maximum": to}),
            Kind::Flag => json!({"type": "boolean"}),
            Kind::Channels => json!({"type": "array", "items": {"type": "string"}}),
            Kind::Permissions => {
                json!({"type": "object", "additionalProperties": {"type": "string"}})
            }
        };
        if !parameter.description.is_empty() {
            schema["description"] = parameter.description.into();
        }
        properties.insert(parameter.name.to_owned(), schema);
        if parameter.required {
            required.push(parameter.name);
        }
    }
    let mut schema = JsonObject::new();
    schema.insert("type".to_owned(), "object".into());
    schema.insert("properties".to_owned(), properties.into());
    if !required.is_empty() {
        schema.insert("required".to_owned(), required.into());
    }
    schema
}

/// An object with these properties, of which the first so many are always there.
fn object(always: usize, properties: &[(&str, Value)]) -> Value {
    let required: Vec<&str> = properties[..always].iter().map(|(name, _)| *name).collect();
    let properties: JsonObject = properties
        .iter()
        .map(|(name, schema)| ((*name).to_owned(), schema.clone()))
        .collect();
    json!({"type": "object", "properties": properties, "required": required})
}

fn string() -> Value {
    json!({"type": "string"})
}

fn flag() -> Value {
    json!({"type": "boolean"})
}

fn map() -> Value {
    json!({"type": "object"})
}

fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

/// A message; where it can stand in any channel, with that.
fn message(channel: bool) -> Value {
    let mut properties = vec![
        ("id", string()),
        ("sender", string()),
        ("content", string()),
        ("created_at", string()),
    ];
    if channel {
        properties.push(("channel", string()));
    }
    let always = properties.len();
    properties.push(("mention", string()));
    properties.push(("thread_id", string()));
    properties.push(("reply_count", json!({"type": "integer"})));
    properties.push(("encryption", string()));
    object(always, &properties)
}

pub(crate) fn whoami() -> Value {
    object(
        4,
        &[
            ("sender", string()),
            ("team", map()),
            ("permissions", map()),
            ("encrypts", flag()),
        ],
    )
}

pub(crate) fn inbox() -> Value {
    object(
        4,
        &[
            ("mentions", list(message(true))),
            // By channel: the same messages, without its name in each.
            ("channels", map()),
            ("has_more", flag()),
            ("next_after_id", string()),
            ("note", string()),
        ],
    )
}

pub(crate) fn wait() -> Value {
    object(
        2,
        &[
            ("timed_out", flag()),
            ("next_after_id", string()),
            ("mentions", list(map())),
            ("channels", map()),
            ("has_more", flag()),
            ("note", string()),
        ],
    )
}

pub(crate) fn posted() -> Value {
    object(
        3,
        &[
            ("id", string()),
            ("channel", string()),
            ("created_at", string()),
        ],
    )
}

pub(crate) fn message_page() -> Value {
    object(
        4,
        &[
            ("channel", string()),
            ("messages", list(message(false))),
            ("next_after_id", string()),
            ("has_more", flag()),
            ("note", string()),
        ],
    )
}

pub(crate) fn thread() -> Value {
    object(
        5,
        &[
            ("channel", string()),
            ("parent", map()),
            ("replies", list(message(false))),
            ("next_after_id", string()),
            ("has_more", flag()),
            ("note", string()),
        ],
    )
}

pub(crate) fn acked() -> Value {
    object(
        3,
        &[
            ("channel", string()),
            ("last_read_id", string()),
            ("acked_at", string()),
        ],
    )
}

pub(crate) fn acks() -> Value {
    let ack = object(
        3,
        &[
            ("sender", string()),
            ("last_read_id", string()),
            ("acked_at", string()),
        ],
    );
    object(2, &[("channel", string()), ("acks", list(ack))])
}

pub(crate) fn channel() -> Value {
    object(
        2,
        &[
            ("name", string()),
            ("created_at", string()),
            ("description", string()),
        ],
    )
}

pub(crate) fn channels() -> Value {
    object(1, &[("channels", list(channel()))])
}

pub(crate) fn status() -> Value {
    object(
        5,
        &[
            ("channel", string()),
            ("key", string()),
            ("value", string()),
            ("updated_by", string()),
            ("updated_at", string()),
            ("encryption", string()),
        ],
    )
}

pub(crate) fn statuses() -> Value {
    object(1, &[("statuses", list(status())), ("note", string())])
}

pub(crate) fn status_changes() -> Value {
    let change = object(
        5,
        &[
            ("id", string()),
            ("key", string()),
            ("value", string()),
            ("changed_by", string()),
            ("changed_at", string()),
            ("deleted", flag()),
            ("encryption", string()),
        ],
    );
    object(
        4,
        &[
            ("channel", string()),
            ("changes", list(change)),
            ("next_after_id", string()),
            ("has_more", flag()),
            ("note", string()),
        ],
    )
}

pub(crate) fn deleted() -> Value {
    object(
        2,
        &[
            ("deleted", flag()),
            ("channel", string()),
            ("key", string()),
            ("message_id", string()),
        ],
    )
}

pub(crate) fn created_key() -> Value {
    object(
        3,
        &[
            ("api_key", string()),
            ("key", string()),
            ("sender", string()),
        ],
    )
}

pub(crate) fn keys() -> Value {
    let key = object(
        4,
        &[
            ("key", string()),
            ("sender", string()),
            ("permissions", map()),
            ("created_at", string()),
            ("expires_at", string()),
        ],
    );
    object(1, &[("keys", list(key))])
}

pub(crate) fn key_permissions() -> Value {
    object(2, &[("key", string()), ("permissions", map())])
}

pub(crate) fn audit() -> Value {
    let entry = object(
        7,
        &[
            ("id", string()),
            ("key_hash", string()),
            ("sender_name", string()),
            ("action", string()),
            ("channel", string()),
            ("result", string()),
            ("timestamp", string()),
        ],
    );
    object(
        3,
        &[
            ("entries", list(entry)),
            ("next_after_id", string()),
            ("has_more", flag()),
        ],
    )
}
