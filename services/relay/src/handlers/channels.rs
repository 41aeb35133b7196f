//! `/api/channels`

use crate::door::{ApiRequest, created, no_content, ok};
use axum::response::Response;
use handoff_core::{Operation, Result};
use handoff_protocol::{
    ErrorCode,
    channels::{Channel, CreateChannelRequest},
};

/// Open a channel.
///
/// A channel that exists already is answered as it is. Needs admin on `*`.
#[utoipa::path(
    post,
    path = "/api/channels",
    request_body = CreateChannelRequest,
    responses(
        (status = 201, description = "The new channel", body = Channel, links(
            ("delete" = (operation_id = "deleteChannel",
                parameters(("channel" = "$response.body#/name")))),
            ("messages" = (operation_id = "listMessages",
                parameters(("channel" = "$response.body#/name")))),
        )),
        (status = 200, description = "It exists already, unchanged", body = Channel),
    ),
    extensions(("x-refusals" = json!([ErrorCode::Forbidden, ErrorCode::InvalidChannelName, ErrorCode::FieldTooLarge, ErrorCode::ChannelLimitReached])))
)]
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
///
/// Sorted by name, by bytes.
#[utoipa::path(
    get,
    path = "/api/channels",
    responses((status = 200, description = "The channels", body = Vec<Channel>))
)]
pub(crate) async fn list_channels(request: ApiRequest) -> Result<Response> {
    let grant = request.team_grant(Operation::ListChannels).await?;
    ok(&request.relay().list_channels(&grant).await?)
}

/// Delete a channel with everything in it.
///
/// Needs admin on the channel. Its streams end.
#[utoipa::path(
    delete,
    path = "/api/channels/{channel}",
    responses((status = 204, description = "It is gone")),
    extensions(("x-refusals" = json!([ErrorCode::ChannelNotFound])))
)]
pub(crate) async fn delete_channel(request: ApiRequest) -> Result<Response> {
    let grant = request.channel_grant(Operation::DeleteChannel).await?;
    request.relay().delete_channel(&grant).await?;
    no_content()
}
