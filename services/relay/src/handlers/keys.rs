//! `/api/keys` and `/api/audit`

use crate::{
    door::{ApiRequest, created, no_content, ok},
    openapi::PageParams,
};
use axum::response::Response;
use handoff_core::{Operation, Result};
use handoff_protocol::{
    ErrorCode,
    keys::{
        AuditPage, CreateKeyRequest, CreatedKey, DENIED, Key, KeyPermissions, SetPermissionsRequest,
    },
};

/// Make a key.
///
/// Needs admin on `*`.
#[utoipa::path(
    post,
    path = "/api/keys",
    request_body = CreateKeyRequest,
    responses((status = 201, description = "The new key; the raw key is shown only here", body = CreatedKey, links(
        ("permissions" = (operation_id = "setKeyPermissions",
            parameters(("hash" = "$response.body#/key")))),
        ("revoke" = (operation_id = "revokeKey", parameters(("hash" = "$response.body#/key")))),
    ))),
    extensions(("x-refusals" = json!([ErrorCode::Forbidden, ErrorCode::FieldTooLarge, ErrorCode::InvalidPermissions, ErrorCode::InvalidExpiry, ErrorCode::KeyLimitReached])))
)]
pub(crate) async fn create_key(mut request: ApiRequest) -> Result<Response> {
    let grant = request.team_grant(Operation::CreateKey).await?;
    let key = request.json::<CreateKeyRequest>().await?.try_into()?;
    created(&request.relay().create_key(&grant, key).await?)
}

/// List the team's keys.
///
/// Needs admin on `*`.
#[utoipa::path(
    get,
    path = "/api/keys",
    responses((status = 200, description = "The keys", body = Vec<Key>)),
    extensions(("x-refusals" = json!([ErrorCode::Forbidden])))
)]
pub(crate) async fn list_keys(request: ApiRequest) -> Result<Response> {
    let grant = request.team_grant(Operation::ListKeys).await?;
    ok(&request.relay().list_keys(&grant).await?)
}

/// Replace a key's permissions.
///
/// Replaces the whole map; holds at once. Needs admin on `*`.
#[utoipa::path(
    put,
    path = "/api/keys/{hash}/permissions",
    request_body = SetPermissionsRequest,
    responses((status = 200, description = "What the key may do now", body = KeyPermissions)),
    extensions(("x-refusals" = json!([ErrorCode::Forbidden, ErrorCode::InvalidPermissions, ErrorCode::KeyNotFound, ErrorCode::LastAdmin])))
)]
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
///
/// It is refused from now on, and its streams end. Needs admin on `*`.
#[utoipa::path(
    delete,
    path = "/api/keys/{hash}",
    responses((status = 204, description = "It is revoked")),
    extensions(("x-refusals" = json!([ErrorCode::Forbidden, ErrorCode::KeyNotFound, ErrorCode::LastAdmin])))
)]
pub(crate) async fn revoke_key(request: ApiRequest) -> Result<Response> {
    let grant = request.team_grant(Operation::RevokeKey).await?;
    request
        .relay()
        .revoke_key(&grant, request.key_hash_in_path())
        .await?;
    no_content()
}

/// Read the audit log.
///
/// What keys were refused, oldest first. Needs admin on `*`.
#[utoipa::path(
    get,
    path = "/api/audit",
    params(
        PageParams,
        ("result" = Option<String>, Query, description = "Only entries with this result; all have `denied`"),
    ),
    responses((status = 200, description = "A page", body = AuditPage)),
    extensions(("x-refusals" = json!([ErrorCode::Forbidden])))
)]
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
