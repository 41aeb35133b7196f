//! What breaks in earnest, broken on purpose: connections, Postgres, replicas. After each fault
//! the whole history is checked. Each test is named after the guarantee that it shows.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod agents;
mod bells;
mod epochs;
mod lanes;
mod planted;
mod postgres;
mod replicas;
mod sql;
mod streams;
