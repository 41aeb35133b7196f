//! The standby takes over, promoted by hand as the runbook says: the first server is fenced (it is
//! stopped and never comes back), the standby is promoted, the replicas are led to it. Afterwards a
//! new standby is made, so that it can happen again.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::sleep;

use super::{Scene, Trace};
use crate::fleet::until;
use crate::schedule::Fault;

/// How long the making of a standby may take.
const STANDBY: Duration = Duration::from_secs(120);

/// Every commit that was answered is on the standby.
pub(super) async fn synchronous(scene: Scene<'_>) -> Result<Trace> {
    ready(scene).await?;
    let postgres = scene.fleet.postgres();
    postgres.wait_for_standby(true).await?;
    // Some commits that waited for it.
    sleep(Duration::from_secs(2)).await;
    take_over(scene, None).await
}

/// The standby lags: the last commits that were answered are not on it.
pub(super) async fn asynchronous(scene: Scene<'_>, fault: &Fault) -> Result<Trace> {
    ready(scene).await?;
    let postgres = scene.fleet.postgres();
    // What was answered before this moment is there when the link is cut off.
    let since = scene.now();
    postgres.until_caught_up().await?;
    postgres.replication().stall();
    sleep(fault.lasts).await;
    take_over(scene, Some(since)).await
}

/// There is a standby to be promoted.
async fn ready(scene: Scene<'_>) -> Result<()> {
    until("a standby follows", STANDBY, || async {
        scene.fleet.postgres().has_standby().await.then_some(())
    })
    .await
}

async fn take_over(scene: Scene<'_>, lossy_since: Option<Duration>) -> Result<Trace> {
    let postgres = scene.fleet.postgres();
    let promotion = postgres.promote().await.context("promote the standby")?;
    scene.fleet.follow_primary().await;
    let ended = scene.now();
    postgres.replication().reset();
    postgres.replication().pass();
    let (before, after) = promotion.timelines;
    Ok(Trace {
        lossy_since,
        ..Trace::new(
            ended,
            after > before,
            format!(
                "timeline {before} then {after}; {} bytes of log never reached the standby",
                promotion.lost_bytes
            ),
        )
    })
}
