//! The program from outside: what it prints, how it exits, what it keeps. The relay is a stand-in
//! that answers as it is told and notes what it was asked.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod commands;
mod hook;
mod plugin;
mod settings;
mod support;
mod usage;
mod watch;
