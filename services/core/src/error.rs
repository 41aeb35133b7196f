//! Why the relay refuses, in its own terms; doors translate it into theirs.

use handoff_protocol::{ErrorCode, Invalid};
use handoff_store as store;
use std::time::Duration;

/// A refusal: nothing was changed, unless the code says that this is unknown.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The reason.
    pub code: ErrorCode,
    /// A sentence that says what to do.
    pub message: String,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// What lies behind it, for the log only.
    #[source]
    pub source: Option<store::Error>,
}

/// The result of an operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A refusal with this code and sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after: None,
            source: None,
        }
    }

    /// The same, to be tried again after a while.
    pub fn retry_after(self, wait: Duration) -> Self {
        Self {
            retry_after: Some(wait),
            ..self
        }
    }

    pub(crate) fn channel_not_found(channel: &handoff_protocol::ChannelName) -> Self {
        Self::new(
            ErrorCode::ChannelNotFound,
            format!("There is no channel \"{channel}\""),
        )
    }

    pub(crate) fn channel_limit(limit: u32) -> Self {
        let message =
            format!("The team has {limit} channels, which is its limit: delete one first");
        Self::new(ErrorCode::ChannelLimitReached, message)
    }
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::new(invalid.code, invalid.message)
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        let again = Some(Duration::from_secs(1));
        let (code, message, retry_after) = match &error {
            store::Error::Unavailable { .. } => (
                ErrorCode::Unavailable,
                "The database is not available right now. A write may or may not have happened: \
                 retry it with the same Idempotency-Key",
                again,
            ),
            store::Error::Overloaded => (
                ErrorCode::Overloaded,
                "Too many writes are waiting; nothing was done, try again shortly",
                again,
            ),
            store::Error::Rejected(_) => (
                ErrorCode::InvalidContent,
                "The database can't keep this value",
                None,
            ),
            store::Error::SchemaTooOld { .. } | store::Error::Internal(_) => (
                ErrorCode::Internal,
                "Something went wrong on our side",
                None,
            ),
        };
        Self {
            code,
            message: message.into(),
            retry_after,
            source: Some(error),
        }
    }
}
