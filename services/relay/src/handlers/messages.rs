//! `/api/channels/{channel}/messages`, threads, acks and unread.

use crate::{
    door::{ApiRequest, created_bytes, no_content, ok, ok_bytes},
    openapi::{LimitParams, PageParams, WaitParams},
};
use axum::response::Response;
use handoff_core::{Operation, Posted, Result};
use handoff_protocol::{
    ErrorCode, Id,
    messages::{
        Ack, AckRequest, Message, MessageFilter, MessagePage, PostMessageRequest, ThreadPage,
    },
};
use http::HeaderValue;

/// Post a message to a channel.
///
/// Creates the channel if it is missing. The sender is the key's. Needs write on the channel.
/// With an `Idempotency-Key` a retry answers the first message and posts nothing.
#[utoipa::path(
    post,
    path = "/api/channels/{channel}/messages",
    params(
        ("Idempotency-Key" = Option<String>, Header, max_length = 255,
            description = "Names this post: sent again, it is posted once"),
    ),
    request_body = PostMessageRequest,
    responses(
        (status = 201, description = "The message as it stands", body = Message, links(
            ("thread" = (operation_id = "readThread", parameters(
                ("channel" = "$response.body#/channel"), ("id" = "$response.body#/id")))),
            ("delete" = (operation_id = "deleteMessage", parameters(
                ("channel" = "$response.body#/channel"), ("id" = "$response.body#/id")))),
            ("ack" = (operation_id = "moveAck",
                parameters(("channel" = "$response.body#/channel")),
                request_body = json!({"last_read_id": "$response.body#/id"}))),
        )),
        (status = 200, description = "The message that was posted with this idempotency key before",
            body = Message,
            headers(("Idempotent-Replay" = String, description = "`true`"))),
    ),
    extensions(("x-refusals" = json!([ErrorCode::InvalidCursor, ErrorCode::ContentTooLarge, ErrorCode::FieldTooLarge, ErrorCode::ChannelLimitReached, ErrorCode::ChannelNotFound, ErrorCode::ThreadParentNotFound, ErrorCode::IdempotencyMismatch])))
)]
pub(crate) async fn post_message(mut request: ApiRequest) -> Result<Response> {
    let grant = request.channel_grant(Operation::PostMessage).await?;
    let idempotency_key = request.idempotency_key()?;
    let message = request.json::<PostMessageRequest>().await?.try_into()?;
    let relay = request.into_relay();
    match relay.post_message(&grant, message, idempotency_key).await? {
        Posted::New(message) => {
            let mut json = Vec::with_capacity(message.json_len());
            message.write_json(&mut json);
            Ok(created_bytes(json.into()))
        }
        Posted::Replayed(message) => {
            let mut response = ok(&message)?;
            let replayed = HeaderValue::from_static("true");
            response.headers_mut().insert("idempotent-replay", replayed);
            Ok(response)
        }
    }
}

/// Read a page of a channel.
///
/// Oldest first. Filters match exactly; however far ahead their matches are, the page and its
/// cursor are true. A channel that doesn't exist yet reads as empty. Needs read on the channel.
#[utoipa::path(
    get,
    path = "/api/channels/{channel}/messages",
    params(
        PageParams,
        ("mention" = Option<String>, Query, description = "Only those that call this name"),
        ("sender" = Option<String>, Query, description = "Only those from this sender"),
        ("thread_id" = Option<Id>, Query, description = "Only the replies to this message"),
        WaitParams,
    ),
    responses((status = 200, description = "A page", body = MessagePage)),
    extensions(("x-refusals" = json!([ErrorCode::SseLimitReached])))
)]
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
    let relay = request.into_relay();
    let page = relay.list_messages(&grant, &filter, page, wait).await?;
    Ok(ok_bytes(page.to_json().into()))
}

/// Delete a message.
///
/// It is gone from every view; replies to it stay readable by `thread_id`. Needs admin on the
/// channel.
#[utoipa::path(
    delete,
    path = "/api/channels/{channel}/messages/{id}",
    responses((status = 204, description = "It is gone")),
    extensions(("x-refusals" = json!([ErrorCode::MessageNotFound])))
)]
pub(crate) async fn delete_message(request: ApiRequest) -> Result<Response> {
    let grant = request.channel_grant(Operation::DeleteMessage).await?;
    let id = request.id_in_path()?;
    request.into_relay().delete_message(&grant, id).await?;
    no_content()
}

/// Read a message and its replies.
///
/// Needs read on the channel.
#[utoipa::path(
    get,
    path = "/api/channels/{channel}/threads/{id}",
    params(PageParams),
    responses((status = 200, description = "A page of the replies, oldest first", body = ThreadPage)),
    extensions(("x-refusals" = json!([ErrorCode::MessageNotFound])))
)]
pub(crate) async fn read_thread(request: ApiRequest) -> Result<Response> {
    let grant = request.channel_grant(Operation::ReadThread).await?;
    let id = request.id_in_path()?;
    let page = request.query().page()?;
    ok(&request.into_relay().read_thread(&grant, id, page).await?)
}

/// Move the caller's ack.
///
/// Acks belong to the sender's name and only move forward: an ID before the one that stands
/// changes nothing, one past the newest message is brought down to it. Needs write on the channel.
#[utoipa::path(
    post,
    path = "/api/channels/{channel}/ack",
    request_body = AckRequest,
    responses((status = 200, description = "The ack that stands", body = Ack)),
    extensions(("x-refusals" = json!([ErrorCode::InvalidCursor, ErrorCode::ChannelNotFound])))
)]
pub(crate) async fn move_ack(mut request: ApiRequest) -> Result<Response> {
    let grant = request.channel_grant(Operation::MoveAck).await?;
    let last_read_id = request.json::<AckRequest>().await?.parse()?;
    ok(&request.into_relay().move_ack(&grant, last_read_id).await?)
}

/// See who has read how far.
///
/// Sorted by sender. Needs read on the channel.
#[utoipa::path(
    get,
    path = "/api/channels/{channel}/acks",
    responses((status = 200, description = "The acks", body = Vec<Ack>))
)]
pub(crate) async fn list_acks(request: ApiRequest) -> Result<Response> {
    let grant = request.channel_grant(Operation::ListAcks).await?;
    ok(&request.into_relay().list_acks(&grant).await?)
}

/// Read what the caller hasn't acknowledged.
///
/// Messages after the caller's ack, oldest first, its own included. Reading moves no ack. Needs
/// read on the channel.
#[utoipa::path(
    get,
    path = "/api/channels/{channel}/unread",
    params(LimitParams, WaitParams),
    responses((status = 200, description = "A page", body = MessagePage)),
    extensions(("x-refusals" = json!([ErrorCode::SseLimitReached])))
)]
pub(crate) async fn list_unread(request: ApiRequest) -> Result<Response> {
    let grant = request.channel_grant(Operation::ListUnread).await?;
    let (limit, wait) = (request.query().limit()?, request.query().wait()?);
    let relay = request.into_relay();
    let page = relay.list_unread(&grant, limit, wait).await?;
    Ok(ok_bytes(page.to_json().into()))
}
