//! Delegated tokens: what an API key may do, or less, for a short time.

use crate::{ErrorCode, Invalid, Permissions, Timestamp};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};
use utoipa::ToSchema;

/// Longest suffix of a sender's name, in characters.
pub const SENDER_SUFFIX_MAX_CHARS: usize = 64;
/// Longest that a token is good.
pub const TOKEN_TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a token is good where nothing else is asked for.
pub const TOKEN_TTL_DEFAULT: Duration = Duration::from_secs(60 * 60);
/// Longest map of permissions in a token, in bytes of JSON: a token travels in a header, of which
/// proxies commonly take 8 KiB.
pub const TOKEN_PERMISSIONS_MAX_BYTES: usize = 4_096;

/// The body of `POST /api/tokens`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct CreateTokenRequest {
    /// No more than the key may do. None: all that the key may do, at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Permissions>)]
    pub permissions: Option<BTreeMap<String, String>>,
    /// The token speaks for `name/suffix`. None: for the key's own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64, example = "tests")]
    pub sender_suffix: Option<String>,
    /// How long it is good, 1 to 86,400. None: 3,600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 86_400, default = 3_600)]
    pub ttl_seconds: Option<i64>,
}

/// A token to be made, every part legal.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// What it may do; none: all that the key may do, at any time.
    pub permissions: Option<Permissions>,
    /// What is appended to the key's name.
    pub sender_suffix: Option<String>,
    /// How long it is good.
    pub ttl: Duration,
}

impl TryFrom<CreateTokenRequest> for NewToken {
    type Error = Invalid;

    fn try_from(request: CreateTokenRequest) -> Result<Self, Invalid> {
        let permissions = request.permissions.map(Permissions::parse).transpose()?;
        if let Some(permissions) = &permissions {
            let bytes = serde_json::to_vec(permissions).map_or(usize::MAX, |json| json.len());
            if bytes > TOKEN_PERMISSIONS_MAX_BYTES {
                return Err(Invalid::new(
                    ErrorCode::FieldTooLarge,
                    format!(
                        "permissions of a token have {TOKEN_PERMISSIONS_MAX_BYTES} bytes at most"
                    ),
                ));
            }
        }
        let sender_suffix = request.sender_suffix.filter(|suffix| !suffix.is_empty());
        if let Some(suffix) = &sender_suffix {
            check_suffix(suffix)?;
        }
        let most = TOKEN_TTL_MAX.as_secs();
        let ttl = match request.ttl_seconds {
            None => TOKEN_TTL_DEFAULT,
            Some(seconds) => u64::try_from(seconds)
                .ok()
                .filter(|seconds| (1..=most).contains(seconds))
                .map(Duration::from_secs)
                .ok_or_else(|| {
                    let message = format!("ttl_seconds is a number from 1 to {most}");
                    Invalid::new(ErrorCode::InvalidExpiry, message)
                })?,
        };
        Ok(Self {
            permissions,
            sender_suffix,
            ttl,
        })
    }
}

fn check_suffix(suffix: &str) -> Result<(), Invalid> {
    if suffix.chars().count() > SENDER_SUFFIX_MAX_CHARS {
        return Err(Invalid::new(
            ErrorCode::FieldTooLarge,
            format!("sender_suffix is longer than {SENDER_SUFFIX_MAX_CHARS} characters"),
        ));
    }
    if suffix.contains('\0') {
        return Err(Invalid::new(
            ErrorCode::InvalidContent,
            "sender_suffix holds the character U+0000, which can't be stored",
        ));
    }
    Ok(())
}

/// The answer to `POST /api/tokens`: the only place where the token is ever shown.
#[derive(Clone, Serialize, ToSchema)]
pub struct CreatedToken {
    /// The token: it goes wherever a key goes.
    pub token: String,
    /// Whom it speaks for.
    pub sender: crate::Name,
    /// What it may do, as long as its key may.
    pub permissions: Permissions,
    /// From when on it is refused.
    pub expires_at: Timestamp,
}
