//! The packing script: what it makes, and what it refuses.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::project::{VERSION, pack, packages, platform, unpacked};
use crate::mcp_client::handoff_binary;
use crate::programs::{program, sdk, succeed};

/// What the SDK may weigh when it is packed, without the program.
const LIMIT_BYTES: u64 = 40_000;

fn manifest() -> Value {
    json_file(&sdk().join("package.json"))
}

fn json_file(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn cargo_and_npm_name_one_version() {
    assert_eq!(manifest()["version"], VERSION, "package.json");
    let lock = json_file(&sdk().join("package-lock.json"));
    assert_eq!(lock["version"], VERSION, "package-lock.json");
    assert_eq!(
        lock["packages"][""]["version"], VERSION,
        "package-lock.json"
    );
}

#[tokio::test]
async fn the_sdk_is_small_and_names_its_platforms() {
    let packed = &packages().await.sdk;
    let bytes = fs::metadata(packed).unwrap().len();
    assert!(bytes < LIMIT_BYTES, "{bytes} bytes");

    let manifest: Value = serde_json::from_str(&unpacked(packed, "package.json").await).unwrap();
    let mut platforms = json!({});
    for target in json_file(&sdk().join("npm/targets.json"))
        .as_object()
        .unwrap()
        .keys()
    {
        platforms[format!("@handoff-sdk/{target}")] = VERSION.into();
    }
    assert_eq!(manifest["optionalDependencies"], platforms);
    for field in [
        "dependencies",
        "devDependencies",
        "scripts",
        "private",
        "overrides",
    ] {
        assert!(manifest[field].is_null(), "{field}: {manifest}");
    }
    assert!(unpacked(packed, "LICENSE").await.contains("Apache License"));
    let notices = unpacked(packed, "THIRD-PARTY-LICENSES").await;
    for says in ["eventsource-parser", "MIT License", "Copyright (c)"] {
        assert!(notices.contains(says), "{says}: {notices}");
    }
}

#[tokio::test]
async fn what_package_checkers_look_for_is_there() {
    let packed = &packages().await.sdk;
    let home = tempfile::tempdir().unwrap();
    let checkers: [&[&str]; 2] = [
        &["publint/src/cli.js", "--strict"],
        &["@arethetypeswrong/cli/dist/index.js"],
    ];
    for checker in checkers {
        let mut node = program("bin/node", home.path());
        node.arg(sdk().join("node_modules").join(checker[0]))
            .args(&checker[1..])
            .arg(packed);
        succeed(&mut node).await;
    }
}

#[tokio::test]
async fn a_platforms_package_says_where_its_program_runs() {
    let packed = &packages().await.platform;
    let manifest: Value = serde_json::from_str(&unpacked(packed, "package.json").await).unwrap();
    let target = platform();
    let (os, cpu) = target.split_once('-').unwrap();
    assert_eq!(manifest["name"], format!("@handoff-sdk/{target}"));
    assert_eq!(manifest["version"], VERSION);
    assert_eq!(manifest["os"], json!([os]));
    assert_eq!(manifest["cpu"], json!([cpu]));
    if cfg!(target_env = "gnu") {
        assert_eq!(manifest["libc"], json!(["glibc"]));
    }
}

#[tokio::test]
async fn programs_of_other_machines_are_known_by_their_headers() {
    let out = tempfile::tempdir().unwrap();
    let targets = [
        ("linux-arm64", elf(0xb7)),
        ("darwin-arm64", mach_o(0x0100_000c)),
        ("darwin-x64", mach_o(0x0100_0007)),
        ("win32-x64", pe(0x8664)),
    ];
    for (target, header) in targets.iter().filter(|(target, _)| *target != platform()) {
        let binary = out.path().join("program");
        fs::write(&binary, header).unwrap();
        let binary = binary.to_str().unwrap();
        let folder = out.path().to_str().unwrap();
        let options = [
            "--binary",
            binary,
            "--out",
            folder,
            "--without-sdk",
            "--target",
        ];

        let packed = pack(&[&options[..], &[target]].concat()).await;
        assert!(packed.status.success(), "{target}: {packed:?}");
        let tarball = out
            .path()
            .join(format!("handoff-sdk-{target}-{VERSION}.tgz"));
        let manifest = unpacked(&tarball, "package.json").await;
        let manifest: Value = serde_json::from_str(&manifest).unwrap();
        let (os, cpu) = target.split_once('-').unwrap();
        assert_eq!(manifest["os"], json!([os]));
        assert_eq!(manifest["cpu"], json!([cpu]));
        assert!(manifest["libc"].is_null(), "it is static: {manifest}");

        let refused = pack(&[&options[..], &["linux-x64"]].concat()).await;
        assert_eq!(refused.status.code(), Some(1), "{target}: {refused:?}");
        assert!(refused.stderr.contains(target), "{}", refused.stderr);
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_leaves_nothing() {
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().join("packages");
    let folder = folder.to_str().unwrap();
    let relay = harness::relay_binary().to_str().unwrap();
    let program = handoff_binary();
    let text = sdk().join("README.md");
    let cases: [(&[&str], i32, &str); 6] = [
        (
            &["--binary", relay, "--out", folder],
            1,
            "expected: handoff",
        ),
        (
            &["--binary", text.to_str().unwrap(), "--out", folder],
            1,
            "is no program",
        ),
        (
            &["--binary", "/nowhere/handoff", "--out", folder],
            1,
            "/nowhere/handoff",
        ),
        (
            &["--binary", &program, "--target", "vms-vax", "--out", folder],
            2,
            "vms-vax",
        ),
        (
            &["--target", "linux-x64", "--out", folder],
            2,
            "need --binary",
        ),
        (&["--binary", &program], 2, "--out"),
    ];
    for (arguments, code, says) in cases {
        let refused = pack(arguments).await;
        assert_eq!(
            refused.status.code(),
            Some(code),
            "{arguments:?}: {refused:?}"
        );
        assert!(refused.stderr.contains(says), "{}", refused.stderr);
        assert!(!Path::new(folder).exists(), "{arguments:?}");
    }
}

/// The first bytes of a 64-bit Linux program that names no loader.
fn elf(machine: u16) -> Vec<u8> {
    let mut header = vec![0; 64];
    header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    header[18..20].copy_from_slice(&machine.to_le_bytes());
    header
}

/// The first bytes of a 64-bit program for macOS.
fn mach_o(cpu: u32) -> Vec<u8> {
    [0xfeed_facf_u32.to_le_bytes(), cpu.to_le_bytes()].concat()
}

/// The first bytes of a program for Windows.
pub(super) fn pe(machine: u16) -> Vec<u8> {
    let mut header = vec![0; 0x80];
    header[..2].copy_from_slice(b"MZ");
    header[0x3c] = 0x40;
    header[0x40..0x44].copy_from_slice(b"PE\0\0");
    header[0x44..0x46].copy_from_slice(&machine.to_le_bytes());
    header
}
