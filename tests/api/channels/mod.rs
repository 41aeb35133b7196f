//! `/api/channels` and everything below a channel.

mod acks;
mod delete;
mod get;
mod messages;
mod post;
mod status;
mod stream;
mod threads;
mod unread;
