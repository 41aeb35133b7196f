//! API keys, and the audit log of what keys were refused.

use crate::{ChannelName, Cursor, ErrorCode, Id, Invalid, Name, Permissions, TeamId, Timestamp};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};
use utoipa::ToSchema;

/// What every API key starts with; 48 hex characters follow.
pub const API_KEY_PREFIX: &str = "relay_";

/// The SHA-256 of an API key: the only form in which the relay keeps it, and its name in lists
/// and paths (64 lower-case hex characters).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(
    value_type = String,
    pattern = "^[0-9a-f]{64}$",
    example = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
)]
pub struct KeyHash(pub [u8; 32]);

impl KeyHash {
    /// Reads a hash from a path; none if it is malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(Self(bytes))
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({self})")
    }
}

impl Serialize for KeyHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The body of `POST /api/keys`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct CreateKeyRequest {
    /// Required: whom the key speaks for.
    #[schema(value_type = Name, required = true)]
    pub sender_name: Option<String>,
    /// None: `{"*": "admin"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Permissions>)]
    pub permissions: Option<BTreeMap<String, String>>,
    /// From when on the key is refused, RFC 3339; none: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, example = "2099-12-31T12:00:00Z")]
    pub expires_at: Option<String>,
}

/// A key to be made, every part legal.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Whom it speaks for.
    pub sender: Name,
    /// What it may do.
    pub permissions: Permissions,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
}

impl TryFrom<CreateKeyRequest> for NewKey {
    type Error = Invalid;

    fn try_from(request: CreateKeyRequest) -> Result<Self, Invalid> {
        let sender = request.sender_name.filter(|name| !name.is_empty());
        let sender = sender.ok_or_else(|| Invalid::missing("sender_name"))?;
        let expires_at =
            request.expires_at.map(|text| {
                Timestamp::parse(&text).filter(|time| *time > Timestamp::now()).ok_or_else(|| {
                Invalid::new(
                    ErrorCode::InvalidExpiry,
                    "expires_at is an RFC 3339 time in the future, like 2027-01-31T12:00:00Z",
                )
            })
            });
        Ok(Self {
            sender: Name::parse("sender_name", &sender)?,
            permissions: match request.permissions {
                Some(map) => Permissions::parse(map)?,
                None => Permissions::full(),
            },
            expires_at: expires_at.transpose()?,
        })
    }
}

/// The answer to `POST /api/keys`: the only place where the raw key is ever shown.
#[derive(Clone, Serialize, ToSchema)]
pub struct CreatedKey {
    /// The raw key.
    #[schema(
        pattern = "^relay_[0-9a-f]{48}$",
        example = "relay_0123456789abcdef0123456789abcdef0123456789abcdef"
    )]
    pub api_key: String,
    /// The hash that names it.
    pub key: KeyHash,
    /// Whom it speaks for.
    pub sender: Name,
    /// What it may do.
    pub permissions: Permissions,
    /// From when on it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Timestamp, required = false)]
    pub expires_at: Option<Timestamp>,
}

/// A key in the list.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Key {
    /// The hash that names it.
    pub key: KeyHash,
    /// Its team.
    pub team_id: TeamId,
    /// Whom it speaks for.
    pub sender: Name,
    /// When it was made.
    pub created_at: Timestamp,
    /// What it may do.
    pub permissions: Permissions,
    /// From when on it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Timestamp, required = false)]
    pub expires_at: Option<Timestamp>,
}

/// The body of `PUT /api/keys/{hash}/permissions`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct SetPermissionsRequest {
    /// Required; replaces the whole map.
    #[schema(value_type = Permissions, required = true)]
    pub permissions: Option<BTreeMap<String, String>>,
}

impl SetPermissionsRequest {
    /// The new map.
    pub fn parse(self) -> Result<Permissions, Invalid> {
        Permissions::parse(
            self.permissions
                .ok_or_else(|| Invalid::missing("permissions"))?,
        )
    }
}

/// The answer to `PUT /api/keys/{hash}/permissions`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct KeyPermissions {
    /// The hash that names the key.
    pub key: KeyHash,
    /// What it may do from now on.
    pub permissions: Permissions,
}

/// Something that a key was refused.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AuditEntry {
    /// Its place in the team's order.
    pub id: Id,
    /// The key.
    pub key_hash: KeyHash,
    /// Whom it speaks for.
    pub sender_name: Name,
    /// `METHOD /path` as it was sent, without the query.
    #[schema(example = "POST /api/channels/ops/messages")]
    pub action: String,
    /// The channel in the path, `*` for team matters.
    #[schema(example = "ops")]
    pub channel: String,
    /// `denied`.
    #[schema(value_type = String, example = "denied")]
    pub result: &'static str,
    /// When.
    pub timestamp: Timestamp,
}

/// The one result that the audit log records.
pub const DENIED: &str = "denied";

/// A page of the audit log.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AuditPage {
    /// Oldest first.
    pub entries: Vec<AuditEntry>,
    /// Where the next page starts.
    pub next_after_id: Cursor,
    /// Whether more follows after this page.
    pub has_more: bool,
}

/// What a denied request wanted, for the audit log.
#[derive(Clone, Debug)]
pub struct DeniedAction {
    /// `METHOD /path`.
    pub action: String,
    /// The channel in the path; none for team matters.
    pub channel: Option<ChannelName>,
}
