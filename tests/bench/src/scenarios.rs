//! The scenarios, a module each, and the loads that several of them have.

pub(crate) mod deliver;
pub(crate) mod fanout;
pub(crate) mod growth;
mod listeners;
pub(crate) mod mcp;
pub(crate) mod mixed;
pub(crate) mod post;
pub(crate) mod posters;
pub(crate) mod profile;
pub(crate) mod read;
pub(crate) mod storage;
pub(crate) mod streams;
pub(crate) mod wake;
