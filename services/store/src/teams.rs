//! Teams and signups.

use crate::{Result, Store, keys::insert_key};
use handoff_protocol::{
    Name, Permissions, TeamId,
    keys::{KeyHash, NewKey},
    teams::{NewTeam, Team},
};
use std::time::Duration;

/// What came of a signup.
#[derive(Debug)]
pub enum SignupOutcome {
    /// The team stands, with its first key.
    SignedUp(Team),
    /// Too many from this address; try again after this long.
    LimitReached(Duration),
}

impl Store {
    /// How long an address must wait before it may sign up again; none: it may now.
    pub async fn signup_wait(&self, address: &str, per_hour: u32) -> Result<Option<Duration>> {
        let seconds = sqlx::query_scalar!(
            r#"
            select extract(epoch from window_started_at + interval '1 hour' - clock_timestamp())
                ::float8 as "seconds!"
            from signups
            where address = $1 and used >= $2
                and window_started_at > clock_timestamp() - interval '1 hour'
            "#,
            address,
            i64::from(per_hour),
        )
        .fetch_optional(&self.control)
        .await?;
        Ok(match seconds {
            Some(seconds) => Some(Duration::from_secs_f64(seconds.clamp(1.0, 3_600.0))),
            None if per_hour == 0 => Some(Duration::from_secs(3_600)),
            None => None,
        })
    }

    /// Makes a team and its first key, within the address's budget: exact, since its row is
    /// locked from the moment it is counted.
    pub async fn sign_up(
        &self,
        address: &str,
        per_hour: u32,
        team: &NewTeam,
        first_key: KeyHash,
    ) -> Result<SignupOutcome> {
        let mut tx = self.control.begin().await?;
        let counted = sqlx::query!(
            r#"
            insert into signups as s (address, window_started_at, used)
            values ($1, clock_timestamp(), 1)
            on conflict (address) do update
            set
                used = case
                    when s.window_started_at <= clock_timestamp() - interval '1 hour' then 1
                    else s.used + 1
                end,
                window_started_at = case
                    when s.window_started_at <= clock_timestamp() - interval '1 hour'
                        then clock_timestamp()
                    else s.window_started_at
                end
            where s.used < $2 or s.window_started_at <= clock_timestamp() - interval '1 hour'
            "#,
            address,
            i64::from(per_hour),
        )
        .execute(&mut *tx)
        .await?;
        if counted.rows_affected() == 0 {
            tx.rollback().await?;
            let wait = self.signup_wait(address, per_hour).await?;
            return Ok(SignupOutcome::LimitReached(
                wait.unwrap_or(Duration::from_secs(1)),
            ));
        }
        let row = sqlx::query!(
            "insert into teams (name) values ($1) returning id, created_at",
            team.name.as_str(),
        )
        .fetch_one(&mut *tx)
        .await?;
        let id = TeamId::from_row(row.id);
        let key = NewKey {
            sender: team.sender.clone(),
            permissions: Permissions::full(),
            expires_at: None,
        };
        insert_key(&mut tx, id, first_key, &key).await?;
        tx.commit().await?;
        Ok(SignupOutcome::SignedUp(Team {
            id,
            name: Name::from_row(team.name.as_str()),
            created_at: row.created_at.into(),
        }))
    }

    /// Whether there is any team yet.
    pub async fn has_teams(&self) -> Result<bool> {
        Ok(
            sqlx::query_scalar!(r#"select exists (select from teams) as "exists!""#)
                .fetch_one(&self.control)
                .await?,
        )
    }
}
