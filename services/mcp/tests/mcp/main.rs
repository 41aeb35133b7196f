//! The server as an MCP client meets it: rmcp's own client at one end, a relay that answers by
//! script at the other.

#![allow(clippy::unwrap_used)]

mod channel_push;
mod errors;
#[cfg(feature = "http")]
mod http;
mod presentation;
mod support;
mod tools;
mod wait;
