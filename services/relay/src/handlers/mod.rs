//! Route handlers, by noun. Each asks for its permission first, then reads what it was given.

pub(crate) mod agents;
pub(crate) mod channels;
pub(crate) mod inbox;
pub(crate) mod keys;
pub(crate) mod messages;
pub(crate) mod service;
pub(crate) mod statuses;
pub(crate) mod streams;
pub(crate) mod teams;
pub(crate) mod tokens;
pub(crate) mod waits;
