//! The relay as it is deployed: its chart, its Terraform, its telemetry, its image, and the relay
//! behind a proxy, through upgrades and after a loss.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod chart;
mod image;
mod proxy;
mod recovery;
mod rolling;
mod site;
mod telemetry;
mod terraform;
mod upgrade;
