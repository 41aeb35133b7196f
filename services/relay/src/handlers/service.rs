//! What the relay says of itself, to anybody.

use crate::{
    door::{ApiRequest, ok},
    router,
};
use axum::response::Response;
use handoff_core::{Epoch, Error, Result};
use handoff_protocol::{ErrorCode, names};
use serde::Serialize;
use serde_json::json;
use std::time::Duration;

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

const FINE: Health = Health { status: "ok" };

/// Whether the process lives.
pub(crate) async fn healthz(_request: ApiRequest) -> Result<Response> {
    ok(&FINE)
}

/// Whether requests should come here: Postgres answers, and the replica isn't stopping.
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
pub(crate) async fn describe(request: ApiRequest) -> Result<Response> {
    let endpoints: Vec<_> = router::routes()
        .iter()
        .map(|route| json!({"method": route.method.as_str(), "path": route.path}))
        .collect();
    ok(&json!({
        "name": "handoff-relay",
        "version": env!("CARGO_PKG_VERSION"),
        "epoch": request.relay().epoch().as_ref().map(Epoch::as_str),
        "endpoints": endpoints,
        "limits": {
            "message_content": format!("1 to {} bytes of UTF-8", names::CONTENT_MAX_BYTES),
            "status_key": format!("1 to {} characters", names::STATUS_KEY_MAX_CHARS),
            "status_value": format!("0 to {} bytes of UTF-8", names::CONTENT_MAX_BYTES),
            "channel_name": format!(
                "1 to {} letters, digits, dots, underscores and hyphens, beginning with a letter \
                 or digit",
                names::CHANNEL_NAME_MAX
            ),
        },
    }))
}
