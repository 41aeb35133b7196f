//! Names the compiler, for the head of the report.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(rustc).arg("--version").output();
    let version = said.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned());
    println!(
        "cargo:rustc-env=HANDOFF_BENCH_RUSTC={}",
        version.unwrap_or_default()
    );
}
