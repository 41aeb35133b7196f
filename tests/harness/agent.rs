//! An agent: a key, the replica that it talks to, and the requests that it sends.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Method;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::http::{self, RequestError, Response};
use crate::relay::Fleet;
use crate::stream::EventStream;

/// A caller with a key, on one replica.
#[derive(Clone)]
pub struct Agent {
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) replica: usize,
    pub(crate) key: String,
    pub(crate) sender: String,
    pub(crate) team: Value,
    pub(crate) base: Option<String>,
}

impl Agent {
    /// The same key on another replica.
    pub fn on(&self, replica: usize) -> Agent {
        Agent {
            replica,
            base: None,
            ..self.clone()
        }
    }

    /// The same key through something before the replicas, at a URL like `http://ADDRESS:PORT`.
    /// It may change answers, so they aren't held against the relay's document.
    pub fn through(&self, url: &str) -> Agent {
        Agent {
            base: Some(url.to_owned()),
            ..self.clone()
        }
    }

    /// The same agent with another key, for instance none (`""`).
    pub fn with_key(&self, key: &str) -> Agent {
        Agent {
            key: key.to_owned(),
            ..self.clone()
        }
    }

    /// The raw key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The hash that names the key: SHA-256, in hex.
    pub fn key_hash(&self) -> String {
        hex::encode(Sha256::digest(self.key.as_bytes()))
    }

    /// The name under which this agent posts.
    pub fn sender(&self) -> &str {
        &self.sender
    }

    /// The team as signup described it: `{id, name, created_at}`.
    pub fn team(&self) -> &Value {
        &self.team
    }

    /// A new key of the same team, made by this one (which needs admin on `*`).
    pub async fn new_key(&self, sender: &str, permissions: Value) -> Agent {
        let made = self
            .post(
                "/api/keys",
                json!({"sender_name": sender, "permissions": permissions}),
            )
            .await
            .expect(201);
        let key = made["api_key"]
            .as_str()
            .expect("a new key is shown")
            .to_owned();
        Agent {
            key,
            sender: sender.to_owned(),
            ..self.clone()
        }
    }

    /// GET.
    pub async fn get(&self, path: impl AsRef<str>) -> Response {
        self.request(Method::GET, path).send().await
    }

    /// HEAD.
    pub async fn head(&self, path: impl AsRef<str>) -> Response {
        self.request(Method::HEAD, path).send().await
    }

    /// POST with a JSON body.
    pub async fn post(&self, path: impl AsRef<str>, body: Value) -> Response {
        self.request(Method::POST, path).json(&body).send().await
    }

    /// PUT with a JSON body.
    pub async fn put(&self, path: impl AsRef<str>, body: Value) -> Response {
        self.request(Method::PUT, path).json(&body).send().await
    }

    /// PATCH with a JSON body.
    pub async fn patch(&self, path: impl AsRef<str>, body: Value) -> Response {
        self.request(Method::PATCH, path).json(&body).send().await
    }

    /// DELETE.
    pub async fn delete(&self, path: impl AsRef<str>) -> Response {
        self.request(Method::DELETE, path).send().await
    }

    /// Any method with any bytes as the body.
    pub async fn send(
        &self,
        method: Method,
        path: impl AsRef<str>,
        body: impl Into<Bytes>,
    ) -> Response {
        self.request(method, path).body(body).send().await
    }

    /// A request to be shaped further before it is sent.
    pub fn request(&self, method: Method, path: impl AsRef<str>) -> Request {
        let path = path.as_ref();
        let uri = match &self.base {
            Some(base) => format!("{base}{path}"),
            None => format!("{}{path}", self.fleet.replica(self.replica).url()),
        };
        let mut request = hyper::Request::builder()
            .method(&method)
            .uri(&uri)
            .body(Bytes::new())
            .unwrap_or_else(|error| panic!("{uri}: {error}"));
        if !self.key.is_empty() {
            let value = format!("Bearer {}", self.key)
                .parse()
                .expect("a key is plain ASCII");
            request.headers_mut().insert("authorization", value);
        }
        Request {
            fleet: self.fleet.clone(),
            line: format!("{method} {path}"),
            is_direct: self.base.is_none(),
            request,
        }
    }

    /// Posts a message and returns it.
    pub async fn say(&self, channel: &str, content: &str) -> Value {
        self.post(
            format!("/api/channels/{channel}/messages"),
            json!({"content": content}),
        )
        .await
        .expect(201)
    }

    /// Opens a stream, which must be granted.
    pub async fn stream(&self, path: impl AsRef<str>) -> EventStream {
        self.request(Method::GET, path).open().await
    }

    /// Opens a stream that resumes after an event, by the `Last-Event-ID` header.
    pub async fn stream_from(&self, path: impl AsRef<str>, last_event_id: &str) -> EventStream {
        self.request(Method::GET, path)
            .header("last-event-id", last_event_id)
            .open()
            .await
    }
}

/// A request in the making.
pub struct Request {
    fleet: Arc<Fleet>,
    line: String,
    is_direct: bool,
    request: hyper::Request<Bytes>,
}

impl Request {
    /// Sets a header, in place of one of the same name; any bytes that HTTP can carry.
    pub fn header(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Request {
        let value = HeaderValue::from_bytes(value.as_ref()).expect("HTTP can carry the value");
        self.request.headers_mut().insert(name, value);
        self
    }

    /// Leaves a header out.
    pub fn without(mut self, name: &'static str) -> Request {
        self.request.headers_mut().remove(name);
        self
    }

    /// Sets the body's bytes.
    pub fn body(mut self, body: impl Into<Bytes>) -> Request {
        *self.request.body_mut() = body.into();
        self
    }

    /// Sets a JSON body.
    pub fn json(self, body: &Value) -> Request {
        self.header("content-type", "application/json")
            .body(body.to_string())
    }

    /// Sends it; a lost connection is a failed test.
    pub async fn send(self) -> Response {
        let line = self.line.clone();
        self.try_send()
            .await
            .unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// Sends it where the connection may well be lost.
    pub async fn try_send(self) -> Result<Response, RequestError> {
        let is_direct = self.is_direct;
        let (line, response) = self.start().await;
        let response = Response::read(line, response?).await?;
        if is_direct {
            response.hold_against_contract();
        }
        Ok(response)
    }

    /// Opens a stream, which must be granted.
    pub async fn open(self) -> EventStream {
        let line = self.line.clone();
        match self.try_open().await {
            Ok(Ok(stream)) => stream,
            Ok(Err(refusal)) => panic!("no stream: {refusal:?}"),
            Err(error) => panic!("{line}: {error}"),
        }
    }

    /// Opens a stream; the outer error is a lost connection, the inner one a refusal.
    pub async fn try_open(self) -> Result<Result<EventStream, Response>, RequestError> {
        let is_direct = self.is_direct;
        let (line, response) = self.start().await;
        let response = response?;
        let streams = response
            .headers()
            .get("content-type")
            .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
        if response.status().as_u16() == 200 && streams {
            let stream = EventStream::new(line, response);
            if is_direct {
                stream.hold_against_contract();
            }
            Ok(Ok(stream))
        } else {
            let refusal = Response::read(line, response).await?;
            if is_direct {
                refusal.hold_against_contract();
            }
            Ok(Err(refusal))
        }
    }

    async fn start(self) -> (String, Result<hyper::Response<Incoming>, RequestError>) {
        let response = http::send(&self.fleet.connections, self.request.map(Full::new)).await;
        (self.line, response)
    }
}
