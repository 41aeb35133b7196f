//! What each tool does: one request to the relay or a few, and its answer put into words.

mod inbox;
mod messages;
mod statuses;
mod team;

use crate::{arguments::Arguments, failure::Failure};
use handoff_client::{Client, types::UnreadCounts};
use rmcp::{RoleServer, model::JsonObject, service::RequestContext};
use serde_json::Value;

/// A call of a tool.
pub(crate) struct Call<'a> {
    pub(crate) client: &'a Client,
    pub(crate) arguments: &'a Arguments,
    pub(crate) context: &'a RequestContext<RoleServer>,
    /// Whether an HTTP response waits for the result, with the time limits of those.
    pub(crate) over_http: bool,
}

/// What came of a call.
pub(crate) struct Outcome {
    /// For clients that show text.
    pub(crate) text: String,
    /// The same for clients that show data.
    pub(crate) data: JsonObject,
    /// What the caller has not read, where the call has told.
    pub(crate) unread: Option<UnreadCounts>,
}

impl Outcome {
    fn new(text: impl Into<String>, data: Value) -> Self {
        let data = match data {
            Value::Object(data) => data,
            _ => JsonObject::new(),
        };
        Self {
            text: text.into(),
            data,
            unread: None,
        }
    }
}

type Result<T, E = Failure> = std::result::Result<T, E>;

/// Carries a call out.
pub(crate) async fn call(tool: &str, call: &Call<'_>) -> Result<Outcome> {
    match tool {
        "whoami" => team::whoami(call).await,
        "read_inbox" => inbox::read_inbox(call).await,
        "wait_for_messages" => inbox::wait_for_messages(call).await,
        "post_message" => messages::post_message(call).await,
        "read_messages" => messages::read_messages(call).await,
        "read_thread" => messages::read_thread(call).await,
        "read_unread" => messages::read_unread(call).await,
        "delete_message" => messages::delete_message(call).await,
        "ack" => messages::ack(call).await,
        "get_acks" => messages::get_acks(call).await,
        "list_channels" => team::list_channels(call).await,
        "create_channel" => team::create_channel(call).await,
        "delete_channel" => team::delete_channel(call).await,
        "set_status" => statuses::set_status(call).await,
        "get_status" => statuses::get_status(call).await,
        "get_status_changes" => statuses::get_status_changes(call).await,
        "delete_status" => statuses::delete_status(call).await,
        "create_key" => team::create_key(call).await,
        "list_keys" => team::list_keys(call).await,
        "set_key_permissions" => team::set_key_permissions(call).await,
        "read_audit_log" => team::read_audit_log(call).await,
        // The catalogue has no other; a test calls every tool in it.
        _ => Err(Failure::Cancelled),
    }
}
