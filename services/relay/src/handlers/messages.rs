//! `/api/channels/{channel}/messages`, threads, acks and unread.

use crate::door::{ApiRequest, created, no_content, ok};
use axum::response::Response;
use handoff_core::{Operation, Posted, Result};
use handoff_protocol::messages::{AckRequest, MessageFilter, PostMessageRequest};
use http::HeaderValue;

/// Post a message to a channel.
pub(crate) async fn post_message(mut request: ApiRequest) -> Result<Response> {
    let grant = request.channel_grant(Operation::PostMessage).await?;
    let idempotency_key = request.idempotency_key()?;
    let message = request.json::<PostMessageRequest>().await?.try_into()?;
    match request
        .relay()
        .post_message(&grant, message, idempotency_key)
        .await?
    {
        Posted::New(message) => created(&*message),
        Posted::Replayed(message) => {
            let mut response = ok(&message)?;
            let replayed = HeaderValue::from_static("true");
            response.headers_mut().insert("idempotent-replay", replayed);
            Ok(response)
        }
    }
}

/// Read a page of a channel.
pub(crate) async fn list_messages(request: ApiRequest) -> Result<Response> {
    let grant = request.channel_grant(Operation::ListMessages).await?;
    let query = request.query();
    let page = query.page()?;
    let filter = MessageFilter {
        mention: query.text("mention")?,
        sender: query.text("sender")?,
        thread_id: query.id("thread_id")?,
    };
    let wait = query.wait()?;
    let relay = request.relay();
    ok(&relay.list_messages(&grant, &filter, page, wait).await?)
}

/// Delete a message.
pub(crate) async fn delete_message(request: ApiRequest) -> Result<Response> {
    let grant = request.channel_grant(Operation::DeleteMessage).await?;
    request
        .relay()
        .delete_message(&grant, request.id_in_path()?)
        .await?;
    no_content()
}

/// Read a message and its replies.
pub(crate) async fn read_thread(request: ApiRequest) -> Result<Response> {
    let grant = request.channel_grant(Operation::ReadThread).await?;
    let id = request.id_in_path()?;
    let page = request.query().page()?;
    ok(&request.relay().read_thread(&grant, id, page).await?)
}

/// Move the caller's ack.
pub(crate) async fn move_ack(mut request: ApiRequest) -> Result<Response> {
    let grant = request.channel_grant(Operation::MoveAck).await?;
    let last_read_id = request.json::<AckRequest>().await?.parse()?;
    ok(&request.relay().move_ack(&grant, last_read_id).await?)
}

/// See who has read how far.
pub(crate) async fn list_acks(request: ApiRequest) -> Result<Response> {
    let grant = request.channel_grant(Operation::ListAcks).await?;
    ok(&request.relay().list_acks(&grant).await?)
}

/// Read what the caller hasn't acknowledged.
pub(crate) async fn list_unread(request: ApiRequest) -> Result<Response> {
    let grant = request.channel_grant(Operation::ListUnread).await?;
    let (limit, wait) = (request.query().limit()?, request.query().wait()?);
    ok(&request.relay().list_unread(&grant, limit, wait).await?)
}
