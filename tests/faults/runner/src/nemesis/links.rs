//! What happens on links: packets vanish or come late, connections are cut or reset, notifications
//! are swallowed.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::Result;
use harness::Proxy;
use tokio::time::{Duration, sleep};

use super::{Scene, Trace};
use crate::fleet::{Member, connect};
use crate::schedule::{Fault, Kind};

/// The connection of one replica that listens is cut; the lanes, the notifier and the pools stay.
pub(super) async fn cut_listener(scene: Scene<'_>, fault: &Fault) -> Result<Trace> {
    let member = scene.fleet.member(fault.replica.unwrap_or(0));
    let before = member.links.listen.connections();
    let cut = member.links.listen.cut_listeners();
    let ended = scene.now();
    Ok(Trace::new(
        ended,
        cut >= 1,
        format!("{cut} of {before} sessions cut"),
    ))
}

/// No replica hears a bell.
pub(super) async fn drop_bells(scene: Scene<'_>, fault: &Fault) -> Result<Trace> {
    let links = || {
        scene
            .fleet
            .members()
            .iter()
            .map(|member| &member.links.listen)
    };
    let swallowed = || links().map(Proxy::swallowed).sum::<usize>();
    let before = swallowed();
    links().for_each(Proxy::swallow_notifications);
    sleep(fault.lasts).await;
    let count = swallowed() - before;
    links().for_each(Proxy::pass);
    let ended = scene.now();
    Ok(Trace::new(
        ended,
        count > 0,
        format!("{count} notifications swallowed"),
    ))
}

/// Packets between a replica and one side of it vanish: nobody is told.
pub(super) async fn partition(scene: Scene<'_>, fault: &Fault) -> Result<Trace> {
    let member = scene.fleet.member(fault.replica.unwrap_or(0));
    let links = side(member, fault.kind);
    let began = scene.now();
    let dropped = match scene.fleet.packets() {
        Some(packets) => {
            let rules = packets.drop(&addresses(&links), 1.0).await?;
            sleep(fault.lasts).await;
            let dropped = rules.dropped().await;
            rules.end().await?;
            format!("{} packets dropped", dropped?)
        }
        None => {
            links.iter().for_each(|link| link.stall());
            sleep(fault.lasts).await;
            links.iter().for_each(|link| link.pass());
            "what was sent was held back by the proxies".to_owned()
        }
    };
    let ended = scene.now();
    // What was on its way in the beginning may still have come through.
    let settled = began + Duration::from_millis(500);
    let acked = scene.probes.acked_between(member.index, settled, ended);
    Ok(Trace::new(
        ended,
        acked == 0,
        format!("{dropped}; the replica answered {acked} posts meanwhile"),
    ))
}

/// Connections between a replica and one side of it are reset, and new ones are turned away.
pub(super) async fn reset(scene: Scene<'_>, fault: &Fault) -> Result<Trace> {
    let member = scene.fleet.member(fault.replica.unwrap_or(0));
    let links = side(member, fault.kind);
    links.iter().for_each(|link| link.refuse_new());
    let began = scene.now();
    let reset: usize = links.iter().map(|link| link.reset()).sum();
    sleep(fault.lasts).await;
    links.iter().for_each(|link| link.pass());
    let ended = scene.now();
    let settled = began + Duration::from_millis(200);
    let acked = scene.probes.acked_between(member.index, settled, ended);
    Ok(Trace::new(
        ended,
        reset > 0 && acked == 0,
        format!("{reset} connections reset; the replica answered {acked} posts meanwhile"),
    ))
}

/// All links of a replica are slower.
pub(super) async fn delay(scene: Scene<'_>, fault: &Fault) -> Result<Trace> {
    let member = scene.fleet.member(fault.replica.unwrap_or(0));
    let delay = Duration::from_millis(fault.amount.unsigned_abs());
    let links = all(member);
    let before = round_trip(member).await?;
    links.iter().for_each(|link| link.delay(delay));
    sleep(fault.lasts).await;
    let during = round_trip(member).await?;
    links.iter().for_each(|link| link.pass());
    let ended = scene.now();
    Ok(Trace::new(
        ended,
        during >= 2 * delay,
        format!("a round trip to Postgres took {during:.1?} after {before:.1?} before"),
    ))
}

/// All links of a replica lose packets.
pub(super) async fn lose(scene: Scene<'_>, fault: &Fault) -> Result<Trace> {
    let member = scene.fleet.member(fault.replica.unwrap_or(0));
    let share = fault.amount as f64 / 100.0;
    let links = all(member);
    let lost = match scene.fleet.packets() {
        Some(packets) => {
            let rules = packets.drop(&addresses(&links), share).await?;
            sleep(fault.lasts).await;
            let lost = rules.dropped().await;
            rules.end().await?;
            lost?
        }
        None => {
            let count = || links.iter().map(|link| link.lost()).sum::<usize>() as u64;
            let before = count();
            links.iter().for_each(|link| link.lose(share));
            sleep(fault.lasts).await;
            links.iter().for_each(|link| link.pass());
            count() - before
        }
    };
    let ended = scene.now();
    Ok(Trace::new(ended, lost > 0, format!("{lost} packets lost")))
}

/// The links on the side that a fault concerns.
fn side(member: &Member, kind: Kind) -> Vec<&Proxy> {
    match kind {
        Kind::PartitionClients | Kind::ResetClients => vec![&member.links.clients],
        _ => vec![&member.links.database, &member.links.listen],
    }
}

fn all(member: &Member) -> Vec<&Proxy> {
    let links = &member.links;
    vec![&links.database, &links.listen, &links.clients]
}

fn addresses(links: &[&Proxy]) -> Vec<SocketAddr> {
    links.iter().map(|link| link.address()).collect()
}

/// How long Postgres takes to answer over a replica's link.
async fn round_trip(member: &Member) -> Result<Duration> {
    let client = connect(member.links.database.url()).await?;
    let asked = Instant::now();
    client.batch_execute("select 1").await?;
    Ok(asked.elapsed())
}
