//! The door: what happens to every request before and after its handler.
//!
//! Checks come in a fixed order: route, key, rate limit, channel name in the path, permission,
//! then everything else; a handler goes through them in this order by asking for them.

use crate::{
    address::TrustedProxies,
    error::{self, refusal},
    query::Query,
    telemetry::{
        metrics::RouteMetrics,
        traces::{Export, RequestTrace},
    },
};
use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use bytes::{Bytes, BytesMut};
use handoff_core::{
    Caller, ChannelGrant, ChannelsGrant, Error, IdempotencyKey, Operation, Relay, Result, Spent,
    StreamGrant, TeamGrant,
};
use handoff_protocol::{
    ChannelName, ErrorCode, Id, Invalid, StatusKey,
    keys::{API_KEY_PREFIX, KeyHash},
};
use http::{HeaderName, HeaderValue, StatusCode, header, request::Parts};
use http_body_util::BodyExt;
use opentelemetry::trace::FutureExt;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tracing::Instrument;

/// Longest body that is read for what it says.
pub(crate) const BODY_MAX: usize = 256 << 10;
/// Longest body that is read to the end, so that the refusal arrives.
const BODY_DRAIN_MAX: usize = 1 << 20;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the rest of a refused request's body may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const RATE_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const RATE_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");

/// What every handler needs.
pub(crate) struct App {
    pub(crate) relay: Arc<Relay>,
    pub(crate) trusted_proxies: TrustedProxies,
    /// Where the spans of requests go.
    pub(crate) export: Export,
    /// What is measured of requests that no route takes.
    pub(crate) unrouted: Arc<RouteMetrics>,
    /// Set once the replica stops: it is no longer ready.
    pub(crate) stopping: AtomicBool,
}

/// The address at the other end of the connection.
#[derive(Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Whether a route asks for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// A key, and room in its rate limit.
    Key,
    /// No key, but room in the address's rate limit.
    Address,
    /// Nothing.
    Nothing,
}

/// A request on its way through its handler.
pub(crate) struct ApiRequest {
    pub(crate) app: Arc<App>,
    /// Boxed, since a request moves through many hands.
    pub(crate) parts: Box<Parts>,
    body: UnreadBody,
    /// None until it is let in, and on routes that need no key.
    caller: Option<Caller>,
}

/// A request's way in and out: authentication and rate limit before the handler, error envelope
/// and the headers of every answer after it.
pub(crate) fn pass<F>(
    State(app): State<Arc<App>>,
    request: Request,
    metrics: Arc<RouteMetrics>,
    needs: Needs,
    handler: impl FnOnce(ApiRequest) -> F,
) -> impl Future<Output = Response>
where
    F: Future<Output = Result<Response>>,
{
    let began = Instant::now();
    let (parts, body) = request.into_parts();
    let method = parts.method.clone();
    let request_id = request_id(&parts);
    // Who asks before sending a body is answered at once.
    let body_comes = !parts.headers.contains_key(header::EXPECT);
    let body = UnreadBody::new(body);
    let trace = RequestTrace::start(app.export, &parts, &metrics);
    let mut request = ApiRequest {
        app,
        parts: Box::new(parts),
        body: body.clone(),
        caller: None,
    };
    async move {
        let mut spent = None;
        let handler_span = trace.handler_span();
        let outcome = {
            // Pinned where it is: it is large, and moving it costs.
            let mut work = pin!(async {
                request.caller = admit(&request.app, &request.parts, needs, &mut spent).await?;
                handler(request).await
            });
            match trace.context() {
                Some(context) => {
                    let work = work.as_mut().instrument(handler_span.clone());
                    work.with_context(context).await
                }
                None => work.as_mut().await,
            }
        };
        if outcome.is_err() && body_comes {
            body.drain().await;
        }
        let request_id = request_id.unwrap_or_else(random_request_id);
        let request_name = request_id.to_str().unwrap_or("-");
        let mut refused = None;
        let mut response = outcome.unwrap_or_else(|error| {
            metrics.failed(&method, error.code);
            refused = Some(error.code);
            handler_span.in_scope(|| refusal(&error, request_name, &trace))
        });
        drop(handler_span);
        let headers = response.headers_mut();
        if let Some(Spent {
            limit, remaining, ..
        }) = spent
        {
            headers.insert(RATE_LIMIT, number(limit));
            headers.insert(RATE_REMAINING, number(remaining));
        }
        let (status, took) = (response.status(), began.elapsed());
        trace.answered(status, refused);
        metrics.answered(&method, status, took);
        if tracing::enabled!(tracing::Level::DEBUG) {
            let (trace_id, span_id) = trace.ids().unzip();
            tracing::debug!(
                request_id = request_name,
                trace_id,
                span_id,
                "http.request.method" = method.as_str(),
                "http.route" = metrics.path(),
                "http.response.status_code" = status.as_u16(),
                duration_ms = took.as_millis() as u64,
                "Answered"
            );
        }
        response.headers_mut().insert(REQUEST_ID, request_id);
        response
    }
}

/// A number as a header's value, in one block of memory; `HeaderValue::from` takes two.
fn number(number: u32) -> HeaderValue {
    let mut digits = itoa::Buffer::new();
    shared(Bytes::copy_from_slice(digits.format(number).as_bytes()))
}

/// A header's value of what is known to be printable.
fn shared(text: Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(text).unwrap_or(HeaderValue::from_static("-"))
}

/// What a request brings, until it is read: the handler reads it, or the door drops it.
#[derive(Clone)]
struct UnreadBody(Arc<Mutex<Body>>);

impl UnreadBody {
    fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(body)))
    }

    /// The body, the first time.
    fn take(&self) -> Body {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads and drops the body of a refused request: a client that is still sending when the
    /// connection is closed never sees the answer.
    async fn drain(&self) {
        let mut body = self.take();
        let read = async {
            let mut length = 0;
            while length <= BODY_DRAIN_MAX
                && let Some(Ok(frame)) = body.frame().await
            {
                length += frame.data_ref().map_or(0, Bytes::len);
            }
        };
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, read).await;
    }
}

/// What names a request in the log and in its answer, where the client or a proxy has said it.
fn request_id(parts: &Parts) -> Option<HeaderValue> {
    let given = parts.headers.get(REQUEST_ID).filter(|id| {
        (1..=128).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
    });
    given.cloned()
}

fn random_request_id() -> HeaderValue {
    shared(hex::encode(rand::random::<[u8; 8]>()).into())
}

/// Key and rate limit.
async fn admit(
    app: &App,
    parts: &Parts,
    needs: Needs,
    spent: &mut Option<Spent>,
) -> Result<Option<Caller>> {
    match needs {
        Needs::Nothing => Ok(None),
        Needs::Address => {
            refuse_if_spent(app.relay.spend_address(app.client_address(parts)).await)?;
            Ok(None)
        }
        Needs::Key => {
            let caller = match authenticate(app, parts).await {
                Ok(caller) => caller,
                Err(error) if error.code.http_status() == 401 => {
                    // Guessing keys is limited as well.
                    refuse_if_spent(app.relay.spend_address(app.client_address(parts)).await)?;
                    return Err(error);
                }
                Err(error) => return Err(error),
            };
            let counted = app.relay.spend(&caller).await;
            *spent = Some(counted);
            refuse_if_spent(counted)?;
            Ok(Some(caller))
        }
    }
}

fn refuse_if_spent(spent: Spent) -> Result<()> {
    match spent.refused {
        Some(wait) => {
            let message = format!("Too many requests: {} fit into a window", spent.limit);
            Err(Error::new(ErrorCode::RateLimited, message).retry_after(wait))
        }
        None => Ok(()),
    }
}

async fn authenticate(app: &App, parts: &Parts) -> Result<Caller> {
    let Some(api_key) = api_key(parts) else {
        return Err(Error::new(
            ErrorCode::MissingApiKey,
            format!("Send an API key: Authorization: Bearer {API_KEY_PREFIX}…"),
        ));
    };
    app.relay.authenticate(&api_key).await
}

/// The first key that is not empty decides, right or wrong.
fn api_key(parts: &Parts) -> Option<Cow<'_, str>> {
    let header = |name: HeaderName, key_in: fn(&str) -> &str| {
        let value = parts.headers.get(name)?;
        let key = match value.to_str() {
            Ok(text) => Cow::Borrowed(key_in(text)),
            Err(_) => {
                let text = String::from_utf8_lossy(value.as_bytes());
                Cow::Owned(key_in(&text).to_owned())
            }
        };
        (!key.is_empty()).then_some(key)
    };
    header(header::AUTHORIZATION, bearer_token)
        .or_else(|| header(API_KEY, str::trim))
        .or_else(|| Query::new(parts.uri.query()).token().map(Cow::Owned))
}

/// The token of `Bearer <token>`; empty where the scheme is another.
fn bearer_token(value: &str) -> &str {
    match value.trim().split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => "",
    }
}

impl App {
    fn client_address(&self, parts: &Parts) -> IpAddr {
        let peer = parts.extensions.get::<Peer>().map(|peer| peer.0.ip());
        self.trusted_proxies.client(
            peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            &parts.headers,
        )
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

impl ApiRequest {
    pub(crate) fn relay(&self) -> &Arc<Relay> {
        &self.app.relay
    }

    /// The relay, once nothing more is wanted of the request. What it held is let go of before
    /// the work begins, while it is still in the processor's caches.
    pub(crate) fn into_relay(self) -> Arc<Relay> {
        self.app.relay.clone()
    }

    pub(crate) fn client_address(&self) -> IpAddr {
        self.app.client_address(&self.parts)
    }

    pub(crate) fn query(&self) -> Query<'_> {
        Query::new(self.parts.uri.query())
    }

    fn caller(&self) -> Result<Caller> {
        let missing = || {
            Error::new(
                ErrorCode::Internal,
                "A route that needs a key asked for none",
            )
        };
        self.caller.clone().ok_or_else(missing)
    }

    /// `METHOD /path` as sent, for the audit log.
    pub(crate) fn action(&self) -> String {
        const ACTION_MAX: usize = 4_096;
        let mut action = format!("{} {}", self.parts.method, self.parts.uri.path());
        if action.len() > ACTION_MAX {
            action.truncate(
                (0..=ACTION_MAX)
                    .rev()
                    .find(|at| action.is_char_boundary(*at))
                    .unwrap_or(0),
            );
        }
        action
    }

    /// Asks for the permission on the team.
    pub(crate) async fn team_grant(&self, operation: Operation) -> Result<TeamGrant> {
        self.relay()
            .grant_on_team(self.caller()?, operation, || self.action())
            .await
    }

    /// Asks for the permission on the channel in the path.
    pub(crate) async fn channel_grant(&self, operation: Operation) -> Result<ChannelGrant> {
        let channel = match self.segment(CHANNEL_SEGMENT) {
            Some(name) => ChannelName::parse(&name)?,
            None => ChannelName::parse("")?,
        };
        self.relay()
            .grant_on_channel(self.caller()?, operation, channel, || self.action())
            .await
    }

    /// Asks for the permission to stream every channel of `channels`, in the query.
    pub(crate) async fn channels_grant(&self, operation: Operation) -> Result<StreamGrant> {
        let channels = self.channels_in_query()?;
        let channels =
            channels.ok_or_else(|| Invalid::missing("channels, like ?channels=build,deploy"))?;
        self.grant_on_channels(operation, channels)
            .await?
            .into_stream()
    }

    /// Asks for the permission on every one of these channels.
    pub(crate) async fn grant_on_channels(
        &self,
        operation: Operation,
        mut channels: Vec<ChannelName>,
    ) -> Result<ChannelsGrant> {
        channels.sort_unstable();
        channels.dedup();
        self.relay()
            .grant_on_channels(self.caller()?, operation, channels, || self.action())
            .await
    }

    /// The names in `channels`, in the query, each once.
    pub(crate) fn channels_in_query(&self) -> Result<Option<Vec<ChannelName>>> {
        const CHANNELS_MAX: usize = 500;
        let Some(names) = self.query().text("channels")? else {
            return Ok(None);
        };
        let mut channels = names
            .split(',')
            .map(ChannelName::parse)
            .collect::<Result<Vec<_>, _>>()?;
        channels.sort_unstable();
        channels.dedup();
        if channels.len() > CHANNELS_MAX {
            let message = format!("channels holds at most {CHANNELS_MAX} names");
            return Err(Error::new(ErrorCode::FieldTooLarge, message));
        }
        Ok(Some(channels))
    }

    /// A segment of the path, decoded; none if it isn't UTF-8.
    fn segment(&self, index: usize) -> Option<Cow<'_, str>> {
        let segment = self.parts.uri.path().split('/').nth(index)?;
        percent_decode_str(segment).decode_utf8().ok()
    }

    /// The ID at the end of the path.
    pub(crate) fn id_in_path(&self) -> Result<Id> {
        let id = self.segment(LAST_SEGMENT).unwrap_or_default();
        Ok(Id::parse(&id)?)
    }

    /// The status key at the end of the path.
    pub(crate) fn status_key_in_path(&self) -> Result<StatusKey> {
        let not_text = || Invalid::new(ErrorCode::InvalidContent, "The status key is not UTF-8");
        let key = self.segment(LAST_SEGMENT).ok_or_else(not_text)?;
        Ok(StatusKey::parse(&key)?)
    }

    /// The hash of a key in the path; none if it is malformed.
    pub(crate) fn key_hash_in_path(&self) -> Option<KeyHash> {
        KeyHash::parse(&self.segment(KEY_HASH_SEGMENT)?)
    }

    /// The `Idempotency-Key`; an empty one counts as absent.
    pub(crate) fn idempotency_key(&self) -> Result<Option<IdempotencyKey>> {
        let value = self
            .parts
            .headers
            .get("idempotency-key")
            .filter(|value| !value.is_empty());
        let key =
            value.map(|value| IdempotencyKey::parse(&String::from_utf8_lossy(value.as_bytes())));
        Ok(key.transpose()?)
    }

    /// The key that the request came with.
    pub(crate) fn api_key(&self) -> Option<Cow<'_, str>> {
        api_key(&self.parts)
    }

    /// Reads the body.
    pub(crate) async fn body(&mut self) -> Result<Bytes> {
        let read = tokio::time::timeout(BODY_TIMEOUT, read_body(self.body.take())).await;
        read.unwrap_or_else(|_| Err(invalid_json("The body did not arrive in time")))
    }

    /// Reads the body, which holds one JSON object.
    pub(crate) async fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        let body = self.body().await?;
        let not_text = |_| Invalid::new(ErrorCode::InvalidContent, "The body is not UTF-8");
        let text = std::str::from_utf8(&body).map_err(not_text)?;
        // A derived type would also take an array for its fields in order.
        if !text
            .trim_start_matches([' ', '\t', '\r', '\n'])
            .starts_with('{')
        {
            return Err(invalid_json("The body must be one JSON object"));
        }
        serde_json::from_str(text).map_err(|error| invalid_json(&format!("Invalid JSON: {error}")))
    }
}

/// `/api/channels/{channel}/…`
const CHANNEL_SEGMENT: usize = 3;
/// `/api/keys/{hash}/…`
const KEY_HASH_SEGMENT: usize = 3;
/// `/api/channels/{channel}/messages/{id}` and its like.
const LAST_SEGMENT: usize = 5;

fn invalid_json(message: &str) -> Error {
    Error::new(ErrorCode::InvalidJson, message)
}

async fn read_body(mut body: Body) -> Result<Bytes> {
    let mut whole = Gathered::default();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| invalid_json("The body broke off"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        length += data.len();
        if length <= BODY_MAX {
            whole.push(data);
        } else if length > BODY_DRAIN_MAX {
            break;
        }
    }
    if length > BODY_MAX {
        let message = format!("The body has more than {BODY_MAX} bytes");
        return Err(Error::new(ErrorCode::BodyTooLarge, message));
    }
    Ok(whole.into_bytes())
}

/// A body as far as it came. Most come in one piece, which stays where it was received.
#[derive(Default)]
struct Gathered {
    first: Bytes,
    all: BytesMut,
}

impl Gathered {
    fn push(&mut self, data: Bytes) {
        if self.first.is_empty() {
            self.first = data;
            return;
        }
        if self.all.is_empty() {
            self.all.extend_from_slice(&self.first);
        }
        self.all.extend_from_slice(&data);
    }

    fn into_bytes(self) -> Bytes {
        match self.all.is_empty() {
            true => self.first,
            false => self.all.freeze(),
        }
    }
}

/// An answer with a JSON body.
pub(crate) fn ok(body: &impl serde::Serialize) -> Result<Response> {
    Ok(error::json(StatusCode::OK, body))
}

/// An answer whose JSON is written already.
pub(crate) fn ok_bytes(json: Bytes) -> Response {
    error::json_bytes(StatusCode::OK, json)
}

/// An answer to something that was made.
pub(crate) fn created(body: &impl serde::Serialize) -> Result<Response> {
    Ok(error::json(StatusCode::CREATED, body))
}

/// An answer to something that was made, whose JSON is written already.
pub(crate) fn created_bytes(json: Bytes) -> Response {
    error::json_bytes(StatusCode::CREATED, json)
}

/// An answer to something that is gone.
pub(crate) fn no_content() -> Result<Response> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}
