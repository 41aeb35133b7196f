//! The server over HTTP, as each revision of the protocol asks it.

use crate::support::*;
use bytes::Bytes;
use handoff_client::Client;
use handoff_mcp::http_service;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tower::ServiceExt;

const META: &str = "io.modelcontextprotocol/";

/// Posts a JSON-RPC request as the relay would pass it on.
async fn post(
    relay: &Arc<FakeRelay>,
    version: Option<&str>,
    method: &str,
    mut params: Value,
) -> Response<Bytes> {
    let mut request = Request::post("/mcp")
        .header(header::HOST, "relay.example.com")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, text/event-stream");
    if let Some(version) = version {
        request = request.header("mcp-protocol-version", version);
    }
    if version == Some("2026-07-28") {
        request = request.header("mcp-method", method);
        if let Some(name) = params["name"].as_str() {
            request = request.header("mcp-name", name);
        }
        params["_meta"][format!("{META}protocolVersion")] = "2026-07-28".into();
        params["_meta"][format!("{META}clientCapabilities")] = json!({});
        params["_meta"][format!("{META}clientInfo")] = json!({"name": "test", "version": "1"});
    }
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let mut request = request
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap();
    request.extensions_mut().insert(Client::new(relay.clone()));
    let response = within(http_service(1 << 20).oneshot(request))
        .await
        .unwrap();
    let (parts, body) = response.into_parts();
    let body = within(body.collect()).await.unwrap().to_bytes();
    Response::from_parts(parts, body)
}

/// The JSON-RPC result in an answer that is plain JSON.
fn result(response: &Response<Bytes>) -> Value {
    let body = String::from_utf8_lossy(response.body());
    assert_eq!(response.status(), StatusCode::OK, "{body}");
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    assert!(response.headers().get("mcp-session-id").is_none());
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["id"], 1, "{answer}");
    answer["result"].clone()
}

#[tokio::test]
async fn the_stateless_revision_is_served() {
    let relay = FakeRelay::new();
    let version = Some("2026-07-28");
    let found = result(&post(&relay, version, "server/discover", json!({})).await);
    let versions = found["supportedVersions"].as_array().unwrap();
    for wanted in ["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26"] {
        assert!(versions.contains(&wanted.into()), "{versions:?}");
    }
    assert!(
        found["instructions"]
            .as_str()
            .unwrap()
            .contains("read_inbox")
    );

    let list = result(&post(&relay, version, "tools/list", json!({})).await);
    assert_eq!(list["tools"].as_array().unwrap().len(), 21);
    assert!(list["ttlMs"].as_u64().unwrap() > 0);
    assert_eq!(list["cacheScope"], "public");

    let call = json!({"name": "whoami", "arguments": {}});
    let called = result(&post(&relay, version, "tools/call", call).await);
    assert_eq!(called["resultType"], "complete");
    assert_eq!(called["structuredContent"]["sender"], "tester");
}

#[tokio::test]
async fn the_revisions_before_it_are_served_without_sessions() {
    for version in ["2025-11-25", "2025-06-18", "2025-03-26"] {
        let relay = FakeRelay::new();
        let hello = json!({"protocolVersion": version, "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"}});
        let hello = result(&post(&relay, None, "initialize", hello).await);
        assert_eq!(hello["protocolVersion"], version);
        assert_eq!(hello["serverInfo"]["name"], "handoff");

        // No request knows of another: each may reach another replica.
        let list = result(&post(&relay, Some(version), "tools/list", json!({})).await);
        assert_eq!(list["tools"].as_array().unwrap().len(), 21);
        assert!(list.get("ttlMs").is_none());
        let call = json!({"name": "whoami", "arguments": {}});
        let called = result(&post(&relay, Some(version), "tools/call", call).await);
        assert!(called.get("resultType").is_none());
        assert_eq!(called["structuredContent"]["sender"], "tester");
    }
}

/// The keep-alive of a response goes by the real clock, so this one takes three seconds.
#[tokio::test]
async fn a_wait_keeps_the_response_alive_with_progress() {
    let wait = async |version| {
        let relay = FakeRelay::new();
        let call = json!({"name": "wait_for_messages", "arguments": {"timeout_seconds": 3},
            "_meta": {"progressToken": "p1"}});
        let response = post(&relay, Some(version), "tools/call", call).await;
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "text/event-stream"
        );
        let body = String::from_utf8_lossy(response.body());
        let progress = body.find("notifications/progress");
        let end = body.find("Nothing arrived in 3 s.");
        assert!(progress.is_some() && progress < end, "{body}");
    };
    tokio::join!(wait("2026-07-28"), wait("2025-11-25"));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_nobody_hears_of_ends_before_the_client_gives_up() {
    for (asked, waited) in [(json!({}), 45), (json!({"timeout_seconds": 600}), 50)] {
        let relay = FakeRelay::new();
        let started = tokio::time::Instant::now();
        let call = json!({"name": "wait_for_messages", "arguments": asked});
        let called = result(&post(&relay, Some("2025-11-25"), "tools/call", call).await);
        assert_eq!(called["structuredContent"]["timed_out"], true);
        let elapsed = started.elapsed();
        assert!(elapsed >= Duration::from_secs(waited), "{elapsed:?}");
        assert!(elapsed < Duration::from_secs(waited + 1), "{elapsed:?}");
    }
}
