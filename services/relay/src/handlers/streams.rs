//! `/api/channels/{channel}/stream` and `/api/stream`

use crate::{door::ApiRequest, sse};
use axum::response::Response;
use handoff_core::{Operation, Result, StreamGrant, StreamStart};
use handoff_protocol::{ErrorCode, Id};
use http::Method;

/// Follow a channel.
///
/// Starts now, or after the ID given. A channel that doesn't exist yet is waited for. Needs read
/// on the channel.
#[utoipa::path(
    get,
    path = "/api/channels/{channel}/stream",
    params(
        ("Last-Event-ID" = Option<Id>, Header, description = "Everything after this ID comes"),
        ("last_event_id" = Option<Id>, Query,
            description = "The same, for clients that can't set headers; the header wins"),
    ),
    responses((status = 200, content_type = "text/event-stream", body = String,
        description = "Events named `message`, each with the ID of its message and the `Message` as \
                       JSON on one line of data",
        headers(
            ("Cache-Control" = String, description = "`no-cache, no-transform`"),
            ("X-Accel-Buffering" = String, description = "`no`"),
            ("Handoff-Epoch" = String, description = "The epoch, as in `GET /api`"),
        ))),
    extensions(("x-refusals" = json!([ErrorCode::SseLimitReached])))
)]
pub(crate) async fn stream_channel(request: ApiRequest) -> Result<Response> {
    let grant = request
        .channel_grant(Operation::StreamChannel)
        .await?
        .into_stream()?;
    stream(request, grant).await
}

/// Follow several channels with one cursor.
///
/// Needs read on each of them.
#[utoipa::path(
    get,
    path = "/api/stream",
    params(
        ("channels" = String, Query, description = "Names of channels, with commas between them: at most 500",
            pattern = "^[a-zA-Z0-9][a-zA-Z0-9._-]{0,127}(,[a-zA-Z0-9][a-zA-Z0-9._-]{0,127})*$",
            example = "build,deploy"),
        ("Last-Event-ID" = Option<Id>, Header, description = "Everything after this ID comes"),
        ("last_event_id" = Option<Id>, Query,
            description = "The same, for clients that can't set headers; the header wins"),
    ),
    responses((status = 200, content_type = "text/event-stream", body = String,
        description = "Events named `message`, each with the ID of its message and the `Message` as \
                       JSON on one line of data",
        headers(
            ("Cache-Control" = String, description = "`no-cache, no-transform`"),
            ("X-Accel-Buffering" = String, description = "`no`"),
            ("Handoff-Epoch" = String, description = "The epoch, as in `GET /api`"),
        ))),
    extensions(("x-refusals" = json!([ErrorCode::Forbidden, ErrorCode::MissingFields, ErrorCode::SseLimitReached])))
)]
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
    let stream = match request.parts.method {
        Method::HEAD => None,
        _ => Some(relay.open_stream(grant, start).await?),
    };
    Ok(sse::response(stream, epoch.as_ref()))
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
