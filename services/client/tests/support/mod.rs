//! A relay that does what the test tells it, as a transport: with the clock paused, waits of
//! minutes take no time and can be measured to the millisecond.

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use handoff_client::{
    Client,
    transport::{ApiRequest, ApiResponse, StreamResponse, Transport, TransportError},
};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;

/// What becomes of a request.
pub(crate) enum Step {
    /// It is answered.
    Answer(StatusCode, HeaderMap, Bytes),
    /// It is answered as a stream of these chunks, which then ends, or stays silent.
    Stream(Vec<Bytes>, After),
    /// Its answer is lost.
    Lost,
    /// It is never answered, and times out.
    Swallowed,
    /// It never leaves.
    Unsent,
}

/// What follows the chunks of a stream.
#[derive(Clone, Copy)]
pub(crate) enum After {
    End,
    Break,
    Silence,
}

impl Step {
    pub(crate) fn json(status: u16, body: Value) -> Self {
        Self::Answer(
            StatusCode::from_u16(status).unwrap(),
            HeaderMap::new(),
            body.to_string().into(),
        )
    }

    pub(crate) fn error(status: u16, code: &str) -> Self {
        Self::json(
            status,
            json!({"error": format!("No: {code}"), "code": code, "request_id": "r-1"}),
        )
    }

    pub(crate) fn text(status: u16, body: &str) -> Self {
        Self::Answer(
            StatusCode::from_u16(status).unwrap(),
            HeaderMap::new(),
            Bytes::copy_from_slice(body.as_bytes()),
        )
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Self::Answer(_, headers, _) = &mut self {
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        self
    }
}

/// A request that arrived.
pub(crate) struct Seen {
    pub(crate) request: ApiRequest,
    pub(crate) at: Instant,
    pub(crate) timeout: Option<Duration>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.request
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap())
    }

    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.request.method(), self.request.uri())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(self.request.body()).unwrap()
    }
}

#[derive(Default)]
pub(crate) struct ScriptedRelay {
    steps: Mutex<VecDeque<Step>>,
    seen: Mutex<Vec<Seen>>,
}

impl ScriptedRelay {
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Arc<Self> {
        Arc::new(Self {
            steps: Mutex::new(steps.into_iter().collect()),
            seen: Mutex::default(),
        })
    }

    pub(crate) fn client(self: &Arc<Self>) -> Client {
        Client::new(self.clone())
    }

    /// What arrived so far; forgets it.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    /// How many steps have not been asked for.
    pub(crate) fn left(&self) -> usize {
        self.steps.lock().unwrap().len()
    }

    fn step(&self, request: ApiRequest, timeout: Option<Duration>) -> Step {
        let line = format!("{} {}", request.method(), request.uri());
        let at = Instant::now();
        self.seen.lock().unwrap().push(Seen {
            request,
            at,
            timeout,
        });
        let step = self.steps.lock().unwrap().pop_front();
        step.unwrap_or_else(|| panic!("one request more than expected: {line}"))
    }
}

impl Transport for ScriptedRelay {
    fn send(
        &self,
        request: ApiRequest,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<ApiResponse, TransportError>> {
        let outcome = match self.step(request, Some(timeout)) {
            Step::Answer(status, headers, body) => Ok(ApiResponse {
                status,
                headers,
                body,
            }),
            Step::Lost => Err(TransportError("the connection was reset".into())),
            Step::Unsent => Err(TransportError::unsent("connection refused")),
            Step::Swallowed => {
                return async move {
                    tokio::time::sleep(timeout).await;
                    Err(TransportError("timed out".into()))
                }
                .boxed();
            }
            Step::Stream(..) => panic!("no stream was asked for"),
        };
        async { outcome }.boxed()
    }

    fn stream(&self, request: ApiRequest) -> BoxFuture<'_, Result<StreamResponse, TransportError>> {
        let outcome = match self.step(request, None) {
            Step::Answer(status, headers, body) => Ok(StreamResponse {
                status,
                headers,
                body: stream::iter([Ok(body)]).boxed(),
            }),
            Step::Stream(chunks, after) => Ok(event_stream(chunks, after)),
            Step::Swallowed => return std::future::pending().boxed(),
            Step::Lost => Err(TransportError("the connection was reset".into())),
            Step::Unsent => Err(TransportError::unsent("connection refused")),
        };
        async { outcome }.boxed()
    }
}

/// An answer of these chunks.
pub(crate) fn event_stream(chunks: Vec<Bytes>, after: After) -> StreamResponse {
    let chunks = stream::iter(chunks.into_iter().map(Ok));
    let body = match after {
        After::End => chunks.boxed(),
        After::Break => {
            let reset = TransportError("the connection was reset".into());
            chunks.chain(stream::iter([Err(reset)])).boxed()
        }
        After::Silence => chunks.chain(stream::pending()).boxed(),
    };
    let mut headers = HeaderMap::new();
    headers.insert(
        "content-type",
        HeaderValue::from_static("text/event-stream"),
    );
    StreamResponse {
        status: StatusCode::OK,
        headers,
        body,
    }
}

/// A message as the relay tells it.
pub(crate) fn message(id: u64, content: &str) -> Value {
    json!({
        "id": id.to_string(), "channel": "ops", "seq": id, "sender": "ana", "content": content,
        "mention": null, "thread_id": null, "reply_count": 0,
        "created_at": "2026-01-01T00:00:00.000001Z", "a_field_of_tomorrow": [1, 2],
    })
}

/// An event of a stream.
pub(crate) fn event(id: u64, content: &str) -> String {
    format!(
        "id: {id}\nevent: message\ndata: {}\n\n",
        message(id, content)
    )
}
