//! `/api/inbox`

use crate::door::{ApiRequest, ok};
use axum::response::Response;
use handoff_core::{Operation, Result};
use handoff_protocol::{
    Cursor,
    inbox::{InboxAckRequest, InboxRequest},
};
use std::time::Duration;

/// Read what the caller hasn't read, over all of its channels.
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
    ok(&request.relay().read_inbox(&grant, &inbox_request).await?)
}

/// Move the caller's acks in several channels.
pub(crate) async fn move_acks(mut request: ApiRequest) -> Result<Response> {
    // The body says which channels: it is read before their permission is asked for.
    let acks = request.json::<InboxAckRequest>().await?.parse()?;
    let channels = acks.iter().map(|(channel, _)| channel.clone()).collect();
    let grant = request
        .grant_on_channels(Operation::MoveAcks, channels)
        .await?;
    ok(&request.relay().move_acks(&grant, acks).await?)
}
