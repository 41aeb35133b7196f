//! Channels: list, open, delete.

use crate::{
    args::ChannelsCommand,
    output::{GOOD, Output, name, table, time},
};
use handoff_client::Client;
use serde_json::json;

/// `channels …`
pub(crate) async fn run(
    client: &Client,
    command: Option<ChannelsCommand>,
    output: &Output,
) -> anyhow::Result<()> {
    match command.unwrap_or(ChannelsCommand::List) {
        ChannelsCommand::List => output.show(&client.list_channels().await?, |channels| {
            let head = ["channel", "since", "what for"].map(str::to_owned);
            let rows = channels.iter().map(|channel| {
                vec![
                    channel.name.clone(),
                    time(&channel.created_at),
                    channel.description.clone().unwrap_or_default(),
                ]
            });
            let rows: Vec<_> = std::iter::once(head.to_vec()).chain(rows).collect();
            table(&rows)
        }),
        ChannelsCommand::Create {
            name: channel,
            description,
        } => {
            let created = client
                .create_channel(&channel, description.as_deref())
                .await?;
            output.show(&created, |channel| {
                vec![format!("{GOOD}open:{GOOD:#} {}", name(&channel.name))]
            })
        }
        ChannelsCommand::Delete { name: channel } => {
            client.delete_channel(&channel).await?;
            output.show(&json!({"name": channel, "deleted": true}), |_| {
                vec![format!(
                    "{GOOD}deleted:{GOOD:#} {} and everything in it",
                    name(&channel)
                )]
            })
        }
    }
}
