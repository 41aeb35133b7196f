//! Postgres where there is none.
use crate::*;
use std::path::Path;
/// later
pub fn find_or_obtain(
    setting: Option<&Path>,
    _report: &mut dyn FnMut(&str),
) -> Result<Binaries, Error> {
    find_binaries(setting)
}
