//! `/api/channels/{channel}/stream` and `/api/stream`

use crate::{door::ApiRequest, sse};
use axum::{body::Body, response::Response};
use handoff_core::{Operation, Result, StreamGrant, StreamStart};
use handoff_protocol::Id;
use http::Method;

/// Follow a channel.
pub(crate) async fn stream_channel(request: ApiRequest) -> Result<Response> {
    let grant = request
        .channel_grant(Operation::StreamChannel)
        .await?
        .into_stream()?;
    stream(request, grant).await
}

/// Follow several channels with one cursor.
pub(crate) async fn stream_channels(request: ApiRequest) -> Result<Response> {
    let grant = request.channels_grant(Operation::StreamChannels).await?;
    stream(request, grant).await
}

async fn stream(request: ApiRequest, grant: StreamGrant) -> Result<Response> {
    let start = match resume_point(&request)? {
        Some(cursor) => StreamStart::After(cursor),
        None => StreamStart::Now,
    };
    let relay = request.relay();
    let epoch = relay.epoch();
    let body = match request.parts.method {
        Method::HEAD => Body::empty(),
        _ => sse::body(relay.open_stream(grant, start).await?),
    };
    Ok(sse::response(body, epoch.as_ref()))
}

/// The `Last-Event-ID` header, else the parameter of that name.
fn resume_point(request: &ApiRequest) -> Result<Option<Id>> {
    let header = request
        .parts
        .headers
        .get("last-event-id")
        .filter(|value| !value.is_empty());
    Ok(match header {
        Some(value) => Some(Id::parse(&String::from_utf8_lossy(value.as_bytes()))?),
        None => request.query().id("last_event_id")?,
    })
}
