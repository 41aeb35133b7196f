//! What whoever is on call sees of a replica: metrics for Prometheus, traces over OTLP, logs.
//!
//! Nothing here carries a key, a token or a text, and no metric says whose data it is.

pub(crate) mod logs;
pub(crate) mod metrics;
pub(crate) mod traces;
