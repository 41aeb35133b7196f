//! The MCP server as others' clients see it: the official ones of Python and TypeScript, over HTTP
//! through two replicas in turn and over stdio, in both generations of the protocol.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod client;
mod hooks;
mod others;
mod push;
mod tools;
mod unread;
