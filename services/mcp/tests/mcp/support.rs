//! A relay by script, and an agent that talks to the server in front of it.

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use handoff_client::{
    Client,
    transport::{ApiRequest, ApiResponse, StreamResponse, Transport, TransportError},
};
use handoff_mcp::{Options, serve};
use http::{HeaderMap, StatusCode, header};
use rmcp::{
    ClientHandler, RoleClient, ServiceExt,
    model::{CallToolRequestParams, CallToolResult, CustomNotification, ProgressNotificationParam},
    service::{NotificationContext, RunningService},
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::mpsc;

/// A request as the relay got it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Recorded {
    /// `METHOD /path?query`.
    pub(crate) line: String,
    pub(crate) body: Value,
    pub(crate) headers: HeaderMap,
}

/// What the script says to a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Json(u16, Value),
    /// A refusal that says when to try again.
    RetryAfter(u16, Value, u32),
    /// None, ever.
    Silence,
    /// The connection breaks.
    Unreachable,
}

/// A stream that a client has opened.
pub(crate) struct OpenStream {
    pub(crate) target: String,
    pub(crate) last_event_id: Option<String>,
    pub(crate) events: mpsc::UnboundedSender<Bytes>,
}

impl OpenStream {
    pub(crate) fn message(&self, message: &Value) {
        let id = message["id"].as_str().unwrap();
        let event = format!("id: {id}\nevent: message\ndata: {message}\n\n");
        self.events.send(event.into()).unwrap();
    }
}

/// Answers by script: by method and path the first answer that is left, of which the last stays.
pub(crate) struct FakeRelay {
    answers: Mutex<HashMap<String, Vec<Answer>>>,
    requests: Mutex<Vec<Recorded>>,
    opened: mpsc::UnboundedSender<OpenStream>,
    pub(crate) streams: tokio::sync::Mutex<mpsc::UnboundedReceiver<OpenStream>>,
}

impl FakeRelay {
    /// Knows who asks, and that nothing is unread.
    pub(crate) fn new() -> Arc<Self> {
        let (opened, streams) = mpsc::unbounded_channel();
        let relay = Arc::new(Self {
            answers: Mutex::default(),
            requests: Mutex::default(),
            opened,
            streams: streams.into(),
        });
        relay.script("GET /api/me", vec![Answer::Json(200, me())]);
        relay.script("GET /api/inbox", vec![Answer::Json(200, inbox("7"))]);
        relay
    }

    pub(crate) fn script(&self, route: &str, answers: Vec<Answer>) {
        self.answers
            .lock()
            .unwrap()
            .insert(route.to_owned(), answers);
    }

    pub(crate) fn answer(&self, route: &str, status: u16, body: Value) {
        self.script(route, vec![Answer::Json(status, body)]);
    }

    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.requests()
            .into_iter()
            .map(|request| request.line)
            .collect()
    }

    pub(crate) async fn next_stream(&self) -> OpenStream {
        let mut streams = self.streams.lock().await;
        within(streams.recv()).await.unwrap()
    }

    fn next_answer(&self, request: &ApiRequest) -> Answer {
        let route = format!("{} {}", request.method(), request.uri().path());
        self.requests.lock().unwrap().push(Recorded {
            line: format!("{} {}", request.method(), request.uri()),
            body: serde_json::from_slice(request.body()).unwrap_or_default(),
            headers: request.headers().clone(),
        });
        let mut answers = self.answers.lock().unwrap();
        match answers.get_mut(&route) {
            Some(answers) if answers.len() > 1 => answers.remove(0),
            Some(answers) => answers[0].clone(),
            None => Answer::Json(404, json!({"error": "no such route", "code": "NOT_FOUND"})),
        }
    }
}

impl Transport for FakeRelay {
    fn send(
        &self,
        request: ApiRequest,
        _timeout: Duration,
    ) -> BoxFuture<'_, Result<ApiResponse, TransportError>> {
        let answer = self.next_answer(&request);
        async move {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
            let (status, body) = match answer {
                Answer::Json(status, body) => (status, body),
                Answer::RetryAfter(status, body, seconds) => {
                    headers.insert(header::RETRY_AFTER, seconds.into());
                    (status, body)
                }
                Answer::Silence => std::future::pending().await,
                Answer::Unreachable => return Err(TransportError("connection refused".into())),
            };
            let body = match body {
                Value::Null => Bytes::new(),
                body => body.to_string().into(),
            };
            Ok(ApiResponse {
                status: StatusCode::from_u16(status).unwrap(),
                headers,
                body,
            })
        }
        .boxed()
    }

    fn stream(&self, request: ApiRequest) -> BoxFuture<'_, Result<StreamResponse, TransportError>> {
        let (events, body) = mpsc::unbounded_channel();
        events.send(": open\n\n".into()).unwrap();
        let last_event_id = request.headers().get("last-event-id");
        if last_event_id.is_none() {
            events.send("id: 7\n\n".into()).unwrap();
        }
        self.opened
            .send(OpenStream {
                target: request.uri().to_string(),
                last_event_id: last_event_id.map(|id| id.to_str().unwrap().to_owned()),
                events,
            })
            .unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, "text/event-stream".parse().unwrap());
        let body = stream::unfold(body, |mut body| async move {
            body.recv().await.map(|chunk| (Ok(chunk), body))
        });
        std::future::ready(Ok(StreamResponse {
            status: StatusCode::OK,
            headers,
            body: body.boxed(),
        }))
        .boxed()
    }
}

pub(crate) fn me() -> Value {
    json!({
        "team": {"id": "3", "name": "rockets", "created_at": "2026-11-22T10:00:00.123456Z"},
        "sender": "tester",
        "permissions": {"*": "admin"},
        "limits": {"rate_limit": 600},
    })
}

/// An inbox with nothing in it.
pub(crate) fn inbox(next_after_id: &str) -> Value {
    json!({
        "mentions": [],
        "messages": [],
        "unread": {"mentions": 0, "channels": {}},
        "has_more": false,
        "next_after_id": next_after_id,
    })
}

pub(crate) fn message(id: u32, channel: &str, sender: &str, content: &str) -> Value {
    json!({
        "id": id.to_string(),
        "channel": channel,
        "seq": id,
        "sender": sender,
        "content": content,
        "mention": null,
        "thread_id": null,
        "reply_count": 0,
        "created_at": "2026-11-22T10:00:00.123456Z",
    })
}

pub(crate) fn page(channel: &str, messages: &[Value]) -> Value {
    json!({
        "messages": messages,
        "next_after_id": messages.last().map_or("0", |message| message["id"].as_str().unwrap()),
        "has_more": false,
        "channel": channel,
    })
}

/// Fails rather than hangs.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(700), future)
        .await
        .expect("it should have happened by now")
}

/// What an MCP client hears unasked.
pub(crate) struct Ears {
    events: mpsc::UnboundedSender<CustomNotification>,
    progress: mpsc::UnboundedSender<ProgressNotificationParam>,
}

impl ClientHandler for Ears {
    async fn on_custom_notification(
        &self,
        notification: CustomNotification,
        _context: NotificationContext<RoleClient>,
    ) {
        let _ = self.events.send(notification);
    }

    async fn on_progress(
        &self,
        progress: ProgressNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        let _ = self.progress.send(progress);
    }
}

/// An agent with the server at its other end.
pub(crate) struct Agent {
    pub(crate) service: RunningService<RoleClient, Ears>,
    pub(crate) events: mpsc::UnboundedReceiver<CustomNotification>,
    pub(crate) progress: mpsc::UnboundedReceiver<ProgressNotificationParam>,
}

pub(crate) fn ears() -> (
    Ears,
    mpsc::UnboundedReceiver<CustomNotification>,
    mpsc::UnboundedReceiver<ProgressNotificationParam>,
) {
    let (events, heard) = mpsc::unbounded_channel();
    let (progress, progressed) = mpsc::unbounded_channel();
    (Ears { events, progress }, heard, progressed)
}

impl Agent {
    pub(crate) async fn connect(relay: &Arc<FakeRelay>) -> Self {
        Self::connect_client(Client::new(relay.clone()), Options::default()).await
    }

    pub(crate) async fn connect_with(relay: &Arc<FakeRelay>, options: Options) -> Self {
        Self::connect_client(Client::new(relay.clone()), options).await
    }

    pub(crate) async fn connect_client(client: Client, options: Options) -> Self {
        let (here, there) = tokio::io::duplex(1 << 20);
        tokio::spawn(async move { serve(client, there, options).await.unwrap() });
        let (ears, events, progress) = ears();
        let service = within(ears.serve(here)).await.unwrap();
        Self {
            service,
            events,
            progress,
        }
    }

    pub(crate) async fn call(&self, tool: &'static str, arguments: Value) -> CallToolResult {
        let Value::Object(arguments) = arguments else {
            panic!("arguments are an object");
        };
        let params = CallToolRequestParams::new(tool).with_arguments(arguments);
        within(self.service.call_tool(params)).await.unwrap()
    }
}

/// A result's text.
pub(crate) fn text(result: &CallToolResult) -> &str {
    assert_eq!(result.content.len(), 1);
    &result.content[0].as_text().unwrap().text
}

pub(crate) fn is_error(result: &CallToolResult) -> bool {
    result.is_error == Some(true)
}

pub(crate) fn data(result: &CallToolResult) -> &Value {
    result.structured_content.as_ref().unwrap()
}
