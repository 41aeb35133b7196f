//! Teams, signup, and what a caller learns of itself.

use crate::{Invalid, Name, Permissions, TeamId, Timestamp, keys::KeyHash};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A team.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Team {
    /// Names it.
    pub id: TeamId,
    /// What people call it; not unique.
    pub name: Name,
    /// When it signed up.
    pub created_at: Timestamp,
}

/// The body of `POST /api/signup`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct SignupRequest {
    /// Required.
    #[schema(value_type = Name, required = true)]
    pub team_name: Option<String>,
    /// Required: whom the first key speaks for.
    #[schema(value_type = Name, required = true)]
    pub sender_name: Option<String>,
}

/// A team to be made, every part legal.
#[derive(Clone, Debug)]
pub struct NewTeam {
    /// What people call it.
    pub name: Name,
    /// Whom its first key speaks for.
    pub sender: Name,
}

impl TryFrom<SignupRequest> for NewTeam {
    type Error = Invalid;

    fn try_from(request: SignupRequest) -> Result<Self, Invalid> {
        let team = request.team_name.filter(|name| !name.is_empty());
        let sender = request.sender_name.filter(|name| !name.is_empty());
        let (Some(team), Some(sender)) = (team, sender) else {
            return Err(Invalid::missing("team_name and sender_name"));
        };
        Ok(Self {
            name: Name::parse("team_name", &team)?,
            sender: Name::parse("sender_name", &sender)?,
        })
    }
}

/// The answer to a signup.
#[derive(Clone, Serialize, ToSchema)]
pub struct SignedUp {
    /// The new team.
    pub team: Team,
    /// Its first key, `{"*": "admin"}`; shown only here.
    #[schema(
        pattern = "^relay_[0-9a-f]{48}$",
        example = "relay_0123456789abcdef0123456789abcdef0123456789abcdef"
    )]
    pub api_key: String,
}

/// What `GET /api/me` answers.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Me {
    /// The caller's team.
    pub team: Team,
    /// Whom the caller's key or token speaks for.
    pub sender: Name,
    /// The hash that names the key; of a token, the key that it was made with.
    pub key: KeyHash,
    /// What it may do.
    pub permissions: Permissions,
    /// From when on it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Timestamp, required = false)]
    pub expires_at: Option<Timestamp>,
    /// What holds it back.
    pub limits: Limits,
}

/// The limits and quotas of a key and its team.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Limits {
    /// Requests of this key in a window.
    pub rate_limit_max: u32,
    /// The window, in milliseconds.
    pub rate_limit_window_ms: u64,
    /// Streams that this key may have open.
    pub streams_per_key: u32,
    /// Keys of the team.
    pub keys_per_team: u32,
    /// Channels of the team.
    pub channels_per_team: u32,
}
