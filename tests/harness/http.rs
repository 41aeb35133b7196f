//! Requests as they are written and answers as they came: no retries, no redirects, no rewriting
//! of paths.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::time::timeout;

use crate::{DEADLINE, contract};

/// One pool of connections, shared by the agents of a test.
pub(crate) type Connections = Client<HttpConnector, Full<Bytes>>;

pub(crate) fn connections() -> Connections {
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(Duration::from_secs(20))
        .retry_canceled_requests(false)
        .build_http()
}

/// A request that got no answer: the connection was refused or lost, or nothing came in time.
#[derive(Debug)]
pub struct RequestError(pub String);

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RequestError {}

/// Sends one request and returns as soon as the answer's headers are there.
pub(crate) async fn send(
    connections: &Connections,
    request: hyper::Request<Full<Bytes>>,
) -> Result<hyper::Response<Incoming>, RequestError> {
    match timeout(DEADLINE, connections.request(request)).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => Err(RequestError(chain(&error))),
        Err(_) => Err(RequestError(format!("no answer within {DEADLINE:?}"))),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

/// A whole answer.
#[derive(Clone)]
pub struct Response {
    request: String,
    status: u16,
    headers: Box<HeaderMap>,
    body: Bytes,
}

impl Response {
    pub(crate) async fn read(
        request: String,
        response: hyper::Response<Incoming>,
    ) -> Result<Response, RequestError> {
        let (parts, body) = response.into_parts();
        let body = match timeout(DEADLINE, body.collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) => return Err(RequestError(chain(&error))),
            Err(_) => return Err(RequestError(format!("no whole body within {DEADLINE:?}"))),
        };
        Ok(Response {
            request,
            status: parts.status.as_u16(),
            headers: Box::new(parts.headers),
            body,
        })
    }

    /// Panics unless the relay's own document allows this answer.
    pub(crate) fn hold_against_contract(&self) {
        let Response { request, body, .. } = self;
        if let Some(wrong) = contract::violation(request, self.status, &self.headers, body) {
            let (status, body) = (self.status, String::from_utf8_lossy(body));
            panic!("{request}: the OpenAPI document doesn't allow {status} {body:.500}: {wrong}");
        }
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// A header's value, if there is one that can be read as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// All headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The body's bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.body
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// The error's machine code, or nothing if the body holds none.
    pub fn code(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The body, after asserting the status; `null` for an empty one.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        if self.body.is_empty() {
            Value::Null
        } else {
            self.json()
        }
    }

    /// Asserts a refusal in the contract's form: status, code and a sentence, as JSON.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> Value {
        let body = self.expect(status);
        assert_eq!(body["code"], code, "{self:?}");
        assert!(
            body["error"].as_str().is_some_and(|text| !text.is_empty()),
            "{self:?}"
        );
        let content_type = self.header("content-type").unwrap_or_default();
        assert!(content_type.starts_with("application/json"), "{self:?}");
        body
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.text();
        if text.len() > 2_000 {
            text = format!(
                "{}… ({} bytes)",
                text.chars().take(2_000).collect::<String>(),
                text.len()
            );
        }
        write!(
            f,
            "{} answered {} {text}\n{:?}",
            self.request, self.status, self.headers
        )
    }
}
