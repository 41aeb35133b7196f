//! `/api/channels/{channel}/status` and `/api/status`

use crate::door::{ApiRequest, no_content, ok};
use axum::response::Response;
use handoff_core::{Operation, Result};
use handoff_protocol::statuses::SetStatusRequest;

/// Set a status entry.
pub(crate) async fn set_status(mut request: ApiRequest) -> Result<Response> {
    let grant = request.channel_grant(Operation::SetStatus).await?;
    let status = request.json::<SetStatusRequest>().await?.try_into()?;
    ok(&request.relay().set_status(&grant, status).await?)
}

/// Read a channel's status entries.
pub(crate) async fn list_statuses(request: ApiRequest) -> Result<Response> {
    let grant = request.channel_grant(Operation::ListStatuses).await?;
    let key = request.query().text("key")?;
    ok(&request
        .relay()
        .list_statuses(&grant, key.as_deref())
        .await?)
}

/// Read status entries over all channels that the caller may read.
pub(crate) async fn list_all_statuses(request: ApiRequest) -> Result<Response> {
    let grant = request.team_grant(Operation::ListAllStatuses).await?;
    let query = request.query();
    let (channel, key) = (query.text("channel")?, query.text("key")?);
    let relay = request.relay();
    ok(&relay
        .list_all_statuses(&grant, channel.as_deref(), key.as_deref())
        .await?)
}

/// Delete a status entry.
pub(crate) async fn delete_status(request: ApiRequest) -> Result<Response> {
    let grant = request.channel_grant(Operation::DeleteStatus).await?;
    request
        .relay()
        .delete_status(&grant, request.status_key_in_path()?)
        .await?;
    no_content()
}

/// Read the history of a channel's status entries.
pub(crate) async fn list_status_changes(request: ApiRequest) -> Result<Response> {
    let grant = request.channel_grant(Operation::ListStatusChanges).await?;
    let page = request.query().page()?;
    ok(&request.relay().list_status_changes(&grant, page).await?)
}
