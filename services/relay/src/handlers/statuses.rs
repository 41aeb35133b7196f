//! `/api/channels/{channel}/status` and `/api/status`

use crate::{
    door::{ApiRequest, no_content, ok},
    openapi::PageParams,
};
use axum::{body::Body, response::Response};
use futures_util::stream;
use handoff_core::{Operation, Result, StatusList};
use handoff_protocol::{
    ErrorCode,
    statuses::{SetStatusRequest, Status, StatusChangePage},
};

/// Set a status entry.
///
/// Creates the channel if it is missing. Every write goes into the history. Needs write on the
/// channel.
#[utoipa::path(
    method(put, post),
    path = "/api/channels/{channel}/status",
    request_body = SetStatusRequest,
    responses((status = 200, description = "The entry as it stands", body = Status, links(
        ("delete" = (operation_id = "deleteStatus", parameters(
            ("channel" = "$response.body#/channel"), ("key" = "$response.body#/key")))),
    ))),
    extensions(("x-refusals" = json!([ErrorCode::KeyTooLarge, ErrorCode::ValueTooLarge, ErrorCode::ChannelLimitReached, ErrorCode::ChannelNotFound])))
)]
pub(crate) async fn set_status(mut request: ApiRequest) -> Result<Response> {
    let grant = request.channel_grant(Operation::SetStatus).await?;
    let status = request.json::<SetStatusRequest>().await?.try_into()?;
    ok(&request.into_relay().set_status(&grant, status).await?)
}

/// Read a channel's status entries.
///
/// Sorted by key. Needs read on the channel.
#[utoipa::path(
    get,
    path = "/api/channels/{channel}/status",
    params(("key" = Option<String>, Query, description = "Only this entry")),
    responses((status = 200, description = "The entries", body = Vec<Status>))
)]
pub(crate) async fn list_statuses(request: ApiRequest) -> Result<Response> {
    let grant = request.channel_grant(Operation::ListStatuses).await?;
    let key = request.query().text("key")?;
    array(request.relay().list_statuses(&grant, key)?).await
}

/// Read status entries over all channels that the caller may read.
///
/// Sorted by channel, then key.
#[utoipa::path(
    get,
    path = "/api/status",
    params(
        ("channel" = Option<String>, Query, description = "Only entries of this channel"),
        ("key" = Option<String>, Query, description = "Only entries with this key"),
    ),
    responses((status = 200, description = "The entries", body = Vec<Status>))
)]
pub(crate) async fn list_all_statuses(request: ApiRequest) -> Result<Response> {
    let grant = request.team_grant(Operation::ListAllStatuses).await?;
    let query = request.query();
    let (channel, key) = (query.text("channel")?, query.text("key")?);
    array(request.relay().list_all_statuses(&grant, channel, key)?).await
}

/// A JSON array of all entries, written page by page where they are many. One that breaks off
/// breaks the connection, so that no client takes it for whole.
async fn array(mut list: StatusList) -> Result<Response> {
    let first = list.next_page().await?;
    if !list.has_more() {
        return ok(&first);
    }
    let mut response = ok(&())?;
    let first = Some((first, "["));
    *response.body_mut() = Body::from_stream(stream::unfold((list, first), next_chunk));
    Ok(response)
}

type State = (StatusList, Option<(Vec<Status>, &'static str)>);

async fn next_chunk((mut list, first): State) -> Option<(Result<Vec<u8>>, State)> {
    let (page, before) = match first {
        Some(first) => first,
        None if list.has_more() => match list.next_page().await {
            Ok(page) => (page, ","),
            Err(error) => return Some((Err(error), (list, None))),
        },
        None => return None,
    };
    // Each page as an array without its brackets; the last one closes the whole.
    let page = serde_json::to_vec(&page).unwrap_or_default();
    let entries = page
        .get(1..page.len().saturating_sub(1))
        .unwrap_or_default();
    let mut chunk = Vec::with_capacity(page.len() + 1);
    if !entries.is_empty() {
        chunk.extend_from_slice(before.as_bytes());
        chunk.extend_from_slice(entries);
    }
    if !list.has_more() {
        chunk.push(b']');
    }
    Some((Ok(chunk), (list, None)))
}

/// Delete a status entry.
///
/// The deletion goes into the history. Needs admin on the channel.
#[utoipa::path(
    delete,
    path = "/api/channels/{channel}/status/{key}",
    responses((status = 204, description = "It is gone")),
    extensions(("x-refusals" = json!([ErrorCode::StatusNotFound])))
)]
pub(crate) async fn delete_status(request: ApiRequest) -> Result<Response> {
    let grant = request.channel_grant(Operation::DeleteStatus).await?;
    request
        .relay()
        .delete_status(&grant, request.status_key_in_path()?)
        .await?;
    no_content()
}

/// Read the history of a channel's status entries.
///
/// Oldest first. Needs read on the channel.
#[utoipa::path(
    get,
    path = "/api/channels/{channel}/status/changes",
    params(PageParams),
    responses((status = 200, description = "A page", body = StatusChangePage))
)]
pub(crate) async fn list_status_changes(request: ApiRequest) -> Result<Response> {
    let grant = request.channel_grant(Operation::ListStatusChanges).await?;
    let page = request.query().page()?;
    ok(&request.relay().list_status_changes(&grant, page).await?)
}
