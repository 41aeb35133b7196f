//! What Handoff decides: who may do what, what is valid, and what a stream delivers.
//!
//! Callers of this crate are doors (HTTP, MCP): they authenticate a key, ask for a grant, and use
//! it. It knows neither HTTP nor SQL.

#[macro_use]
pub mod planted;

mod access;
mod channels;
mod ears;
mod error;
pub mod feed;
mod inbox;
mod key_cache;
mod keys;
mod messages;
mod metrics;
mod operations;
mod rate_limit;
mod relay;
mod signup;
mod statuses;
mod streams;
mod sweep;
mod tokens;
mod unread_cache;
mod unread_hint;
mod waits;

pub use access::{Caller, ChannelGrant, ChannelsGrant, StreamGrant, TeamGrant};
pub use error::{Error, Result};
pub use handoff_store::epochs::Epoch;
pub use messages::{IdempotencyKey, Posted};
pub use operations::{Operation, Scope};
pub use rate_limit::{Budget, Spent};
pub use relay::{Relay, RelayConfig};
pub use statuses::StatusList;
pub use streams::{MessageStream, StreamStart};
pub use tokens::{OldKeys, rotate_signing_key};
