//! The relay as it is deployed: behind a proxy, through an upgrade, in its image.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod image;
mod proxy;
mod recovery;
mod rolling;
mod site;
mod upgrade;
