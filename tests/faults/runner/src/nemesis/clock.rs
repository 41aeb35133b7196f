//! A replica's clock steps, and steps back.

use anyhow::Result;
use time::OffsetDateTime;
use tokio::time::{Duration, sleep};

use super::{Scene, Trace};
use crate::schedule::Fault;

/// How long the replica may take to see the step: the library reads it once a second.
const SEEN: Duration = Duration::from_millis(2_500);

/// How far the end of a token may be off where no clock is.
const ROUNDING_S: i64 = 3;

/// How long a token lives that shows the clock.
const TOKEN: Duration = Duration::from_secs(60);

pub(super) async fn step(scene: Scene<'_>, fault: &Fault) -> Result<Trace> {
    let member = scene.fleet.member(fault.replica.unwrap_or(0));
    member.step_clock(fault.amount)?;
    sleep(SEEN).await;
    let ahead = ahead_s(scene, member.index).await;
    sleep(fault.lasts.saturating_sub(SEEN)).await;
    member.step_clock(0)?;
    let ended = scene.now();
    let ahead = ahead?;
    Ok(Trace::new(
        ended,
        (ahead - fault.amount).abs() <= ROUNDING_S,
        format!("a token that it made ended {ahead:+} s off"),
    ))
}

/// By how many seconds the replica's clock is ahead of ours, by the end of a token that it makes.
async fn ahead_s(scene: Scene<'_>, replica: usize) -> Result<i64> {
    let ends = scene.probes.token_ends(replica, TOKEN).await?;
    let due = OffsetDateTime::now_utc() + TOKEN;
    Ok(ends.unix_timestamp() - due.unix_timestamp())
}
