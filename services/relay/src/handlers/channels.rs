//! `/api/channels`

use crate::door::{ApiRequest, created, no_content, ok};
use axum::response::Response;
use handoff_core::{Operation, Result};
use handoff_protocol::channels::CreateChannelRequest;

/// Open a channel.
pub(crate) async fn create_channel(mut request: ApiRequest) -> Result<Response> {
    let grant = request.team_grant(Operation::CreateChannel).await?;
    let channel = request.json::<CreateChannelRequest>().await?.try_into()?;
    let (channel, is_new) = request.relay().create_channel(&grant, channel).await?;
    if is_new {
        created(&channel)
    } else {
        ok(&channel)
    }
}

/// List the channels that the caller may read.
pub(crate) async fn list_channels(request: ApiRequest) -> Result<Response> {
    let grant = request.team_grant(Operation::ListChannels).await?;
    ok(&request.relay().list_channels(&grant).await?)
}

/// Delete a channel with everything in it.
pub(crate) async fn delete_channel(request: ApiRequest) -> Result<Response> {
    let grant = request.channel_grant(Operation::DeleteChannel).await?;
    request.relay().delete_channel(&grant).await?;
    no_content()
}
