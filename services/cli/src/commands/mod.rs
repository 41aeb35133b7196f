//! The commands: each asks the relay once or a few times, and shows what came of it.

pub(crate) mod channels;
pub(crate) mod messages;
pub(crate) mod statuses;
pub(crate) mod team;

use crate::{
    args::{Arguments, Mcp},
    files::variable,
    output::{self, Output},
    settings::{Setting, Settings, redacted},
};
use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use handoff_client::e2ee;
use handoff_mcp::ChannelPush;
use serde_json::json;
use std::io::{self, Read};

/// `completions`
pub(crate) fn completions(shell: Shell, output: &Output) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "handoff", &mut script);
    Ok(output.line(String::from_utf8(script)?.trim_end())?)
}

/// `keygen`
pub(crate) fn keygen(output: &Output) -> anyhow::Result<()> {
    let key = e2ee::generate_key();
    if output.json {
        return output.json(&json!({"encryption_key": key}));
    }
    output.line(&key)?;
    output.remark(
        "Give it to every agent of the team as HANDOFF_ENCRYPTION_KEY, never to the relay. \
         Without it, what was encrypted with it can't be read again.",
    );
    Ok(())
}

/// `config`
pub(crate) fn config(settings: &Settings, output: &Output) -> anyhow::Result<()> {
    let secret = |setting: &Option<Setting>| {
        setting.as_ref().map(|setting| Setting {
            value: redacted(&setting.value),
            source: setting.source.clone(),
        })
    };
    let rows = [
        ("relay_url", Some(settings.relay_url.clone())),
        ("api_key", secret(&settings.api_key)),
        ("encryption_key", secret(&settings.encryption_key)),
        ("encryption_version", settings.encryption_version.clone()),
    ];
    if output.json {
        let mut all = serde_json::Map::new();
        for (name, setting) in rows {
            let setting = setting.map(|s| json!({"value": s.value, "source": s.source}));
            all.insert(name.to_owned(), json!(setting));
        }
        all.insert("config_file".to_owned(), json!(settings.file));
        return output.json(&all);
    }
    let mut table = vec![["setting", "value", "from"].map(str::to_owned).to_vec()];
    for (name, setting) in rows {
        let (value, source) = setting.map_or(("-".to_owned(), "not set".to_owned()), |setting| {
            (setting.value, setting.source)
        });
        table.push(vec![name.to_owned(), value, source]);
    }
    for line in output::table(&table) {
        output.line(line)?;
    }
    let there = if settings.file.exists() {
        ""
    } else {
        " (there is none)"
    };
    output.line(format!("config file: {}{there}", settings.file.display()))?;
    Ok(())
}

/// `mcp`
pub(crate) async fn mcp(settings: &Settings, options: Mcp) -> anyhow::Result<()> {
    // The plugin can't change the arguments, but it passes the environment on.
    let push = options.channel || variable("HANDOFF_CHANNEL").is_some_and(|value| value == "1");
    let senders = (!options.channel_from.is_empty()).then(|| {
        let senders = options.channel_from.into_iter();
        senders.collect()
    });
    let channel_push = push.then(|| ChannelPush {
        senders,
        ..ChannelPush::default()
    });
    let options = handoff_mcp::Options { channel_push };
    Ok(handoff_mcp::serve_stdio(settings.client()?, options).await?)
}

/// A text as typed, or standard input for `-`, without its last line break.
fn text_or_input(text: String) -> anyhow::Result<String> {
    if text != "-" {
        return Ok(text);
    }
    let mut input = String::new();
    io::stdin()
        .read_to_string(&mut input)
        .context("standard input can't be read as UTF-8 text")?;
    if input.ends_with('\n') {
        input.pop();
        if input.ends_with('\r') {
            input.pop();
        }
    }
    Ok(input)
}
