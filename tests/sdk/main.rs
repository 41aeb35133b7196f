//! The TypeScript SDK as its users meet it: on every run-time it is made for, against real relays.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
