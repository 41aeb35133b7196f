//! The team's secrets: all of them read, the first one writes. So a team changes its secret by
//! putting the new one first, and keeps the old one as long as there is something to read with it.

use super::{
    Context, E2eeError, Version,
    envelope::{NONCE_LEN, SALT_LEN, Sealed, SecretKey, V2_PREFIX},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{SecretString, zeroize::Zeroizing};
use std::fmt;

/// The team's secrets.
#[derive(Clone)]
pub struct Keyring {
    writing: SecretKey,
    /// The others, in the order given.
    reading: Vec<SecretKey>,
    version: Version,
}

/// What was found in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// It is no envelope: it travelled in the clear.
    Plain,
    /// The text that was encrypted.
    Text(String),
}

impl Keyring {
    /// Reads the text of `HANDOFF_ENCRYPTION_KEY`: secrets separated by commas, the first of which
    /// writes. `v2:` before the first opts into writing version 2.
    ///
    /// A secret with a comma in it can't be said this way: [`Keyring::new`] takes any.
    pub fn parse(text: &str) -> Result<Self, E2eeError> {
        let mut version = Version::V1;
        let mut keys = Vec::new();
        for (index, secret) in text.split(',').enumerate() {
            if secret != secret.trim() {
                return Err(E2eeError::PaddedKey);
            }
            // Once a newer secret is put before it, the prefix stays where it was and says nothing.
            let bare = secret.strip_prefix("v2:").unwrap_or(secret);
            if index == 0 && bare.len() != secret.len() {
                version = Version::V2;
            }
            keys.push(SecretString::from(bare));
        }
        let mut keys = keys.into_iter();
        let writing = keys.next().ok_or(E2eeError::EmptyKey)?;
        Ok(Self::new(writing, keys)?.writing_version(version))
    }

    /// A keyring that writes with one secret and reads with that and others.
    pub fn new(
        writing: SecretString,
        reading: impl IntoIterator<Item = SecretString>,
    ) -> Result<Self, E2eeError> {
        Ok(Self {
            writing: secret_key(writing)?,
            reading: reading
                .into_iter()
                .map(secret_key)
                .collect::<Result<_, _>>()?,
            version: Version::V1,
        })
    }

    /// Writes this version from now on.
    pub fn writing_version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// The version that it writes.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The ID of the key that it writes with: what version 2 names in its envelopes.
    pub fn key_id(&self) -> &str {
        &self.writing.id
    }

    /// The IDs of all keys, the writing one first.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.keys().map(|key| key.id.as_str())
    }

    /// Whether it must know the team to encrypt.
    pub fn writes_for_team(&self) -> bool {
        self.version == Version::V2
    }

    /// Whether it must know the team to decrypt this text.
    pub fn needs_team(&self, text: &str) -> bool {
        text.starts_with(V2_PREFIX)
    }

    /// Encrypts a text for its place.
    pub fn encrypt(&self, context: &Context<'_>, text: &str) -> Result<String, E2eeError> {
        // Fresh for every text: the key of each envelope is its own, and so is its nonce.
        self.encrypt_with(context, text, &rand::random(), &rand::random())
    }

    /// Encrypts with a given salt and nonce. Only for test vectors: two texts under the same ones
    /// give each other away.
    #[doc(hidden)]
    pub fn encrypt_with(
        &self,
        context: &Context<'_>,
        text: &str,
        salt: &[u8; SALT_LEN],
        nonce: &[u8; NONCE_LEN],
    ) -> Result<String, E2eeError> {
        self.writing.seal(self.version, context, text, salt, nonce)
    }

    /// Decrypts a text that was found in this place. Plain text is told apart, not refused.
    pub fn decrypt(&self, context: &Context<'_>, text: &str) -> Result<Opened, E2eeError> {
        let Some(sealed) = Sealed::parse(text) else {
            return Ok(Opened::Plain);
        };
        let sealed = sealed?;
        let Some(wanted) = &sealed.key_id else {
            return self
                .keys()
                .find_map(|key| key.open(&sealed, context))
                .map(Opened::Text)
                .ok_or(E2eeError::WrongKey);
        };
        let mut named = self.keys().filter(|key| key.id == *wanted).peekable();
        if named.peek().is_none() {
            return Err(E2eeError::UnknownKey {
                wanted: wanted.clone(),
                known: self.key_ids().collect::<Vec<_>>().join(", "),
            });
        }
        named
            .find_map(|key| key.open(&sealed, context))
            .map(Opened::Text)
            .ok_or_else(|| E2eeError::Moved {
                key_id: wanted.clone(),
            })
    }

    fn keys(&self) -> impl Iterator<Item = &SecretKey> {
        std::iter::once(&self.writing).chain(&self.reading)
    }
}

/// The secrets stay out of it.
impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("version", &self.version)
            .field("key_ids", &self.key_ids().collect::<Vec<_>>())
            .finish()
    }
}

fn secret_key(secret: SecretString) -> Result<SecretKey, E2eeError> {
    use secrecy::ExposeSecret;
    if secret.expose_secret().is_empty() {
        return Err(E2eeError::EmptyKey);
    }
    Ok(SecretKey::new(secret))
}

/// A new secret: 32 random bytes in base64url.
pub fn generate_key() -> String {
    let bytes = Zeroizing::new(rand::random::<[u8; 32]>());
    URL_SAFE_NO_PAD.encode(bytes.as_ref())
}
