//! API keys. The control plane: sqlx, checked at compile time.

use crate::{Error, Result, Store, bell, trace::control_statement};
use handoff_protocol::{
    Name, Permissions, TeamId, Timestamp,
    keys::{Key, KeyHash, NewKey},
    teams::Team,
};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;
use tracing::Instrument;

/// A key that is neither revoked nor expired, with its team.
#[derive(Clone, Debug)]
pub struct KeyRow {
    /// The hash that names it.
    pub hash: KeyHash,
    /// Its team.
    pub team: Team,
    /// Whom it speaks for.
    pub sender: Name,
    /// What it may do.
    pub permissions: Permissions,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
}

/// What came of making a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyCreated {
    /// It stands.
    Created,
    /// The team has as many keys as it may.
    LimitReached,
}

/// What came of changing a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyChanged {
    /// It holds.
    Changed,
    /// No such key in this team.
    NotFound,
    /// The team would be left without a key that manages it.
    LastAdmin,
}

impl Store {
    /// Looks a key up by its hash.
    pub async fn find_key(&self, hash: KeyHash) -> Result<Option<KeyRow>> {
        let row = sqlx::query!(
            r#"
            select t.id as team_id, t.name as team_name, t.created_at as team_created_at,
                k.sender, k.permissions as "permissions: Json<Permissions>", k.expires_at
            from api_keys k
            join teams t on t.id = k.team_id
            where k.hash = $1 and k.revoked_at is null
                and (k.expires_at is null or k.expires_at > clock_timestamp())
            "#,
            &hash.0[..],
        )
        .fetch_optional(&self.control)
        .instrument(control_statement("find key"))
        .await?;
        Ok(row.map(|row| KeyRow {
            hash,
            team: Team {
                id: TeamId::from_row(row.team_id),
                name: Name::from_row(&row.team_name),
                created_at: row.team_created_at.into(),
            },
            sender: Name::from_row(&row.sender),
            permissions: row.permissions.0,
            expires_at: row.expires_at.map(Timestamp::from),
        }))
    }

    /// Makes a key, within the team's quota: exact, since the team's row is locked.
    pub async fn create_key(
        &self,
        team: TeamId,
        hash: KeyHash,
        key: &NewKey,
        keys_per_team: u32,
    ) -> Result<KeyCreated> {
        let mut tx = self.control.begin().await?;
        lock_team(&mut tx, team).await?;
        let live = sqlx::query_scalar!(
            r#"
            select count(*) as "count!"
            from api_keys
            where team_id = $1 and revoked_at is null
                and (expires_at is null or expires_at > clock_timestamp())
            "#,
            team.serial(),
        )
        .fetch_one(&mut *tx)
        .await?;
        if live >= i64::from(keys_per_team) {
            return Ok(KeyCreated::LimitReached);
        }
        insert_key(&mut tx, team, hash, key).await?;
        tx.commit().await?;
        Ok(KeyCreated::Created)
    }

    /// A team's keys, by sender.
    pub async fn list_keys(&self, team: TeamId) -> Result<Vec<Key>> {
        let rows = sqlx::query!(
            r#"
            select hash, sender, created_at, permissions as "permissions: Json<Permissions>",
                expires_at
            from api_keys
            where team_id = $1 and revoked_at is null
                and (expires_at is null or expires_at > clock_timestamp())
            order by sender, created_at, hash
            "#,
            team.serial(),
        )
        .fetch_all(&self.control)
        .instrument(control_statement("list keys"))
        .await?;
        rows.into_iter()
            .map(|row| {
                let hash = row.hash.try_into();
                Ok(Key {
                    key: KeyHash(hash.map_err(|_| Error::Internal("a hash of odd size".into()))?),
                    team_id: team,
                    sender: Name::from_row(&row.sender),
                    created_at: row.created_at.into(),
                    permissions: row.permissions.0,
                    expires_at: row.expires_at.map(Timestamp::from),
                })
            })
            .collect()
    }

    /// Replaces a key's permissions and tells every replica.
    pub async fn set_key_permissions(
        &self,
        team: TeamId,
        hash: KeyHash,
        permissions: &Permissions,
    ) -> Result<KeyChanged> {
        let mut tx = self.control.begin().await?;
        lock_team(&mut tx, team).await?;
        let loses_admin = !permissions.is_team_admin();
        if let Some(refused) = refuse_change(&mut tx, team, hash, loses_admin).await? {
            return Ok(refused);
        }
        sqlx::query!(
            "update api_keys set permissions = $3 where hash = $2 and team_id = $1",
            team.serial(),
            &hash.0[..],
            Json(permissions) as _,
        )
        .execute(&mut *tx)
        .await?;
        announce_change(&mut tx, hash).await?;
        tx.commit().await?;
        Ok(KeyChanged::Changed)
    }

    /// Revokes a key and tells every replica.
    pub async fn revoke_key(&self, team: TeamId, hash: KeyHash) -> Result<KeyChanged> {
        let mut tx = self.control.begin().await?;
        lock_team(&mut tx, team).await?;
        if let Some(refused) = refuse_change(&mut tx, team, hash, true).await? {
            return Ok(refused);
        }
        sqlx::query!(
            "update api_keys set revoked_at = clock_timestamp() where hash = $2 and team_id = $1",
            team.serial(),
            &hash.0[..],
        )
        .execute(&mut *tx)
        .await?;
        announce_change(&mut tx, hash).await?;
        tx.commit().await?;
        Ok(KeyChanged::Changed)
    }

    /// Keys narrowed or revoked in the last ten seconds, by the number of the change: what a
    /// replica reads each second, in case it didn't hear of a change.
    pub async fn recent_key_changes(&self) -> Result<Vec<(i64, KeyHash)>> {
        let rows = sqlx::query!(
            r#"
            select id, key_hash
            from key_changes
            where changed_at > clock_timestamp() - interval '10 seconds'
            order by id
            "#,
        )
        .fetch_all(&self.control)
        .await?;
        rows.into_iter()
            .map(|row| {
                let hash = row.key_hash.try_into();
                let hash = hash.map_err(|_| Error::Internal("a hash of odd size".into()))?;
                Ok((row.id, KeyHash(hash)))
            })
            .collect()
    }
}

/// Quotas of a team and the rule of the last admin are exact while its row is locked.
async fn lock_team(tx: &mut PgConnection, team: TeamId) -> Result<()> {
    sqlx::query!(
        "select id from teams where id = $1 for update",
        team.serial()
    )
    .fetch_one(tx)
    .await?;
    Ok(())
}

pub(crate) async fn insert_key(
    tx: &mut PgConnection,
    team: TeamId,
    hash: KeyHash,
    key: &NewKey,
) -> Result<()> {
    sqlx::query!(
        r#"
        insert into api_keys (team_id, hash, sender, permissions, expires_at)
        values ($1, $2, $3, $4, $5)
        "#,
        team.serial(),
        &hash.0[..],
        key.sender.as_str(),
        Json(&key.permissions) as _,
        key.expires_at.map(OffsetDateTime::from),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Why a key can't be changed, if so. A key that expires doesn't count as a team's last admin.
async fn refuse_change(
    tx: &mut PgConnection,
    team: TeamId,
    hash: KeyHash,
    loses_admin: bool,
) -> Result<Option<KeyChanged>> {
    let row = sqlx::query!(
        r#"
        select
            permissions ->> '*' is not distinct from 'admin' and expires_at is null
                as "is_lasting_admin!",
            exists (
                select
                from api_keys other
                where other.team_id = $1 and other.hash <> $2 and other.revoked_at is null
                    and other.expires_at is null and other.permissions ->> '*' = 'admin'
            ) as "has_other!"
        from api_keys
        where team_id = $1 and hash = $2 and revoked_at is null
            and (expires_at is null or expires_at > clock_timestamp())
        "#,
        team.serial(),
        &hash.0[..],
    )
    .fetch_optional(tx)
    .await?;
    Ok(match row {
        None => Some(KeyChanged::NotFound),
        Some(row) if loses_admin && row.is_lasting_admin && !row.has_other => {
            Some(KeyChanged::LastAdmin)
        }
        Some(_) => None,
    })
}

/// Writes the change down and rings for it, both in the change's own transaction.
async fn announce_change(tx: &mut PgConnection, hash: KeyHash) -> Result<()> {
    sqlx::query!(
        "insert into key_changes (key_hash) values ($1)",
        &hash.0[..]
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!("select pg_notify($1, $2)", bell::KEYS, hash.to_string())
        .execute(tx)
        .await?;
    Ok(())
}
