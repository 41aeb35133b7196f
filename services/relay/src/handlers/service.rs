//! What the relay says of itself, to anybody.

use crate::{
    door::{ApiRequest, ok},
    router,
};
use axum::response::Response;
use handoff_core::{Error, Result};
use handoff_protocol::{ErrorCode, names};
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

/// The state of a replica.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`.
    #[schema(value_type = String, example = "ok")]
    status: &'static str,
}

/// What `GET /api` answers.
#[derive(Serialize, ToSchema)]
pub(crate) struct About {
    /// `handoff-relay`.
    #[schema(value_type = String, example = "handoff-relay")]
    name: &'static str,
    /// The relay's version.
    #[schema(value_type = String, example = "0.1.0")]
    version: &'static str,
    /// The epoch, a UUID: another one says that the database was restored or failed over.
    #[schema(example = "0b5ee52f-9f4b-4d8e-9b63-0e2f6f3a1f6c")]
    epoch: Option<String>,
    /// Every route.
    endpoints: Vec<Endpoint>,
    /// Limits of texts, in words.
    limits: TextLimits,
}

/// A route.
#[derive(Serialize, ToSchema)]
pub(crate) struct Endpoint {
    /// Its method; a GET answers HEAD as well.
    #[schema(example = "GET")]
    method: String,
    /// Its path, with `{channel}` and the like for what varies.
    #[schema(value_type = String, example = "/api/channels/{channel}/messages")]
    path: &'static str,
}

/// Limits of texts, in words.
#[derive(Serialize, ToSchema)]
pub(crate) struct TextLimits {
    /// Of a message's content.
    message_content: String,
    /// Of a status entry's key.
    status_key: String,
    /// Of a status entry's value.
    status_value: String,
    /// Of a channel's name.
    channel_name: String,
}

const FINE: Health = Health { status: "ok" };

/// Whether the process lives.
#[utoipa::path(
    get,
    path = "/healthz",
    responses((status = 200, description = "It lives", body = Health))
)]
pub(crate) async fn healthz(_request: ApiRequest) -> Result<Response> {
    ok(&FINE)
}

/// Whether requests should come here: Postgres answers, and the replica isn't stopping.
#[utoipa::path(
    get,
    path = "/readyz",
    responses((status = 200, description = "It is ready", body = Health)),
    extensions(("x-refusals" = json!([ErrorCode::Unavailable])))
)]
pub(crate) async fn readyz(request: ApiRequest) -> Result<Response> {
    let again = Duration::from_secs(1);
    if request.app.is_stopping() {
        let stopping = Error::new(ErrorCode::Unavailable, "This replica is stopping");
        return Err(stopping.retry_after(again));
    }
    match tokio::time::timeout(Duration::from_secs(2), request.relay().check_ready()).await {
        Ok(ready) => ready?,
        Err(_) => {
            let silent = Error::new(ErrorCode::Unavailable, "Postgres doesn't answer");
            return Err(silent.retry_after(again));
        }
    }
    ok(&FINE)
}

/// What this is, and what it can do.
#[utoipa::path(
    get,
    path = "/api",
    responses((status = 200, description = "Name, version, routes and limits", body = About))
)]
pub(crate) async fn describe(request: ApiRequest) -> Result<Response> {
    let endpoints: Vec<_> = router::routes()
        .iter()
        .map(|route| Endpoint {
            method: route.method.to_string(),
            path: route.path,
        })
        .collect();
    ok(&About {
        name: "handoff-relay",
        version: env!("CARGO_PKG_VERSION"),
        epoch: request.relay().epoch().as_ref().map(ToString::to_string),
        endpoints,
        limits: TextLimits {
            message_content: format!("1 to {} bytes of UTF-8", names::CONTENT_MAX_BYTES),
            status_key: format!("1 to {} characters", names::STATUS_KEY_MAX_CHARS),
            status_value: format!("0 to {} bytes of UTF-8", names::CONTENT_MAX_BYTES),
            channel_name: format!(
                "1 to {} letters, digits, dots, underscores and hyphens, beginning with a letter \
                 or digit",
                names::CHANNEL_NAME_MAX
            ),
        },
    })
}
