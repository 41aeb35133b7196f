//! `/api/signup` and `/api/me`

use crate::door::{ApiRequest, created, ok};
use axum::response::Response;
use handoff_core::{Operation, Result};
use handoff_protocol::{
    ErrorCode,
    teams::{Me, SignedUp, SignupRequest},
};

/// Make a team with its first key.
///
/// Limited per client address.
#[utoipa::path(
    post,
    path = "/api/signup",
    request_body = SignupRequest,
    responses((status = 201, description = "The team, and its first key, which is shown only here", body = SignedUp)),
    extensions(("x-refusals" = json!([ErrorCode::FieldTooLarge, ErrorCode::SignupRateLimited])))
)]
pub(crate) async fn sign_up(mut request: ApiRequest) -> Result<Response> {
    let address = request.client_address();
    request.relay().check_signup(address).await?;
    let team = request.json::<SignupRequest>().await?.try_into()?;
    created(&request.relay().sign_up(address, team).await?)
}

/// See what the caller is.
#[utoipa::path(
    get,
    path = "/api/me",
    responses((status = 200, description = "Team, sender, permissions and limits", body = Me))
)]
pub(crate) async fn read_me(request: ApiRequest) -> Result<Response> {
    let grant = request.team_grant(Operation::ReadMe).await?;
    ok(&request.relay().me(&grant)?)
}
