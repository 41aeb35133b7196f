//! `/api/channels/{channel}/stream` and `/api/stream`

use crate::{door::ApiRequest, sse};
use axum::response::Response;
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
    if request.parts.method == Method::HEAD {
        return Ok(sse::response(axum::body::Body::empty()));
    }
    let stream = request.relay().open_stream(grant, start).await?;
    Ok(sse::response(sse::body(stream)))
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
