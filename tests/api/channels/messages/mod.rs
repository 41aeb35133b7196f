//! `/api/channels/{channel}/messages`.

mod delete;
mod get;
mod idempotency;
mod post;
