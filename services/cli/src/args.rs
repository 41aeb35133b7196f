//! What can be typed, and the help for it.

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

const AFTER_HELP: &str = "\
Settings, the first that is there counts:
  flag            environment               config file
  --relay-url     RELAY_API_URL             relay_url        [default: http://localhost:3000]
  --api-key       RELAY_API_KEY             api_key
                  HANDOFF_ENCRYPTION_KEY    encryption_key
                  HANDOFF_ENCRYPTION_VERSION  encryption_version  [default: 1]
The config file is $XDG_CONFIG_HOME/handoff/config.toml; `handoff config` shows what is in force.

Exit codes: 0 done, 1 failed, 2 used wrongly, 3 no key or not allowed, 4 not found.

Examples:
  handoff signup --team acme --name alice --save
  handoff post build 'v1.4.0 is ready' --mention bob
  handoff read build --unread
  handoff tail build deploy";

/// Messages, threads and shared status between agents, from a shell.
#[derive(Parser, Debug)]
#[command(name = "handoff", version, after_help = AFTER_HELP, propagate_version = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// Print JSON: one document on one line; live commands print a line per event
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which relay, and with which key.
#[derive(Args, Clone, Debug)]
pub(crate) struct Connection {
    /// The relay's address [env: RELAY_API_URL]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) relay_url: Option<String>,
    /// The key to speak with; others on this machine can see it here [env: RELAY_API_KEY]
    #[arg(long, global = true, value_name = "KEY")]
    pub(crate) api_key: Option<String>,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Make a new team, and print its first key
    #[command(after_help = "Example: handoff signup --team acme --name alice --save")]
    Signup(Signup),
    /// Show whom the key speaks for, and what it may do
    Whoami,
    /// Post a message
    #[command(after_help = "\
Examples:
  handoff post build 'v1.4.0 is ready'
  handoff post review 'please look at PR 7' --mention bob
  git log -1 | handoff post build -")]
    Post(Post),
    /// Reply to a message, in its thread
    #[command(after_help = "Example: handoff reply build 42 'on it'")]
    Reply(Reply),
    /// Read a channel's messages, the newest unless told otherwise
    #[command(after_help = "\
Examples:
  handoff read build                     the newest 50
  handoff read build --unread            what is after the own ack
  handoff read build --after 42          the page after a message; 0 is the beginning
  handoff read build --unread --wait 50  as soon as something is there
  handoff read build --thread 42         a message and its replies")]
    Read(Read),
    /// Follow channels live, until Ctrl-C
    #[command(after_help = "\
Examples:
  handoff tail build deploy
  handoff --json tail build | jq -r .content")]
    Tail(Tail),
    /// Print a short line when somebody mentions this agent: for a monitor that wakes it
    #[command(after_help = "\
Follows every channel that the key can read, also those opened later. Messages that come close
together make one line. A relay that is away is waited for.

Examples:
  handoff watch
  handoff watch build review --all")]
    Watch(Watch),
    /// Show what is unread over all channels, mentions first
    #[command(after_help = "Example: handoff inbox --wait 30")]
    Inbox(Inbox),
    /// Read and set what everybody should know right now
    Status {
        #[command(subcommand)]
        command: StatusCommand,
    },
    /// Say how far this agent has read a channel
    #[command(after_help = "Example: handoff ack build 42")]
    Ack {
        /// The channel
        channel: String,
        /// Everything up to this message is read
        id: String,
    },
    /// Show how far each agent has read a channel
    Acks {
        /// The channel
        channel: String,
    },
    /// Make, list, change and revoke keys
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Make short-lived tokens of the own key, for sub-agents and browsers
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// List, open and delete channels
    Channels {
        #[command(subcommand)]
        command: Option<ChannelsCommand>,
    },
    /// Serve the relay's MCP tools over standard input and output
    #[command(after_help = "\
Examples:
  claude mcp add handoff -e RELAY_API_URL=URL -e RELAY_API_KEY=KEY -- handoff mcp
  handoff mcp --channel --channel-from alice,bob")]
    Mcp(Mcp),
    /// Answer a hook of Claude Code: its JSON on standard input, unread mentions on standard output
    Hook,
    /// Make a key for end-to-end encryption
    Keygen,
    /// Watch seven agents ship a release over a relay
    #[command(after_help = "\
Examples:
  handoff demo                           starts a relay of its own (handoff-relay dev)
  handoff demo --relay http://localhost:3000 --speed 4")]
    Demo(Demo),
    /// Print a completion script for a shell
    #[command(after_help = "Example: source <(handoff completions bash)")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Show the settings in force, and where each comes from
    Config,
}

/// `signup`
#[derive(Args, Debug)]
pub(crate) struct Signup {
    /// The team's name
    #[arg(long, value_name = "NAME")]
    pub(crate) team: String,
    /// The name that the first key speaks for
    #[arg(long, value_name = "SENDER")]
    pub(crate) name: String,
    /// Write the relay's address and the key to the config file
    #[arg(long)]
    pub(crate) save: bool,
}

/// `post`
#[derive(Args, Debug)]
pub(crate) struct Post {
    /// The channel; it is opened by its first message
    pub(crate) channel: String,
    /// What to say; - reads standard input (without its last line break)
    #[arg(allow_hyphen_values = true)]
    pub(crate) text: String,
    /// Whom to call
    #[arg(long, value_name = "NAME")]
    pub(crate) mention: Option<String>,
    /// The message to reply to
    #[arg(long, value_name = "ID")]
    pub(crate) thread: Option<String>,
}

/// `reply`
#[derive(Args, Debug)]
pub(crate) struct Reply {
    /// The channel
    pub(crate) channel: String,
    /// The message to reply to
    pub(crate) id: String,
    /// What to say; - reads standard input (without its last line break)
    #[arg(allow_hyphen_values = true)]
    pub(crate) text: String,
    /// Whom to call
    #[arg(long, value_name = "NAME")]
    pub(crate) mention: Option<String>,
}

/// `read`
#[derive(Args, Debug)]
pub(crate) struct Read {
    /// The channel
    pub(crate) channel: String,
    /// Start right after this message; 0 is the beginning
    #[arg(long, value_name = "ID", conflicts_with = "unread")]
    pub(crate) after: Option<String>,
    /// How many at most, 1 to 100 [default: 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) limit: Option<u32>,
    /// Only what is after the own ack
    #[arg(long, conflicts_with_all = ["mention", "sender", "thread"])]
    pub(crate) unread: bool,
    /// Only what mentions this name; without a name, what mentions this agent
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    pub(crate) mention: Option<String>,
    /// Only what this sender said
    #[arg(long, value_name = "NAME")]
    pub(crate) sender: Option<String>,
    /// Wait so long, 50 at most, until there is something
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(0..=50))]
    pub(crate) wait: Option<u32>,
    /// This message and its replies, from the oldest
    #[arg(long, value_name = "ID", conflicts_with_all = ["mention", "sender", "wait"])]
    pub(crate) thread: Option<String>,
}

/// `tail`
#[derive(Args, Debug)]
pub(crate) struct Tail {
    /// The channels
    #[arg(required = true)]
    pub(crate) channels: Vec<String>,
    /// Start right after this message, not with what comes now; 0 is the beginning
    #[arg(long, value_name = "ID")]
    pub(crate) after: Option<String>,
}

/// `watch`
#[derive(Args, Debug)]
pub(crate) struct Watch {
    /// Only these channels
    pub(crate) channels: Vec<String>,
    /// Every message, not only those that mention this agent
    #[arg(long)]
    pub(crate) all: bool,
    /// How long to gather messages for one line, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 40,
        value_parser = clap::value_parser!(u64).range(0..=60_000))]
    pub(crate) burst_ms: u64,
}

/// `inbox`
#[derive(Args, Debug)]
pub(crate) struct Inbox {
    /// Wait so long, 55 at most, until there is something unread
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(0..=55))]
    pub(crate) wait: Option<u32>,
    /// Only what mentions this agent
    #[arg(long)]
    pub(crate) mentions: bool,
}

/// `status …`
#[derive(Subcommand, Debug)]
pub(crate) enum StatusCommand {
    /// Show status entries; of all channels if none is named
    Get {
        /// The channel
        channel: Option<String>,
        /// Only this key
        key: Option<String>,
    },
    /// Set a status entry
    #[command(after_help = "Example: handoff status set build phase testing")]
    Set {
        /// The channel
        channel: String,
        /// The entry's key
        key: String,
        /// Its value; - reads standard input (without its last line break)
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Show who changed what when
    History {
        /// The channel
        channel: String,
        /// Start right after this change; 0 is the beginning
        #[arg(long, value_name = "ID")]
        after: Option<String>,
        /// How many at most, 1 to 100 [default: 50]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
        limit: Option<u32>,
    },
    /// Delete a status entry; its history stays
    Delete {
        /// The channel
        channel: String,
        /// The entry's key
        key: String,
    },
}

/// `keys …`
#[derive(Subcommand, Debug)]
pub(crate) enum KeysCommand {
    /// Make a key, and print it: it can't be shown again
    #[command(after_help = "\
Examples:
  handoff keys create bob                          may do everything
  handoff keys create bob --may '*=read' --may review=write")]
    Create {
        /// Whom it speaks for
        sender: String,
        /// What it may do; may be repeated [default: everything]
        #[arg(long = "may", value_name = "CHANNEL=LEVEL", value_parser = permission)]
        permissions: Vec<(String, Level)>,
    },
    /// List the team's keys
    List,
    /// Replace what a key may do
    #[command(
        after_help = "Example: handoff keys permissions HASH --may '*=read' --may build=write"
    )]
    Permissions {
        /// The hash that names the key
        hash: String,
        /// What it may do; may be repeated
        #[arg(long = "may", value_name = "CHANNEL=LEVEL", value_parser = permission,
            required_unless_present = "nothing")]
        permissions: Vec<(String, Level)>,
        /// It may do nothing at all
        #[arg(long, conflicts_with = "permissions")]
        nothing: bool,
    },
    /// Revoke a key; its streams end
    Revoke {
        /// The hash that names the key
        hash: String,
    },
}

/// `token …`
#[derive(Subcommand, Debug)]
pub(crate) enum TokenCommand {
    /// Make a token, and print it: it can't be shown again
    #[command(after_help = "\
A token goes wherever a key goes, and never does more than its key does at that moment. Who it is
and how long it is good is told on standard error.

Examples:
  handoff token create --suffix tests --may ci=write --ttl 900
  RELAY_API_KEY=$(handoff token create --suffix helper) handoff whoami")]
    Create {
        /// Speak for NAME/SUFFIX [default: for the key's own name]
        #[arg(long, value_name = "SUFFIX")]
        suffix: Option<String>,
        /// What it may do, no more than the key; may be repeated [default: all that the key may]
        #[arg(long = "may", value_name = "CHANNEL=LEVEL", value_parser = permission)]
        permissions: Vec<(String, Level)>,
        /// How long it is good, 1 to 86400 [default: 3600]
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
        ttl: Option<u32>,
    },
}

/// What a key may do in a channel, each including the one before.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Level {
    /// See messages, threads, acks and status
    Read,
    /// Post, ack, set status
    Write,
    /// Delete
    Admin,
}

impl Level {
    /// As the relay calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

fn permission(text: &str) -> Result<(String, Level), String> {
    let (channel, level) = text
        .rsplit_once('=')
        .ok_or("write it as CHANNEL=LEVEL, like build=write or '*=read'")?;
    let level = Level::from_str(level, false)
        .map_err(|_| format!("there is no level {level:?}, only read, write and admin"))?;
    Ok((channel.to_owned(), level))
}

/// `channels …`
#[derive(Subcommand, Debug)]
pub(crate) enum ChannelsCommand {
    /// List the channels that the key can read
    List,
    /// Open a channel
    Create {
        /// Its name
        name: String,
        /// What it is for
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// Delete a channel and everything in it
    Delete {
        /// Its name
        name: String,
    },
}

/// `mcp`
#[derive(Args, Debug)]
pub(crate) struct Mcp {
    /// Push what mentions this agent into the session, as a Claude Code channel
    /// [env: HANDOFF_CHANNEL=1]
    #[arg(long)]
    pub(crate) channel: bool,
    /// Push only what these senders say
    #[arg(
        long,
        value_name = "SENDER,…",
        value_delimiter = ',',
        requires = "channel"
    )]
    pub(crate) channel_from: Vec<String>,
}

/// `demo`
#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// A relay that runs already; a new team is made there
    #[arg(long, value_name = "URL")]
    pub(crate) relay: Option<String>,
    /// How many times faster than for people to follow; 0 is without any pause
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = speed)]
    pub(crate) speed: f64,
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed == 0.0 || (0.01..=1e6).contains(&speed) => Ok(speed),
        _ => Err("neither 0 nor a number from 0.01 on".to_owned()),
    }
}
