//! Shared status and its history.

use crate::{Caller, ChannelGrant, Error, Operation, Relay, Result, TeamGrant};
use handoff_protocol::{
    ErrorCode, StatusKey,
    pages::PageRequest,
    statuses::{NewStatus, Status, StatusChangePage},
};
use handoff_store::lane::{DeleteStatus, SetStatus, SetStatusOutcome};

impl Relay {
    /// Sets a status entry; opens the channel if it doesn't exist.
    ///
    /// # Errors
    /// `CHANNEL_LIMIT_REACHED`, `OVERLOADED`
    pub async fn set_status(&self, grant: &ChannelGrant, status: NewStatus) -> Result<Status> {
        let (caller, channel) = grant.for_operation(Operation::SetStatus)?;
        let NewStatus { key, value } = status;
        let write = SetStatus {
            team: caller.team(),
            channel: channel.clone(),
            sender: caller.sender().clone(),
            key: key.clone(),
            value: value.clone(),
        };
        match self.store.set_status(write).await? {
            SetStatusOutcome::Set(updated_at) => Ok(Status {
                channel: channel.clone(),
                key,
                value,
                updated_by: caller.sender().clone(),
                updated_at,
            }),
            SetStatusOutcome::ChannelLimitReached => {
                Err(Error::channel_limit(self.config.store.channels_per_team))
            }
        }
    }

    /// The entries of a channel, by key; of one key if it is given.
    pub async fn list_statuses(
        &self,
        grant: &ChannelGrant,
        key: Option<&str>,
    ) -> Result<Vec<Status>> {
        let (caller, channel) = grant.for_operation(Operation::ListStatuses)?;
        self.entries(caller, Some(&[channel.as_str()]), key).await
    }

    /// The entries of every channel that the caller may read, by channel, then key.
    pub async fn list_all_statuses(
        &self,
        grant: &TeamGrant,
        channel: Option<&str>,
        key: Option<&str>,
    ) -> Result<Vec<Status>> {
        let caller = grant.caller_for(Operation::ListAllStatuses)?;
        match channel {
            Some(channel) if caller.permissions().level(channel).is_none() => Ok(Vec::new()),
            Some(channel) => self.entries(caller, Some(&[channel]), key).await,
            None => {
                self.entries(caller, caller.readable().as_deref(), key)
                    .await
            }
        }
    }

    async fn entries(
        &self,
        caller: &Caller,
        channels: Option<&[&str]>,
        key: Option<&str>,
    ) -> Result<Vec<Status>> {
        Ok(self
            .store
            .list_statuses(caller.team(), channels, key)
            .await?)
    }

    /// Deletes a status entry; the history keeps what it said.
    ///
    /// # Errors
    /// `STATUS_NOT_FOUND`
    pub async fn delete_status(&self, grant: &ChannelGrant, key: StatusKey) -> Result<()> {
        let (caller, channel) = grant.for_operation(Operation::DeleteStatus)?;
        let deletion = DeleteStatus {
            team: caller.team(),
            channel: channel.clone(),
            sender: caller.sender().clone(),
            key,
        };
        if self.store.delete_status(deletion).await? {
            return Ok(());
        }
        let message = format!("Channel \"{channel}\" has no status entry with this key");
        Err(Error::new(ErrorCode::StatusNotFound, message))
    }

    /// A page of a channel's status history.
    pub async fn list_status_changes(
        &self,
        grant: &ChannelGrant,
        page: PageRequest,
    ) -> Result<StatusChangePage> {
        let (caller, channel) = grant.for_operation(Operation::ListStatusChanges)?;
        let found = self
            .store
            .list_status_changes(caller.team(), channel, page)
            .await?;
        let last = found.items.last().map(|change| change.id).or(page.after);
        Ok(StatusChangePage {
            next_after_id: last.unwrap_or_default(),
            has_more: found.has_more,
            changes: found.items,
        })
    }
}
