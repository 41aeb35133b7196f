//! The scenarios, a module each.

pub(crate) mod deliver;
pub(crate) mod post;
pub(crate) mod read;
pub(crate) mod streams;
pub(crate) mod wake;
