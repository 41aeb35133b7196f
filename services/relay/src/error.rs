//! Refusals as HTTP answers.

use crate::telemetry::traces::RequestTrace;
use axum::response::Response;
use bytes::Bytes;
use handoff_core::Error;
use handoff_protocol::{ErrorBody, ErrorCode};
use http::{HeaderValue, StatusCode, header};

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: &impl serde::Serialize) -> Response {
    // Most answers fit; our own types always serialize.
    let mut json = Vec::with_capacity(1_024);
    let _ = serde_json::to_writer(&mut json, body);
    json_bytes(status, json.into())
}

/// A JSON answer that is written already.
pub(crate) fn json_bytes(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// The answer to a refused request.
pub(crate) fn refusal(error: &Error, request_id: &str, trace: &RequestTrace) -> Response {
    let status =
        StatusCode::from_u16(error.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if status.is_server_error() {
        let source = error
            .source
            .as_ref()
            .map(|source| source as &dyn std::error::Error);
        let code = error.code.as_str();
        let (trace_id, span_id) = trace.ids().unzip();
        if error.code == ErrorCode::Internal {
            tracing::error!(
                request_id,
                trace_id,
                span_id,
                code,
                error = source,
                "{error}"
            );
        } else {
            tracing::warn!(
                request_id,
                trace_id,
                span_id,
                code,
                error = source,
                "A request failed"
            );
        }
    }
    let body = ErrorBody {
        error: error.message.clone(),
        code: error.code.as_str().to_owned(),
        request_id: Some(request_id.to_owned()),
    };
    let mut response = json(status, &body);
    if let Some(wait) = error.retry_after {
        let seconds = wait.as_millis().div_ceil(1_000).max(1) as u64;
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, seconds.into());
    }
    response
}
