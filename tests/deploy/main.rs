//! The hosted deployment: what is described in helm/ and terraform/, and the relay in it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod terraform;
