//! The server over streamable HTTP, without sessions: any replica answers any request.

use crate::server::{ClientSource, HandoffServer};
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
};
use std::sync::Arc;

/// What the relay mounts at `/mcp`: a tower service for HTTP requests.
pub type McpHttpService = StreamableHttpService<HandoffServer, NeverSessionManager>;

/// The tools over HTTP, for revision 2026-07-28 and the ones before it.
///
/// Whoever mounts it puts a [`Client`](handoff_client::Client) that speaks for the caller into each
/// request's extensions. Any host name is taken: every request needs a key, so a page in a browser
/// can't make one by rebinding a name. `max_body_bytes` bounds a request.
pub fn http_service(max_body_bytes: usize) -> McpHttpService {
    let server = HandoffServer::new(ClientSource::HttpRequest);
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_max_request_body_bytes(max_body_bytes)
        .disable_allowed_hosts();
    StreamableHttpService::new(
        move || Ok(server.clone()),
        Arc::new(NeverSessionManager::default()),
        config,
    )
}
