//! What the black-box tests stand on: real relay processes on a real Postgres, agents that talk
//! HTTP to them, strict readers of their streams, and a proxy that spoils their connections.
//!
//! Nothing of the relay is linked in or mocked. Every [`TestRelay`] has a database of its own and
//! leaves neither processes nor databases behind.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod agent;
pub mod agents;
mod contract;
mod database;
mod eventually;
mod http;
pub mod load;
mod names;
mod postgres;
mod process;
mod programs;
mod proxy;
mod relay;
mod replica;
mod stream;

pub use agent::{Agent, Request};
pub use database::Database;
pub use eventually::{DEADLINE, eventually, within};
pub use http::{RequestError, Response};
pub use hyper::Method;
pub use names::Names;
pub use postgres::OwnPostgres;
pub use process::{Daemon, Finished, run};
pub use programs::{planted_relay_binary, relay_binary, tool};
pub use proxy::{CommitFault, Proxy};
pub use relay::{Builder, Proxies, TestRelay};
pub use replica::Replica;
pub use stream::{Block, Event, EventStream, Next};
