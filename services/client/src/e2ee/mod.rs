//! End-to-end encryption: texts become envelopes that only who has the team's secret can read. The
//! relay never has it. Nothing here does I/O or reads the environment.
//!
//! # Version 1
//!
//! ```text
//! "e2ee:" base64(salt[32] nonce[12] ciphertext tag[16])
//! key  = HKDF-SHA256(secret, salt, info = "handoff-e2ee-v1", 32 bytes)
//! AES-256-GCM without associated data
//! ```
//!
//! # Version 2
//!
//! ```text
//! "e2ee2:" key_id ":" base64(salt[32] nonce[12] ciphertext tag[16])
//! key_id = the first 8 hex digits of SHA-256("handoff-e2ee-key-id" 0x00 secret)
//! key    = HKDF-SHA256(secret, salt, info = "handoff-e2ee-v2", 32 bytes)
//! AES-256-GCM with the associated data
//!     field("handoff-e2ee-v2") field(key_id) field(team ID) field(channel)
//!     field("message")  |  field("status") field(status key)
//! field(text) = length of the text in bytes as 32 bits, big-endian, then the text as UTF-8
//! ```
//!
//! So a relay can't pass an envelope off as one of another team, channel or status entry. In both,
//! base64 is the standard alphabet with padding, and secrets go in as UTF-8.

mod envelope;
mod keyring;

pub use keyring::{Keyring, Opened, generate_key};

use handoff_protocol::names::CONTENT_MAX_BYTES;

/// Which envelope is written. All are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// What every published client reads.
    #[default]
    V1,
    /// Bound to its place, and names its key.
    V2,
}

impl std::str::FromStr for Version {
    type Err = E2eeError;

    fn from_str(text: &str) -> Result<Self, E2eeError> {
        match text.trim() {
            "1" => Ok(Self::V1),
            "2" => Ok(Self::V2),
            text => Err(E2eeError::UnknownVersion(text.into())),
        }
    }
}

impl Version {
    /// Bytes of plain text at most, so that the envelope stays within the contract's limit.
    pub const fn max_plain_bytes(self) -> usize {
        let prefix = match self {
            Self::V1 => envelope::V1_PREFIX.len(),
            Self::V2 => envelope::V2_PREFIX.len() + envelope::KEY_ID_LEN + 1,
        };
        (CONTENT_MAX_BYTES - prefix) / 4 * 3 - envelope::OVERHEAD
    }
}

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A message's content.
    Message,
    /// A status entry's value.
    Status {
        /// The entry's key.
        key: &'a str,
    },
}

/// Where a text stands: version 2 binds it to this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context<'a> {
    /// The team, by its ID. Version 1 doesn't look.
    pub team_id: &'a str,
    /// The channel.
    pub channel: &'a str,
    /// What it is.
    pub kind: Kind<'a>,
}

/// Why a text can't be encrypted or decrypted, or a key is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum E2eeError {
    /// No secret where one should be.
    #[error("HANDOFF_ENCRYPTION_KEY has an empty key in it")]
    EmptyKey,
    /// White space around a secret, which other clients would take for a part of it.
    #[error("HANDOFF_ENCRYPTION_KEY has a key that begins or ends with white space")]
    PaddedKey,
    /// No version of the envelope.
    #[error("HANDOFF_ENCRYPTION_VERSION must be 1 or 2, not \"{0}\"")]
    UnknownVersion(String),
    /// Too long once encrypted.
    #[error("too long to be encrypted: {bytes} bytes, and at most {limit} can be")]
    TooLong {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// The cipher refused, or its result is not what was expected.
    #[error("the text could not be encrypted")]
    Cipher,
    /// It begins like an envelope and is none.
    #[error("this is no whole envelope: {0}")]
    Malformed(&'static str),
    /// It was encrypted with a key that is not in the keyring.
    #[error("it was encrypted with key {wanted}, and HANDOFF_ENCRYPTION_KEY has {known}")]
    UnknownKey {
        /// The ID of the key it names.
        wanted: String,
        /// The IDs of the keys that there are.
        known: String,
    },
    /// No key fits.
    #[error("no key of HANDOFF_ENCRYPTION_KEY decrypts it: the key is another or it was altered")]
    WrongKey,
    /// The named key is there, yet it does not fit.
    #[error(
        "key {key_id} does not decrypt it: it was altered, or moved here from another team, \
         channel or status entry"
    )]
    Moved {
        /// The ID of the key it names.
        key_id: String,
    },
}
