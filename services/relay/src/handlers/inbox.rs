//! `/api/inbox`

use crate::{
    door::{ApiRequest, ok},
    in_process::FromTool,
};
use axum::response::Response;
use handoff_core::{Operation, Result};
use handoff_protocol::{
    Cursor, ErrorCode, Id,
    inbox::{Inbox, InboxAckRequest, InboxRequest},
    messages::Ack,
};
use std::time::Duration;
use utoipa::IntoParams;

/// What of the inbox is wanted.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "`Query` reads what this describes")]
struct InboxParams {
    /// Only what is newer.
    after_id: Option<Id>,
    /// Only these channels, with commas between their names: at most 500.
    #[param(
        pattern = "^[a-zA-Z0-9][a-zA-Z0-9._-]{0,127}(,[a-zA-Z0-9][a-zA-Z0-9._-]{0,127})*$",
        example = "build,deploy"
    )]
    channels: Option<String>,
    /// Only what mentions the caller.
    #[param(default = false)]
    mentions_only: Option<bool>,
    /// Bytes of text to show at most; a single longer message is shown. 0: counts alone.
    #[param(minimum = 0, maximum = 262144, default = 16384)]
    max_bytes: Option<u32>,
    /// Seconds to wait for something to show.
    #[param(minimum = 0, maximum = 55, default = 0)]
    wait: Option<u8>,
}

/// Read what the caller hasn't read, over all of its channels.
///
/// Messages that mention the caller come first; the caller's own are never part of it. Reading
/// moves no ack.
#[utoipa::path(
    get,
    path = "/api/inbox",
    params(InboxParams),
    responses((status = 200, description = "What the caller hasn't read", body = Inbox)),
    extensions(("x-refusals" = json!([ErrorCode::SseLimitReached])))
)]
pub(crate) async fn read_inbox(request: ApiRequest) -> Result<Response> {
    let grant = request.team_grant(Operation::ReadInbox).await?;
    let query = request.query();
    let wait = query.text("wait")?;
    let max_bytes = query.text("max_bytes")?;
    let inbox_request = InboxRequest {
        after: query.id("after_id")?.unwrap_or(Cursor::BEGINNING),
        channels: request.channels_in_query()?,
        mentions_only: query.flag("mentions_only")?,
        max_bytes: max_bytes
            .as_deref()
            .map(InboxRequest::parse_max_bytes)
            .transpose()?
            .unwrap_or(InboxRequest::DEFAULT_BYTES),
        wait: wait
            .as_deref()
            .map(InboxRequest::parse_wait)
            .transpose()?
            .unwrap_or(Duration::ZERO),
    };
    let is_from_tool = request.parts.extensions.get::<FromTool>().is_some();
    let relay = request.into_relay();
    // What every tool's result carries along mostly needs no look at the tables.
    if inbox_request.is_for_counts() && is_from_tool {
        return ok(&Inbox::counts_alone(relay.unread_hint(&grant).await?));
    }
    ok(&relay.read_inbox(&grant, &inbox_request).await?)
}

/// Move the caller's acks in several channels.
///
/// All of them or none. Each is as the ack of one channel: it only moves forward, and no further
/// than the newest message. Needs write on each channel.
#[utoipa::path(
    post,
    path = "/api/inbox/ack",
    request_body = InboxAckRequest,
    responses((status = 200, description = "The acks as they stand, in the order asked",
        body = Vec<Ack>)),
    extensions(("x-refusals" = json!([ErrorCode::Forbidden, ErrorCode::InvalidChannelName, ErrorCode::InvalidCursor, ErrorCode::InvalidLimit, ErrorCode::ChannelNotFound])))
)]
pub(crate) async fn move_acks(mut request: ApiRequest) -> Result<Response> {
    // The body says which channels: it is read before their permission is asked for.
    let acks = request.json::<InboxAckRequest>().await?.parse()?;
    let channels = acks.iter().map(|(channel, _)| channel.clone()).collect();
    let grant = request
        .grant_on_channels(Operation::MoveAcks, channels)
        .await?;
    ok(&request.into_relay().move_acks(&grant, acks).await?)
}
