//! What the relay has asked of its allocator, out of its metrics. Only a build with the feature
//! `count-allocations` counts.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use hyper::StatusCode;

use super::loads::Load;
use crate::environment::Server;
use crate::http::{Connection, Prepared};
use crate::options::{Common, ProfileOptions};

/// How to have such a relay.
pub(super) const MISSING: &str = "no handoff-relay-counting beside this program: build the relay \
                                  with --features count-allocations, and copy it there";

/// How much an operation allocates.
#[derive(Clone, Copy)]
pub(super) struct Allocations {
    pub(super) count: f64,
    pub(super) bytes: f64,
}

/// The relay that counts; none where nobody built one.
pub(super) fn relay_bin(options: &ProfileOptions) -> Result<Option<PathBuf>> {
    if let Some(path) = &options.counting_relay_bin {
        ensure!(path.is_file(), "no relay at {}", path.display());
        return Ok(Some(path.clone()));
    }
    let path = std::env::current_exe()?.with_file_name("handoff-relay-counting");
    Ok(path.is_file().then_some(path))
}

/// Gives the load to a relay that counts.
pub(super) async fn measure(
    server: &Server,
    common: &Common,
    load: Load,
    relay_bin: &Path,
) -> Result<Allocations> {
    let deployment = server.deploy_program(relay_bin, "allocations", 1).await?;
    let mut running = load.open(&deployment, common.quick).await?;
    if load.is_busy() {
        running.work(common.warm_up()).await?;
    }
    let mut metrics = Connection::open(deployment.metrics_address(0)?).await?;
    let first = totals(&mut metrics).await?;
    let before = totals(&mut metrics).await?;
    let done = running.work(load.duration(common.duration())).await?;
    let after = totals(&mut metrics).await?;
    running.close().await?;
    deployment.stop().await?;
    // Less what showing the metrics takes by itself.
    let each = |place: usize| {
        let looked = before[place] - first[place];
        (after[place] - before[place] - looked) / done.operations as f64
    };
    Ok(Allocations {
        count: each(0),
        bytes: each(1),
    })
}

/// Allocations and bytes since the relay's start.
async fn totals(metrics: &mut Connection) -> Result<[f64; 2]> {
    let answer = metrics.send(&Prepared::get("/metrics", "")).await?;
    let text = std::str::from_utf8(answer.expect(StatusCode::OK)?)?;
    let total = |name: &str| {
        let value = text.lines().find_map(|line| {
            let value = line.strip_prefix(name)?.strip_prefix(' ')?;
            value.parse::<f64>().ok()
        });
        value.with_context(|| format!("this relay doesn't show {name}: it counts no allocations"))
    };
    Ok([
        total("handoff_allocations_total")?,
        total("handoff_allocated_bytes_total")?,
    ])
}
