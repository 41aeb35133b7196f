//! Channels.

use crate::{ChannelName, Description, Invalid, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A channel as lists show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Channel {
    /// Unique among the team's channels.
    pub name: ChannelName,
    /// What it is for.
    #[schema(required = true)]
    pub description: Option<Description>,
    /// When it was opened.
    pub created_at: Timestamp,
}

/// The body of `POST /api/channels`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct CreateChannelRequest {
    /// Required.
    #[schema(value_type = ChannelName, required = true)]
    pub name: Option<String>,
    /// Up to 1,024 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Description>)]
    pub description: Option<String>,
}

/// A channel to be opened, every part legal.
#[derive(Clone, Debug)]
pub struct NewChannel {
    /// Its name.
    pub name: ChannelName,
    /// What it is for.
    pub description: Option<Description>,
}

impl TryFrom<CreateChannelRequest> for NewChannel {
    type Error = Invalid;

    fn try_from(request: CreateChannelRequest) -> Result<Self, Invalid> {
        let name = request.name.filter(|name| !name.is_empty());
        Ok(Self {
            name: ChannelName::parse(&name.ok_or_else(|| Invalid::missing("name"))?)?,
            description: request
                .description
                .as_deref()
                .map(Description::parse)
                .transpose()?,
        })
    }
}
