//! `/api/keys`.

mod delete;
mod expiry;
mod get;
mod permissions;
mod post;
