//! One request and its tries: what goes in is a [`Call`], what comes out is the relay's answer or
//! its refusal. Repeats only what is safe to repeat.

use crate::{ApiError, Client, Error, Result, transport::ApiResponse, types::PageQuery};
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use bytes::Bytes;
use handoff_protocol::ErrorBody;
use http::{HeaderMap, Method, Request, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, de::DeserializeOwned};
use std::time::Duration;
use tokio::time::Instant;

/// What stands for itself in a path segment or a query value.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// How long an answer may take, beside what the relay was asked to wait.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How often a request is repeated at most. Five waits are 3.1 seconds at least: a relay that was
/// killed is started again meanwhile.
const REPEATS: usize = 5;
/// No try begins later than this after the first. Longer than the timeout, so that a request which
/// was swallowed gets a second chance, and than a `Retry-After` of half a minute.
const PATIENCE: Duration = Duration::from_secs(40);

/// When a request may be sent once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// After any failure that may pass: the second time changes nothing more.
    Always,
    /// Only when it is certain that the relay did not act.
    IfUntouched,
}

/// A request to be made, as often as it takes.
#[derive(Debug)]
pub(crate) struct Call {
    method: Method,
    target: String,
    body: Option<Bytes>,
    idempotency_key: Option<String>,
    repeat: Repeat,
    /// How long the relay was asked to hold it.
    held_for: Duration,
}

impl Call {
    /// A request that may be repeated.
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            target: path.into(),
            body: None,
            idempotency_key: None,
            repeat: Repeat::Always,
            held_for: Duration::ZERO,
        }
    }

    /// A GET.
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// A POST.
    pub(crate) fn post(path: impl Into<String>, repeat: Repeat) -> Self {
        Self {
            repeat,
            ..Self::new(Method::POST, path)
        }
    }

    /// With these parameters.
    pub(crate) fn query(mut self, query: Query) -> Self {
        self.target.push_str(&query.0);
        self
    }

    /// With this body.
    pub(crate) fn json(mut self, body: &impl Serialize) -> Result<Self> {
        let body = serde_json::to_vec(body)
            .map_err(|error| Error::InvalidArgument(format!("This is no JSON: {error}")))?;
        self.body = Some(body.into());
        Ok(self)
    }

    /// With a fresh key that all its tries share, so that the relay acts once.
    pub(crate) fn idempotent(mut self) -> Self {
        self.idempotency_key = Some(hex::encode(rand::random::<[u8; 16]>()));
        self
    }

    /// The relay was asked to hold it for so long.
    pub(crate) fn held_for(mut self, wait: Duration) -> Self {
        self.held_for = wait;
        self
    }

    fn request(&self) -> Result<Request<Bytes>> {
        let mut request = Request::builder()
            .method(&self.method)
            .uri(&self.target)
            .header(header::ACCEPT, "application/json");
        if self.body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(key) = &self.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        request
            .body(self.body.clone().unwrap_or_default())
            .map_err(|error| Error::InvalidArgument(format!("This makes no request: {error}")))
    }
}

/// The parameters of a request; absent and empty ones are left out.
pub(crate) struct Query(String);

impl Query {
    /// No parameters.
    pub(crate) fn new() -> Self {
        Self(String::new())
    }

    /// As it follows the path.
    pub(crate) fn into_text(self) -> String {
        self.0
    }

    /// And this text.
    pub(crate) fn text(mut self, name: &str, value: Option<&str>) -> Self {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.0.push(if self.0.is_empty() { '?' } else { '&' });
            self.0.push_str(name);
            self.0.push('=');
            self.0.extend(utf8_percent_encode(value, SEGMENT));
        }
        self
    }

    /// And this number.
    pub(crate) fn number(self, name: &str, value: Option<u32>) -> Self {
        self.text(name, value.map(|value| value.to_string()).as_deref())
    }

    /// And which page.
    pub(crate) fn page(self, page: &PageQuery) -> Self {
        self.text("after_id", page.after_id.as_deref())
            .number("limit", page.limit)
    }
}

/// A text as a segment of a path.
pub(crate) fn segment(what: &str, text: &str) -> Result<String> {
    match text {
        // URLs have no way to say these: `..` goes up, however it is encoded.
        "" | "." | ".." => Err(Error::InvalidArgument(format!(
            "\"{text}\" can't be named as a {what}"
        ))),
        text => Ok(utf8_percent_encode(text, SEGMENT).to_string()),
    }
}

impl Client {
    /// Sends a request and reads its answer as this type.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, call: Call) -> Result<T> {
        decode(&self.send(call).await?)
    }

    /// Deletes what is at this path.
    pub(crate) async fn delete(&self, path: String) -> Result<()> {
        self.send(Call::new(Method::DELETE, path)).await.map(drop)
    }

    /// Sends a request, again where that is safe, until it is answered 2xx or refused for good.
    pub(crate) async fn send(&self, call: Call) -> Result<ApiResponse> {
        let mut waits = Waits::bounded(PATIENCE + call.held_for);
        let timeout = TIMEOUT + call.held_for;
        // Whether an earlier try may have been carried out although its answer never came.
        let mut perhaps_done = false;
        loop {
            let mut request = call.request()?;
            if let Some(trace) = &self.trace {
                let headers = request.headers_mut();
                headers.insert("traceparent", trace.traceparent.clone());
                if let Some(tracestate) = &trace.tracestate {
                    headers.insert("tracestate", tracestate.clone());
                }
            }
            let outcome = self.transport.send(request, timeout).await;
            let error = match outcome {
                Ok(answer) if answer.status.is_success() => return Ok(answer),
                Ok(answer) => refusal(answer.status, &answer.headers, &answer.body),
                Err(error) => Error::Transport(error),
            };
            if perhaps_done && call.method == Method::DELETE && is_gone(&error) {
                return Ok(ApiResponse {
                    status: StatusCode::NO_CONTENT,
                    headers: HeaderMap::new(),
                    body: Bytes::new(),
                });
            }
            if !may_pass(&error) || (call.repeat == Repeat::IfUntouched && !is_untouched(&error)) {
                return Err(error);
            }
            let Some(wait) = waits.next(retry_after(&error)) else {
                return Err(error);
            };
            perhaps_done |= !is_untouched(&error);
            tracing::debug!(
                "Request is tried again in {wait:?}: {} {}: {error}",
                call.method,
                call.target
            );
            tokio::time::sleep(wait).await;
        }
    }
}

/// The waits between tries: each longer than the last, none the same for two clients.
pub(crate) struct Waits {
    backoff: ExponentialBackoff,
    began: Instant,
    patience: Duration,
}

impl Waits {
    fn bounded(patience: Duration) -> Self {
        Self {
            backoff: ExponentialBuilder::new()
                .with_jitter()
                .with_min_delay(Duration::from_millis(100))
                .with_max_delay(Duration::from_secs(5))
                .with_max_times(REPEATS)
                .build(),
            began: Instant::now(),
            patience,
        }
    }

    /// Waits that never end, of 10 seconds at most, for a stream.
    pub(crate) fn endless() -> Self {
        Self {
            backoff: ExponentialBuilder::new()
                .with_jitter()
                .with_min_delay(Duration::from_millis(100))
                // Jitter adds as much again.
                .with_max_delay(Duration::from_secs(5))
                .without_max_times()
                .build(),
            began: Instant::now(),
            patience: Duration::MAX,
        }
    }

    /// The next wait, at least as long as the relay asked for; none when it is time to give up.
    pub(crate) fn next(&mut self, retry_after: Option<Duration>) -> Option<Duration> {
        let backoff = self.backoff.next()?;
        // Past what the relay asked for still a little apart from the other clients it asked.
        let wait = retry_after.map_or(backoff, |asked| {
            asked.saturating_add(backoff / 4).max(backoff)
        });
        (self.began.elapsed().saturating_add(wait) <= self.patience).then_some(wait)
    }
}

/// Reads an answer as this type.
pub(crate) fn decode<T: DeserializeOwned>(answer: &ApiResponse) -> Result<T> {
    serde_json::from_slice(&answer.body).map_err(|error| Error::BadAnswer(error.to_string()))
}

/// What an answer other than 2xx says.
pub(crate) fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
    let retry_after = headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(Duration::from_secs);
    if let Ok(body) = serde_json::from_slice::<ErrorBody>(body) {
        return Error::Api(ApiError {
            status,
            code: body.code,
            message: body.error,
            request_id: body.request_id,
            retry_after,
        });
    }
    if status.is_redirection() {
        let target = headers
            .get(header::LOCATION)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("elsewhere");
        return Error::BadAnswer(format!("{status}: it points to {target}"));
    }
    // A proxy's answer, most often: it still says whether another try may help.
    if status.is_client_error() || status.is_server_error() {
        return Error::Api(ApiError {
            status,
            code: format!("HTTP_{}", status.as_u16()),
            message: format!("{status}, from something before the relay"),
            request_id: None,
            retry_after,
        });
    }
    Error::BadAnswer(status.to_string())
}

/// Whether another try may go better.
pub(crate) fn may_pass(error: &Error) -> bool {
    match error {
        Error::Transport(_) => true,
        Error::Api(error) => matches!(error.status.as_u16(), 429 | 502 | 503 | 504),
        _ => false,
    }
}

/// Whether it is certain that the relay did not act.
fn is_untouched(error: &Error) -> bool {
    match error {
        Error::Transport(error) => error.is_unsent(),
        // The relay answers 503 also when Postgres went away over a write: only this code says
        // that it did nothing.
        Error::Api(error) => {
            error.status == StatusCode::TOO_MANY_REQUESTS || error.code == "OVERLOADED"
        }
        _ => false,
    }
}

/// Whether the relay says that what was to be deleted is not there.
fn is_gone(error: &Error) -> bool {
    // `NOT_FOUND` alone is an unknown route.
    matches!(error, Error::Api(error)
        if error.status == StatusCode::NOT_FOUND && error.code.ends_with("_NOT_FOUND"))
}

/// How long the relay asked to wait.
pub(crate) fn retry_after(error: &Error) -> Option<Duration> {
    match error {
        Error::Api(error) => error.retry_after,
        _ => None,
    }
}
