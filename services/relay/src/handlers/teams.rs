//! `/api/signup` and `/api/me`

use crate::door::{ApiRequest, created, ok};
use axum::response::Response;
use handoff_core::{Operation, Result};
use handoff_protocol::teams::SignupRequest;

/// Make a team with its first key.
pub(crate) async fn sign_up(mut request: ApiRequest) -> Result<Response> {
    let address = request.client_address();
    request.relay().check_signup(address).await?;
    let team = request.json::<SignupRequest>().await?.try_into()?;
    created(&request.relay().sign_up(address, team).await?)
}

/// See what the caller is.
pub(crate) async fn read_me(request: ApiRequest) -> Result<Response> {
    let grant = request.team_grant(Operation::ReadMe).await?;
    ok(&request.relay().me(&grant)?)
}
