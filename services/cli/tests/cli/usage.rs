//! What is typed wrongly, and help.

use crate::support::{HANDOFF, Home, Ran};
use std::path::Path;

#[test]
fn wrong_usage_exits_with_2_and_prints_no_output() {
    for arguments in [
        &[][..],
        &["fly"],
        &["post", "build"],
        &["read", "build", "--limit", "0"],
        &["read", "build", "--limit", "101"],
        &["read", "build", "--unread", "--after", "1"],
        &["tail"],
        &["watch", "--burst-ms", "soon"],
        &["inbox", "--wait", "56"],
        &["keys", "create", "bob", "--may", "build"],
        &["keys", "create", "bob", "--may", "build=fly"],
        &["keys", "permissions", "hash"],
        &["read", "build", "--wait", "51"],
        &["token", "create", "--ttl", "0"],
        &["token", "create", "--ttl", "86401"],
        &["token", "create", "--may", "build"],
        &["mcp", "--channel-from", "bob"],
        &["demo", "--speed", "-1"],
        &["completions", "tcl"],
    ] {
        let ran = Home::new().run(arguments);
        assert!(!ran.err.is_empty(), "{arguments:?}");
        ran.failed(2);
    }
}

#[test]
fn every_command_has_help() {
    let home = Home::new();
    let help = home.run(&["--help"]).ok();
    for command in [
        "signup",
        "whoami",
        "post",
        "reply",
        "read",
        "tail",
        "watch",
        "inbox",
        "status",
        "ack",
        "acks",
        "keys",
        "token",
        "channels",
        "mcp",
        "hook",
        "keygen",
        "demo",
        "completions",
        "config",
    ] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}");
        let own = home.run(&[command, "--help"]).ok();
        assert!(own.contains("Usage: handoff"), "{command}: {own}");
    }
    for word in ["RELAY_API_URL", "HANDOFF_ENCRYPTION_KEY", "Exit codes"] {
        assert!(help.contains(word), "{word}");
    }
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = Home::new().run(&["completions", shell]).ok();
        for word in ["handoff", "watch", "relay-url"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn each_generated_key_is_another_and_stands_alone_on_standard_output() {
    let home = Home::new();
    let keys = [(); 2].map(|()| home.run(&["keygen"]).ok());
    assert_ne!(keys[0], keys[1]);
    for key in &keys {
        assert_eq!(key.lines().count(), 1);
        assert!(key.trim_end().len() >= 43, "at least 256 bits: {key}");
    }
    let json = home.run(&["keygen", "--json"]).json();
    assert!(json["encryption_key"].is_string());
}

#[test]
fn without_a_relay_to_start_the_demo_says_what_to_do() {
    // A link beside nothing else: a copy could not be run while another test starts a process.
    let programs = Path::new(HANDOFF).parent().unwrap();
    let folder = tempfile::tempdir_in(programs).unwrap();
    let alone = folder.path().join("handoff");
    std::fs::hard_link(HANDOFF, &alone).unwrap();
    let ran = Home::new().command(&alone, &["demo"]).output().unwrap();
    let said = Ran::new(ran).failed(1);
    assert!(said.contains("handoff-relay"), "{said}");
    assert!(said.contains("--relay"), "{said}");
}
