//! Every tool: the request it makes, and a result that fits its schema.

use crate::support::*;
use rmcp::model::Tool;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

struct Case {
    tool: &'static str,
    arguments: Value,
    /// `METHOD /path?query` as the relay gets it.
    request: &'static str,
    body: Value,
    status: u16,
    answer: Value,
}

fn case(
    tool: &'static str,
    arguments: Value,
    request: &'static str,
    body: Value,
    status: u16,
    answer: Value,
) -> Case {
    Case {
        tool,
        arguments,
        request,
        body,
        status,
        answer,
    }
}

const TIME: &str = "2026-11-22T10:00:00.123456Z";
const NONE: Value = Value::Null;

fn cases() -> Vec<Case> {
    let status = json!({"channel": "build", "key": "a/b", "value": "green",
        "updated_by": "builder", "updated_at": TIME});
    let reply = {
        let mut reply = message(8, "build", "builder", "done");
        reply["thread_id"] = "7".into();
        reply["mention"] = "tester".into();
        reply
    };
    vec![
        case("whoami", json!({}), "GET /api/me", NONE, 200, me()),
        case(
            "read_inbox",
            json!({"max_bytes": 1000}),
            "GET /api/inbox?max_bytes=1000",
            NONE,
            200,
            json!({
                "mentions": [reply],
                "messages": [message(9, "ops", "watcher", "disk is full")],
                "unread": {"mentions": 1, "channels": {"build": 1, "ops": 3}},
                "has_more": true,
                "next_after_id": "9",
            }),
        ),
        case(
            "wait_for_messages",
            json!({"channels": ["ops"], "mentions_only": true, "after_id": "5",
                "timeout_seconds": 10}),
            "GET /api/inbox?after_id=5&channels=ops&mentions_only=true&wait=10",
            NONE,
            200,
            json!({
                "mentions": [reply],
                "messages": [],
                "unread": {"mentions": 1, "channels": {"build": 1}},
                "has_more": false,
                "next_after_id": "8",
            }),
        ),
        case(
            "post_message",
            json!({"channel": "build", "content": "hi", "mention": "builder", "thread_id": "7"}),
            "POST /api/channels/build/messages",
            json!({"content": "hi", "mention": "builder", "thread_id": "7"}),
            201,
            reply.clone(),
        ),
        case(
            "read_messages",
            json!({"channel": "build", "after_id": "1", "limit": 2, "mention": "tester",
                "sender": "builder", "thread_id": "7"}),
            "GET /api/channels/build/messages?after_id=1&limit=2&mention=tester&sender=builder\
                &thread_id=7",
            NONE,
            200,
            page(
                "build",
                &[message(7, "build", "tester", "go"), reply.clone()],
            ),
        ),
        case(
            "read_thread",
            json!({"channel": "build", "message_id": "7", "after_id": "0", "limit": 5}),
            "GET /api/channels/build/threads/7?after_id=0&limit=5",
            NONE,
            200,
            json!({"parent": message(7, "build", "tester", "go"), "replies": [reply],
                "next_after_id": "8", "has_more": false}),
        ),
        case(
            "read_unread",
            json!({"channel": "build", "limit": 3}),
            "GET /api/channels/build/unread?limit=3",
            NONE,
            200,
            page("build", &[message(7, "build", "tester", "go")]),
        ),
        case(
            "ack",
            json!({"channel": "build", "last_read_id": "7"}),
            "POST /api/channels/build/ack",
            json!({"last_read_id": "7"}),
            200,
            json!({"channel": "build", "sender": "tester", "last_read_id": "7", "acked_at": TIME}),
        ),
        case(
            "get_acks",
            json!({"channel": "build"}),
            "GET /api/channels/build/acks",
            NONE,
            200,
            json!([{"channel": "build", "sender": "tester", "last_read_id": "7",
                "acked_at": TIME}]),
        ),
        case(
            "list_channels",
            json!({}),
            "GET /api/channels",
            NONE,
            200,
            json!([
                {"name": "build", "description": "All builds", "created_at": TIME},
                {"name": "ops", "description": null, "created_at": TIME},
            ]),
        ),
        case(
            "create_channel",
            json!({"name": "ops", "description": "Operations"}),
            "POST /api/channels",
            json!({"name": "ops", "description": "Operations"}),
            201,
            json!({"name": "ops", "description": "Operations", "created_at": TIME}),
        ),
        case(
            "set_status",
            json!({"channel": "build", "key": "a/b", "value": ""}),
            "PUT /api/channels/build/status",
            json!({"key": "a/b", "value": ""}),
            200,
            status.clone(),
        ),
        case(
            "get_status",
            json!({"channel": "build", "key": "a/b"}),
            "GET /api/channels/build/status?key=a%2Fb",
            NONE,
            200,
            json!([status]),
        ),
        case(
            "get_status",
            json!({"key": "a/b"}),
            "GET /api/status?key=a%2Fb",
            NONE,
            200,
            json!([status]),
        ),
        case(
            "get_status_changes",
            json!({"channel": "build", "after_id": "1", "limit": 10}),
            "GET /api/channels/build/status/changes?after_id=1&limit=10",
            NONE,
            200,
            json!({"changes": [
                {"id": "2", "channel": "build", "key": "a/b", "value": "green",
                    "changed_by": "builder", "changed_at": TIME},
                {"id": "3", "channel": "build", "key": "a/b", "value": "",
                    "changed_by": "builder", "changed_at": TIME, "deleted": true},
            ], "next_after_id": "3", "has_more": false}),
        ),
        case(
            "delete_status",
            json!({"channel": "build", "key": "a/b"}),
            "DELETE /api/channels/build/status/a%2Fb",
            NONE,
            204,
            NONE,
        ),
        case(
            "delete_message",
            json!({"channel": "build", "message_id": "7"}),
            "DELETE /api/channels/build/messages/7",
            NONE,
            204,
            NONE,
        ),
        case(
            "delete_channel",
            json!({"channel": "build"}),
            "DELETE /api/channels/build",
            NONE,
            204,
            NONE,
        ),
        case(
            "create_key",
            json!({"sender_name": "new", "permissions": {"build": "write"}}),
            "POST /api/keys",
            json!({"sender_name": "new", "permissions": {"build": "write"}}),
            201,
            json!({"api_key": "relay_00", "key": "ab12", "sender": "new",
                "permissions": {"build": "write"}}),
        ),
        case(
            "list_keys",
            json!({}),
            "GET /api/keys",
            NONE,
            200,
            json!([{"key": "ab12", "team_id": "3", "sender": "new", "created_at": TIME,
                "permissions": {"build": "write"}}]),
        ),
        case(
            "set_key_permissions",
            json!({"key_hash": "ab12", "permissions": {"*": "read"}}),
            "PUT /api/keys/ab12/permissions",
            json!({"permissions": {"*": "read"}}),
            200,
            json!({"key": "ab12", "permissions": {"*": "read"}}),
        ),
        case(
            "read_audit_log",
            json!({"after_id": "1", "limit": 2, "result": "denied"}),
            "GET /api/audit?after_id=1&limit=2&result=denied",
            NONE,
            200,
            json!({"entries": [{"id": "4", "key_hash": "ab12", "sender_name": "new",
                "action": "DELETE /api/channels/build", "channel": "build", "result": "denied",
                "timestamp": TIME}], "next_after_id": "4", "has_more": false}),
        ),
    ]
}

async fn tools() -> BTreeMap<String, Tool> {
    let agent = Agent::connect(&FakeRelay::new()).await;
    let tools = agent.service.list_all_tools().await.unwrap();
    tools
        .into_iter()
        .map(|tool| (tool.name.to_string(), tool))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn every_tool_makes_its_request_and_fits_its_schema() {
    let tools = tools().await;
    let tried: BTreeSet<_> = cases().iter().map(|case| case.tool).collect();
    let listed: BTreeSet<_> = tools.keys().map(String::as_str).collect();
    assert_eq!(tried, listed, "each tool is tried");
    for case in cases() {
        let relay = FakeRelay::new();
        let route = case.request.split('?').next().unwrap();
        relay.answer(route, case.status, case.answer);
        let agent = Agent::connect(&relay).await;
        let result = agent.call(case.tool, case.arguments.clone()).await;
        let name = case.tool;
        assert!(!is_error(&result), "{name}: {result:?}");

        let requests = relay.requests();
        assert_eq!(requests[0].line, case.request, "{name}");
        assert_eq!(requests[0].body, case.body, "{name}");

        let schema = tools[name].output_schema.as_ref().unwrap();
        let schema = Value::Object(schema.as_ref().clone());
        let data = data(&result);
        if let Err(error) = jsonschema::validate(&schema, data) {
            panic!("{name}: {error} in {data}");
        }
        // A field that the schema does not name would be news to a client that reads it.
        for field in data.as_object().unwrap().keys() {
            assert!(schema["properties"].get(field).is_some(), "{name}: {field}");
        }
        assert!(data["unread"]["mentions"].is_u64(), "{name}: {data}");
        assert!(!data.to_string().contains("null"), "{name}: {data}");
        assert!(!data.to_string().contains(".123456"), "{name}: {data}");

        let input = Value::Object(tools[name].input_schema.as_ref().clone());
        if let Err(error) = jsonschema::validate(&input, &case.arguments) {
            panic!("{name}: {error} in {}", case.arguments);
        }
        for argument in case.arguments.as_object().unwrap().keys() {
            assert!(input["properties"].get(argument).is_some(), "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_can_be_repeated_safely() {
    let relay = FakeRelay::new();
    relay.script(
        "POST /api/channels/build/messages",
        vec![
            Answer::Unreachable,
            Answer::Json(201, message(7, "build", "tester", "hi")),
        ],
    );
    let agent = Agent::connect(&relay).await;
    let result = agent
        .call("post_message", json!({"channel": "build", "content": "hi"}))
        .await;
    assert_eq!(text(&result), "Posted #7 to build.");
    let keys: Vec<_> = relay.requests()[..2]
        .iter()
        .map(|request| request.headers["idempotency-key"].clone())
        .collect();
    assert_eq!(keys[0], keys[1]);
}

#[tokio::test]
async fn the_list_of_tools_is_cheap_and_always_the_same() {
    let agent = Agent::connect(&FakeRelay::new()).await;
    let first = agent.service.list_all_tools().await.unwrap();
    let list = serde_json::to_string(&first).unwrap();
    println!(
        "tools/list: {} characters, {} tokens",
        list.len(),
        list.len() / 4
    );
    assert!(list.chars().count() / 4 < 6_000, "{}", list.len());

    let other = Agent::connect(&FakeRelay::new()).await;
    let second = other.service.list_all_tools().await.unwrap();
    assert_eq!(list, serde_json::to_string(&second).unwrap());
}

#[tokio::test]
async fn tools_tell_what_they_do() {
    let tools = tools().await;
    for (name, tool) in &tools {
        let about = tool.annotations.as_ref().unwrap();
        assert_eq!(about.open_world_hint, Some(false), "{name}");
        let reads = ["whoami", "wait_for_messages"].contains(&name.as_str())
            || ["read_", "get_", "list_"]
                .iter()
                .any(|verb| name.starts_with(verb));
        assert_eq!(about.read_only_hint, Some(reads), "{name}");
        let destroys = name.starts_with("delete_") || name == "set_key_permissions";
        if !reads {
            assert_eq!(about.destructive_hint, Some(destroys), "{name}");
        }
    }
}

#[tokio::test]
async fn what_a_model_means_is_taken() {
    let relay = FakeRelay::new();
    relay.answer("GET /api/channels/build/messages", 200, page("build", &[]));
    relay.answer(
        "POST /api/channels/build/messages",
        201,
        message(7, "build", "tester", "hi"),
    );
    let agent = Agent::connect(&relay).await;
    let arguments = json!({"channel": "#build", "after_id": 42, "limit": "5", "sender": null});
    assert!(!is_error(&agent.call("read_messages", arguments).await));
    let arguments = json!({"channel": "build", "content": "hi", "mention": "", "thread_id": ""});
    assert!(!is_error(&agent.call("post_message", arguments).await));
    let requests = relay.requests();
    assert_eq!(
        requests[0].line,
        "GET /api/channels/build/messages?after_id=42&limit=5"
    );
    assert_eq!(requests[2].body, json!({"content": "hi"}));
}
