//! `/mcp` and `/hooks/claude`: what coding agents speak with.

use crate::{
    door::{ApiRequest, BODY_MAX, ok},
    in_process::InProcess,
};
use axum::{Router, body::Body, response::Response};
use handoff_client::{Client, types::Message};
use handoff_core::{Error, Operation, Result};
use handoff_mcp::{
    McpHttpService,
    claude_hook::{self, HookInput},
};
use handoff_protocol::ErrorCode;
use http::Request;
use serde_json::json;
use std::sync::Arc;

/// The MCP server, and the routes that its tools use.
pub(crate) struct Mcp {
    service: McpHttpService,
    router: Router,
}

impl Mcp {
    /// A server whose tools use these routes.
    pub(crate) fn new(router: Router) -> Self {
        let service = handoff_mcp::http_service(BODY_MAX);
        Self { service, router }
    }
}

/// Answer an MCP request. It is complete in itself: any replica can answer it.
pub(crate) async fn mcp(mut request: ApiRequest) -> Result<Response> {
    let internal = |message: &str| Error::new(ErrorCode::Internal, message);
    let mcp = request.parts.extensions.get::<Arc<Mcp>>().cloned();
    let mcp = mcp.ok_or_else(|| internal("This replica has no MCP server"))?;
    let body = request.body().await?;
    let api_key = request.api_key().ok_or_else(|| internal("No key"))?;
    let transport = InProcess::new(mcp.router.clone(), &api_key, &request.parts)
        .map_err(|_| internal("The key is no header value"))?;
    let mut parts = *request.parts;
    parts.extensions.insert(Client::new(Arc::new(transport)));
    let answer = mcp
        .service
        .handle(Request::from_parts(parts, Body::from(body)));
    Ok(answer.await.map(Body::new))
}

/// Answer a hook of Claude Code's with the caller's unread mentions, each once a session.
pub(crate) async fn claude_hook(mut request: ApiRequest) -> Result<Response> {
    let grant = request.team_grant(Operation::ReadInbox).await?;
    let input: HookInput = request.json().await?;
    if !input.wants_unread() {
        return ok(&json!({}));
    }
    let relay = request.relay();
    let mentions = relay.announce_mentions(&grant, &input.session_id).await?;
    let as_client_sees: Vec<Message> = serde_json::to_value(&mentions)
        .and_then(serde_json::from_value)
        .map_err(|error| Error::new(ErrorCode::Internal, error.to_string()))?;
    ok(&claude_hook::answer(&input, &as_client_sees).unwrap_or_else(|| json!({})))
}
