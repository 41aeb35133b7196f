//! Channels.

use crate::{ChannelGrant, Error, Operation, Relay, Result, TeamGrant};
use handoff_protocol::channels::{Channel, NewChannel};
use handoff_store::lane::{CreateChannel, CreateChannelOutcome, DeleteChannel};

impl Relay {
    /// Opens a channel; answers whether it is new. One that stands stays as it is.
    ///
    /// # Errors
    /// `CHANNEL_LIMIT_REACHED`
    pub async fn create_channel(
        &self,
        grant: &TeamGrant,
        channel: NewChannel,
    ) -> Result<(Channel, bool)> {
        let team = grant.caller_for(Operation::CreateChannel)?.team();
        let NewChannel { name, description } = channel;
        // Again only where the one that stood was deleted before it was read.
        for _ in 0..3 {
            let wanted = CreateChannel {
                team,
                name: name.clone(),
                description: description.clone(),
            };
            match self.store.create_channel(wanted).await? {
                CreateChannelOutcome::Created(created_at) => {
                    return Ok((
                        Channel {
                            name,
                            description,
                            created_at,
                        },
                        true,
                    ));
                }
                CreateChannelOutcome::ChannelLimitReached => {
                    return Err(Error::channel_limit(self.config.store.channels_per_team));
                }
                CreateChannelOutcome::Exists => {
                    if let Some((_, channel)) = self.store.find_channel(team, &name).await? {
                        return Ok((channel, false));
                    }
                }
            }
        }
        Err(Error::channel_not_found(&name))
    }

    /// The channels that the caller may read, by name.
    pub async fn list_channels(&self, grant: &TeamGrant) -> Result<Vec<Channel>> {
        let caller = grant.caller_for(Operation::ListChannels)?;
        Ok(self
            .store
            .list_channels(caller.team(), caller.readable().as_deref())
            .await?)
    }

    /// Deletes a channel with everything in it.
    ///
    /// # Errors
    /// `CHANNEL_NOT_FOUND`
    pub async fn delete_channel(&self, grant: &ChannelGrant) -> Result<()> {
        let (caller, name) = grant.for_operation(Operation::DeleteChannel)?;
        let deletion = DeleteChannel {
            team: caller.team(),
            name: name.clone(),
        };
        if self.store.delete_channel(deletion).await? {
            Ok(())
        } else {
            Err(Error::channel_not_found(name))
        }
    }
}
