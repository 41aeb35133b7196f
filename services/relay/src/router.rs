//! Every route, in one list: what `/api` shows is what there is.

use crate::{
    door::{self, ApiRequest, App, Needs},
    error::refusal,
    handlers::{
        agents, channels, inbox, keys, messages, service, statuses, streams, teams, tokens, waits,
    },
    openapi::{self, described_route},
    telemetry::{metrics::RouteMetrics, traces::RequestTrace},
};
use axum::{
    Extension, Router,
    body::Body,
    extract::{Request, State},
    response::Response,
    routing::{MethodFilter, MethodRouter, on},
};
use handoff_core::{Error, Result};
use handoff_protocol::ErrorCode;
use http::{Method, StatusCode};
use std::sync::Arc;

/// A route: what it answers to, and what answers.
pub struct Route {
    /// Its method; a GET answers HEAD as well.
    pub method: Method,
    /// Its path, with `{channel}` and the like for what varies.
    pub path: &'static str,
    /// What a request needs to be let in.
    pub(crate) needs: Needs,
    /// What the OpenAPI document says of it; none where it isn't part of that.
    pub(crate) operation: Option<openapi::Operation>,
    answer: MethodRouter<Arc<App>>,
}

impl Route {
    pub(crate) fn with_operation(self, operation: openapi::Operation) -> Self {
        Self {
            operation: Some(operation),
            ..self
        }
    }
}

fn route<F>(
    method: Method,
    path: &'static str,
    needs: Needs,
    handler: impl FnOnce(ApiRequest) -> F + Clone + Send + Sync + 'static,
) -> Route
where
    F: Future<Output = Result<Response>> + Send + 'static,
{
    let filter = match method {
        Method::GET => MethodFilter::GET,
        Method::POST => MethodFilter::POST,
        Method::PUT => MethodFilter::PUT,
        _ => MethodFilter::DELETE,
    };
    let metrics = RouteMetrics::new(&method, path);
    let answer = on(filter, move |app: State<Arc<App>>, request: Request| {
        door::pass(app, request, metrics, needs, handler)
    });
    Route {
        method,
        path,
        needs,
        operation: None,
        answer,
    }
}

/// Every route.
pub fn routes() -> Vec<Route> {
    use Needs::{Address, Key, Nothing};
    const CHANNELS: &str = "/api/channels";
    const CHANNEL: &str = "/api/channels/{channel}";
    const MESSAGES: &str = "/api/channels/{channel}/messages";
    const STATUS: &str = "/api/channels/{channel}/status";
    const KEYS: &str = "/api/keys";
    let (get, post, put, delete) = (Method::GET, Method::POST, Method::PUT, Method::DELETE);
    vec![
        described_route!(get.clone(), "/healthz", Nothing, service::healthz),
        described_route!(get.clone(), "/readyz", Nothing, service::readyz),
        described_route!(get.clone(), "/api", Nothing, service::describe),
        described_route!(
            get.clone(),
            "/api/openapi.json",
            Nothing,
            openapi::read_openapi,
        ),
        described_route!(post.clone(), "/api/signup", Address, teams::sign_up),
        described_route!(get.clone(), "/api/me", Key, teams::read_me),
        described_route!(post.clone(), KEYS, Key, keys::create_key),
        described_route!(get.clone(), KEYS, Key, keys::list_keys),
        described_route!(delete.clone(), "/api/keys/{hash}", Key, keys::revoke_key),
        described_route!(
            put.clone(),
            "/api/keys/{hash}/permissions",
            Key,
            keys::set_key_permissions,
        ),
        described_route!(post.clone(), "/api/tokens", Key, tokens::create_token),
        described_route!(get.clone(), "/api/audit", Key, keys::list_audit),
        described_route!(post.clone(), CHANNELS, Key, channels::create_channel),
        described_route!(get.clone(), CHANNELS, Key, channels::list_channels),
        described_route!(delete.clone(), CHANNEL, Key, channels::delete_channel),
        described_route!(post.clone(), MESSAGES, Key, messages::post_message),
        described_route!(get.clone(), MESSAGES, Key, messages::list_messages),
        described_route!(
            delete.clone(),
            "/api/channels/{channel}/messages/{id}",
            Key,
            messages::delete_message,
        ),
        described_route!(
            get.clone(),
            "/api/channels/{channel}/threads/{id}",
            Key,
            messages::read_thread,
        ),
        described_route!(
            get.clone(),
            "/api/channels/{channel}/stream",
            Key,
            streams::stream_channel,
        ),
        described_route!(
            post.clone(),
            "/api/channels/{channel}/ack",
            Key,
            messages::move_ack,
        ),
        described_route!(
            get.clone(),
            "/api/channels/{channel}/acks",
            Key,
            messages::list_acks,
        ),
        described_route!(
            get.clone(),
            "/api/channels/{channel}/unread",
            Key,
            messages::list_unread,
        ),
        described_route!(put, STATUS, Key, statuses::set_status),
        described_route!(post, STATUS, Key, statuses::set_status),
        described_route!(get.clone(), STATUS, Key, statuses::list_statuses),
        described_route!(
            delete,
            "/api/channels/{channel}/status/{key}",
            Key,
            statuses::delete_status,
        ),
        described_route!(
            get.clone(),
            "/api/channels/{channel}/status/changes",
            Key,
            statuses::list_status_changes,
        ),
        described_route!(get.clone(), "/api/inbox", Key, inbox::read_inbox),
        described_route!(Method::POST, "/api/inbox/ack", Key, inbox::move_acks),
        described_route!(Method::POST, "/api/wait", Key, waits::wait),
        described_route!(get.clone(), "/api/status", Key, statuses::list_all_statuses),
        described_route!(get, "/api/stream", Key, streams::stream_channels),
        // They speak protocols of others, which say what they are like.
        route(Method::POST, MCP, Key, agents::mcp),
        route(Method::POST, "/hooks/claude", Key, agents::claude_hook),
    ]
}

const MCP: &str = "/mcp";

/// The routes as a service.
pub(crate) fn router(app: Arc<App>) -> Router {
    // The tools of the MCP server go through the same routes.
    let mcp = Arc::new(agents::Mcp::new(routes_with(app.clone(), None)));
    routes_with(app, Some(mcp))
}

fn routes_with(app: Arc<App>, mcp: Option<Arc<agents::Mcp>>) -> Router {
    // A status entry may be called `changes`: the path of the history would hide its deletion.
    let changes = "/api/channels/{channel}/status/changes";
    let delete_changes = route(Method::DELETE, changes, Needs::Key, statuses::delete_status);
    routes()
        .into_iter()
        .chain([delete_changes])
        .fold(Router::new(), |router, route| {
            let answer = match &mcp {
                Some(mcp) if route.path == MCP => route.answer.layer(Extension(mcp.clone())),
                _ => route.answer,
            };
            router.route(route.path, answer)
        })
        .fallback(not_found)
        .method_not_allowed_fallback(other_method)
        .with_state(app)
}

async fn not_found(app: State<Arc<App>>, request: Request) -> Response {
    let unrouted = app.unrouted.clone();
    door::pass(
        app,
        request,
        unrouted,
        Needs::Nothing,
        async |request: ApiRequest| {
            let message = format!(
                "There is no {}; GET /api lists the routes",
                request.parts.uri.path()
            );
            Err(Error::new(ErrorCode::NotFound, message))
        },
    )
    .await
}

/// OPTIONS needs no key; `Allow` is added to both answers by the router, which knows it.
async fn other_method(app: State<Arc<App>>, request: Request) -> Response {
    let unrouted = app.unrouted.clone();
    door::pass(
        app,
        request,
        unrouted,
        Needs::Nothing,
        async |request: ApiRequest| {
            if request.parts.method == Method::OPTIONS {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NO_CONTENT;
                return Ok(response);
            }
            let message = format!(
                "This route has no {}; see the Allow header",
                request.parts.method
            );
            Err(Error::new(ErrorCode::MethodNotAllowed, message))
        },
    )
    .await
}

/// The answer to a request that broke on our side.
pub(crate) fn broken() -> Response {
    refusal(
        &Error::new(ErrorCode::Internal, "Something went wrong on our side"),
        "-",
        &RequestTrace::NONE,
    )
}
