//! Who one is, and the team's keys.

use crate::{
    args::{KeysCommand, Level, Signup, TokenCommand},
    output::{BOLD, GOOD, Output, name, table, time},
    settings::Settings,
};
use handoff_client::{
    Client,
    types::{NewToken, Permissions},
};
use serde_json::json;

/// `signup`
pub(crate) async fn sign_up(
    settings: &Settings,
    signup: Signup,
    output: &Output,
) -> anyhow::Result<()> {
    let client = settings.client_without_key()?;
    let signed_up = client.signup(&signup.team, &signup.name).await?;
    // Shown first: a key that could not be saved is not lost.
    output.show(&signed_up, |signed_up| {
        vec![
            format!(
                "team  {} (id {})",
                name(&signed_up.team.name),
                signed_up.team.id
            ),
            format!("key   {BOLD}{}{BOLD:#}", signed_up.api_key),
        ]
    })?;
    if signup.save {
        settings.save(&signed_up.api_key)?;
        output.remark(format!("Saved to {}.", settings.file.display()));
    } else {
        output.remark("It is shown only now. Set RELAY_API_KEY to it, or use --save next time.");
    }
    Ok(())
}

/// `whoami`
pub(crate) async fn who_am_i(settings: &Settings, output: &Output) -> anyhow::Result<()> {
    let client = settings.client()?;
    let me = client.me().await?;
    output.show(&me, |me| {
        let encryption = if client.keyring().is_some() {
            "on: texts are encrypted before they leave this machine"
        } else {
            "off"
        };
        vec![
            format!("sender       {BOLD}{}{BOLD:#}", name(&me.sender)),
            format!("team         {} (id {})", name(&me.team.name), me.team.id),
            format!(
                "may          {}",
                name(&permissions_in_words(&me.permissions))
            ),
            format!("relay        {}", name(&settings.relay_url.value)),
            format!("encryption   {encryption}"),
        ]
    })
}

/// `keys …`
pub(crate) async fn keys(
    client: &Client,
    command: KeysCommand,
    output: &Output,
) -> anyhow::Result<()> {
    match command {
        KeysCommand::Create {
            sender,
            permissions,
        } => {
            let permissions = (!permissions.is_empty()).then(|| map(permissions));
            let created = client.create_key(&sender, permissions.as_ref()).await?;
            output.show(&created, |created| {
                vec![
                    format!("sender  {}", name(&created.sender)),
                    format!("key     {BOLD}{}{BOLD:#}", created.api_key),
                    format!("hash    {}", created.key),
                ]
            })?;
            output.remark("The key is shown only now; the hash names it from here on.");
            Ok(())
        }
        KeysCommand::List => output.show(&client.list_keys().await?, |keys| {
            let head = ["sender", "may", "made", "hash"].map(str::to_owned);
            let rows = keys.iter().map(|key| {
                vec![
                    key.sender.clone(),
                    permissions_in_words(&key.permissions),
                    time(&key.created_at),
                    key.key.clone(),
                ]
            });
            let rows: Vec<_> = std::iter::once(head.to_vec()).chain(rows).collect();
            table(&rows)
        }),
        KeysCommand::Permissions {
            hash,
            permissions,
            nothing: _,
        } => {
            let set = client.set_key_permissions(&hash, &map(permissions)).await?;
            output.show(&set, |set| {
                let may = permissions_in_words(&set.permissions);
                vec![format!("{GOOD}done:{GOOD:#} the key may {}", name(&may))]
            })
        }
        KeysCommand::Revoke { hash } => {
            client.revoke_key(&hash).await?;
            output.show(&json!({"key": hash, "revoked": true}), |_| {
                vec![format!("{GOOD}done:{GOOD:#} the key is revoked")]
            })
        }
    }
}

/// `token …`
pub(crate) async fn token(
    client: &Client,
    command: TokenCommand,
    output: &Output,
) -> anyhow::Result<()> {
    let TokenCommand::Create {
        suffix,
        permissions,
        ttl,
    } = command;
    let created = client
        .create_token(&NewToken {
            permissions: (!permissions.is_empty()).then(|| map(permissions)),
            sender_suffix: suffix,
            ttl_seconds: ttl,
        })
        .await?;
    // Alone on its line: scripts take it as it is.
    output.show(&created, |created| vec![created.token.clone()])?;
    output.remark(format!(
        "It speaks for {}, may {}, and is good until {} UTC.",
        name(&created.sender),
        name(&permissions_in_words(&created.permissions)),
        time(&created.expires_at)
    ));
    Ok(())
}

fn map(permissions: Vec<(String, Level)>) -> Permissions {
    let named = permissions.into_iter();
    named
        .map(|(channel, level)| (channel, level.name().to_owned()))
        .collect()
}

fn permissions_in_words(permissions: &Permissions) -> String {
    if permissions.is_empty() {
        return "nothing".to_owned();
    }
    let each = permissions.iter().map(|(channel, level)| {
        let channel = if channel == "*" {
            "any channel"
        } else {
            channel
        };
        format!("{level} {channel}")
    });
    each.collect::<Vec<_>>().join(", ")
}
