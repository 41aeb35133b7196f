//! Turns on the bug that the environment names, in builds that have some
//! (`tests/faults/PLANTED.md`).

use anyhow::bail;

const VARIABLE: &str = "HANDOFF_PLANTED_BUG";

/// To be called before anything else starts.
///
/// # Errors
/// When there is no such bug.
pub fn plant_bug() -> anyhow::Result<()> {
    let Some(name) = std::env::var_os(VARIABLE).filter(|name| !name.is_empty()) else {
        tracing::warn!(
            "This program was built for tests of the tests: it has planted bugs, all off"
        );
        return Ok(());
    };
    let name = name.to_string_lossy();
    if !handoff_store::planted::plant(&name) && !handoff_core::planted::plant(&name) {
        bail!("{VARIABLE}: there is no planted bug {name:?}");
    }
    tracing::warn!("THE BUG {name:?} IS PLANTED: THIS RELAY BREAKS ITS GUARANTEES ON PURPOSE");
    Ok(())
}
