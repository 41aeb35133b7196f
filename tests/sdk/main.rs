//! The TypeScript SDK as its users meet it: on every run-time that it is made for, against real relays.
//! The tests themselves are TypeScript, in `services/sdk-typescript/tests`; each file is a test here.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../mcp/client.rs"]
#[allow(dead_code, reason = "made for the MCP tests, which use all of it")]
mod mcp_client;
mod node;
mod packaging;
mod programs;
mod runtimes;
