//! Callers and grants: proof that a key is good, and that it may do what it is about to do.
//!
//! Only [`Relay`] makes them, so an operation that asks for a grant can't be reached without the
//! check.

use crate::{Error, Operation, Relay, Result, Scope, key_cache::CachedKey};
use handoff_protocol::{
    ChannelName, ErrorCode, Level, Name, Permissions, TeamId, keys::DeniedAction, permissions,
};
use handoff_store::lane::Denial;
use std::sync::Arc;

/// A key that is good.
#[derive(Clone)]
pub struct Caller {
    pub(crate) key: Arc<CachedKey>,
}

impl Caller {
    /// The key's team.
    pub fn team(&self) -> TeamId {
        self.key.row.team.id
    }

    /// Whom the key speaks for.
    pub fn sender(&self) -> &Name {
        &self.key.row.sender
    }

    /// What the key may do.
    pub fn permissions(&self) -> &Permissions {
        &self.key.row.permissions
    }

    /// The channels that the key may read; none: all of the team's.
    pub(crate) fn readable(&self) -> Option<Vec<&str>> {
        let permissions = self.permissions();
        match permissions.level_on_team() {
            Some(_) => None,
            None => Some(permissions.named_channels().collect()),
        }
    }
}

/// The caller may do this on its team, or what every key may do.
pub struct TeamGrant {
    pub(crate) caller: Caller,
    operation: Operation,
}

/// The caller may do this in this channel.
pub struct ChannelGrant {
    pub(crate) caller: Caller,
    pub(crate) channel: ChannelName,
    operation: Operation,
}

/// The caller may follow these channels.
pub struct StreamGrant {
    pub(crate) caller: Caller,
    pub(crate) channels: Vec<ChannelName>,
}

impl TeamGrant {
    /// The caller, where the grant is for this operation: a door that mixes two up gets nothing.
    pub(crate) fn caller_for(&self, operation: Operation) -> Result<&Caller> {
        same(self.operation, operation).map(|()| &self.caller)
    }
}

impl ChannelGrant {
    pub(crate) fn for_operation(&self, operation: Operation) -> Result<(&Caller, &ChannelName)> {
        same(self.operation, operation).map(|()| (&self.caller, &self.channel))
    }

    /// The same right to follow one channel, as a stream of several.
    pub fn into_stream(self) -> Result<StreamGrant> {
        same(self.operation, Operation::StreamChannel)?;
        Ok(StreamGrant {
            caller: self.caller,
            channels: vec![self.channel],
        })
    }
}

fn same(granted: Operation, used: Operation) -> Result<()> {
    if granted == used {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::Internal,
        "A grant was used for another operation",
    ))
}

impl Relay {
    /// Lets the caller do something that concerns its team.
    ///
    /// # Errors
    /// `FORBIDDEN`, once the denial stands in the audit log.
    pub async fn grant_on_team(
        &self,
        caller: Caller,
        operation: Operation,
        action: impl FnOnce() -> String,
    ) -> Result<TeamGrant> {
        let allowed = match operation.scope() {
            Scope::Own => true,
            Scope::Team(needed) => caller.permissions().level_on_team() >= Some(needed),
            Scope::Channel(_) | Scope::Channels(_) => false,
        };
        if !allowed {
            let denied = DeniedAction {
                action: action(),
                channel: None,
            };
            return Err(self.deny(&caller, Level::Admin, denied).await);
        }
        Ok(TeamGrant { caller, operation })
    }

    /// Lets the caller do something in a channel, whether or not the channel exists.
    ///
    /// # Errors
    /// `FORBIDDEN`, once the denial stands in the audit log.
    pub async fn grant_on_channel(
        &self,
        caller: Caller,
        operation: Operation,
        channel: ChannelName,
        action: impl FnOnce() -> String,
    ) -> Result<ChannelGrant> {
        let Scope::Channel(needed) = operation.scope() else {
            return Err(Error::new(
                ErrorCode::Internal,
                "This operation concerns no channel",
            ));
        };
        if caller.permissions().level(channel.as_str()) < Some(needed) {
            let denied = DeniedAction {
                action: action(),
                channel: Some(channel),
            };
            return Err(self.deny(&caller, needed, denied).await);
        }
        Ok(ChannelGrant {
            caller,
            channel,
            operation,
        })
    }

    /// Lets the caller follow several channels: all of them, or none.
    ///
    /// # Errors
    /// `FORBIDDEN`, once the denial of the first channel that the key may not read stands in the
    /// audit log.
    pub async fn grant_on_channels(
        &self,
        caller: Caller,
        operation: Operation,
        channels: Vec<ChannelName>,
        action: impl FnOnce() -> String,
    ) -> Result<StreamGrant> {
        let Scope::Channels(needed) = operation.scope() else {
            return Err(Error::new(
                ErrorCode::Internal,
                "This operation concerns no channels",
            ));
        };
        let forbidden = channels
            .iter()
            .find(|channel| caller.permissions().level(channel.as_str()) < Some(needed));
        if let Some(channel) = forbidden {
            let denied = DeniedAction {
                action: action(),
                channel: Some(channel.clone()),
            };
            return Err(self.deny(&caller, needed, denied).await);
        }
        Ok(StreamGrant { caller, channels })
    }

    /// The refusal, once it is on record.
    async fn deny(&self, caller: &Caller, needed: Level, denied: DeniedAction) -> Error {
        let on = match &denied.channel {
            Some(channel) => format!("on channel \"{channel}\""),
            None => "on \"*\" (the whole team)".to_owned(),
        };
        let message = format!("This needs the permission \"{}\" {on}", needed.as_str());
        let recorded = self
            .store
            .record_denial(Denial {
                team: caller.team(),
                key_hash: caller.key.row.hash,
                sender: caller.sender().clone(),
                action: denied.action,
                channel: match denied.channel {
                    Some(channel) => channel.to_string(),
                    None => permissions::ANY_CHANNEL.to_owned(),
                },
            })
            .await;
        match recorded {
            Ok(()) => Error::new(ErrorCode::Forbidden, message),
            Err(error) => error.into(),
        }
    }
}
