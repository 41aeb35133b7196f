//! The MCP tools of Handoff, written once over its client.
//!
//! What comes in is a call of a tool; what goes out is one request to the relay or a few, and a
//! result that a model reads. What is allowed and what is valid, the relay decides.

mod arguments;
mod catalogue;
mod channel_push;
pub mod claude_hook;
mod failure;
#[cfg(feature = "http")]
mod http_service;
mod instructions;
mod present;
mod schema;
mod serve;
mod server;
mod tools;

pub use channel_push::{ChannelPush, Pushed};
#[cfg(feature = "http")]
pub use http_service::{McpHttpService, http_service};
pub use serve::{Options, ServeError, serve, serve_stdio};
pub use server::{ClientSource, HandoffServer};
