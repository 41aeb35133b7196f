//! The relay as it is deployed: its chart, its Terraform, its telemetry, and the relay in its image
//! and behind a proxy.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod chart;
mod telemetry;
mod terraform;
