//! Every tool: its name, what a model is told of it, what it takes and what it gives.

use crate::schema;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde_json::{Value, json};
use std::sync::Arc;

/// A tool.
pub(crate) struct ToolSpec {
    pub(crate) name: &'static str,
    /// What a model is told: when to use it, and what comes of it.
    pub(crate) description: &'static str,
    pub(crate) effect: Effect,
    /// What the caller's key must be allowed.
    pub(crate) needs: Needs,
    pub(crate) parameters: &'static [Parameter],
    /// The schema of its `structuredContent`, less what all tools have.
    pub(crate) output: fn() -> Value,
}

/// What a tool does to the world.
#[derive(Clone, Copy)]
pub(crate) enum Effect {
    /// Nothing.
    Reads,
    /// Adds something each time.
    Adds,
    /// Brings a state about: twice is as good as once.
    Sets,
    /// Takes something away that can't be had back.
    Destroys,
}

/// What a key must be allowed for a tool to work.
#[derive(Clone, Copy)]
pub(crate) enum Needs {
    Nothing,
    Read,
    Write,
    Admin,
    TeamAdmin,
}

/// An argument of a tool.
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) required: bool,
    /// What it is, where the name and the tool's description don't say it.
    pub(crate) description: &'static str,
}

/// What an argument may be.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Some text.
    Text,
    /// Text that may be empty.
    AnyText,
    /// A channel's name.
    Channel,
    /// A message's ID.
    Id,
    /// A whole number from the first to the second.
    Number(u32, u32),
    Flag,
    /// Several channels.
    Channels,
    /// A map from channel to permission.
    Permissions,
}

const fn required(name: &'static str, kind: Kind, description: &'static str) -> Parameter {
    Parameter {
        name,
        kind,
        required: true,
        description,
    }
}

const fn optional(name: &'static str, kind: Kind, description: &'static str) -> Parameter {
    Parameter {
        name,
        kind,
        required: false,
        description,
    }
}

const CHANNEL: Parameter = required("channel", Kind::Channel, "");
const AFTER_ID: Parameter = optional(
    "after_id",
    Kind::Id,
    "Only what follows this ID; default: the newest page",
);
const LIMIT: Parameter = optional("limit", Kind::Number(1, 100), "Default 50");
const PERMISSIONS_HELP: &str =
    r#"Channel name or "*" for all → "read", "write" or "admin", e.g. {"build":"write"}"#;

/// All tools, in the order in which clients see them: what an agent needs first comes first.
pub(crate) const TOOLS: &[ToolSpec] = &[
    ToolSpec {
        name: "whoami",
        description: "Your name (sender), team and permissions on this relay.",
        effect: Effect::Reads,
        needs: Needs::Nothing,
        parameters: &[],
        output: schema::whoami,
    },
    ToolSpec {
        name: "read_inbox",
        description: "What you have not read, over all channels: messages that mention you first, \
            then the others by channel, cut to max_bytes, the rest as counts. Start here. Marks \
            nothing as read: call ack for that.",
        effect: Effect::Reads,
        needs: Needs::Nothing,
        parameters: &[optional(
            "max_bytes",
            Kind::Number(1, 262_144),
            "Default 16384",
        )],
        output: schema::inbox,
    },
    ToolSpec {
        name: "wait_for_messages",
        description: "Wait until a message from another agent arrives, e.g. the answer to a \
            question. Returns at once if something is unread, unless after_id is given; when time \
            runs out, says which after_id to wait on with. Better than polling.",
        effect: Effect::Reads,
        needs: Needs::Nothing,
        parameters: &[
            optional("channels", Kind::Channels, "Default: all you can read"),
            optional(
                "mentions_only",
                Kind::Flag,
                "Only messages that mention you; default false",
            ),
            optional("after_id", Kind::Id, "Only what is newer than this ID"),
            optional("timeout_seconds", Kind::Number(1, 600), ""),
        ],
        output: schema::wait,
    },
    ToolSpec {
        name: "post_message",
        description: "Post a message to a channel (created if missing). To call an agent, set \
            mention; to reply, set thread_id to the ID of the message you answer and mention its \
            sender.",
        effect: Effect::Adds,
        needs: Needs::Write,
        parameters: &[
            CHANNEL,
            required("content", Kind::Text, "At most 32768 bytes"),
            optional("mention", Kind::Text, "One agent's name, without @"),
            optional("thread_id", Kind::Id, "ID of the message replied to"),
        ],
        output: schema::posted,
    },
    ToolSpec {
        name: "read_messages",
        description: "Messages of one channel, oldest first: the newest page, or what follows \
            after_id. Filters match exactly.",
        effect: Effect::Reads,
        needs: Needs::Read,
        parameters: &[
            CHANNEL,
            AFTER_ID,
            LIMIT,
            optional("mention", Kind::Text, "Only those that mention this name"),
            optional("sender", Kind::Text, "Only those from this sender"),
            optional("thread_id", Kind::Id, "Only replies to this message"),
        ],
        output: schema::message_page,
    },
    ToolSpec {
        name: "read_thread",
        description: "A message and the replies to it, oldest first.",
        effect: Effect::Reads,
        needs: Needs::Read,
        parameters: &[
            CHANNEL,
            required("message_id", Kind::Id, "The message replied to"),
            optional("after_id", Kind::Id, "Only replies after this ID"),
            LIMIT,
        ],
        output: schema::thread,
    },
    ToolSpec {
        name: "read_unread",
        description: "One channel's messages after your last ack, oldest first. Call ack once you \
            have read them.",
        effect: Effect::Reads,
        needs: Needs::Read,
        parameters: &[CHANNEL, LIMIT],
        output: schema::message_page,
    },
    ToolSpec {
        name: "ack",
        description: "Mark a channel as read up to a message, so that it no longer counts as \
            unread. Never moves back.",
        effect: Effect::Sets,
        needs: Needs::Write,
        parameters: &[
            CHANNEL,
            required("last_read_id", Kind::Id, "ID of the last message you read"),
        ],
        output: schema::acked,
    },
    ToolSpec {
        name: "get_acks",
        description: "Who has read a channel, and up to which message.",
        effect: Effect::Reads,
        needs: Needs::Read,
        parameters: &[CHANNEL],
        output: schema::acks,
    },
    ToolSpec {
        name: "list_channels",
        description: "The channels you can read.",
        effect: Effect::Reads,
        needs: Needs::Nothing,
        parameters: &[],
        output: schema::channels,
    },
    ToolSpec {
        name: "create_channel",
        description: "Create a channel with a description; one that exists stays as it is.",
        effect: Effect::Sets,
        needs: Needs::TeamAdmin,
        parameters: &[
            required("name", Kind::Channel, "Letters, digits, . _ -"),
            optional("description", Kind::Text, "What it is for"),
        ],
        output: schema::channel,
    },
    ToolSpec {
        name: "set_status",
        description: "Set a status entry of a channel: facts that all agents share, like \
            build=green. Overwrites; the history stays.",
        effect: Effect::Sets,
        needs: Needs::Write,
        parameters: &[
            CHANNEL,
            required("key", Kind::Text, ""),
            required("value", Kind::AnyText, ""),
        ],
        output: schema::status,
    },
    ToolSpec {
        name: "get_status",
        description: "Status entries: of one channel, or of all without channel.",
        effect: Effect::Reads,
        needs: Needs::Read,
        parameters: &[
            optional("channel", Kind::Channel, ""),
            optional("key", Kind::Text, "Only this entry"),
        ],
        output: schema::statuses,
    },
    ToolSpec {
        name: "get_status_changes",
        description: "The history of a channel's status entries, oldest first: who set what, when.",
        effect: Effect::Reads,
        needs: Needs::Read,
        parameters: &[CHANNEL, AFTER_ID, LIMIT],
        output: schema::status_changes,
    },
    ToolSpec {
        name: "delete_status",
        description: "Delete a status entry; its history stays.",
        effect: Effect::Destroys,
        needs: Needs::Admin,
        parameters: &[CHANNEL, required("key", Kind::Text, "")],
        output: schema::deleted,
    },
    ToolSpec {
        name: "delete_message",
        description: "Delete one message for everybody, for good.",
        effect: Effect::Destroys,
        needs: Needs::Admin,
        parameters: &[CHANNEL, required("message_id", Kind::Id, "")],
        output: schema::deleted,
    },
    ToolSpec {
        name: "delete_channel",
        description: "Delete a channel with all its messages and status, for good.",
        effect: Effect::Destroys,
        needs: Needs::Admin,
        parameters: &[CHANNEL],
        output: schema::deleted,
    },
    ToolSpec {
        name: "create_key",
        description: "Make an API key for an agent of your team. The key is shown only once: hand \
            it over in private, never in a channel.",
        effect: Effect::Adds,
        needs: Needs::TeamAdmin,
        parameters: &[
            required("sender_name", Kind::Text, "The agent's name"),
            optional(
                "permissions",
                Kind::Permissions,
                r#"Channel name or "*" for all → "read", "write" or "admin"; default: admin on all"#,
            ),
        ],
        output: schema::created_key,
    },
    ToolSpec {
        name: "list_keys",
        description: "The team's keys: hash, agent, permissions.",
        effect: Effect::Reads,
        needs: Needs::TeamAdmin,
        parameters: &[],
        output: schema::keys,
    },
    ToolSpec {
        name: "set_key_permissions",
        description: "Replace all permissions of a key.",
        effect: Effect::Destroys,
        needs: Needs::TeamAdmin,
        parameters: &[
            required("key_hash", Kind::Text, "From list_keys"),
            required("permissions", Kind::Permissions, PERMISSIONS_HELP),
        ],
        output: schema::key_permissions,
    },
    ToolSpec {
        name: "read_audit_log",
        description: "Requests of the team's keys that were denied, oldest first.",
        effect: Effect::Reads,
        needs: Needs::TeamAdmin,
        parameters: &[
            AFTER_ID,
            LIMIT,
            optional("result", Kind::Text, "Only this result, e.g. denied"),
        ],
        output: schema::audit,
    },
];

/// The tool of this name.
pub(crate) fn find(name: &str) -> Option<&'static ToolSpec> {
    TOOLS.iter().find(|tool| tool.name == name)
}

impl ToolSpec {
    /// As MCP describes it.
    pub(crate) fn to_tool(&self) -> Tool {
        Tool::new(
            self.name,
            self.description,
            Arc::new(schema::input(self.parameters)),
        )
        .with_raw_output_schema(Arc::new(with_unread((self.output)())))
        .with_annotations(self.effect.annotations())
    }
}

impl Effect {
    fn annotations(self) -> ToolAnnotations {
        let about = ToolAnnotations::new().open_world(false);
        match self {
            // The other hints mean nothing for a tool that only reads.
            Self::Reads => about.read_only(true),
            Self::Adds => about.read_only(false).destructive(false).idempotent(false),
            Self::Sets => about.read_only(false).destructive(false).idempotent(true),
            Self::Destroys => about.read_only(false).destructive(true).idempotent(true),
        }
    }
}

/// Every result may say what the caller has not read.
fn with_unread(mut schema: Value) -> JsonObject {
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert("unread".to_owned(), json!({"type": "object"}));
    }
    match schema {
        Value::Object(schema) => schema,
        _ => JsonObject::new(),
    }
}
