//! `/api/tokens`

use crate::door::{ApiRequest, created};
use axum::response::Response;
use handoff_core::{Operation, Result};
use handoff_protocol::tokens::CreateTokenRequest;

/// Make a token of the caller's key.
pub(crate) async fn create_token(mut request: ApiRequest) -> Result<Response> {
    let grant = request.team_grant(Operation::CreateToken).await?;
    let token = request.json::<CreateTokenRequest>().await?.try_into()?;
    let relay = request.relay();
    created(
        &relay
            .create_token(&grant, token, || request.action())
            .await?,
    )
}
