//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Measures a relay, and beside it, in the same run, the limits that its figures are held to.
///
/// Starts a durable Postgres of its own and the relay's replicas, and stops both at the end.
/// Compare figures within one run only: machines, and hours on one machine, differ.
#[derive(Parser)]
#[command(name = "handoff-bench", version)]
pub(crate) struct Options {
    /// What to measure.
    #[arg(value_enum, default_value = "all")]
    pub(crate) selection: Selection,
    /// Print JSON instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
    /// Exit with 1 when a bar is missed.
    #[arg(long)]
    pub(crate) check: bool,
    /// The relay to measure [default: handoff-relay beside this program].
    #[arg(long, value_name = "PATH")]
    pub(crate) relay_bin: Option<PathBuf>,
    /// A Postgres to use instead of a private one; its user may create databases.
    #[arg(
        long,
        value_name = "URL",
        env = "HANDOFF_BENCH_DATABASE_URL",
        hide_env_values = true
    )]
    pub(crate) database_url: Option<String>,
    /// Replicas of the relay [default: 2 for deliver, else 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    replicas: Option<u16>,
    /// How long one round is measured.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(crate) duration: Duration,
    /// Rounds of each measurement; the subjects take turns, and medians are reported.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rounds: u16,

    /// post: connections that each wait for the answer before they post again.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) connections: u16,
    /// post: channels that the connections are spread over.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) channels: u16,
    /// post: teams that the channels are spread over.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) teams: u16,
    /// post, deliver: bytes of a message's content.
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = clap::value_parser!(u16).range(24..=32_768))]
    pub(crate) size: u16,
    /// post: percentage of the posts that carry an Idempotency-Key.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) idempotency: u8,

    /// read: messages in the channels that are compared.
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = [1_000, 1_000_000])]
    pub(crate) messages: Vec<u32>,
    /// read: reads of each kind and channel in a round.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) reads: u32,

    /// streams: idle streams on one replica.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) streams: u32,

    /// deliver: posts a second.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: u32,
    /// deliver: streams on the replica that does not get the posts.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) receivers: u32,
}

/// The scenarios.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Selection {
    /// Every scenario below.
    All,
    /// Posts a second beside what Postgres does with one transaction a message.
    Post,
    /// Pages from a short and from a long channel.
    Read,
    /// Memory, connections and processor time of idle streams.
    Streams,
    /// From a post on one replica to the event on another.
    Deliver,
    /// From a post that mentions an agent to the line or notification that wakes it.
    Wake,
}

impl Options {
    pub(crate) fn selects(&self, scenario: Selection) -> bool {
        self.selection == Selection::All || self.selection == scenario
    }

    pub(crate) fn replicas(&self, default: u16) -> u16 {
        self.replicas.unwrap_or(default)
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("seconds are a number between 0.1 and 3600".to_owned()),
    }
}
