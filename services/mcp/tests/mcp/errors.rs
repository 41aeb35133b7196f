//! Failures are results that say what to do.

use crate::support::*;
use rmcp::{ServiceError, model::CallToolRequestParams};
use serde_json::json;

async fn refused(
    tool: &'static str,
    arguments: serde_json::Value,
    route: &str,
    answer: Answer,
) -> String {
    let relay = FakeRelay::new();
    relay.script(route, vec![answer]);
    let agent = Agent::connect(&relay).await;
    let result = agent.call(tool, arguments).await;
    assert!(is_error(&result), "{result:?}");
    assert_eq!(result.structured_content, None);
    text(&result).to_owned()
}

fn refusal(status: u16, code: &str, sentence: &str) -> Answer {
    Answer::Json(status, json!({"error": sentence, "code": code}))
}

#[tokio::test(start_paused = true)]
async fn a_denial_names_the_permission() {
    let text = refused(
        "post_message",
        json!({"channel": "ops", "content": "hi"}),
        "POST /api/channels/ops/messages",
        refusal(403, "FORBIDDEN", "this key may not write to the channel"),
    )
    .await;
    assert!(text.starts_with("FORBIDDEN: this key may not write to the channel. post_message needs write permission on channel \"ops\""), "{text}");
    assert!(text.contains("set_key_permissions"), "{text}");
    let text = refused(
        "list_keys",
        json!({}),
        "GET /api/keys",
        refusal(403, "FORBIDDEN", "no"),
    )
    .await;
    assert!(
        text.contains("admin permission on \"*\" (the whole team)"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_says_how_long_to_wait() {
    let body = json!({"error": "too many requests", "code": "RATE_LIMITED"});
    let text = refused(
        "list_channels",
        json!({}),
        "GET /api/channels",
        Answer::RetryAfter(429, body, 600),
    )
    .await;
    assert!(text.starts_with("RATE_LIMITED: "), "{text}");
    assert!(text.contains("Wait 600 s"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn other_refusals_have_their_hints() {
    for (tool, arguments, route, status, code, hint) in [
        (
            "delete_channel",
            json!({"channel": "nope"}),
            "DELETE /api/channels/nope",
            404,
            "CHANNEL_NOT_FOUND",
            "list_channels",
        ),
        (
            "read_thread",
            json!({"channel": "ops", "message_id": "9"}),
            "GET /api/channels/ops/threads/9",
            404,
            "MESSAGE_NOT_FOUND",
            "read_messages",
        ),
        (
            "whoami",
            json!({}),
            "GET /api/me",
            401,
            "INVALID_API_KEY",
            "RELAY_API_KEY",
        ),
        (
            "read_messages",
            json!({"channel": "ops", "after_id": "x"}),
            "GET /api/channels/ops/messages",
            400,
            "INVALID_CURSOR",
            "like 42",
        ),
    ] {
        let text = refused(tool, arguments, route, refusal(status, code, "no")).await;
        assert!(text.starts_with(&format!("{code}: no. ")), "{text}");
        assert!(text.contains(hint), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_relay_is_named_as_such() {
    let text = refused(
        "list_channels",
        json!({}),
        "GET /api/channels",
        Answer::Unreachable,
    )
    .await;
    assert!(text.starts_with("UNREACHABLE: "), "{text}");
    assert!(text.contains("RELAY_API_URL"), "{text}");
    assert!(!text.contains("look first"), "{text}");
}

#[tokio::test]
async fn wrong_arguments_are_named() {
    let relay = FakeRelay::new();
    let agent = Agent::connect(&relay).await;
    for (tool, arguments, sentence) in [
        (
            "post_message",
            json!({"channel": "ops"}),
            "argument `content` is missing; post_message takes channel (required), content \
             (required), mention, thread_id",
        ),
        (
            "post_message",
            json!({"channel": "ops", "content": "hi", "thread": "4"}),
            "there is no argument `thread`",
        ),
        (
            "read_messages",
            json!({"channel": "ops", "limit": 101}),
            "argument `limit` must be a whole number from 1 to 100",
        ),
        (
            "read_messages",
            json!({"channel": 5}),
            "argument `channel` must be a channel's name",
        ),
        (
            "wait_for_messages",
            json!({"mentions_only": "maybe"}),
            "argument `mentions_only` must be true or false",
        ),
        (
            "create_key",
            json!({"sender_name": "a", "permissions": ["read"]}),
            "argument `permissions` must be an object",
        ),
    ] {
        let result = agent.call(tool, arguments).await;
        assert!(is_error(&result));
        let text = text(&result);
        assert!(text.starts_with("INVALID_ARGUMENT: "), "{text}");
        assert!(text.contains(sentence), "{text}");
    }
    // Nothing but the counts was asked of the relay.
    assert!(
        relay
            .lines()
            .iter()
            .all(|line| line == "GET /api/inbox?max_bytes=0"),
        "{:?}",
        relay.lines()
    );
}

#[tokio::test]
async fn an_unknown_tool_is_an_error_of_the_protocol() {
    let agent = Agent::connect(&FakeRelay::new()).await;
    let call = CallToolRequestParams::new("drop_tables");
    match agent.service.call_tool(call).await {
        Err(ServiceError::McpError(error)) => assert_eq!(error.code.0, -32602),
        other => panic!("{other:?}"),
    }
}
