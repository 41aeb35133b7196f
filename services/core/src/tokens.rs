//! Delegated tokens: JSON Web Tokens that carry a part of what an API key may do, for a short time.
//!
//! Any replica checks one without asking Postgres: the signing keys and the token's key (its
//! parent) are in memory. What the token says is cut by what its parent may do at this moment, so
//! whatever happens to the parent happens to its tokens (guarantee G5). A token has no budget of
//! its own: requests and streams count against its parent.
//!
//! One algorithm, HMAC-SHA256, and a type of their own keep other signed things from passing for
//! tokens (RFC 8725).

use crate::{Caller, Error, Operation, Relay, Result, TeamGrant};
use handoff_protocol::{
    ChannelName, ErrorCode, Name, Permissions, Timestamp,
    keys::{DeniedAction, KeyHash},
    permissions::ANY_CHANNEL,
    tokens::{CreatedToken, NewToken},
};
use handoff_store::{DatabaseUrl, Store, signing_keys};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode,
    errors::ErrorKind,
};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

pub use handoff_store::signing_keys::OldKeys;

const ALGORITHM: Algorithm = Algorithm::HS256;
const TYPE: &str = "handoff+jwt";
const ISSUER: &str = "handoff";
const AUDIENCE: &str = "handoff-relay";
/// Longest token that is looked at.
const TOKEN_MAX_BYTES: usize = 8 << 10;
/// Bytes of randomness in a signing key: as many as the hash has.
const SECRET_BYTES: usize = 32;
const KID_BYTES: usize = 8;
/// How long after it was looked at the key that signs is taken for it still. Keys that retired
/// verify for longer than the longest token lives and this together.
const SIGNS_FOR: Duration = Duration::from_secs(60);
/// Between two looks for signing keys nobody knows: whoever makes names up can't flood Postgres.
const LOAD_EVERY: Duration = Duration::from_millis(250);

/// What a token says.
#[derive(Serialize, Deserialize)]
struct Claims {
    #[serde(skip_deserializing)]
    iss: &'static str,
    #[serde(skip_deserializing)]
    aud: &'static str,
    /// The hash of the parent.
    sub: String,
    iat: i64,
    exp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sender_suffix: Option<String>,
    /// None: all that the parent may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    permissions: Option<Permissions>,
}

/// What a token makes of its parent.
pub(crate) struct Delegation {
    pub(crate) sender: Name,
    pub(crate) permissions: Permissions,
    pub(crate) expires_at: Timestamp,
}

/// The signing keys that this replica knows.
pub(crate) struct Tokens {
    validation: Validation,
    known: RwLock<Arc<KnownKeys>>,
    /// Held by whoever looks for keys; the others wait for what it finds.
    last_try: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct KnownKeys {
    verify: HashMap<String, DecodingKey>,
    sign: Option<(String, EncodingKey)>,
    /// When the look that found them began.
    looked_at: Option<Instant>,
}

impl KnownKeys {
    fn looked_after(&self, then: Instant) -> bool {
        self.looked_at.is_some_and(|looked| looked > then)
    }
}

impl Tokens {
    pub(crate) fn new() -> Self {
        let mut validation = Validation::new(ALGORITHM);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        validation.leeway = 0;
        Self {
            validation,
            known: RwLock::default(),
            last_try: Mutex::new(None),
        }
    }

    fn known(&self) -> Arc<KnownKeys> {
        self.known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The keys, among them the one of this name if there is any.
    async fn keys_with(&self, store: &Store, kid: &str) -> Result<Arc<KnownKeys>> {
        let asked = Instant::now();
        let known = self.known();
        if known.verify.contains_key(kid) || !is_kid(kid) {
            return Ok(known);
        }
        // Most requests have nothing to look for, and shouldn't hold room for it.
        Box::pin(async {
            let mut last_try = self.last_try.lock().await;
            let known = self.known();
            if known.verify.contains_key(kid) || known.looked_after(asked) {
                return Ok(known);
            }
            if let Some(last_try) = *last_try {
                tokio::time::sleep_until((last_try + LOAD_EVERY).into()).await;
            }
            // Noted before the look: one that is given up counts too.
            *last_try = Some(Instant::now());
            self.load(store).await
        })
        .await
    }

    /// The keys, among them the one that signs; the first one is made here.
    async fn keys_to_sign(&self, store: &Store) -> Result<Arc<KnownKeys>> {
        let fresh = |known: &KnownKeys| {
            let looked = known.looked_at.map(|looked| looked.elapsed());
            known.sign.is_some() && looked.is_some_and(|age| age < SIGNS_FOR)
        };
        let known = self.known();
        if fresh(&known) {
            return Ok(known);
        }
        let _last_try = self.last_try.lock().await;
        let known = self.known();
        if fresh(&known) {
            return Ok(known);
        }
        let known = self.load(store).await?;
        if known.sign.is_some() {
            return Ok(known);
        }
        let (kid, secret) = new_signing_key();
        store.add_first_signing_key(&kid, &secret).await?;
        self.load(store).await
    }

    /// Looks for keys; one that is gone from the table is forgotten.
    async fn load(&self, store: &Store) -> Result<Arc<KnownKeys>> {
        let mut known = KnownKeys {
            looked_at: Some(Instant::now()),
            ..KnownKeys::default()
        };
        for row in store.signing_keys().await? {
            let secret = row.secret.expose_secret();
            if row.signs {
                known.sign = Some((row.kid.clone(), EncodingKey::from_secret(secret)));
            }
            known
                .verify
                .insert(row.kid, DecodingKey::from_secret(secret));
        }
        let known = Arc::new(known);
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known.clone();
        Ok(known)
    }
}

/// Whether a text could be a key's name at all; what isn't is refused without a look.
fn is_kid(text: &str) -> bool {
    text.len() == 2 * KID_BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn new_signing_key() -> (String, [u8; SECRET_BYTES]) {
    (
        hex::encode(rand::random::<[u8; KID_BYTES]>()),
        rand::random(),
    )
}

/// Makes a new signing key, for the command that does this. Replicas hear of it by the first token
/// that it signs, and sign with it themselves within a minute.
///
/// # Errors
/// When Postgres can't be reached, or its schema is too old.
pub async fn rotate_signing_key(url: &DatabaseUrl, old: OldKeys) -> handoff_store::Result<String> {
    let (kid, secret) = new_signing_key();
    signing_keys::rotate(url, &kid, &secret, old).await?;
    Ok(kid)
}

/// Whether a text looks like a token: three parts of a JSON Web Token.
pub(crate) fn looks_like_token(text: &str) -> bool {
    text.len() <= TOKEN_MAX_BYTES && text.bytes().filter(|byte| *byte == b'.').count() == 2
}

fn invalid_token() -> Error {
    Error::new(
        ErrorCode::InvalidApiKey,
        "This token is not one of this relay's, or its key is expired or revoked",
    )
}

pub(crate) fn token_expired() -> Error {
    Error::new(
        ErrorCode::TokenExpired,
        "This token has expired: make another one with its API key",
    )
}

/// The name that a token speaks for.
fn sender_of(parent: &Name, suffix: Option<&str>) -> Result<Name> {
    Ok(match suffix {
        Some(suffix) => Name::parse(
            "sender_suffix together with the key's name",
            &format!("{parent}/{suffix}"),
        )?,
        None => parent.clone(),
    })
}

impl Relay {
    /// The caller behind a token.
    ///
    /// # Errors
    /// `INVALID_API_KEY`, `TOKEN_EXPIRED`
    pub(crate) async fn authenticate_token(&self, token: &str) -> Result<Caller> {
        let header = decode_header(token).map_err(|_| invalid_token())?;
        let kid = header.kid.as_deref().unwrap_or_default();
        if header.alg != ALGORITHM || header.typ.as_deref() != Some(TYPE) {
            return Err(invalid_token());
        }
        let known = self.tokens.keys_with(&self.store, kid).await?;
        let key = known.verify.get(kid).ok_or_else(invalid_token)?;
        let claims = match decode::<Claims>(token, key, &self.tokens.validation) {
            Ok(token) => token.claims,
            Err(error) if matches!(error.kind(), ErrorKind::ExpiredSignature) => {
                return Err(token_expired());
            }
            Err(_) => return Err(invalid_token()),
        };
        // The library counts whole seconds, and lets the last one pass.
        let expires_at = Timestamp::from_seconds(claims.exp);
        if expires_at <= Timestamp::now() {
            return Err(token_expired());
        }
        let hash = KeyHash::parse(&claims.sub).ok_or_else(invalid_token)?;
        let parent = self.find_key(hash).await?.ok_or_else(invalid_token)?;
        let row = &parent.row;
        let delegation = Delegation {
            sender: sender_of(&row.sender, claims.sender_suffix.as_deref())?,
            permissions: match &claims.permissions {
                Some(permissions) => permissions.cut_to(&row.permissions),
                None => row.permissions.clone(),
            },
            expires_at,
        };
        Ok(Caller::delegated(parent, delegation))
    }

    /// Makes a token of the caller's key; the token is in the answer and nowhere else.
    ///
    /// # Errors
    /// `FORBIDDEN` where it is to do more than its key may, once the denial stands in the audit
    /// log. `FIELD_TOO_LARGE` where the name that it speaks for would be too long.
    pub async fn create_token(
        &self,
        grant: &TeamGrant,
        token: NewToken,
        action: impl FnOnce() -> String,
    ) -> Result<CreatedToken> {
        let caller = grant.caller_for(Operation::CreateToken)?;
        let parent = &caller.key.row;
        let sender = sender_of(&parent.sender, token.sender_suffix.as_deref())?;
        if let Some(wanted) = &token.permissions
            && let Some((channel, level)) = wanted.entry_beyond(&parent.permissions)
        {
            let denied = DeniedAction {
                action: action(),
                channel: (channel != ANY_CHANNEL).then(|| ChannelName::from_row(channel)),
            };
            return Err(self.deny(caller, level, denied).await);
        }
        let now = Timestamp::now();
        // Rounded up: good for at least as long as was asked for, but no longer than its parent.
        let lasts = now.as_seconds() + 1 + token.ttl.as_secs() as i64;
        let exp = match parent.expires_at {
            Some(expires_at) => lasts.min(expires_at.as_seconds()),
            None => lasts,
        };
        let claims = Claims {
            iss: ISSUER,
            aud: AUDIENCE,
            sub: parent.hash.to_string(),
            iat: now.as_seconds(),
            exp,
            sender_suffix: token.sender_suffix,
            permissions: token.permissions,
        };
        let known = self.tokens.keys_to_sign(&self.store).await?;
        let (kid, key) = known
            .sign
            .as_ref()
            .ok_or_else(|| Error::new(ErrorCode::Internal, "No key signs tokens"))?;
        let header = Header {
            typ: Some(TYPE.to_owned()),
            kid: Some(kid.clone()),
            ..Header::new(ALGORITHM)
        };
        let signed = encode(&header, &claims, key)
            .map_err(|_| Error::new(ErrorCode::Internal, "A token can't be signed"))?;
        Ok(CreatedToken {
            token: signed,
            sender,
            permissions: match &claims.permissions {
                Some(permissions) => permissions.cut_to(&parent.permissions),
                None => parent.permissions.clone(),
            },
            expires_at: Timestamp::from_seconds(exp),
        })
    }

    /// Forgets signing keys that are gone from the table, where this replica knows any.
    pub(crate) async fn refresh_signing_keys(&self) -> Result<()> {
        if self.tokens.known().looked_at.is_some() {
            let _last_try = self.tokens.last_try.lock().await;
            self.tokens.load(&self.store).await?;
        }
        Ok(())
    }
}
