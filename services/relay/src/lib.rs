//! The HTTP door of Handoff: it translates requests into operations of the core and answers back.
//! It decides nothing.

pub mod address;
mod dev;
mod door;
mod error;
mod handlers;
mod health;
mod in_process;
mod query;
pub mod router;
mod serve;
mod settings;
mod sse;

pub use dev::{DevSettings, dev};
pub use health::HealthSettings;
pub use serve::serve;
pub use settings::{MigrateSettings, ServeSettings};
