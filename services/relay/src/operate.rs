//! What an operator does to the database, beside the replicas.

use crate::settings::{DatabaseSettings, RotateSettings};
use anyhow::Context;
use handoff_core::OldKeys;
use handoff_store::{epochs, migrations};

/// Applies the migrations that are missing.
///
/// # Errors
/// When no database is set, it can't be reached, or a migration fails.
pub async fn migrate(settings: DatabaseSettings) -> anyhow::Result<()> {
    let applied = migrations::migrate(&settings.url()?).await;
    match applied.context("the migration failed")? {
        0 => println!(
            "The schema is up to date (version {})",
            migrations::newest()
        ),
        applied => println!(
            "Applied {applied} migrations, up to {}",
            migrations::newest()
        ),
    }
    Ok(())
}

/// Begins a new epoch, whatever the database says of itself: every ID from now on is past all that
/// were ever drawn. Replicas that run hear of it within about a second, and end their streams.
///
/// # Errors
/// When no database is set, it can't be reached, or a write holds its locks for too long.
pub async fn begin_new_epoch(settings: DatabaseSettings) -> anyhow::Result<()> {
    let epoch = epochs::begin_new(&settings.url()?).await;
    let epoch = epoch.context("no new epoch was begun")?;
    println!("Epoch {epoch} has begun");
    Ok(())
}

/// Makes a new key that signs delegated tokens.
///
/// # Errors
/// When no database is set, it can't be reached, or its schema is too old.
pub async fn rotate_signing_key(settings: RotateSettings) -> anyhow::Result<()> {
    let old = if settings.drop_old {
        OldKeys::Drop
    } else {
        OldKeys::Retire
    };
    let kid = handoff_core::rotate_signing_key(&settings.database.url()?, old)
        .await
        .context("the signing key can't be rotated")?;
    println!("Tokens are signed with the new key {kid}");
    Ok(())
}
