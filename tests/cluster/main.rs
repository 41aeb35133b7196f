//! Several replicas on one Postgres, and nothing broken: they behave as one. Each test is named
//! after the guarantee that it shows.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod deployment;
mod freshness;
mod keys;
mod limits;
mod order;
mod quotas;
mod slow_reader;
mod tokens;
mod waits;
