//! The Claude Code plugin: its files fit each other and the program.

use crate::support::Home;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> Value {
    let text = fs::read_to_string(root().join(path)).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_marketplace_leads_to_the_plugin() {
    let marketplace = read(".claude-plugin/marketplace.json");
    let entry = &marketplace["plugins"][0];
    let source = entry["source"].as_str().unwrap();
    let plugin = read(&format!("{source}/.claude-plugin/plugin.json"));
    assert_eq!(entry["name"], plugin["name"]);
    assert_eq!(plugin["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_channel_is_that_of_the_server() {
    let plugin = read("services/claude-plugin/.claude-plugin/plugin.json");
    let servers = read("services/claude-plugin/.mcp.json");
    let server = plugin["channels"][0]["server"].as_str().unwrap();
    assert!(servers["mcpServers"][server].is_object());
}

#[test]
fn every_command_is_one_of_the_program() {
    let mut commands = Vec::new();
    let servers = read("services/claude-plugin/.mcp.json");
    for server in servers["mcpServers"].as_object().unwrap().values() {
        let words = server["args"].as_array().unwrap().iter();
        let arguments: Vec<_> = words.map(|word| word.as_str().unwrap()).collect();
        let program = server["command"].as_str().unwrap();
        commands.push(format!("{program} {}", arguments.join(" ")));
    }
    let hooks = read("services/claude-plugin/hooks/hooks.json");
    let events = hooks["hooks"].as_object().unwrap();
    let mut names: Vec<_> = events.keys().collect();
    names.sort();
    assert_eq!(names, ["SessionStart", "Stop", "UserPromptSubmit"]);
    for event in events.values() {
        let command = &event[0]["hooks"][0]["command"];
        commands.push(command.as_str().unwrap().to_owned());
    }
    let monitors = read("services/claude-plugin/monitors/monitors.json");
    for monitor in monitors.as_array().unwrap() {
        commands.push(monitor["command"].as_str().unwrap().to_owned());
    }
    assert_eq!(commands.len(), 5);
    for command in commands {
        let mut words: Vec<_> = command.split(' ').collect();
        assert_eq!(words.remove(0), "handoff");
        words.push("--help");
        Home::new().run(&words).ok();
    }
}
