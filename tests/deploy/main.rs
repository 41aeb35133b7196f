//! The relay as it is deployed: behind a proxy, through an upgrade, in its image.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod image;
mod proxy;
mod rolling;
mod site;
mod upgrade;
