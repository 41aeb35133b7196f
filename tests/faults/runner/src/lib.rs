//! What survives: a fleet of replicas on a pair of Postgres servers comes up, agents load it, and a
//! nemesis breaks one part after the other, in an order that a seed decides. The history of all
//! that the agents were told goes to the checker; its verdict, and how soon the fleet served again
//! after each fault, go into a report.
//!
//! [`schedule`] decides, [`fleet`] is what is broken, [`nemesis`] breaks it, [`probe`] and
//! [`sample`] watch, [`run`](mod@run) leads through it, [`bars`] and [`report`] say what came of it.
#![allow(clippy::cast_precision_loss, reason = "figures of a report")]

pub mod about;
pub mod bars;
pub mod fleet;
pub mod load;
pub mod nemesis;
pub mod options;
pub mod probe;
pub mod report;
pub mod run;
pub mod sample;
pub mod schedule;
