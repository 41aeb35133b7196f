//! `/api/channels/{channel}/status`.

mod changes;
mod delete;
mod get;
mod put;
