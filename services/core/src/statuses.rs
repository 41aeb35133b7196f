//! Shared status and its history.

use crate::{Caller, ChannelGrant, Error, Operation, Relay, Result, TeamGrant};
use handoff_protocol::{
    ErrorCode, StatusKey, TeamId,
    pages::PageRequest,
    statuses::{NewStatus, Status, StatusChangePage},
};
use handoff_store::lane::{DeleteStatus, SetStatus, SetStatusOutcome};
use std::sync::Arc;

/// Entries that are read at once: with the longest values, two megabytes.
const LIST_PAGE: usize = 64;

/// Status entries in order. There is no limit to how many a channel holds, so they are read page
/// by page (guarantee G7).
pub struct StatusList {
    relay: Arc<Relay>,
    team: TeamId,
    channels: Option<Vec<String>>,
    key: Option<String>,
    last: Option<(String, String)>,
    has_more: bool,
}

impl StatusList {
    fn new(
        relay: &Arc<Relay>,
        caller: &Caller,
        channels: Option<Vec<String>>,
        key: Option<String>,
    ) -> Self {
        let (relay, team) = (relay.clone(), caller.team());
        Self {
            relay,
            team,
            channels,
            key,
            last: None,
            has_more: true,
        }
    }

    /// Whether the end was not reached yet.
    pub fn has_more(&self) -> bool {
        self.has_more
    }

    /// The next entries.
    pub async fn next_page(&mut self) -> Result<Vec<Status>> {
        let channels: Option<Vec<&str>> = self
            .channels
            .as_ref()
            .map(|names| names.iter().map(String::as_str).collect());
        let last = self
            .last
            .as_ref()
            .map(|(channel, key)| (channel.as_str(), key.as_str()));
        let key = self.key.as_deref();
        let store = &self.relay.store;
        let page = store
            .list_statuses(self.team, channels.as_deref(), key, last, LIST_PAGE)
            .await?;
        self.has_more = page.len() == LIST_PAGE;
        if let Some(entry) = page.last() {
            self.last = Some((entry.channel.to_string(), entry.key.to_string()));
        }
        Ok(page)
    }
}

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
    pub fn list_statuses(
        self: &Arc<Self>,
        grant: &ChannelGrant,
        key: Option<String>,
    ) -> Result<StatusList> {
        let (caller, channel) = grant.for_operation(Operation::ListStatuses)?;
        Ok(StatusList::new(
            self,
            caller,
            Some(vec![channel.to_string()]),
            key,
        ))
    }

    /// The entries of every channel that the caller may read, by channel, then key.
    pub fn list_all_statuses(
        self: &Arc<Self>,
        grant: &TeamGrant,
        channel: Option<String>,
        key: Option<String>,
    ) -> Result<StatusList> {
        let caller = grant.caller_for(Operation::ListAllStatuses)?;
        let channels = match channel {
            Some(channel) if caller.permissions().level(&channel).is_none() => Some(Vec::new()),
            Some(channel) => Some(vec![channel]),
            None => caller
                .readable()
                .map(|names| names.into_iter().map(String::from).collect()),
        };
        Ok(StatusList::new(self, caller, channels, key))
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
