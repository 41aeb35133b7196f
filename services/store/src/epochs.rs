//! Epochs: whether this still is the database that it was.
//!
//! A backup that is restored, and a standby that is promoted while it lagged, draw IDs again that
//! clients have seen: new messages would hide below old cursors. Such a database differs from the
//! one before in its system identifier, its timeline or its object ID. Whoever connects to write or
//! to listen compares them with the newest epoch's, and where they differ begins a new one, in
//! which every ID is higher than all that were ever drawn.
//!
//! What can't be told apart is a copy of the files that is started in the original's place (a
//! volume's snapshot), and a service that shows no timeline: there the operator says so
//! (`handoff-relay new-epoch`).

use crate::{
    DatabaseUrl, Error, Result,
    connection::{SessionKind, session},
};
use std::{fmt, sync::Arc};
use tokio_postgres::{Client, error::SqlState};

/// Names an epoch; opaque.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(Arc<str>);

impl Epoch {
    pub(crate) fn from_row(id: &str) -> Self {
        Self(id.into())
    }

    /// Its name, a UUID.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who is told which epoch it is. Calls must not block.
pub trait Epochs: Send + Sync {
    /// This is the epoch now.
    fn in_epoch(&self, epoch: &Epoch);
}

/// Not to be had during recovery; and in some services not at all.
const IDENTITY: &str = "
    select concat_ws('/',
        (select system_identifier from pg_control_system()),
        substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8),
        (select oid from pg_database where datname = current_database()))";

const CURRENT: &str = "
    select e.id::text as id, e.database_identity
    from epochs e
    order by e.number desc
    limit 1";

/// One at a time; released at the transaction's end.
const LOCK: &str = "select pg_advisory_xact_lock(73, 0)";

/// Raises every slot's sequence past all IDs that were ever drawn, in backups restored before as
/// well: a second is worth 2^20 IDs, more than a slot can draw in one.
const RAISE: &str = "
    select setval(
        ('slot_' || slot)::regclass,
        greatest(
            coalesce(pg_sequence_last_value(('slot_' || slot)::regclass), 0) + (1::bigint << 32),
            floor(extract(epoch from clock_timestamp()))::bigint << 20
        ))
    from generate_series(0, 63) slot
    cross join lateral (select pg_advisory_xact_lock(72, slot)) lock
    order by slot";

const BEGIN_EPOCH: &str =
    "insert into epochs (database_identity) values ($1) returning id::text as id";

/// Learns which epoch it is; begins a new one if the database is another than it was.
///
/// # Errors
/// When this Postgres is a standby, or is out of reach.
pub(crate) async fn establish(client: &Client) -> Result<Epoch> {
    let identity = identity(client).await?;
    match current(client).await? {
        Some((epoch, known)) if same(&identity, &known) => Ok(epoch),
        _ => begin(client, &identity, false).await,
    }
}

/// Begins a new epoch, whatever the database says of itself; answers its name.
///
/// # Errors
/// When Postgres is out of reach, or a write holds its locks for longer than 10 s.
pub async fn begin_new(url: &DatabaseUrl) -> Result<Epoch> {
    let session = session(url, "handoff new-epoch", SessionKind::Bell).await?;
    let identity = identity(&session.client).await?;
    begin(&session.client, &identity, true).await
}

/// What can't be read is no reason for a new epoch.
fn same(identity: &str, known: &str) -> bool {
    identity == known || identity.is_empty() || known.is_empty() || planted!(NoEpoch)
}

/// What the database is known by; empty where that can't be read.
async fn identity(client: &Client) -> Result<String> {
    match client.query_one(IDENTITY, &[]).await {
        Ok(row) => Ok(row.try_get(0)?),
        Err(error) if error.code() == Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE) => {
            if client
                .query_one("select pg_is_in_recovery()", &[])
                .await?
                .try_get(0)?
            {
                return Err(Error::unavailable("this Postgres is a standby"));
            }
            Ok(unreadable(&error))
        }
        Err(error)
            if [
                SqlState::FEATURE_NOT_SUPPORTED,
                SqlState::INSUFFICIENT_PRIVILEGE,
            ]
            .iter()
            .any(|code| error.code() == Some(code)) =>
        {
            Ok(unreadable(&error))
        }
        Err(error) => Err(error.into()),
    }
}

fn unreadable(error: &tokio_postgres::Error) -> String {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "This Postgres doesn't show its timeline: after a restore or a failover that lost commits, \
         run `handoff-relay new-epoch`"
    );
    String::new()
}

async fn current(client: &Client) -> Result<Option<(Epoch, String)>> {
    let row = client.query_opt(CURRENT, &[]).await?;
    row.map(|row| {
        Ok((
            Epoch::from_row(row.try_get("id")?),
            row.try_get("database_identity")?,
        ))
    })
    .transpose()
}

async fn begin(client: &Client, identity: &str, whatever_stands: bool) -> Result<Epoch> {
    client
        .batch_execute("begin; set local lock_timeout = '10s'")
        .await?;
    match begin_locked(client, identity, whatever_stands).await {
        Ok(epoch) => {
            client.batch_execute("commit").await?;
            Ok(epoch)
        }
        Err(error) => {
            let _ = client.batch_execute("rollback").await;
            Err(error)
        }
    }
}

async fn begin_locked(client: &Client, identity: &str, whatever_stands: bool) -> Result<Epoch> {
    client.query(LOCK, &[]).await?;
    let before = current(client).await?;
    if let Some((epoch, known)) = &before
        && same(identity, known)
        && !whatever_stands
    {
        return Ok(epoch.clone());
    }
    // The first replica on a new database: no ID was drawn that anybody could have seen elsewhere.
    if before.is_some() {
        client.query(RAISE, &[]).await?;
    }
    let row = client.query_one(BEGIN_EPOCH, &[&identity]).await?;
    let epoch = Epoch::from_row(row.try_get("id")?);
    if before.is_some() {
        tracing::warn!(%epoch, "The database was restored or failed over: a new epoch begins");
    }
    Ok(epoch)
}
