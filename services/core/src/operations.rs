//! The one table of what each operation needs.

use handoff_protocol::Level;

/// Something that a key may or may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// See what the key itself is.
    ReadMe,
    /// List the channels that the key may read.
    ListChannels,
    /// Read what one hasn't read, over the channels that the key may read.
    ReadInbox,
    /// List status entries over the channels that the key may read.
    ListAllStatuses,
    /// Make a token of the key.
    CreateToken,
    /// Make a key.
    CreateKey,
    /// List the team's keys.
    ListKeys,
    /// Replace a key's permissions.
    SetKeyPermissions,
    /// Revoke a key.
    RevokeKey,
    /// Read the audit log.
    ReadAudit,
    /// Open a channel explicitly.
    CreateChannel,
    /// Delete a channel with everything in it.
    DeleteChannel,
    /// Post a message.
    PostMessage,
    /// Read messages.
    ListMessages,
    /// Delete a message.
    DeleteMessage,
    /// Read a thread.
    ReadThread,
    /// Follow a channel.
    StreamChannel,
    /// Follow several channels.
    StreamChannels,
    /// Move one's own ack.
    MoveAck,
    /// Move one's own acks in several channels.
    MoveAcks,
    /// Wait for what others do in several channels.
    Wait,
    /// See who has read how far.
    ListAcks,
    /// Read what one hasn't acknowledged.
    ListUnread,
    /// Set a status entry.
    SetStatus,
    /// Read status entries.
    ListStatuses,
    /// Delete a status entry.
    DeleteStatus,
    /// Read the history of status entries.
    ListStatusChanges,
}

/// What a permission is asked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Any key may; what it sees depends on its permissions.
    Own,
    /// Any key may, but no token.
    Key,
    /// A level on `"*"`.
    Team(Level),
    /// A level on the channel in the path.
    Channel(Level),
    /// A level on each of the channels asked for.
    Channels(Level),
}

impl Operation {
    /// What this operation needs.
    pub const fn scope(self) -> Scope {
        use Level::{Admin, Read, Write};
        match self {
            Operation::ReadMe
            | Operation::ListChannels
            | Operation::ReadInbox
            | Operation::ListAllStatuses => Scope::Own,
            Operation::CreateToken => Scope::Key,
            Operation::CreateKey
            | Operation::ListKeys
            | Operation::SetKeyPermissions
            | Operation::RevokeKey
            | Operation::ReadAudit
            | Operation::CreateChannel => Scope::Team(Admin),
            Operation::DeleteChannel | Operation::DeleteMessage | Operation::DeleteStatus => {
                Scope::Channel(Admin)
            }
            Operation::PostMessage | Operation::MoveAck | Operation::SetStatus => {
                Scope::Channel(Write)
            }
            Operation::ListMessages
            | Operation::ReadThread
            | Operation::StreamChannel
            | Operation::ListAcks
            | Operation::ListUnread
            | Operation::ListStatuses
            | Operation::ListStatusChanges => Scope::Channel(Read),
            Operation::StreamChannels | Operation::Wait => Scope::Channels(Read),
            Operation::MoveAcks => Scope::Channels(Write),
        }
    }
}
