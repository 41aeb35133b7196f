//! API keys: authentication, and managing them.

use crate::{Caller, Error, Operation, Relay, Result, TeamGrant, key_cache::CachedKey, tokens};
use handoff_protocol::{
    ErrorCode, Permissions,
    keys::{API_KEY_PREFIX, AuditPage, CreatedKey, Key, KeyHash, KeyPermissions, NewKey},
    pages::PageRequest,
};
use handoff_store::keys::{KeyChanged, KeyCreated};
use sha2::{Digest, Sha256};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Bytes of randomness in a key, written as twice as many hex characters.
const KEY_BYTES: usize = 24;

/// Makes a key nobody can guess, and its hash.
pub(crate) fn new_api_key() -> (String, KeyHash) {
    let api_key = format!(
        "{API_KEY_PREFIX}{}",
        hex::encode(rand::random::<[u8; KEY_BYTES]>())
    );
    let hash = hash_of(&api_key);
    (api_key, hash)
}

fn hash_of(api_key: &str) -> KeyHash {
    KeyHash(Sha256::digest(api_key.as_bytes()).into())
}

/// Whether a text could be a key at all; what isn't is refused without a look at the table.
fn is_well_formed(api_key: &str) -> bool {
    api_key.strip_prefix(API_KEY_PREFIX).is_some_and(|hex| {
        hex.len() == 2 * KEY_BYTES && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

fn invalid_key() -> Error {
    Error::new(
        ErrorCode::InvalidApiKey,
        "This API key is unknown, expired or revoked",
    )
}

impl Relay {
    /// The caller behind a raw key or a token.
    ///
    /// # Errors
    /// `INVALID_API_KEY`, `TOKEN_EXPIRED`
    pub async fn authenticate(&self, api_key: &str) -> Result<Caller> {
        if tokens::looks_like_token(api_key) {
            // Boxed, as are the rare ways below: a request that waits holds room for each of them.
            return Box::pin(self.authenticate_token(api_key)).await;
        }
        if !is_well_formed(api_key) {
            return Err(invalid_key());
        }
        let key = self.find_key(hash_of(api_key)).await?;
        Ok(Caller::new(key.ok_or_else(invalid_key)?))
    }

    /// A key that is good, from memory where that can be trusted.
    pub(crate) async fn find_key(&self, hash: KeyHash) -> Result<Option<Arc<CachedKey>>> {
        match self.keys.get(&hash) {
            Some(key) => {
                self.metrics.key_cache_hits.increment(1);
                Ok(Some(key))
            }
            None => {
                self.metrics.key_cache_misses.increment(1);
                Box::pin(self.load_key(hash)).await
            }
        }
    }

    async fn load_key(&self, hash: KeyHash) -> Result<Option<Arc<CachedKey>>> {
        let drops = self.keys.drops();
        Ok(self
            .store
            .find_key(hash)
            .await?
            .map(|row| self.keys.insert(row, drops)))
    }

    /// Makes a key; the raw key is in the answer and nowhere else.
    ///
    /// # Errors
    /// `KEY_LIMIT_REACHED`
    pub async fn create_key(&self, grant: &TeamGrant, key: NewKey) -> Result<CreatedKey> {
        let caller = grant.caller_for(Operation::CreateKey)?;
        let (api_key, hash) = new_api_key();
        let limit = self.config.keys_per_team;
        match self
            .store
            .create_key(caller.team(), hash, &key, limit)
            .await?
        {
            KeyCreated::Created => Ok(CreatedKey {
                api_key,
                key: hash,
                sender: key.sender,
                permissions: key.permissions,
                expires_at: key.expires_at,
            }),
            KeyCreated::LimitReached => Err(Error::new(
                ErrorCode::KeyLimitReached,
                format!("The team has {limit} keys, which is its limit: revoke one first"),
            )),
        }
    }

    /// The team's keys.
    pub async fn list_keys(&self, grant: &TeamGrant) -> Result<Vec<Key>> {
        let caller = grant.caller_for(Operation::ListKeys)?;
        Ok(self.store.list_keys(caller.team()).await?)
    }

    /// Replaces a key's permissions: at once here, within a second on the other replicas.
    ///
    /// # Errors
    /// `KEY_NOT_FOUND`, `LAST_ADMIN`
    pub async fn set_key_permissions(
        &self,
        grant: &TeamGrant,
        hash: Option<KeyHash>,
        permissions: Permissions,
    ) -> Result<KeyPermissions> {
        let caller = grant.caller_for(Operation::SetKeyPermissions)?;
        let key = hash.ok_or_else(key_not_found)?;
        let change = self
            .store
            .set_key_permissions(caller.team(), key, &permissions)
            .await;
        self.key_changed(key, change)?;
        Ok(KeyPermissions { key, permissions })
    }

    /// Revokes a key: at once here, within a second on the other replicas.
    ///
    /// # Errors
    /// `KEY_NOT_FOUND`, `LAST_ADMIN`
    pub async fn revoke_key(&self, grant: &TeamGrant, hash: Option<KeyHash>) -> Result<()> {
        let caller = grant.caller_for(Operation::RevokeKey)?;
        let key = hash.ok_or_else(key_not_found)?;
        let change = self.store.revoke_key(caller.team(), key).await;
        self.key_changed(key, change)
    }

    fn key_changed(&self, key: KeyHash, change: handoff_store::Result<KeyChanged>) -> Result<()> {
        match change {
            Ok(KeyChanged::NotFound) => Err(key_not_found()),
            Ok(KeyChanged::LastAdmin) => Err(Error::new(
                ErrorCode::LastAdmin,
                "This is the team's last lasting key with admin on \"*\": make another one first",
            )),
            // After an error the change may have been committed all the same.
            Ok(KeyChanged::Changed) => {
                self.forget_key(&key);
                Ok(())
            }
            Err(error) => {
                self.forget_key(&key);
                Err(error.into())
            }
        }
    }

    /// Forgets a key that was changed, and ends its streams on this replica.
    fn forget_key(&self, key: &KeyHash) {
        self.keys.drop_key(key);
        self.open_streams.end_streams_of(key);
    }

    /// Looks at a key that is said to have changed. Where this replica knows of the change
    /// already, the key's streams go on: a change may be told of several times.
    ///
    /// One that can't be looked at until `until` counts as gone: its streams end.
    pub(crate) async fn recheck_key(&self, hash: KeyHash, until: Instant) {
        const PAUSE: Duration = Duration::from_millis(50);
        let permissions = loop {
            match self.store.find_key(hash).await {
                Ok(row) => break row.map(|row| row.permissions),
                Err(_) if Instant::now() < until => tokio::time::sleep(PAUSE).await,
                Err(_) => break None,
            }
        };
        self.stands_with(&hash, permissions.as_ref());
    }

    /// Looks at a key of which nothing was heard.
    pub(crate) async fn look_at_key(&self, hash: KeyHash) -> handoff_store::Result<()> {
        let row = self.store.find_key(hash).await?;
        self.stands_with(&hash, row.map(|row| row.permissions).as_ref());
        Ok(())
    }

    /// A key has these permissions, or is gone.
    fn stands_with(&self, hash: &KeyHash, permissions: Option<&Permissions>) {
        // One that is not remembered is dropped too: a look-up that began before the change may be
        // about to remember it.
        let known = self.keys.peek(hash);
        if known.is_none_or(|known| Some(&known.row.permissions) != permissions) {
            self.keys.drop_key(hash);
        }
        self.open_streams.end_streams_unless(hash, permissions);
    }

    /// The team's audit log.
    pub async fn list_audit(&self, grant: &TeamGrant, page: PageRequest) -> Result<AuditPage> {
        let caller = grant.caller_for(Operation::ReadAudit)?;
        let found = self.store.list_audit(caller.team(), page).await?;
        let last = found.items.last().map(|entry| entry.id).or(page.after);
        Ok(AuditPage {
            next_after_id: last.unwrap_or_default(),
            has_more: found.has_more,
            entries: found.items,
        })
    }
}

fn key_not_found() -> Error {
    Error::new(
        ErrorCode::KeyNotFound,
        "This team has no key with this hash",
    )
}
