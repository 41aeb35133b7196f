//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Command, Parser, Subcommand};

use crate::scenarios::profile::Load;

/// Measures a relay, and beside it, in the same run, the limits that its figures are held to.
///
/// Starts a durable Postgres of its own and the relay's replicas, and stops both at the end.
/// Compare figures within one run only: machines, and hours on one machine, differ.
#[derive(Parser)]
#[command(
    name = "handoff-bench",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Measure,
}

/// What holds for every scenario.
#[derive(Args, Clone)]
pub(crate) struct Common {
    /// Print JSON instead of tables
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Write the report as JSON to this file as well, for `handoff-bench report`
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
    /// Exit with 1 when a bar is missed
    #[arg(long, global = true)]
    pub(crate) check: bool,
    /// A smoke run: tiny sizes, in the place of those of the scenario's own options; it shows that
    /// everything works, and says nothing of speed
    #[arg(long, global = true)]
    pub(crate) quick: bool,
    /// The relay to measure [default: handoff-relay beside this program]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) relay_bin: Option<PathBuf>,
    /// A Postgres to use instead of a private one; its user may create databases
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "HANDOFF_BENCH_DATABASE_URL",
        hide_env_values = true
    )]
    pub(crate) database_url: Option<String>,
    /// Replicas of the relay [default: 2 for deliver, else 1]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    replicas: Option<u16>,
    /// How long one round is measured [default: 5]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds)]
    duration: Option<Duration>,
    /// Rounds of each measurement; the subjects take turns, and medians are reported [default: 3]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
}

impl Common {
    pub(crate) fn replicas(&self, default: u16) -> u16 {
        self.replicas.unwrap_or(default)
    }

    pub(crate) fn duration(&self) -> Duration {
        let default = if self.quick { 0.3 } else { 5.0 };
        self.duration
            .unwrap_or_else(|| Duration::from_secs_f64(default))
    }

    pub(crate) fn rounds(&self) -> u16 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 3 })
    }

    /// After this long without change memory counts as settled.
    pub(crate) fn settled(&self) -> Duration {
        Duration::from_secs_f64(if self.quick { 0.2 } else { 2.0 })
    }

    /// What goes before the first round, and is not measured.
    pub(crate) fn warm_up(&self) -> Duration {
        self.duration().min(Duration::from_secs(2))
    }
}

/// The scenarios.
#[derive(Subcommand)]
pub(crate) enum Measure {
    /// Every scenario below, one after the other: 12 to 15 minutes; --quick: about one
    All,
    /// Posts a second, beside what the machine does without the relay
    Post(PostOptions),
    /// The agent's loop: unread, ack, post, set status
    Mixed(MixedOptions),
    /// Thousands of streams: their memory, their reach, deliveries a second
    Fanout(FanoutOptions),
    /// What idle streams cost: memory, connections, processor time, statements
    Streams(StreamsOptions),
    /// Pages of short and long channels
    Read(ReadOptions),
    /// From a post on one replica to the event on another, at a steady rate
    Deliver(DeliverOptions),
    /// From a post that mentions an agent to the line or notification that wakes it
    Wake(WakeOptions),
    /// Tool calls a second over /mcp
    Mcp(McpOptions),
    /// What an operation costs when there is ten times as much of something
    Growth(GrowthOptions),
    /// What a load is made of: flame graphs, syscalls, allocations, statements and their plans
    Profile(ProfileOptions),
    /// Fillfactors of the tables that are updated, and what each index of the messages costs and saves
    Storage(StorageOptions),
    /// Render the tables and plots of saved reports
    Report(ReportOptions),
    /// Limit (a): answer what standard input says, for this program itself
    #[command(name = crate::limits::http::ARGUMENT, hide = true)]
    AnswerWithoutStoring,
}

impl Measure {
    /// The same scenario as a smoke run has it.
    pub(crate) fn quick(self) -> Result<Self, clap::Error> {
        Ok(match self {
            Self::Post(_) => Self::Post(ScenarioOptions::defaults(true)?),
            Self::Mixed(_) => Self::Mixed(ScenarioOptions::defaults(true)?),
            Self::Fanout(_) => Self::Fanout(ScenarioOptions::defaults(true)?),
            Self::Streams(_) => Self::Streams(ScenarioOptions::defaults(true)?),
            Self::Read(_) => Self::Read(ScenarioOptions::defaults(true)?),
            Self::Deliver(_) => Self::Deliver(ScenarioOptions::defaults(true)?),
            Self::Wake(_) => Self::Wake(ScenarioOptions::defaults(true)?),
            Self::Mcp(_) => Self::Mcp(ScenarioOptions::defaults(true)?),
            Self::Growth(_) => Self::Growth(ScenarioOptions::defaults(true)?),
            Self::Profile(options) => Self::Profile(options.quick()),
            Self::Storage(_) => Self::Storage(ScenarioOptions::defaults(true)?),
            Self::All | Self::Report(_) | Self::AnswerWithoutStoring => self,
        })
    }
}

/// A scenario's options, and what they are in a smoke run.
pub(crate) trait ScenarioOptions: Args {
    /// Arguments that make it small.
    const QUICK: &'static [&'static str];

    /// What it measures unless told otherwise.
    fn defaults(quick: bool) -> Result<Self, clap::Error> {
        let arguments = if quick { Self::QUICK } else { &[] };
        let command = Self::augment_args(Command::new("scenario").no_binary_name(true));
        Self::from_arg_matches(&command.try_get_matches_from(arguments)?)
    }
}

#[derive(Args)]
pub(crate) struct PostOptions {
    /// Connections that each wait for the answer before they post again; several numbers are
    /// measured one after the other
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = [64, 256],
        value_parser = clap::value_parser!(u16).range(1..=400))]
    pub(crate) connections: Vec<u16>,
    #[command(flatten)]
    pub(crate) load: PostLoad,
    /// Open loop: posts a second, in the place of as many as the relay takes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
    /// Measure the relay alone, without the limits
    #[arg(long)]
    pub(crate) relay_only: bool,
}

/// What is posted, and where.
#[derive(Args, Clone)]
pub(crate) struct PostLoad {
    /// Channels that the connections are spread over
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) channels: u16,
    /// Teams that the channels are spread over
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) teams: u16,
    /// Bytes of a message's content
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = clap::value_parser!(u16).range(24..=32_768))]
    pub(crate) size: u16,
    /// Percentage of the posts that carry an Idempotency-Key
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) idempotency: u8,
}

impl ScenarioOptions for PostOptions {
    const QUICK: &'static [&'static str] = &["--connections", "8"];
}

#[derive(Args)]
pub(crate) struct MixedOptions {
    /// Agents, each with a key of its own
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=400))]
    pub(crate) agents: u16,
    #[command(flatten)]
    pub(crate) load: PostLoad,
    /// Open loop: operations a second, in the place of as many as the relay takes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
}

impl ScenarioOptions for MixedOptions {
    const QUICK: &'static [&'static str] = &["--agents", "8", "--channels", "4", "--teams", "2"];
}

#[derive(Args)]
pub(crate) struct FanoutOptions {
    /// Streams on one replica that one post has to reach
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=19_000))]
    pub(crate) streams: u32,
    /// Posts to all of them, one after the other
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) posts: u32,
    /// Streams that get as many deliveries a second as the replica makes
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=19_000))]
    pub(crate) readers: u32,
    /// Posts that are under way at a time, not yet delivered to every reader
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) window: u16,
    /// Bytes of a message's content
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = clap::value_parser!(u16).range(24..=32_768))]
    pub(crate) size: u16,
}

impl ScenarioOptions for FanoutOptions {
    const QUICK: &'static [&'static str] = &["--streams", "100", "--posts", "3", "--readers", "20"];
}

#[derive(Args)]
pub(crate) struct StreamsOptions {
    /// Idle streams on one replica
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=19_000))]
    pub(crate) streams: u32,
}

impl ScenarioOptions for StreamsOptions {
    const QUICK: &'static [&'static str] = &["--streams", "50"];
}

#[derive(Args)]
pub(crate) struct ReadOptions {
    /// Messages in the channels that are compared
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = [1_000, 100_000, 1_000_000])]
    pub(crate) messages: Vec<u32>,
    /// Reads of each kind and channel, one at a time
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) reads: u32,
    /// Connections that read at a time when processor time is counted
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=400))]
    pub(crate) readers: u16,
    /// Entries of each channel's status
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) entries: u16,
}

impl ScenarioOptions for ReadOptions {
    const QUICK: &'static [&'static str] =
        &["--messages", "200,2000", "--reads", "20", "--readers", "2"];
}

#[derive(Args)]
pub(crate) struct DeliverOptions {
    /// Posts a second; several numbers are measured one after the other
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = [200, 1_000],
        value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Vec<u32>,
    /// Streams on the replica that does not get the posts
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=19_000))]
    pub(crate) receivers: u32,
    /// Bytes of a message's content
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = clap::value_parser!(u16).range(24..=32_768))]
    pub(crate) size: u16,
}

impl ScenarioOptions for DeliverOptions {
    const QUICK: &'static [&'static str] = &["--rate", "50", "--receivers", "5"];
}

#[derive(Args)]
pub(crate) struct WakeOptions {
    /// Mentions in a round
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) mentions: u32,
}

impl ScenarioOptions for WakeOptions {
    const QUICK: &'static [&'static str] = &["--mentions", "3"];
}

#[derive(Args)]
pub(crate) struct McpOptions {
    /// Connections that each wait for a tool's result before they call the next
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=400))]
    pub(crate) connections: u16,
    #[command(flatten)]
    pub(crate) load: PostLoad,
}

impl ScenarioOptions for McpOptions {
    const QUICK: &'static [&'static str] = &["--connections", "4"];
}

#[derive(Args)]
pub(crate) struct GrowthOptions {
    /// How many times as much there is of one thing after the other
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(2..=20))]
    pub(crate) factor: u16,
    /// How long a transaction has been open when its neighbours are measured, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) held: Duration,
}

impl ScenarioOptions for GrowthOptions {
    const QUICK: &'static [&'static str] = &["--factor", "2", "--held", "0.5"];
}

#[derive(Args)]
pub(crate) struct ProfileOptions {
    /// Loads to look into, one after the other
    #[arg(long, value_name = "LOAD,LOAD", value_enum, value_delimiter = ',',
        default_values_t = Load::ALL)]
    pub(crate) load: Vec<Load>,
    /// The folder whose PROFILES.md gets the tables, between the marks of each load, and whose folder
    /// `profiles` the flame graphs and plans
    #[arg(long, value_name = "FOLDER", default_value = "tests/bench")]
    pub(crate) out: PathBuf,
    /// A relay that counts allocations, built with --features count-allocations [default:
    /// handoff-relay-counting beside this program, if there is one]
    #[arg(long, value_name = "PATH")]
    pub(crate) counting_relay_bin: Option<PathBuf>,
    /// Do without perf: no flame graphs and no syscalls
    #[arg(long)]
    pub(crate) without_perf: bool,
}

impl ProfileOptions {
    /// A smoke run writes where it is told to.
    fn quick(self) -> Self {
        let load = vec![Load::Post, Load::Read, Load::Mixed, Load::Fanout];
        Self { load, ..self }
    }
}

#[derive(Args)]
pub(crate) struct StorageOptions {
    /// Fillfactors that are compared
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = [100, 90, 70, 50],
        value_parser = clap::value_parser!(u8).range(10..=100))]
    pub(crate) fillfactors: Vec<u8>,
    /// Rows of each channel in the tables that are updated: an agent's ack, an agent's status
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(10..))]
    pub(crate) agents: u32,
    /// Updates of each table
    #[arg(long, value_name = "N", default_value_t = 64_000, value_parser = clap::value_parser!(u32).range(100..))]
    pub(crate) updates: u32,
    /// Messages that are appended with and without each index
    #[arg(long, value_name = "N", default_value_t = 64_000, value_parser = clap::value_parser!(u32).range(100..))]
    pub(crate) appended: u32,
    /// Messages of the channel that pages are read from
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..))]
    pub(crate) messages: u32,
    /// The folder whose PROFILES.md gets the tables [default: none does]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,
}

impl ScenarioOptions for StorageOptions {
    const QUICK: &'static [&'static str] = &[
        "--fillfactors",
        "100,50",
        "--agents",
        "20",
        "--updates",
        "640",
        "--appended",
        "640",
        "--messages",
        "1000",
    ];
}

#[derive(Args)]
pub(crate) struct ReportOptions {
    /// Reports that were saved with --save; a scenario that several have is taken from the last
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The folder whose RESULTS.md gets the tables, between its marks, and whose folder `plots` the
    /// plots
    #[arg(long, value_name = "FOLDER", default_value = "tests/bench")]
    pub(crate) out: PathBuf,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("seconds are a number between 0.1 and 3600".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use clap::CommandFactory;

    use super::{
        DeliverOptions, FanoutOptions, GrowthOptions, McpOptions, MixedOptions, Options,
        PostOptions, ReadOptions, ScenarioOptions, StorageOptions, StreamsOptions, WakeOptions,
    };

    #[test]
    fn the_command_line_and_every_smoke_run_hold_together() {
        Options::command().debug_assert();
        for quick in [false, true] {
            PostOptions::defaults(quick).unwrap();
            MixedOptions::defaults(quick).unwrap();
            FanoutOptions::defaults(quick).unwrap();
            StreamsOptions::defaults(quick).unwrap();
            ReadOptions::defaults(quick).unwrap();
            DeliverOptions::defaults(quick).unwrap();
            WakeOptions::defaults(quick).unwrap();
            McpOptions::defaults(quick).unwrap();
            GrowthOptions::defaults(quick).unwrap();
            StorageOptions::defaults(quick).unwrap();
        }
        assert_eq!(PostOptions::defaults(true).unwrap().connections, [8]);
    }
}
