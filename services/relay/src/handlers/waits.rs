//! `/api/wait`

use crate::door::{ApiRequest, ok};
use axum::response::Response;
use handoff_core::{Operation, Result};
use handoff_protocol::{
    ErrorCode,
    waits::{Condition, Wait, WaitOutcome, WaitRequest},
};

/// Wait for what others do.
///
/// Answers as soon as one of the conditions (`any`) or all of them (`all`) are true, which may be
/// at once, or when time is up. Counts as one of the key's streams meanwhile. Needs read on each
/// channel.
#[utoipa::path(
    post,
    path = "/api/wait",
    request_body = WaitRequest,
    responses((status = 200, description = "How each condition stands", body = WaitOutcome)),
    extensions(("x-refusals" = json!([ErrorCode::Forbidden, ErrorCode::InvalidChannelName, ErrorCode::InvalidCursor, ErrorCode::InvalidLimit, ErrorCode::FieldTooLarge, ErrorCode::KeyTooLarge, ErrorCode::ValueTooLarge, ErrorCode::SseLimitReached])))
)]
pub(crate) async fn wait(mut request: ApiRequest) -> Result<Response> {
    // The body says which channels: it is read before their permission is asked for.
    let wait: Wait = request.json::<WaitRequest>().await?.try_into()?;
    let channels = wait.conditions.iter().map(Condition::channel).cloned();
    let grant = request
        .grant_on_channels(Operation::Wait, channels.collect())
        .await?;
    ok(&request.into_relay().wait(&grant, &wait).await?)
}
