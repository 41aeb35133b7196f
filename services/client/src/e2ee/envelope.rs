//! One envelope and one key: how bytes are laid out, and the cipher over them.

use super::{Context, E2eeError, Kind, Version};
use aes_gcm::{
    Aes256Gcm, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use hkdf::Hkdf;
use secrecy::{
    ExposeSecret, SecretString,
    zeroize::{Zeroize, Zeroizing},
};
use sha2::{Digest, Sha256};

pub(super) const V1_PREFIX: &str = "e2ee:";
pub(super) const V2_PREFIX: &str = "e2ee2:";
pub(super) const KEY_ID_LEN: usize = 8;
pub(super) const SALT_LEN: usize = 32;
pub(super) const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;
/// What an envelope adds to a text, before base64.
pub(super) const OVERHEAD: usize = SALT_LEN + NONCE_LEN + TAG_LEN;
const V1_INFO: &str = "handoff-e2ee-v1";
const V2_INFO: &str = "handoff-e2ee-v2";

/// Written with padding; read with or without, as encoders differ.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A secret and the ID that follows from it.
#[derive(Clone)]
pub(super) struct SecretKey {
    secret: SecretString,
    pub(super) id: String,
}

impl SecretKey {
    pub(super) fn new(secret: SecretString) -> Self {
        let mut hash = Sha256::new();
        // The prefix keeps this hash apart from every other use of the secret.
        hash.update(b"handoff-e2ee-key-id\0");
        hash.update(secret.expose_secret());
        let mut id = hex::encode(hash.finalize());
        id.truncate(KEY_ID_LEN);
        Self { secret, id }
    }

    fn cipher(&self, salt: &[u8], info: &str) -> Result<Aes256Gcm, E2eeError> {
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(Some(salt), self.secret.expose_secret().as_bytes())
            .expand(info.as_bytes(), key.as_mut())
            .map_err(|_| E2eeError::Cipher)?;
        Aes256Gcm::new_from_slice(key.as_ref()).map_err(|_| E2eeError::Cipher)
    }

    /// Encrypts with this salt and nonce, which must never be used again.
    pub(super) fn seal(
        &self,
        version: Version,
        context: &Context<'_>,
        text: &str,
        salt: &[u8; SALT_LEN],
        nonce: &[u8; NONCE_LEN],
    ) -> Result<String, E2eeError> {
        let limit = version.max_plain_bytes();
        if text.len() > limit {
            let bytes = text.len();
            return Err(E2eeError::TooLong { bytes, limit });
        }
        let (info, associated) = self.bound_to(version, context);
        let payload = Payload {
            msg: text.as_bytes(),
            aad: &associated,
        };
        let ciphertext = self
            .cipher(salt, info)?
            .encrypt(&Nonce::from(*nonce), payload)
            .map_err(|_| E2eeError::Cipher)?;
        let mut envelope = match version {
            Version::V1 => V1_PREFIX.to_owned(),
            Version::V2 => format!("{V2_PREFIX}{}:", self.id),
        };
        let bytes = [&salt[..], &nonce[..], &ciphertext].concat();
        BASE64.encode_string(bytes, &mut envelope);
        Ok(envelope)
    }

    /// Decrypts. None: this key does not fit, or the text is not what was written.
    pub(super) fn open(&self, sealed: &Sealed, context: &Context<'_>) -> Option<String> {
        let (info, associated) = self.bound_to(sealed.version, context);
        let payload = Payload {
            msg: &sealed.bytes[SALT_LEN + NONCE_LEN..],
            aad: &associated,
        };
        let (salt, rest) = sealed.bytes.split_first_chunk::<SALT_LEN>()?;
        let (nonce, _) = rest.split_first_chunk::<NONCE_LEN>()?;
        let text = self
            .cipher(salt, info)
            .ok()?
            .decrypt(&Nonce::from(*nonce), payload)
            .ok()?;
        String::from_utf8(text)
            .map_err(|error| error.into_bytes().zeroize())
            .ok()
    }

    /// The label of the version, and its associated data.
    fn bound_to(&self, version: Version, context: &Context<'_>) -> (&'static str, Vec<u8>) {
        if version == Version::V1 {
            return (V1_INFO, Vec::new());
        }
        let mut associated = Vec::new();
        // With its length before it, no field can pass for the end of another.
        let mut field = |text: &str| {
            associated.extend_from_slice(&(text.len() as u32).to_be_bytes());
            associated.extend_from_slice(text.as_bytes());
        };
        field(V2_INFO);
        field(&self.id);
        field(context.team_id);
        field(context.channel);
        match context.kind {
            Kind::Message => field("message"),
            Kind::Status { key } => {
                field("status");
                field(key);
            }
        }
        (V2_INFO, associated)
    }
}

/// An envelope taken apart, not yet decrypted.
pub(super) struct Sealed {
    pub(super) version: Version,
    /// Version 1 names none.
    pub(super) key_id: Option<String>,
    /// Salt, nonce, ciphertext and tag: long enough for all of them.
    bytes: Vec<u8>,
}

impl Sealed {
    /// Takes an envelope apart. None: this is plain text.
    pub(super) fn parse(text: &str) -> Option<Result<Self, E2eeError>> {
        if let Some(body) = text.strip_prefix(V1_PREFIX) {
            return Some(Self::parse_body(Version::V1, None, body));
        }
        let rest = text.strip_prefix(V2_PREFIX)?;
        let Some((key_id, body)) = rest.split_once(':') else {
            return Some(Err(E2eeError::Malformed("it names no key")));
        };
        // Anything may stand there, and it is repeated in an error for people and models to read.
        let is_id = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if key_id.len() != KEY_ID_LEN || !key_id.bytes().all(is_id) {
            return Some(Err(E2eeError::Malformed("it names no key")));
        }
        Some(Self::parse_body(Version::V2, Some(key_id.into()), body))
    }

    fn parse_body(version: Version, key_id: Option<String>, body: &str) -> Result<Self, E2eeError> {
        let bytes = BASE64
            .decode(body)
            .map_err(|_| E2eeError::Malformed("it is not base64"))?;
        if bytes.len() < OVERHEAD {
            return Err(E2eeError::Malformed("it is too short"));
        }
        Ok(Self {
            version,
            key_id,
            bytes,
        })
    }
}
