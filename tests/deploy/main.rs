//! What whoever runs a relay relies on.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod telemetry;
