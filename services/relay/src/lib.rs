//! The HTTP door of Handoff: it translates requests into operations of the core and answers back.
//! It decides nothing.

pub mod address;
#[cfg(feature = "count-allocations")]
mod allocations;
mod connection;
mod cors;
mod dev;
mod door;
mod error;
mod handlers;
mod health;
mod in_process;
mod openapi;
mod operate;
#[cfg(feature = "planted-bugs")]
mod planted;
mod query;
pub mod router;
mod serve;
mod settings;
mod sse;
mod telemetry;

#[cfg(feature = "count-allocations")]
pub use allocations::CountingAllocator;
pub use dev::{DevSettings, dev};
pub use health::HealthSettings;
pub use openapi::document as openapi_document;
pub use operate::{begin_new_epoch, migrate, rotate_signing_key};
#[cfg(feature = "planted-bugs")]
pub use planted::plant_bug;
pub use serve::serve;
pub use settings::{DatabaseSettings, RotateSettings, ServeSettings};
pub use telemetry::logs::start_logging;
