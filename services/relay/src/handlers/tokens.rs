//! `/api/tokens`

use crate::door::{ApiRequest, created};
use axum::response::Response;
use handoff_core::{Operation, Result};
use handoff_protocol::{
    ErrorCode,
    tokens::{CreateTokenRequest, CreatedToken},
};

/// Make a token of the caller's key.
///
/// It goes wherever a key goes, until it expires; what its key may no longer do, it may neither.
/// More than the key may do is refused, and so is a token that asks for another one.
#[utoipa::path(
    post,
    path = "/api/tokens",
    request_body = CreateTokenRequest,
    responses((status = 201, description = "The token; it is shown only here", body = CreatedToken)),
    extensions(("x-refusals" = json!([ErrorCode::Forbidden, ErrorCode::FieldTooLarge, ErrorCode::InvalidPermissions, ErrorCode::InvalidExpiry])))
)]
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
