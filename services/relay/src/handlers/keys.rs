//! `/api/keys` and `/api/audit`

use crate::door::{ApiRequest, created, no_content, ok};
use axum::response::Response;
use handoff_core::{Operation, Result};
use handoff_protocol::keys::{AuditPage, CreateKeyRequest, DENIED, SetPermissionsRequest};

/// Make a key.
pub(crate) async fn create_key(mut request: ApiRequest) -> Result<Response> {
    let grant = request.team_grant(Operation::CreateKey).await?;
    let key = request.json::<CreateKeyRequest>().await?.try_into()?;
    created(&request.relay().create_key(&grant, key).await?)
}

/// List the team's keys.
pub(crate) async fn list_keys(request: ApiRequest) -> Result<Response> {
    let grant = request.team_grant(Operation::ListKeys).await?;
    ok(&request.relay().list_keys(&grant).await?)
}

/// Replace a key's permissions.
pub(crate) async fn set_key_permissions(mut request: ApiRequest) -> Result<Response> {
    let grant = request.team_grant(Operation::SetKeyPermissions).await?;
    let permissions = request.json::<SetPermissionsRequest>().await?.parse()?;
    let hash = request.key_hash_in_path();
    ok(&request
        .relay()
        .set_key_permissions(&grant, hash, permissions)
        .await?)
}

/// Revoke a key.
pub(crate) async fn revoke_key(request: ApiRequest) -> Result<Response> {
    let grant = request.team_grant(Operation::RevokeKey).await?;
    request
        .relay()
        .revoke_key(&grant, request.key_hash_in_path())
        .await?;
    no_content()
}

/// Read the audit log.
pub(crate) async fn list_audit(request: ApiRequest) -> Result<Response> {
    let grant = request.team_grant(Operation::ReadAudit).await?;
    let query = request.query();
    let page = query.page()?;
    let result = query.text("result")?;
    if result.is_some_and(|result| result != DENIED) {
        let next_after_id = page.after.unwrap_or_default();
        return ok(&AuditPage {
            entries: Vec::new(),
            next_after_id,
            has_more: false,
        });
    }
    ok(&request.relay().list_audit(&grant, page).await?)
}
