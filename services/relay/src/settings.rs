//! Settings, from the environment. Mistakes are reported all together, before anything starts.

use crate::{
    address::{DEFAULT_TRUSTED_PROXIES, TrustedProxies},
    cors::Origins,
    telemetry::traces::Export,
};
use anyhow::{Context, bail};
use clap::Args;
use handoff_core::RelayConfig;
use handoff_store::{DatabaseUrl, StoreConfig};
use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    str::FromStr,
    time::Duration,
};

/// Settings of a replica's limits, for `serve` and `dev`.
#[derive(Args, Clone, Debug)]
pub(crate) struct LimitSettings {
    /// Requests of a key in a window; also those of an address without a good key
    #[arg(
        long,
        env = "RATE_LIMIT_MAX",
        value_name = "REQUESTS",
        default_value = "100"
    )]
    rate_limit_max: String,
    /// The window of the rate limit, in milliseconds
    #[arg(
        long,
        env = "RATE_LIMIT_WINDOW_MS",
        value_name = "MS",
        default_value = "1000"
    )]
    rate_limit_window_ms: String,
    /// Teams that an address may sign up in an hour; 0 closes signup
    #[arg(
        long,
        env = "HANDOFF_SIGNUPS_PER_HOUR",
        value_name = "TEAMS",
        default_value = "10"
    )]
    signups_per_hour: String,
    /// Keys that a team may have
    #[arg(
        long,
        env = "HANDOFF_KEYS_PER_TEAM",
        value_name = "KEYS",
        default_value = "100"
    )]
    keys_per_team: String,
    /// Channels that a team may have
    #[arg(
        long,
        env = "HANDOFF_CHANNELS_PER_TEAM",
        value_name = "CHANNELS",
        default_value = "500"
    )]
    channels_per_team: String,
    /// Streams that a key may have open, over all replicas
    #[arg(
        long,
        env = "HANDOFF_STREAMS_PER_KEY",
        value_name = "STREAMS",
        default_value = "20"
    )]
    streams_per_key: String,
    /// Lanes that commit this replica's writes, 1 to 64, each with a connection, and under load a
    /// second one [default: 2, or 1 where there are fewer than 4 cores]
    #[arg(
        long,
        env = "HANDOFF_LANES",
        value_name = "LANES",
        default_value_t = default_lanes(),
        hide_default_value = true
    )]
    lanes: String,
    /// Connections for reads
    #[arg(
        long,
        env = "HANDOFF_POOL_SIZE",
        value_name = "CONNECTIONS",
        default_value = "10"
    )]
    pool_size: String,
    /// Client connections that the replica holds at most; further ones wait to be accepted
    #[arg(
        long,
        env = "HANDOFF_CONNECTIONS",
        value_name = "CONNECTIONS",
        default_value = "15000"
    )]
    connections: String,
    /// Networks whose X-Forwarded-For is believed, separated by commas; `none` for no proxy
    #[arg(
        long,
        env = "HANDOFF_TRUSTED_PROXIES",
        value_name = "NETWORKS",
        default_value = DEFAULT_TRUSTED_PROXIES
    )]
    trusted_proxies: String,
    /// Origins whose web pages may use the relay, like https://app.example, separated by commas;
    /// `*` for any, empty for none
    #[arg(
        long,
        env = "HANDOFF_CORS_ORIGINS",
        value_name = "ORIGINS",
        default_value = "*"
    )]
    cors_origins: String,
    /// How long a stopping replica finishes what is under way, in milliseconds
    #[arg(
        long,
        env = "HANDOFF_SHUTDOWN_MS",
        value_name = "MS",
        default_value = "20000"
    )]
    shutdown_ms: String,
}

/// Settings of what a replica tells of itself, for `serve` and `dev`.
#[derive(Args, Clone, Debug)]
pub(crate) struct TelemetrySettings {
    /// The port to show metrics on, for Prometheus, at /metrics; 0 for any that is free
    /// [default: metrics are not collected]
    #[arg(long, env = "HANDOFF_METRICS_PORT", value_name = "PORT")]
    metrics_port: Option<String>,
}

/// Postgres works for each lane on a core of its own, and the relay needs one as well.
fn default_lanes() -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if cores < 4 { "1" } else { "2" }.to_owned()
}

/// What the help says of variables that the OpenTelemetry libraries read.
pub(crate) const OTEL_HELP: &str = "\
Traces are sent over OTLP (http/protobuf) where the standard variables say where to:
  OTEL_EXPORTER_OTLP_ENDPOINT  a collector, like http://collector:4318; unset: nothing is recorded
  OTEL_EXPORTER_OTLP_HEADERS   what it asks for, like api-key=SECRET
  OTEL_SERVICE_NAME            the service's name [default: handoff-relay]
  OTEL_RESOURCE_ATTRIBUTES     what else to say of it, like deployment.environment.name=staging
  OTEL_TRACES_SAMPLER          which requests [default: parentbased_always_on]
  OTEL_TRACES_SAMPLER_ARG      the share of them, for traceidratio and parentbased_traceidratio
  OTEL_SDK_DISABLED            true: nothing is recorded
A message posted in a trace that is recorded carries its `traceparent` to its readers.

RUST_LOG sets what is logged [default: info]; debug has a line for each request.";

/// Settings of `serve`.
#[derive(Args, Clone, Debug)]
#[command(after_help = OTEL_HELP)]
pub struct ServeSettings {
    /// Postgres, like postgres://user:password@host/database; may lead through PgBouncer
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<String>,
    /// Postgres for what needs a session: lanes, listener, notifier. Past PgBouncer.
    /// [default: DATABASE_URL]
    #[arg(
        long,
        env = "DATABASE_LISTEN_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    database_listen_url: Option<String>,
    /// The port to listen on; 0 for any that is free
    #[arg(long, env = "PORT", default_value = "3000")]
    port: String,
    /// The address to listen on
    #[arg(
        long,
        env = "HANDOFF_BIND",
        value_name = "ADDRESS",
        default_value = "0.0.0.0"
    )]
    bind: String,
    #[command(flatten)]
    limits: LimitSettings,
    #[command(flatten)]
    telemetry: TelemetrySettings,
}

/// Settings of what an operator does to the database.
#[derive(Args, Clone, Debug)]
pub struct DatabaseSettings {
    /// Postgres, past PgBouncer if there is one [default: DATABASE_URL]
    #[arg(
        long,
        env = "DATABASE_LISTEN_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    database_listen_url: Option<String>,
    /// Postgres, like postgres://user:password@host/database
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<String>,
}

/// Settings of `rotate-signing-key`.
#[derive(Args, Clone, Debug)]
pub struct RotateSettings {
    #[command(flatten)]
    pub(crate) database: DatabaseSettings,
    /// The keys before it have leaked: drop them, and with them all tokens. Replicas refuse these
    /// within a minute
    #[arg(long)]
    pub(crate) drop_old: bool,
}

/// A replica's settings, all of them legal.
pub(crate) struct Serve {
    pub(crate) address: SocketAddr,
    pub(crate) metrics_address: Option<SocketAddr>,
    pub(crate) export: Export,
    pub(crate) relay: RelayConfig,
    pub(crate) trusted_proxies: TrustedProxies,
    pub(crate) cors_origins: Origins,
    pub(crate) connections: usize,
    pub(crate) shutdown: Duration,
}

/// Mistakes found so far.
#[derive(Default)]
struct Mistakes(Vec<String>);

impl Mistakes {
    fn note<T, E: Display>(&mut self, name: &str, outcome: Result<T, E>) -> Option<T> {
        outcome
            .map_err(|error| self.0.push(format!("{name}: {error}")))
            .ok()
    }

    fn number<T>(&mut self, name: &str, text: &str, range: RangeInclusive<T>) -> Option<T>
    where
        T: FromStr + PartialOrd + Display,
    {
        let number = text
            .trim()
            .parse()
            .ok()
            .filter(|number| range.contains(number));
        let wrong = || {
            format!(
                "{text:?} is not a number from {} to {}",
                range.start(),
                range.end()
            )
        };
        self.note(name, number.ok_or_else(wrong))
    }

    fn database_url(&mut self, name: &str, text: Option<&str>) -> Option<DatabaseUrl> {
        match text.filter(|text| !text.is_empty()) {
            Some(text) => self.note(name, text.parse()),
            None => self.note(
                name,
                Err("is not set: say where Postgres is, like \
                 postgres://user:password@host/database (or try `handoff-relay dev`)"),
            ),
        }
    }

    fn report(self) -> anyhow::Error {
        anyhow::anyhow!("the settings can't be used\n  {}", self.0.join("\n  "))
    }
}

impl ServeSettings {
    /// Settings for a Postgres that is known to be there.
    pub(crate) fn local(
        database_url: String,
        bind: String,
        port: String,
        limits: LimitSettings,
        telemetry: TelemetrySettings,
    ) -> Self {
        Self {
            database_url: Some(database_url),
            database_listen_url: None,
            port,
            bind,
            limits,
            telemetry,
        }
    }

    /// Checks everything, and reports every mistake.
    pub(crate) fn check(&self) -> anyhow::Result<Serve> {
        let mut mistakes = Mistakes::default();
        let listen = self
            .database_listen_url
            .as_deref()
            .filter(|url| !url.is_empty());
        let database_url = mistakes.database_url("DATABASE_URL", self.database_url.as_deref());
        let listen_url = match listen {
            Some(listen) => mistakes.database_url("DATABASE_LISTEN_URL", Some(listen)),
            None => database_url.clone(),
        };
        let port = mistakes.number("PORT", &self.port, 0..=u16::MAX);
        let metrics_port = self
            .telemetry
            .metrics_port
            .as_deref()
            .filter(|port| !port.is_empty());
        let metrics_port = metrics_port.map_or(Some(None), |port| {
            mistakes
                .number("HANDOFF_METRICS_PORT", port, 0..=u16::MAX)
                .map(Some)
        });
        if port.is_some_and(|port| port != 0 && metrics_port == Some(Some(port))) {
            let taken = Err("is the PORT of the relay itself: metrics need one of their own");
            let _: Option<()> = mistakes.note("HANDOFF_METRICS_PORT", taken);
        }
        let export = Export::from_env()
            .map_err(|wrong| mistakes.0.extend(wrong))
            .ok();
        let no_address = |_| format!("{:?} is no IP address", self.bind);
        let bind = mistakes.note(
            "HANDOFF_BIND",
            self.bind.parse::<IpAddr>().map_err(no_address),
        );
        let limits = &self.limits;
        let rate_limit_max = mistakes.number("RATE_LIMIT_MAX", &limits.rate_limit_max, 1..=1 << 30);
        let rate_limit_window_ms = mistakes.number(
            "RATE_LIMIT_WINDOW_MS",
            &limits.rate_limit_window_ms,
            1..=86_400_000,
        );
        let signups_per_hour = mistakes.number(
            "HANDOFF_SIGNUPS_PER_HOUR",
            &limits.signups_per_hour,
            0..=1 << 30,
        );
        let keys_per_team =
            mistakes.number("HANDOFF_KEYS_PER_TEAM", &limits.keys_per_team, 1..=1 << 20);
        let channels_per_team = mistakes.number(
            "HANDOFF_CHANNELS_PER_TEAM",
            &limits.channels_per_team,
            1..=1 << 20,
        );
        let streams_per_key = mistakes.number(
            "HANDOFF_STREAMS_PER_KEY",
            &limits.streams_per_key,
            0..=1 << 30,
        );
        let lanes = mistakes.number("HANDOFF_LANES", &limits.lanes, 1..=64);
        let pool_size = mistakes.number("HANDOFF_POOL_SIZE", &limits.pool_size, 2..=1_000);
        let connections =
            mistakes.number("HANDOFF_CONNECTIONS", &limits.connections, 1..=1_000_000);
        let trusted_proxies =
            mistakes.note("HANDOFF_TRUSTED_PROXIES", limits.trusted_proxies.parse());
        let cors_origins = mistakes.note("HANDOFF_CORS_ORIGINS", limits.cors_origins.parse());
        let shutdown_ms = mistakes.number("HANDOFF_SHUTDOWN_MS", &limits.shutdown_ms, 0..=600_000);
        let checked = (|| {
            Some(Serve {
                address: SocketAddr::new(bind?, port?),
                metrics_address: match metrics_port? {
                    Some(port) => Some(SocketAddr::new(bind?, port)),
                    None => None,
                },
                export: export?,
                relay: RelayConfig {
                    store: StoreConfig {
                        database_url: database_url?,
                        listen_url: listen_url?,
                        lanes: lanes?,
                        pool_size: pool_size?,
                        channels_per_team: channels_per_team?,
                    },
                    rate_limit_max: rate_limit_max?,
                    rate_limit_window: Duration::from_millis(rate_limit_window_ms?),
                    signups_per_hour: signups_per_hour?,
                    keys_per_team: keys_per_team?,
                    streams_per_key: streams_per_key?,
                },
                trusted_proxies: trusted_proxies?,
                cors_origins: cors_origins?,
                connections: connections?,
                shutdown: Duration::from_millis(shutdown_ms?),
            })
        })();
        match checked {
            Some(checked) if mistakes.0.is_empty() => Ok(checked),
            _ => Err(mistakes.report()),
        }
    }
}

impl DatabaseSettings {
    /// Where Postgres is.
    ///
    /// # Errors
    /// When no database is set, or its URL can't be read.
    pub(crate) fn url(&self) -> anyhow::Result<DatabaseUrl> {
        let set = |url: &Option<String>| url.clone().filter(|url| !url.is_empty());
        let Some(url) = set(&self.database_listen_url).or_else(|| set(&self.database_url)) else {
            bail!("DATABASE_URL is not set: say where Postgres is");
        };
        url.parse().context("the database URL can't be used")
    }
}
