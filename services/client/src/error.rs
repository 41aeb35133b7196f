//! What can go wrong.

use crate::transport::TransportError;
use http::StatusCode;
use std::time::Duration;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The relay refused it.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// No answer came, after all retries.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// An answer came that is none of a relay's.
    #[error("this is no answer of a Handoff relay: {0}")]
    BadAnswer(String),
    /// A text could not be encrypted or a key is none.
    #[error(transparent)]
    Encryption(#[from] crate::e2ee::E2eeError),
    /// An argument that no relay would take.
    #[error("{0}")]
    InvalidArgument(String),
}

/// A refusal, in the relay's words.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message} ({code})")]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// The machine-readable code, like `FORBIDDEN`; `HTTP_502` and the like where the answer was none
    /// of the relay's but of a proxy before it.
    pub code: String,
    /// The sentence for people.
    pub message: String,
    /// Names the request in the relay's log.
    pub request_id: Option<String>,
    /// When to try again, where the relay said so.
    pub retry_after: Option<Duration>,
}

/// What a request came to.
pub type Result<T, E = Error> = std::result::Result<T, E>;
