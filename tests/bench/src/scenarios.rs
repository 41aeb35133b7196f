//! The scenarios, a module each.

pub(crate) mod post;
pub(crate) mod posters;
