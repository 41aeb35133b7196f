//! Waiting for messages.

use crate::support::*;
use handoff_mcp::Options;
use rmcp::{
    model::{CallToolRequest, CallToolRequestParams, ClientRequest},
    service::PeerRequestOptions,
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

fn arrived() -> Value {
    let mut mention = message(12, "build", "builder", "done");
    mention["mention"] = "tester".into();
    let mut inbox = inbox("12");
    inbox["mentions"] = json!([mention]);
    inbox["unread"] = json!({"mentions": 1, "channels": {"build": 1}});
    inbox
}

#[tokio::test(start_paused = true)]
async fn it_asks_on_until_something_arrives_and_tells_of_progress() {
    let relay = FakeRelay::new();
    relay.script(
        "GET /api/inbox",
        vec![
            Answer::Json(200, inbox("7")),
            Answer::Json(200, inbox("7")),
            Answer::Json(200, arrived()),
        ],
    );
    let mut agent = Agent::connect(&relay).await;
    let result = agent
        .call("wait_for_messages", json!({"timeout_seconds": 60}))
        .await;
    assert!(
        text(&result).contains("build #12 builder → tester: done\n"),
        "{}",
        text(&result)
    );
    assert!(text(&result).ends_with("wait_for_messages with after_id 12."));
    assert_eq!(data(&result)["timed_out"], false);
    assert_eq!(data(&result)["next_after_id"], "12");
    let lines = relay.lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    let held = |line: &String| line.starts_with("GET /api/inbox?wait=");
    assert!(lines.iter().all(held), "{lines:?}");
    let progress = within(agent.progress.recv()).await.unwrap();
    assert_eq!(progress.total, Some(60.0));
    let later = within(agent.progress.recv()).await.unwrap();
    assert!(later.progress > progress.progress);
}

#[tokio::test(start_paused = true)]
async fn when_time_runs_out_it_says_how_to_go_on() {
    let relay = FakeRelay::new();
    let agent = Agent::connect(&relay).await;
    let started = Instant::now();
    let result = agent
        .call(
            "wait_for_messages",
            json!({"timeout_seconds": 30, "after_id": "7"}),
        )
        .await;
    let waited = started.elapsed();
    assert!(waited >= Duration::from_secs(30) && waited < Duration::from_secs(31));
    assert!(!is_error(&result));
    assert_eq!(
        text(&result),
        "Nothing arrived in 30 s. To wait on: wait_for_messages with after_id 7."
    );
    assert_eq!(
        data(&result),
        &json!({"timed_out": true, "next_after_id": "7",
            "unread": {"mentions": 0, "channels": {}}})
    );
    let nowhere = FakeRelay::new();
    nowhere.answer("GET /api/inbox", 200, inbox("0"));
    let agent = Agent::connect(&nowhere).await;
    let result = agent
        .call("wait_for_messages", json!({"timeout_seconds": 1}))
        .await;
    assert_eq!(
        text(&result),
        "Nothing arrived in 1 s. To wait on: wait_for_messages again."
    );
    // This relay answers at once, whatever it is asked: it was not stormed.
    let asked = relay.lines().len();
    assert!(asked <= 16, "{asked}");
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_is_replaced_meanwhile_is_waited_for() {
    let relay = FakeRelay::new();
    let mut answers = vec![Answer::Unreachable; 12];
    answers.push(Answer::Json(200, arrived()));
    relay.script("GET /api/inbox", answers);
    let agent = Agent::connect(&relay).await;
    let result = agent
        .call("wait_for_messages", json!({"timeout_seconds": 600}))
        .await;
    assert!(!is_error(&result), "{result:?}");
    assert_eq!(data(&result)["timed_out"], false);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_wait_asks_no_more() {
    let relay = FakeRelay::new();
    let agent = Agent::connect_with(&relay, Options::default()).await;
    let arguments = json!({"timeout_seconds": 600});
    let params = CallToolRequestParams::new("wait_for_messages")
        .with_arguments(arguments.as_object().unwrap().clone());
    let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
    let handle = agent
        .service
        .send_cancellable_request(request, PeerRequestOptions::no_options())
        .await
        .unwrap();
    while relay.lines().len() < 2 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    handle.cancel(None).await.unwrap();
    // The server still serves, and the wait is over.
    relay.answer("GET /api/channels", 200, json!([]));
    agent.call("list_channels", json!({})).await;
    let asked = relay.lines().len();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(relay.lines().len(), asked);
}
