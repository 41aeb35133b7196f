//! What deploys the relay.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod chart;
