//! Callers and grants: proof that a key is good, and that it may do what it is about to do.
//!
//! Only [`Relay`] makes them, so an operation that asks for a grant can't be reached without the
//! check.

use crate::{Error, Operation, Relay, Result, Scope, key_cache::CachedKey, tokens::Delegation};
use handoff_protocol::{
    ChannelName, ErrorCode, Level, Name, Permissions, TeamId, Timestamp,
    keys::{DeniedAction, KeyHash},
    permissions,
};
use handoff_store::lane::Denial;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// A key that is good, or a token of it.
#[derive(Clone)]
pub struct Caller {
    /// The key; that of a token is its parent.
    pub(crate) key: Arc<CachedKey>,
    token: Option<Arc<Delegation>>,
}

impl Caller {
    pub(crate) fn new(key: Arc<CachedKey>) -> Self {
        Self { key, token: None }
    }

    pub(crate) fn delegated(parent: Arc<CachedKey>, token: Delegation) -> Self {
        Self {
            key: parent,
            token: Some(Arc::new(token)),
        }
    }

    /// The key's team.
    pub fn team(&self) -> TeamId {
        self.key.row.team.id
    }

    /// Whom the key or token speaks for.
    pub fn sender(&self) -> &Name {
        match &self.token {
            Some(token) => &token.sender,
            None => &self.key.row.sender,
        }
    }

    /// What the key or token may do.
    pub fn permissions(&self) -> &Permissions {
        match &self.token {
            Some(token) => &token.permissions,
            None => &self.key.row.permissions,
        }
    }

    /// From when on the key or token is refused.
    pub(crate) fn expires_at(&self) -> Option<Timestamp> {
        match &self.token {
            Some(token) => Some(token.expires_at),
            None => self.key.row.expires_at,
        }
    }

    /// From when on the token is refused; none for a key.
    pub(crate) fn token_expires_at(&self) -> Option<Timestamp> {
        self.token.as_ref().map(|token| token.expires_at)
    }

    /// Whose idempotency keys are one's own: those of a key, and apart from them those of each
    /// name that its tokens speak for. Else one of several sub-agents would be answered with what
    /// another one has posted.
    pub(crate) fn idempotency_scope(&self) -> KeyHash {
        let hash = self.key.row.hash;
        match &self.token {
            Some(token) if token.sender != self.key.row.sender => {
                let own = Sha256::new().chain_update(hash.0);
                KeyHash(own.chain_update(token.sender.as_str()).finalize().into())
            }
            _ => hash,
        }
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

/// The caller may do this in these channels.
pub struct ChannelsGrant {
    caller: Caller,
    channels: Vec<ChannelName>,
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

impl ChannelsGrant {
    pub(crate) fn for_operation(&self, operation: Operation) -> Result<(&Caller, &[ChannelName])> {
        same(self.operation, operation).map(|()| (&self.caller, &*self.channels))
    }

    /// The same right to follow the channels, as a stream.
    pub fn into_stream(self) -> Result<StreamGrant> {
        same(self.operation, Operation::StreamChannels)?;
        Ok(StreamGrant {
            caller: self.caller,
            channels: self.channels,
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
        if operation.scope() == Scope::Key && caller.token.is_some() {
            let denied = DeniedAction {
                action: action(),
                channel: None,
            };
            let message = "This needs an API key: a token can't do it";
            return Err(self
                .record_denial(&caller, denied, message.to_owned())
                .await);
        }
        let allowed = match operation.scope() {
            Scope::Own | Scope::Key => true,
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
            return Err(Box::pin(self.deny(&caller, needed, denied)).await);
        }
        Ok(ChannelGrant {
            caller,
            channel,
            operation,
        })
    }

    /// Lets the caller do something in several channels: in all of them, or in none.
    ///
    /// # Errors
    /// `FORBIDDEN`, once the denial of the first channel where the key may not do it stands in the
    /// audit log.
    pub async fn grant_on_channels(
        &self,
        caller: Caller,
        operation: Operation,
        channels: Vec<ChannelName>,
        action: impl FnOnce() -> String,
    ) -> Result<ChannelsGrant> {
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
        Ok(ChannelsGrant {
            caller,
            channels,
            operation,
        })
    }

    /// The refusal for want of a permission, once it is on record.
    pub(crate) async fn deny(&self, caller: &Caller, needed: Level, denied: DeniedAction) -> Error {
        let on = match &denied.channel {
            Some(channel) => format!("on channel \"{channel}\""),
            None => "on \"*\" (the whole team)".to_owned(),
        };
        let message = format!("This needs the permission \"{}\" {on}", needed.as_str());
        self.record_denial(caller, denied, message).await
    }

    /// The refusal, once it is on record.
    async fn record_denial(&self, caller: &Caller, denied: DeniedAction, message: String) -> Error {
        let denial = Denial {
            team: caller.team(),
            key_hash: caller.key.row.hash,
            sender: caller.sender().clone(),
            action: denied.action,
            channel: match denied.channel {
                Some(channel) => channel.to_string(),
                None => permissions::ANY_CHANNEL.to_owned(),
            },
        };
        // Boxed, since every request would have room for it.
        match Box::pin(self.store.record_denial(denial)).await {
            Ok(()) => Error::new(ErrorCode::Forbidden, message),
            Err(error) => error.into(),
        }
    }
}
