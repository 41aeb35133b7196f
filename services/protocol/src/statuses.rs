//! Shared status: entries by key in a channel, and the history of their changes.

use crate::{ChannelName, Cursor, Id, Invalid, Name, StatusKey, StatusValue, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A status entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The channel it stands in.
    pub channel: ChannelName,
    /// Its name there.
    pub key: StatusKey,
    /// What it says.
    pub value: StatusValue,
    /// Who wrote it last.
    pub updated_by: Name,
    /// When.
    pub updated_at: Timestamp,
}

/// The body of `PUT /api/channels/{channel}/status`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct SetStatusRequest {
    /// Required, 1 to 256 characters.
    #[schema(value_type = StatusKey, required = true)]
    pub key: Option<String>,
    /// Required, may be empty, up to 32,768 bytes.
    #[schema(value_type = StatusValue, required = true)]
    pub value: Option<String>,
}

/// A status entry to be written, every part legal.
#[derive(Clone, Debug)]
pub struct NewStatus {
    /// Its name.
    pub key: StatusKey,
    /// What it says.
    pub value: StatusValue,
}

impl TryFrom<SetStatusRequest> for NewStatus {
    type Error = Invalid;

    fn try_from(request: SetStatusRequest) -> Result<Self, Invalid> {
        let key = request.key.filter(|key| !key.is_empty());
        let (Some(key), Some(value)) = (key, request.value) else {
            return Err(Invalid::missing("key and value"));
        };
        Ok(Self {
            key: StatusKey::parse(&key)?,
            value: StatusValue::parse(value)?,
        })
    }
}

/// One change in a channel's status history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StatusChange {
    /// Its place in the team's order.
    pub id: Id,
    /// The channel.
    pub channel: ChannelName,
    /// The entry.
    pub key: StatusKey,
    /// The new value; `""` where the entry was deleted.
    pub value: StatusValue,
    /// Who changed it.
    pub changed_by: Name,
    /// When.
    pub changed_at: Timestamp,
    /// The entry was deleted; left out otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

/// A page of changes.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StatusChangePage {
    /// Oldest first.
    pub changes: Vec<StatusChange>,
    /// Where the next page starts.
    pub next_after_id: Cursor,
    /// Whether more follows after this page.
    pub has_more: bool,
}
