//! Requests of the probes: one attempt each, given up after a time.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::time::timeout;

/// A client of one replica.
#[derive(Clone)]
pub(crate) struct Http {
    base: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// A whole answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    body: Bytes,
}

impl Answer {
    /// The body; null if it isn't JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Http {
    pub(crate) fn new(base: &str) -> Http {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(Duration::from_secs(1)));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            // What piles up during a fault is not kept.
            .pool_max_idle_per_host(2)
            .pool_idle_timeout(Duration::from_secs(20))
            .retry_canceled_requests(false)
            .build(connector);
        Http {
            base: base.to_owned(),
            client,
        }
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        key: &str,
        body: Option<&Value>,
        patience: Duration,
    ) -> Result<Answer> {
        let answer = async {
            let answer = self.open(method, path, key, body, None).await?;
            let (parts, body) = answer.into_parts();
            Ok(Answer {
                status: parts.status.as_u16(),
                body: body.collect().await?.to_bytes(),
            })
        };
        timeout(patience, answer)
            .await
            .context("no answer in time")?
    }

    /// Sends a request and returns with the answer's head.
    pub(crate) async fn open(
        &self,
        method: Method,
        path: &str,
        key: &str,
        body: Option<&Value>,
        last_event_id: Option<&str>,
    ) -> Result<hyper::Response<Incoming>> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("content-type", "application/json");
        if !key.is_empty() {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let bytes = body.map(Value::to_string).unwrap_or_default();
        Ok(self
            .client
            .request(request.body(Full::from(bytes))?)
            .await?)
    }
}
