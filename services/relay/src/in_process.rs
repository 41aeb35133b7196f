//! The relay as its own client: requests go through the same door as those from outside, with the
//! same key, so permissions, limits and the audit log are the same.

use crate::{door::Peer, telemetry::traces};
use axum::{Router, body::Body, response::Response};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::BoxFuture};
use handoff_client::transport::{
    ApiRequest, ApiResponse, StreamResponse, Transport, TransportError,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use http_body_util::BodyExt;
use std::time::Duration;
use tower::Service;

/// What a request brings along to those that are made for it: where it came from, and its trace.
const PASSED_ON: [HeaderName; 4] = [
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-request-id"),
    TRACEPARENT,
    TRACESTATE,
];

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Marks a request as one that a tool's call makes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FromTool;

/// Carries requests to the router, in the name of the request that they are made for.
pub(crate) struct InProcess {
    router: Router,
    headers: HeaderMap,
    peer: Option<Peer>,
}

impl InProcess {
    /// For a request with this key.
    pub(crate) fn new(
        router: Router,
        api_key: &str,
        original: &http::request::Parts,
    ) -> Result<Self, http::header::InvalidHeaderValue> {
        let mut headers = HeaderMap::new();
        let mut authorization = HeaderValue::from_str(&format!("Bearer {api_key}"))?;
        authorization.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, authorization);
        for name in PASSED_ON {
            if let Some(value) = original.headers.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        // They are below the request's own span, where it has one.
        if let Some(traceparent) = traces::traceparent_header() {
            headers.insert(TRACEPARENT, traceparent);
        }
        Ok(Self {
            router,
            headers,
            peer: original.extensions.get::<Peer>().copied(),
        })
    }

    fn answer(&self, request: ApiRequest) -> impl Future<Output = Response> + use<> {
        let (mut parts, body) = request.into_parts();
        // A tool's call may name its own trace.
        let has_trace = parts.headers.contains_key(&TRACEPARENT);
        for (name, value) in &self.headers {
            if !(has_trace && [TRACEPARENT, TRACESTATE].contains(name)) {
                parts.headers.insert(name, value.clone());
            }
        }
        parts.extensions.insert(FromTool);
        if let Some(peer) = self.peer {
            parts.extensions.insert(peer);
        }
        let request = Request::from_parts(parts, Body::from(body));
        // A router is always ready, and never fails.
        let answer = self.router.clone().call(request);
        answer.map(|answer| answer.unwrap_or_else(|never| match never {}))
    }
}

impl Transport for InProcess {
    fn send(
        &self,
        request: ApiRequest,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<ApiResponse, TransportError>> {
        let answer = self.answer(request);
        async move {
            let whole = async {
                let (parts, body) = answer.await.into_parts();
                let body = body.collect().await.map_err(failed)?.to_bytes();
                Ok(ApiResponse {
                    status: parts.status,
                    headers: parts.headers,
                    body,
                })
            };
            tokio::time::timeout(timeout, whole).await.map_err(failed)?
        }
        .boxed()
    }

    fn stream(&self, request: ApiRequest) -> BoxFuture<'_, Result<StreamResponse, TransportError>> {
        let answer = self.answer(request);
        async move {
            let (parts, body) = answer.await.into_parts();
            let body = body.into_data_stream();
            Ok(StreamResponse {
                status: parts.status,
                headers: parts.headers,
                body: body
                    .map(|chunk: Result<Bytes, _>| chunk.map_err(failed))
                    .boxed(),
            })
        }
        .boxed()
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> TransportError {
    TransportError(Box::new(error))
}
