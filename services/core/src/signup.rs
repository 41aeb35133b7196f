//! Signing up, and what a caller learns of itself.

use crate::{Error, Operation, Relay, Result, TeamGrant, keys::new_api_key};
use handoff_protocol::{
    ErrorCode,
    teams::{Limits, Me, NewTeam, SignedUp},
};
use handoff_store::teams::SignupOutcome;
use std::{net::IpAddr, time::Duration};

impl Relay {
    /// Refuses an address that has signed up often enough, before anything else is looked at.
    ///
    /// # Errors
    /// `SIGNUP_RATE_LIMITED`
    pub async fn check_signup(&self, address: IpAddr) -> Result<()> {
        let per_hour = self.config.signups_per_hour;
        match self
            .store
            .signup_wait(&network_of(address), per_hour)
            .await?
        {
            Some(wait) => Err(too_many_signups(wait)),
            None => Ok(()),
        }
    }

    /// Makes a team with its first key.
    ///
    /// # Errors
    /// `SIGNUP_RATE_LIMITED`
    pub async fn sign_up(&self, address: IpAddr, team: NewTeam) -> Result<SignedUp> {
        let (api_key, hash) = new_api_key();
        let per_hour = self.config.signups_per_hour;
        match self
            .store
            .sign_up(&network_of(address), per_hour, &team, hash)
            .await?
        {
            SignupOutcome::SignedUp(team) => Ok(SignedUp { team, api_key }),
            SignupOutcome::LimitReached(wait) => Err(too_many_signups(wait)),
        }
    }

    /// What the caller is, and what holds it back.
    pub fn me(&self, grant: &TeamGrant) -> Result<Me> {
        let caller = grant.caller_for(Operation::ReadMe)?;
        let key = &caller.key.row;
        Ok(Me {
            team: key.team.clone(),
            sender: caller.sender().clone(),
            key: key.hash,
            permissions: caller.permissions().clone(),
            expires_at: caller.expires_at(),
            limits: Limits {
                rate_limit_max: self.config.rate_limit_max,
                rate_limit_window_ms: self.config.rate_limit_window.as_millis() as u64,
                streams_per_key: self.config.streams_per_key,
                keys_per_team: self.config.keys_per_team,
                channels_per_team: self.config.store.channels_per_team,
            },
        })
    }
}

fn too_many_signups(wait: Duration) -> Error {
    let message = "Too many teams were signed up from this address; try again later";
    Error::new(ErrorCode::SignupRateLimited, message).retry_after(wait)
}

/// What counts as one address: with IPv6 a customer usually holds a whole /64.
pub(crate) fn network_of(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}
