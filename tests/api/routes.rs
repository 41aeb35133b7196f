//! Every route of the relay with what it needs, as a table: tests of rules that go for all routes
//! walk through it. A route that the relay has and the table has not fails a test.

use std::collections::BTreeSet;

use harness::{Agent, Method, Request, Response, TestRelay};
use serde_json::{Value, json};

use crate::fixtures::{id, set, text};

/// What a caller needs to be let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Needs {
    /// No key at all.
    Nothing,
    /// Any key.
    Key,
    /// Read on the channel.
    Read,
    /// Write on the channel.
    Write,
    /// Admin on the channel.
    Admin,
    /// Admin on `*`.
    TeamAdmin,
}

/// One route.
pub(crate) struct Route {
    pub(crate) method: &'static str,
    /// With placeholders that a [`Scene`] fills.
    pub(crate) path: &'static str,
    pub(crate) needs: Needs,
    pub(crate) success: u16,
    body: fn(&Scene) -> Value,
}

const fn route(
    method: &'static str,
    path: &'static str,
    needs: Needs,
    success: u16,
    body: fn(&Scene) -> Value,
) -> Route {
    Route {
        method,
        path,
        needs,
        success,
        body,
    }
}

fn none(_: &Scene) -> Value {
    Value::Null
}

fn message(_: &Scene) -> Value {
    json!({"content": "hello"})
}

fn entry(_: &Scene) -> Value {
    json!({"key": "state", "value": "changed"})
}

fn signup(_: &Scene) -> Value {
    json!({"team_name": "another", "sender_name": "somebody"})
}

fn key(_: &Scene) -> Value {
    json!({"sender_name": "newcomer", "permissions": {}})
}

fn permissions(_: &Scene) -> Value {
    json!({"permissions": {"elsewhere": "read"}})
}

fn new_channel(scene: &Scene) -> Value {
    json!({"name": format!("{}-new", scene.channel)})
}

fn token(_: &Scene) -> Value {
    json!({"sender_suffix": "helper", "ttl_seconds": 60})
}

fn acks(scene: &Scene) -> Value {
    json!({"acks": [{"channel": scene.channel, "last_read_id": scene.message}]})
}

fn wait(scene: &Scene) -> Value {
    let message = json!({"channel": scene.channel, "after_id": "0"});
    json!({"any": [{"message": message}], "timeout_seconds": 1})
}

fn hook(_: &Scene) -> Value {
    json!({"session_id": "one", "hook_event_name": "SessionStart"})
}

fn ack(scene: &Scene) -> Value {
    json!({"last_read_id": scene.message})
}

/// Every route there is.
pub(crate) const ROUTES: &[Route] = &[
    route("GET", "/healthz", Needs::Nothing, 200, none),
    route("GET", "/readyz", Needs::Nothing, 200, none),
    route("GET", "/api", Needs::Nothing, 200, none),
    route("GET", "/api/openapi.json", Needs::Nothing, 200, none),
    route("POST", "/api/signup", Needs::Nothing, 201, signup),
    route("GET", "/api/me", Needs::Key, 200, none),
    route("POST", "/api/keys", Needs::TeamAdmin, 201, key),
    route("GET", "/api/keys", Needs::TeamAdmin, 200, none),
    route("DELETE", "/api/keys/{hash}", Needs::TeamAdmin, 204, none),
    route(
        "PUT",
        "/api/keys/{hash}/permissions",
        Needs::TeamAdmin,
        200,
        permissions,
    ),
    route("POST", "/api/tokens", Needs::Key, 201, token),
    route("GET", "/api/audit", Needs::TeamAdmin, 200, none),
    route("POST", "/api/channels", Needs::TeamAdmin, 201, new_channel),
    route("GET", "/api/channels", Needs::Key, 200, none),
    route("GET", "/api/inbox", Needs::Key, 200, none),
    route("POST", "/api/inbox/ack", Needs::Write, 200, acks),
    route("POST", "/api/wait", Needs::Read, 200, wait),
    route("DELETE", "/api/channels/{channel}", Needs::Admin, 204, none),
    route(
        "POST",
        "/api/channels/{channel}/messages",
        Needs::Write,
        201,
        message,
    ),
    route(
        "GET",
        "/api/channels/{channel}/messages",
        Needs::Read,
        200,
        none,
    ),
    route(
        "DELETE",
        "/api/channels/{channel}/messages/{message}",
        Needs::Admin,
        204,
        none,
    ),
    route(
        "GET",
        "/api/channels/{channel}/threads/{message}",
        Needs::Read,
        200,
        none,
    ),
    route(
        "GET",
        "/api/channels/{channel}/stream",
        Needs::Read,
        200,
        none,
    ),
    route(
        "POST",
        "/api/channels/{channel}/ack",
        Needs::Write,
        200,
        ack,
    ),
    route(
        "GET",
        "/api/channels/{channel}/acks",
        Needs::Read,
        200,
        none,
    ),
    route(
        "GET",
        "/api/channels/{channel}/unread",
        Needs::Read,
        200,
        none,
    ),
    route(
        "PUT",
        "/api/channels/{channel}/status",
        Needs::Write,
        200,
        entry,
    ),
    route(
        "POST",
        "/api/channels/{channel}/status",
        Needs::Write,
        200,
        entry,
    ),
    route(
        "GET",
        "/api/channels/{channel}/status",
        Needs::Read,
        200,
        none,
    ),
    route(
        "DELETE",
        "/api/channels/{channel}/status/{key}",
        Needs::Admin,
        204,
        none,
    ),
    route(
        "GET",
        "/api/channels/{channel}/status/changes",
        Needs::Read,
        200,
        none,
    ),
    route("GET", "/api/status", Needs::Key, 200, none),
    route("POST", "/hooks/claude", Needs::Key, 200, hook),
    route(
        "GET",
        "/api/stream?channels={channel}",
        Needs::Read,
        200,
        none,
    ),
];

impl Route {
    /// The path without its query.
    pub(crate) fn template(&self) -> &'static str {
        self.path.split('?').next().unwrap_or_default()
    }

    /// The path in a scene.
    pub(crate) fn path_in(&self, scene: &Scene) -> String {
        self.path
            .replace("{channel}", &scene.channel)
            .replace("{message}", &scene.message)
            .replace("{hash}", &scene.key_hash)
            .replace("{key}", &scene.key)
    }

    /// The request in a scene.
    pub(crate) fn request(&self, agent: &Agent, scene: &Scene) -> Request {
        self.request_to(agent, &self.path_in(scene), scene)
    }

    /// The request with another path, for instance one with a query.
    pub(crate) fn request_to(&self, agent: &Agent, path: &str, scene: &Scene) -> Request {
        let request = agent.request(self.method(), path);
        match (self.body)(scene) {
            Value::Null => request,
            body => request.json(&body),
        }
    }

    pub(crate) fn method(&self) -> Method {
        self.method.parse().unwrap()
    }

    pub(crate) fn streams(&self) -> bool {
        self.path.contains("/stream")
    }

    /// Whether the body says which channels: then it is read before their permission is asked for.
    pub(crate) fn names_channels_in_body(&self) -> bool {
        matches!(self.path, "/api/inbox/ack" | "/api/wait")
    }

    pub(crate) fn in_channel(&self) -> bool {
        self.path.starts_with("/api/channels/{channel}")
    }
}

/// Sends a request that may open a stream, which is closed again: its status, and the answer
/// unless it was a stream.
pub(crate) async fn answer(request: Request) -> (u16, Option<Response>) {
    match request
        .try_open()
        .await
        .unwrap_or_else(|error| panic!("{error}"))
    {
        Ok(_stream) => (200, None),
        Err(response) => (response.status(), Some(response)),
    }
}

/// Something for every route to act on: a channel with a message and a status entry, and a key
/// that nobody uses.
pub(crate) struct Scene {
    pub(crate) channel: String,
    pub(crate) message: String,
    pub(crate) key_hash: String,
    pub(crate) key: String,
}

impl Scene {
    pub(crate) async fn new(admin: &Agent, channel: &str) -> Scene {
        let message = admin.say(channel, "first").await;
        set(admin, channel, "state", "new").await;
        let spare = admin
            .post(
                "/api/keys",
                json!({"sender_name": "spare", "permissions": {}}),
            )
            .await
            .expect(201);
        Scene {
            channel: channel.to_owned(),
            message: id(&message).to_owned(),
            key_hash: text(&spare, "key").to_owned(),
            key: "state".to_owned(),
        }
    }

    /// Nothing of it exists.
    pub(crate) fn imaginary(channel: &str) -> Scene {
        Scene {
            channel: channel.to_owned(),
            message: "4000000000".to_owned(),
            key_hash: "00".repeat(32),
            key: "nowhere".to_owned(),
        }
    }
}

/// A relay on which many scenes fit.
pub(crate) async fn wide_relay() -> TestRelay {
    TestRelay::builder()
        .env("HANDOFF_KEYS_PER_TEAM", 1_000_000)
        .env("HANDOFF_CHANNELS_PER_TEAM", 1_000_000)
        .start()
        .await
}

/// A template without the names of its placeholders.
pub(crate) fn shape(template: &str) -> String {
    template
        .split('/')
        .map(|segment| {
            if segment.starts_with('{') {
                "{}"
            } else {
                segment
            }
        })
        .collect::<Vec<_>>()
        .join("/")
}

#[tokio::test]
async fn the_table_of_routes_is_the_relays_own() {
    let relay = TestRelay::new().await;
    let about = relay.anyone().get("/api").await.expect(200);
    let served: BTreeSet<String> = about["endpoints"]
        .as_array()
        .expect("a list of endpoints")
        .iter()
        .map(|endpoint| {
            format!(
                "{} {}",
                text(endpoint, "method"),
                shape(text(endpoint, "path"))
            )
        })
        .collect();
    let mut known: BTreeSet<String> = ROUTES
        .iter()
        .map(|route| format!("{} {}", route.method, shape(route.template())))
        .collect();
    // What comes after its key goes by the rules of MCP: tests/mcp.
    known.insert("POST /mcp".to_owned());
    assert_eq!(served, known);
}
