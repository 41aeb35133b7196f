//! The checker's own tests: histories made by hand, each with one anomaly in it beside sound ones;
//! histories of a simulated relay, sound and with one thing broken; the program.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod anomalies;
mod failover;
mod flaws;
mod program;
mod registers;
mod simulated;
mod size;
mod story;
