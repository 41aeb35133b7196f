//! Replicas that are killed, stopped in their tracks, or asked to go.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use super::{Scene, Trace};
use crate::fleet::until;
use crate::schedule::Fault;

/// How long a replica may take to be ready where nothing is broken.
const READY: Duration = Duration::from_secs(60);

/// SIGKILL, and a new process a while later.
pub(super) async fn kill(scene: Scene<'_>, fault: &Fault) -> Result<Trace> {
    let member = scene.fleet.member(fault.replica.unwrap_or(0));
    let replica = member.running()?;
    member.hold();
    replica.signal(nix::sys::signal::Signal::SIGKILL);
    let status = replica.exited().await;
    sleep(fault.lasts).await;
    member.release();
    let ended = scene.now();
    let killed = status.signal() == Some(9);
    Ok(Trace::new(
        ended,
        killed,
        format!(
            "process {} ended by signal {:?}",
            replica.pid(),
            status.signal()
        ),
    ))
}

/// SIGSTOP, and SIGCONT when every timeout is over.
pub(super) async fn pause(scene: Scene<'_>, fault: &Fault) -> Result<Trace> {
    let member = scene.fleet.member(fault.replica.unwrap_or(0));
    let replica = member.running()?;
    let pid = replica.pid().as_raw();
    replica.pause();
    sleep(Duration::from_millis(100)).await;
    let early = state(pid);
    sleep(fault.lasts.saturating_sub(Duration::from_millis(100))).await;
    let late = state(pid);
    replica.resume();
    let ended = scene.now();
    Ok(Trace::new(
        ended,
        early == Some('T') && late == Some('T'),
        format!(
            "process {pid} in state {} in the beginning and {} in the end",
            early.unwrap_or('?'),
            late.unwrap_or('?')
        ),
    ))
}

/// Every replica in turn: SIGTERM, its end, a new one until that is ready.
pub(super) async fn roll(scene: Scene<'_>) -> Result<Trace> {
    let mut ended = scene.now();
    let mut codes = Vec::new();
    for member in scene.fleet.members() {
        let old = member.running()?;
        member.hold();
        let status = old.terminate().await;
        codes.push(status.code());
        member.release();
        ended = scene.now();
        member.until_replaced(old.pid().as_raw()).await?;
        until("the new replica is ready", READY, || async {
            let answer = scene.probes.ready(member.index).await;
            answer.then_some(())
        })
        .await?;
    }
    let clean = codes.iter().all(|code| *code == Some(0));
    Ok(Trace::new(
        ended,
        clean,
        format!(
            "exit codes {:?}",
            codes.iter().flatten().collect::<Vec<_>>()
        ),
    ))
}

/// The state of a process, as the kernel names it.
fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.trim_start().chars().next()
}
