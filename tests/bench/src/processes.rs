//! What `/proc` says of the machine and of its processes: processor time and memory.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// `/proc` counts processor time in hundredths of a second on every Linux that runs Rust.
const TICKS_PER_SECOND: u64 = 100;

/// The processor time a process has used, its exited children included.
pub(crate) fn processor_time(pid: u32) -> Result<Duration> {
    let stat = stat(pid)?;
    // utime, stime, cutime, cstime: the 14th to 17th field, counted from the state, the third.
    let ticks: u64 = stat
        .iter()
        .skip(11)
        .take(4)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// The parent of a process.
pub(crate) fn parent(pid: u32) -> Result<u32> {
    stat(pid)?
        .get(1)
        .and_then(|field| field.parse().ok())
        .context("a process without a parent")
}

/// The name of a process' program.
pub(crate) fn name(pid: u32) -> Result<String> {
    Ok(fs::read_to_string(format!("/proc/{pid}/comm"))?
        .trim()
        .to_owned())
}

/// The processes that a process has started and that still run.
pub(crate) fn children(pid: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(child) = entry?.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        // A process may be gone between the listing and the look at it.
        if parent(child).is_ok_and(|parent| parent == pid) {
            children.push(child);
        }
    }
    Ok(children)
}

/// The memory of a process that is in RAM, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    kilobytes(&rollup, "Rss:")
}

/// The memory of a process once it has not changed for so long, in bytes.
pub(crate) async fn settled_memory(pid: u32, settled: Duration) -> Result<u64> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut known = resident_bytes(pid)?;
    let mut since = Instant::now();
    while since.elapsed() < settled {
        ensure!(
            Instant::now() < deadline,
            "the relay's memory does not settle"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = resident_bytes(pid)?;
        // A page here and there is no change.
        if now.abs_diff(known) > 128 * 1024 {
            (known, since) = (now, Instant::now());
        }
    }
    Ok(known)
}

/// The memory of this machine, in bytes.
pub(crate) fn memory_bytes() -> Result<u64> {
    kilobytes(&fs::read_to_string("/proc/meminfo")?, "MemTotal:")
}

/// The model of this machine's processor.
pub(crate) fn processor_model() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or_else(
            || "unknown".to_owned(),
            |(_, model)| model.trim().to_owned(),
        )
}

/// How many processes have wanted to run in the last minute.
pub(crate) fn load_average() -> f64 {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ')
        .next()
        .and_then(|field| field.parse().ok())
        .unwrap_or(f64::NAN)
}

/// The fields of `/proc/PID/stat` from the state on: the name before it may hold anything.
fn stat(pid: u32) -> Result<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat
        .rsplit_once(')')
        .context("/proc/PID/stat has another form here")?;
    Ok(fields.split_whitespace().map(str::to_owned).collect())
}

fn kilobytes(text: &str, label: &str) -> Result<u64> {
    text.lines()
        .find_map(|line| {
            line.strip_prefix(label)?
                .trim()
                .strip_suffix("kB")?
                .trim()
                .parse::<u64>()
                .ok()
        })
        .map(|kilobytes| kilobytes * 1024)
        .with_context(|| format!("no {label} to be read"))
}
