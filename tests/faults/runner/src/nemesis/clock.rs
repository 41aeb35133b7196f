//! A replica's clock steps, and steps back.

use anyhow::{Context, Result};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::time::{Duration, sleep};

use super::{Scene, Trace};
use crate::schedule::Fault;

/// How long the replica may take to see the step: the library reads it once a second, and the
/// server writes its date once a second.
const SEEN: Duration = Duration::from_millis(2_500);

/// How far the date of an answer may be off where no clock is.
const ROUNDING_S: i64 = 3;

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
        format!("the date of its answers was {ahead:+} s off"),
    ))
}

/// By how many seconds the replica's clock is ahead of ours, by the date of its answers.
async fn ahead_s(scene: Scene<'_>, replica: usize) -> Result<i64> {
    let date = scene.probes.date(replica).await.context("an answer without a date")?;
    // RFC 2822 knows no GMT but as a zone of old.
    let date = OffsetDateTime::parse(&date, &Rfc2822)?;
    Ok(date.unix_timestamp() - OffsetDateTime::now_utc().unix_timestamp())
}
