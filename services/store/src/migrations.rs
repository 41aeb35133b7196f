//! Migrations: forward only, embedded in the program.

use crate::{DatabaseUrl, Error, Result};
use sqlx::migrate::Migrator;

fn embedded() -> Migrator {
    sqlx::migrate!("../../migrations")
}

/// The newest migration that this program knows.
pub fn newest() -> i64 {
    embedded()
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or(0)
}

/// Applies what is missing, under a lock, and answers how many migrations that were.
///
/// # Errors
/// When Postgres can't be reached, or a migration fails (it is rolled back).
pub async fn migrate(url: &DatabaseUrl) -> Result<usize> {
    let options = url
        .control_options()
        .map_err(|error| Error::Internal(Box::new(error)))?;
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(std::time::Duration::from_secs(10))
        .connect_with(options)
        .await?;
    let before = applied(&pool).await?.len();
    // A newer release may have migrated this database already; its migrations are not ours to judge.
    let mut migrations = embedded();
    migrations.set_ignore_missing(true);
    migrations.run(&pool).await.map_err(|error| match error {
        sqlx::migrate::MigrateError::Execute(error) => error.into(),
        error => Error::Internal(Box::new(error)),
    })?;
    let after = applied(&pool).await?.len();
    pool.close().await;
    Ok(after - before)
}

async fn applied(pool: &sqlx::PgPool) -> Result<Vec<i64>> {
    // Not checked at compile time: this table is the migrator's own, and may not be there yet.
    let exists: bool = sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null")
        .fetch_one(pool)
        .await?;
    if !exists {
        return Ok(Vec::new());
    }
    Ok(
        sqlx::query_scalar("select version from _sqlx_migrations where success")
            .fetch_all(pool)
            .await?,
    )
}

/// Refuses a schema that is older than this program; a newer one is fine, since migrations only
/// add until every replica is new.
pub(crate) async fn ensure_current(pool: &sqlx::PgPool) -> Result<()> {
    let found = applied(pool).await?.into_iter().max().unwrap_or(0);
    if found < newest() {
        return Err(Error::SchemaTooOld {
            found,
            needed: newest(),
        });
    }
    Ok(())
}
