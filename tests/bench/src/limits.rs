//! What the machine can do without the relay, measured beside it.

pub(crate) mod http;
pub(crate) mod pgbench;
pub(crate) mod sql;
