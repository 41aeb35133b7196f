//! Pages of other origins: what browsers ask before they let a script use the relay.

use std::collections::BTreeSet;

use harness::{Agent, Method, Response, TestRelay};
use tokio::process::Command;

use crate::fixtures::messages;

const PAGE: &str = "https://app.example";
const OTHER_PAGE: &str = "http://localhost:5173";
const ALLOW_ORIGIN: &str = "access-control-allow-origin";
const EXPOSED: [&str; 7] = [
    "retry-after",
    "x-request-id",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "idempotent-replay",
    "handoff-epoch",
    "allow",
];

/// The names in a header's list, in lower case.
fn names(answer: &Response, header: &str) -> BTreeSet<String> {
    let list = answer.header(header).unwrap_or_default();
    let names = list.split(',').map(|name| name.trim().to_lowercase());
    names.filter(|name| !name.is_empty()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Asks as a browser does before a page of this origin may post; browsers send no key here.
async fn preflight(relay: &TestRelay, origin: &str) -> Response {
    let asked = relay
        .anyone()
        .request(Method::OPTIONS, messages("ops"))
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "authorization,content-type",
        );
    asked.send().await
}

async fn get(agent: &Agent, path: &str, origin: &str) -> Response {
    let request = agent.request(Method::GET, path);
    request.header("origin", origin).send().await
}

/// No word of other origins in an answer.
fn says_nothing(answer: &Response) {
    let mut names = answer.headers().keys().map(|name| name.as_str());
    let said = names.find(|name| name.starts_with("access-control-"));
    assert_eq!(said, None, "{answer:?}");
}

#[tokio::test]
async fn a_preflight_is_answered_without_a_key() {
    let relay = TestRelay::new().await;
    let answer = preflight(&relay, PAGE).await;
    assert_eq!(answer.status(), 204, "{answer:?}");
    assert_eq!(answer.text(), "");
    assert_eq!(answer.header(ALLOW_ORIGIN), Some("*"));
    let methods = set(&["get", "head", "post", "put", "delete"]);
    assert_eq!(names(&answer, "access-control-allow-methods"), methods);
    let headers = set(&[
        "authorization",
        "content-type",
        "idempotency-key",
        "last-event-id",
        "traceparent",
        "tracestate",
        "x-api-key",
        "x-request-id",
    ]);
    assert_eq!(names(&answer, "access-control-allow-headers"), headers);
    assert_eq!(answer.header("access-control-max-age"), Some("7200"));
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    assert!(names(&answer, "allow").contains("post"), "{answer:?}");
}

#[tokio::test]
async fn answers_refusals_and_streams_may_be_read_by_any_page() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    admin.say("ops", "hello").await;
    let read = get(&admin, &messages("ops"), PAGE).await;
    read.expect(200);
    let no_key = get(&relay.anyone(), "/api/me", PAGE).await;
    no_key.refused(401, "MISSING_API_KEY");
    let nowhere = get(&admin, "/api/nowhere", PAGE).await;
    nowhere.refused(404, "NOT_FOUND");
    let wrong_method = admin
        .request(Method::DELETE, "/api/me")
        .header("origin", PAGE)
        .send()
        .await;
    wrong_method.refused(405, "METHOD_NOT_ALLOWED");
    let bad_body = admin
        .request(Method::POST, messages("ops"))
        .header("origin", PAGE)
        .body("{")
        .send()
        .await;
    bad_body.refused(400, "INVALID_JSON");
    // The head of a stream.
    let stream = admin
        .request(Method::HEAD, "/api/channels/ops/stream")
        .header("origin", PAGE)
        .send()
        .await;
    assert_eq!(stream.status(), 200, "{stream:?}");
    assert!(stream.header("handoff-epoch").is_some(), "{stream:?}");
    for answer in [&read, &no_key, &nowhere, &wrong_method, &bad_body, &stream] {
        assert_eq!(answer.header(ALLOW_ORIGIN), Some("*"), "{answer:?}");
        let exposed = names(answer, "access-control-expose-headers");
        assert_eq!(exposed, set(&EXPOSED), "{answer:?}");
        assert_eq!(answer.header("access-control-allow-credentials"), None);
    }
    let open = admin
        .request(Method::GET, "/api/channels/ops/stream")
        .header("origin", PAGE)
        .open()
        .await;
    assert_eq!(open.header(ALLOW_ORIGIN), Some("*"));
    // Whoever is no page isn't told.
    says_nothing(&admin.get("/api/me").await);
}

#[tokio::test]
async fn a_list_allows_its_origins_only() {
    let relay = TestRelay::builder()
        .env(
            "HANDOFF_CORS_ORIGINS",
            format!("{OTHER_PAGE}, HTTPS://App.example:443"),
        )
        .start()
        .await;
    let admin = relay.admin();
    for origin in [PAGE, OTHER_PAGE] {
        let asked = preflight(&relay, origin).await;
        assert_eq!(asked.status(), 204);
        assert!(asked.header("access-control-allow-methods").is_some());
        let read = get(&admin, "/api/me", origin).await;
        let refused = get(&relay.anyone(), "/api/me", origin).await;
        refused.refused(401, "MISSING_API_KEY");
        for answer in [asked, read, refused] {
            assert_eq!(answer.header(ALLOW_ORIGIN), Some(origin), "{answer:?}");
            assert_eq!(names(&answer, "vary"), set(&["origin"]), "{answer:?}");
        }
    }
    for origin in [
        "https://app.example.evil.example",
        "http://app.example",
        "null",
    ] {
        let asked = preflight(&relay, origin).await;
        assert_eq!(asked.status(), 204);
        for answer in [asked, get(&admin, "/api/me", origin).await] {
            says_nothing(&answer);
            assert_eq!(names(&answer, "vary"), set(&["origin"]), "{answer:?}");
        }
    }
    let plain = admin.get("/api/me").await;
    assert_eq!(names(&plain, "vary"), set(&["origin"]), "{plain:?}");
}

#[tokio::test]
async fn an_empty_list_allows_no_page() {
    let relay = TestRelay::builder()
        .env("HANDOFF_CORS_ORIGINS", "")
        .start()
        .await;
    let asked = preflight(&relay, PAGE).await;
    assert_eq!(asked.status(), 204);
    says_nothing(&asked);
    let read = get(&relay.admin(), "/api/me", PAGE).await;
    read.expect(200);
    says_nothing(&read);
    assert_eq!(read.header("vary"), None);
}

#[tokio::test]
async fn what_is_no_origin_is_refused_at_the_start() {
    let output = Command::new(harness::relay_binary())
        .arg("serve")
        .env_clear()
        .env("DATABASE_URL", "postgres://localhost/nowhere")
        .env("HANDOFF_CORS_ORIGINS", "https://app.example/path")
        .kill_on_drop(true)
        .output();
    let output = harness::within("the relay refuses", output).await.unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("HANDOFF_CORS_ORIGINS: \"https://app.example/path\" is no origin"),
        "{told}"
    );
}
