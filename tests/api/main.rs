//! The API of one relay, from outside: every sentence of the contract has a test that fails when
//! it is not true.
//!
//! `conventions` holds the rules that go for all routes; the other folders mirror the URLs.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    clippy::cloned_ref_to_slice_refs,
    reason = "a list of one reads best as a list"
)]

mod audit;
mod channels;
mod conventions;
mod fixtures;
mod inbox;
mod keys;
mod me;
mod openapi;
mod routes;
mod signup;
mod status;
mod stream;
mod system;
mod tokens;
mod waits;
