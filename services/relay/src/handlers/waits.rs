//! `/api/wait`

use crate::door::{ApiRequest, ok};
use axum::response::Response;
use handoff_core::{Operation, Result};
use handoff_protocol::waits::{Condition, Wait, WaitRequest};

/// Wait for what others do.
pub(crate) async fn wait(mut request: ApiRequest) -> Result<Response> {
    // The body says which channels: it is read before their permission is asked for.
    let wait: Wait = request.json::<WaitRequest>().await?.try_into()?;
    let channels = wait.conditions.iter().map(Condition::channel).cloned();
    let grant = request
        .grant_on_channels(Operation::Wait, channels.collect())
        .await?;
    ok(&request.relay().wait(&grant, &wait).await?)
}
