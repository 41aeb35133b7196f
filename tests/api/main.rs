//! The API of one relay, from outside: every sentence of the contract.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
