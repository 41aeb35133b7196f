//! Base, Methods, Errors: what is answered before anybody looks at a key.

use std::collections::{BTreeMap, BTreeSet};

use harness::{Method, TestRelay};
use serde_json::json;

use crate::fixtures::{id, messages, raw};
use crate::routes::{Needs, ROUTES, Scene};

/// The methods of every path, by template.
fn methods_by_path() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let mut paths: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for route in ROUTES {
        let methods = paths.entry(route.template()).or_default();
        methods.insert(route.method);
        if route.method == "GET" {
            methods.insert("HEAD");
        }
    }
    // Two shapes of one path: the history of a channel's status is also an entry called `changes`.
    paths
        .get_mut("/api/channels/{channel}/status/changes")
        .unwrap()
        .insert("DELETE");
    paths
}

fn fill(template: &str) -> String {
    template
        .replace("{channel}", "ops")
        .replace("{message}", "1")
        .replace("{hash}", &"0".repeat(64))
        .replace("{key}", "state")
}

/// The methods that an answer allows; OPTIONS goes without saying.
fn allowed(header: Option<&str>) -> BTreeSet<&str> {
    let methods = header.expect("an Allow header").split(',').map(str::trim);
    methods.filter(|method| *method != "OPTIONS").collect()
}

#[tokio::test]
async fn a_wrong_method_is_405_with_the_right_ones_and_needs_no_key() {
    let relay = TestRelay::new().await;
    for (path, methods) in methods_by_path() {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "PURGE"] {
            if methods.contains(method) {
                continue;
            }
            for agent in [relay.anyone(), relay.admin()] {
                let answer = raw(&agent, method, &fill(path), b"").await;
                if method == "HEAD" {
                    assert_eq!(answer.status(), 405, "{answer:?}");
                } else {
                    answer.refused(405, "METHOD_NOT_ALLOWED");
                }
                assert_eq!(allowed(answer.header("allow")), methods, "{answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn options_says_what_is_allowed_to_anybody() {
    let relay = TestRelay::new().await;
    for (path, methods) in methods_by_path() {
        let answer = raw(&relay.anyone(), "OPTIONS", &fill(path), b"").await;
        assert_eq!(answer.status(), 204, "{answer:?}");
        assert_eq!(answer.text(), "");
        assert_eq!(allowed(answer.header("allow")), methods, "{answer:?}");
    }
    raw(&relay.anyone(), "OPTIONS", "/api/nowhere", b"")
        .await
        .refused(404, "NOT_FOUND");
}

#[tokio::test]
async fn an_unknown_path_is_404_in_json_with_or_without_a_key() {
    let relay = TestRelay::new().await;
    for path in [
        "/nowhere",
        "/api/nowhere",
        "/API/channels",
        "/api/channels/ops/nowhere",
        "/api/channels/ops/messages/1/2",
        "/api/channels/ops/status/a/b",
        "/api/keys/0/nowhere",
        "/api/healthz",
        "/%ff",
        "/%00",
        "/api/channels/ops/%2Fmessages",
    ] {
        for agent in [relay.anyone(), relay.admin()] {
            for method in ["GET", "POST", "DELETE"] {
                raw(&agent, method, path, b"")
                    .await
                    .refused(404, "NOT_FOUND");
            }
        }
    }
}

#[tokio::test]
async fn head_answers_like_get_without_a_body() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let scene = Scene::new(&admin, "ops").await;
    for route in ROUTES
        .iter()
        .filter(|route| route.method == "GET" && !route.streams())
    {
        let agent = if route.needs == Needs::Nothing {
            relay.anyone()
        } else {
            admin.clone()
        };
        let path = route.path_in(&scene);
        let (get, head) = (agent.get(&path).await, agent.head(&path).await);
        assert_eq!((get.status(), head.status()), (200, 200), "{head:?}");
        assert_eq!(head.text(), "");
        for header in ["content-type", "cache-control", "x-ratelimit-limit"] {
            assert_eq!(
                head.header(header),
                get.header(header),
                "{header} of {path}"
            );
        }
    }
    // Refusals too.
    let refused = relay.anyone().head("/api/channels").await;
    assert_eq!((refused.status(), refused.text().as_str()), (401, ""));
    let refused = admin.head("/api/channels/-/messages").await;
    assert_eq!((refused.status(), refused.text().as_str()), (400, ""));
}

#[tokio::test]
async fn one_message_cannot_be_got_by_itself() {
    let relay = TestRelay::new().await;
    let said = relay.admin().say("ops", "hello").await;
    let path = format!("{}/{}", messages("ops"), id(&said));
    let answer = relay.admin().get(path).await;
    answer.refused(405, "METHOD_NOT_ALLOWED");
    assert!(allowed(answer.header("allow")).contains("DELETE"));
}

#[tokio::test]
async fn content_type_and_accept_are_ignored() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "nonsense",
        "",
    ] {
        let posted = admin
            .request(Method::POST, messages("ops"))
            .json(&json!({"content": "hello"}))
            .header("content-type", content_type)
            .header("accept", "text/html")
            .send()
            .await;
        posted.expect(201);
        assert_eq!(posted.header("content-type"), Some("application/json"));
    }
    let posted = admin
        .request(Method::POST, messages("ops"))
        .json(&json!({"content": "hello"}))
        .without("content-type")
        .send()
        .await;
    posted.expect(201);
    let stream = admin
        .request(Method::GET, "/api/channels/ops/stream")
        .header("accept", "application/json")
        .open()
        .await;
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
}

#[tokio::test]
async fn unknown_fields_and_parameters_are_ignored() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let body = json!({"content": "hello", "sender": "somebody else", "id": "7", "x": {"y": [1]}});
    let posted = admin
        .post(format!("{}?dry_run=true&x", messages("ops")), body)
        .await
        .expect(201);
    assert_eq!(posted["sender"], "admin");
    let page = admin
        .get(format!("{}?colour=blue&=&&x", messages("ops")))
        .await
        .expect(200);
    assert_eq!(page["messages"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_empty_parameter_counts_as_absent() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    admin.say("ops", "hello").await;
    let plain = admin.get(messages("ops")).await.expect(200);
    let query = "after_id=&limit=&mention=&sender=&thread_id=&token=";
    assert_eq!(
        admin
            .get(format!("{}?{query}", messages("ops")))
            .await
            .expect(200),
        plain
    );
    admin
        .get("/api/channels/ops/unread?limit=")
        .await
        .expect(200);
    admin
        .get("/api/audit?after_id=&limit=&result=")
        .await
        .expect(200);
    admin.get("/api/status?channel=&key=").await.expect(200);
    admin.get("/api/channels/ops/status?key=").await.expect(200);
    admin
        .get("/api/channels/ops/status/changes?after_id=&limit=")
        .await
        .expect(200);
    admin
        .stream("/api/channels/ops/stream?last_event_id=")
        .await;
}

#[tokio::test]
async fn an_encoded_slash_stays_inside_its_segment() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    admin
        .get("/api/channels/a%2Fmessages/messages")
        .await
        .refused(400, "INVALID_CHANNEL_NAME");
    admin.get("/api%2Fchannels").await.refused(404, "NOT_FOUND");
    admin
        .delete("/api/channels/ops/status/a%2Fb")
        .await
        .refused(404, "STATUS_NOT_FOUND");
}

#[tokio::test]
async fn json_is_what_comes_out() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let scene = Scene::new(&admin, "ops").await;
    for route in ROUTES
        .iter()
        .filter(|route| route.method == "GET" && !route.streams())
    {
        let answer = route.request(&admin, &scene).send().await;
        assert_eq!(
            answer.header("content-type"),
            Some("application/json"),
            "{answer:?}"
        );
    }
}
