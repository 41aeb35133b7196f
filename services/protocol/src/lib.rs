//! Handoff's language on the wire: what a client may send and what the relay answers.
//!
//! Loose input comes in (strings from paths, queries and bodies) and turns into types that cannot
//! be wrong; the rest of the relay trusts them. Nothing here does I/O.

pub mod channels;
pub mod errors;
pub mod ids;
pub mod inbox;
mod json;
pub mod keys;
pub mod messages;
pub mod names;
pub mod pages;
pub mod permissions;
pub mod sse;
pub mod statuses;
pub mod teams;
mod timestamp;
pub mod tokens;
mod traceparent;
pub mod waits;

pub use errors::{ErrorBody, ErrorCode, Invalid};
pub use ids::{Cursor, Id, TeamId};
pub use names::{ChannelName, Content, Description, MentionName, Name, StatusKey, StatusValue};
pub use permissions::{Level, Permissions};
pub use timestamp::Timestamp;
pub use traceparent::TraceParent;
