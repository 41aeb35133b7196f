//! What delegated tokens are signed with. The control plane: sqlx, checked at compile time.

use crate::{DatabaseUrl, Error, Result, Store, trace::control_statement};
use secrecy::SecretSlice;
use std::time::Duration;
use tracing::Instrument;

/// How long a key that no longer signs still verifies: as long as the longest-lived token, and as
/// a replica may take to hear that it no longer signs.
const RETIRED_FOR: &str = "25 hours";

/// A key that verifies, and perhaps signs.
#[derive(Debug)]
pub struct SigningKeyRow {
    /// Names it in a token's header.
    pub kid: String,
    /// For HMAC-SHA256.
    pub secret: SecretSlice<u8>,
    /// Whether new tokens are signed with it: one key does.
    pub signs: bool,
}

/// What becomes of the keys before the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldKeys {
    /// They verify until no token of theirs can be left.
    Retire,
    /// They go, and with them all tokens.
    Drop,
}

impl Store {
    /// The keys that verify.
    pub async fn signing_keys(&self) -> Result<Vec<SigningKeyRow>> {
        let rows = sqlx::query!(
            r#"
            select kid, secret, retired_at is null as "signs!"
            from signing_keys
            where retired_at is null or retired_at > clock_timestamp() - $1::text::interval
            "#,
            RETIRED_FOR,
        )
        .fetch_all(&self.control)
        .instrument(control_statement("list signing keys"))
        .await?;
        let keys = rows.into_iter().map(|row| SigningKeyRow {
            kid: row.kid,
            secret: row.secret.into(),
            signs: row.signs,
        });
        Ok(keys.collect())
    }

    /// Adds the key that signs, unless there is one: of several replicas that try at once, one
    /// does, since the others wait at the index.
    pub async fn add_first_signing_key(&self, kid: &str, secret: &[u8]) -> Result<()> {
        sqlx::query!(
            "insert into signing_keys (kid, secret) values ($1, $2) on conflict do nothing",
            kid,
            secret,
        )
        .execute(&self.control)
        .await?;
        Ok(())
    }

    /// Removes the keys that no longer verify.
    pub async fn forget_retired_signing_keys(&self) -> Result<()> {
        sqlx::query!(
            r#"
            delete from signing_keys
            where retired_at < clock_timestamp() - $1::text::interval
            "#,
            RETIRED_FOR,
        )
        .execute(&self.control)
        .await?;
        Ok(())
    }
}

/// Makes a new key the one that signs, for the command that does this.
///
/// # Errors
/// When Postgres can't be reached, or its schema is too old.
pub async fn rotate(url: &DatabaseUrl, kid: &str, secret: &[u8], old: OldKeys) -> Result<()> {
    let options = url
        .control_options()
        .map_err(|error| Error::Internal(Box::new(error)))?;
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(Duration::from_secs(10))
        .connect_with(options)
        .await?;
    crate::migrations::ensure_current(&pool).await?;
    let mut tx = pool.begin().await?;
    // Of two rotations one waits for the other; replicas read on.
    sqlx::query!("lock table signing_keys in exclusive mode")
        .execute(&mut *tx)
        .await?;
    match old {
        OldKeys::Retire => {
            sqlx::query!(
                "update signing_keys set retired_at = clock_timestamp() where retired_at is null"
            )
            .execute(&mut *tx)
            .await?;
        }
        OldKeys::Drop => {
            sqlx::query!("delete from signing_keys")
                .execute(&mut *tx)
                .await?;
        }
    }
    sqlx::query!(
        "insert into signing_keys (kid, secret) values ($1, $2)",
        kid,
        secret
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    pool.close().await;
    Ok(())
}
