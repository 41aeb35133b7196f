//! Where programs are: the relay's (`HANDOFF_RELAY_BIN`, or beside the tests, built if need be), and
//! other people's, which `tests/tools/install` brings.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::process::run;

/// The relay's binary, brought up to date once per test process.
///
/// `cargo test` builds the binaries of the tested package only, so the harness asks cargo for the
/// relay's: into the same target folder, with the same profile as the tests themselves.
pub fn relay_binary() -> &'static PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match env::var_os("HANDOFF_RELAY_BIN") {
        Some(path) => path.into(),
        None => beside_the_tests(),
    })
}

/// The relay with bugs to plant (`faults/PLANTED.md`).
///
/// # Panics
///
/// Where `tests/run` didn't set `HANDOFF_PLANTED_RELAY_BIN`.
pub fn planted_relay_binary() -> PathBuf {
    let binary = env::var_os("HANDOFF_PLANTED_RELAY_BIN");
    binary
        .expect("tests/run builds the relay with bugs to plant and names it")
        .into()
}

/// A program among those of `tests/tools/install`: `bin/node`, `python/mcp/bin/python`.
///
/// # Panics
///
/// Where `tests/run` didn't set `HANDOFF_TEST_TOOLS`.
pub fn tool(path: &str) -> PathBuf {
    let tools = env::var_os("HANDOFF_TEST_TOOLS");
    let tools = tools.expect("tests/run installs other people's programs and names their folder");
    PathBuf::from(tools).join(path)
}

fn beside_the_tests() -> PathBuf {
    let test = env::current_exe().expect("a process knows its executable");
    let profile = test
        .ancestors()
        .skip(1)
        .find(|folder| !folder.ends_with("deps"))
        .expect("a test lies in target/PROFILE/deps");
    let binary = profile.join("handoff-relay");

    let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build
        .args([
            "build",
            "--quiet",
            "--package",
            "handoff-relay",
            "--bin",
            "handoff-relay",
        ])
        .arg("--manifest-path")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .arg("--target-dir")
        .arg(profile.parent().expect("a profile's folder lies in target"))
        .args([
            "--profile",
            match profile.file_name().and_then(|name| name.to_str()) {
                Some("debug") | None => "dev",
                Some(name) => name,
            },
        ]);
    match run(build) {
        Ok(built) => assert!(
            built.status.success(),
            "the relay does not build:\n{}",
            built.stderr
        ),
        Err(_) => assert!(
            binary.exists(),
            "no cargo and no {}; name the relay's binary in HANDOFF_RELAY_BIN",
            binary.display()
        ),
    }
    binary
}
