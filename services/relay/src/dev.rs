//! `handoff-relay dev`: a relay without any configuration, on a Postgres of its own.

use crate::{
    serve::{run, stop_signal},
    settings::{LimitSettings, ServeSettings, TelemetrySettings},
};
use anyhow::Context;
use clap::Args;
use handoff_core::Relay;
use handoff_private_postgres::{Mode, PrivatePostgres, Settings, default_data_dir, find_or_obtain};
use handoff_protocol::teams::{NewTeam, SignupRequest};
use handoff_store::migrations;
use std::{
    fs,
    io::Write,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// The database within the private Postgres.
const DATABASE: &str = "handoff";
/// Where the first key is kept, for the next start; readable by its owner only.
const KEY_FILE: &str = "first-key";

/// Settings of `dev`.
#[derive(Args, Clone, Debug)]
pub struct DevSettings {
    /// Where the data is kept [default: ~/.local/share/handoff, for root /var/lib/handoff]
    #[arg(long, env = "HANDOFF_DATA_DIR", value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// The folder of the Postgres programs (initdb, postgres), version 15 or later
    /// [default: found on PATH and in the usual places, else installed]
    #[arg(long, env = "HANDOFF_POSTGRES_BIN", value_name = "FOLDER")]
    postgres_bin: Option<PathBuf>,
    /// The port to listen on; 0 for any that is free
    #[arg(long, env = "PORT", default_value = "3000")]
    port: String,
    /// The address to listen on
    #[arg(
        long,
        env = "HANDOFF_BIND",
        value_name = "ADDRESS",
        default_value = "127.0.0.1"
    )]
    bind: String,
    #[command(flatten)]
    limits: LimitSettings,
    #[command(flatten)]
    telemetry: TelemetrySettings,
}

/// Runs Postgres and a relay on it until it is told to stop; stops what it started.
///
/// # Errors
/// When a setting is wrong, or Postgres can't be found, got or started.
pub async fn dev(settings: DevSettings) -> anyhow::Result<()> {
    let DevSettings {
        data_dir,
        postgres_bin,
        port,
        bind,
        limits,
        telemetry,
    } = settings;
    // Mistakes are told before Postgres starts, whose address isn't known until then.
    let any_postgres = "postgres://localhost/handoff".to_owned();
    let local = |url: String| {
        let (bind, port) = (bind.clone(), port.clone());
        ServeSettings::local(url, bind, port, limits.clone(), telemetry.clone()).check()
    };
    local(any_postgres)?;
    let stop = stop_signal()?;
    let data_dir = data_dir.map_or_else(default_data_dir, Ok)?;
    let mut postgres = start_postgres(data_dir.clone(), postgres_bin).await?;
    let relay = async {
        let url = postgres.url(DATABASE);
        migrations::migrate(&url.parse()?)
            .await
            .context("the migration failed")?;
        let settings = local(url)?;
        run(settings, stop, async |address, relay| {
            let api_key = first_key(&relay, &data_dir).await?;
            print_welcome(address, &api_key, &data_dir);
            Ok(())
        })
        .await
    };
    let outcome = relay.await;
    let stopped = tokio::task::spawn_blocking(move || postgres.stop(Mode::Fast)).await?;
    outcome?;
    Ok(stopped?)
}

async fn start_postgres(
    data_dir: PathBuf,
    bin: Option<PathBuf>,
) -> anyhow::Result<PrivatePostgres> {
    let start = move || -> anyhow::Result<PrivatePostgres> {
        fs::create_dir_all(&data_dir)
            .with_context(|| format!("the folder {} can't be made", data_dir.display()))?;
        let mut report = |step: &str| eprintln!("{step}");
        let binaries = find_or_obtain(bin.as_deref(), &mut report)?;
        let postgres = PrivatePostgres::start(&Settings::new(&data_dir, binaries))?;
        postgres.create_database_if_missing(DATABASE)?;
        Ok(postgres)
    };
    tokio::task::spawn_blocking(start)
        .await?
        .context("the private Postgres can't start")
}

/// The key of the first team: kept from an earlier run, or made now.
async fn first_key(relay: &Relay, data_dir: &Path) -> anyhow::Result<String> {
    let file = data_dir.join(KEY_FILE);
    if let Ok(kept) = fs::read_to_string(&file)
        && relay.authenticate(kept.trim()).await.is_ok()
    {
        return Ok(kept.trim().to_owned());
    }
    let team = NewTeam::try_from(SignupRequest {
        team_name: Some("dev".to_owned()),
        sender_name: Some("me".to_owned()),
    })?;
    let signed_up = relay.sign_up(IpAddr::V4(Ipv4Addr::LOCALHOST), team).await?;
    let mut options = fs::OpenOptions::new();
    let opened = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&file);
    opened
        .and_then(|mut file| writeln!(file, "{}", signed_up.api_key))
        .with_context(|| format!("the first key can't be kept in {}", file.display()))?;
    Ok(signed_up.api_key)
}

fn print_welcome(address: SocketAddr, api_key: &str, data_dir: &Path) {
    let url = format!("http://{address}");
    println!(
        "Handoff relay is listening on {url}

  key   {api_key}
  data  {data}

Try it:

  export RELAY_API_URL={url} RELAY_API_KEY={api_key}
  curl -N \"$RELAY_API_URL/api/channels/hello/stream?token=$RELAY_API_KEY\" &
  curl \"$RELAY_API_URL/api/channels/hello/messages\" -H \"Authorization: Bearer $RELAY_API_KEY\" \\
       -d '{{\"content\": \"hello, agents\"}}'
  curl \"$RELAY_API_URL/api/channels/hello/messages\" -H \"Authorization: Bearer $RELAY_API_KEY\"

Ctrl-C stops it; the data stays.",
        data = data_dir.display(),
    );
}
