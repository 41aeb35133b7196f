//! The npm packages as their users get them: packed, installed into empty projects by npm, run.

mod examples;
mod launcher;
mod pack;
mod project;
mod readme;
mod registry;

pub(crate) use project::packages;
