//! Which relay and which key.

use crate::support::{Home, StandIn};
use serde_json::json;
use std::{fs, os::unix::fs::PermissionsExt};

const FILE: &str = ".config/handoff/config.toml";

fn relay() -> StandIn {
    StandIn::new(|_| Some((200, json!([]))))
}

fn key_used(relay: &StandIn) -> String {
    let asked = relay.asked();
    let last = asked.last().expect("it was asked nothing");
    last.authorization.clone().unwrap_or_default()
}

#[test]
fn a_flag_comes_before_the_environment_before_the_file() {
    let (flag, environment, file) = (relay(), relay(), relay());
    let config = format!("relay_url = {:?}\napi_key = \"relay_file\"\n", file.url);

    let home = Home::new();
    home.write(FILE, &config);
    home.run(&["channels"]).ok();
    assert_eq!(key_used(&file), "Bearer relay_file");

    let home = Home::at(&environment);
    home.write(FILE, &config);
    home.run(&["channels"]).ok();
    assert_eq!(key_used(&environment), "Bearer relay_environment");

    let flags = ["--relay-url", &flag.url, "--api-key", "relay_flag"];
    home.run(&[&["channels"][..], &flags].concat()).ok();
    assert_eq!(key_used(&flag), "Bearer relay_flag");

    let asked = [&flag, &environment, &file].map(|relay| relay.asked().len());
    assert_eq!(asked, [1, 1, 1]);
}

#[test]
fn an_empty_variable_counts_as_absent() {
    let relay = relay();
    let home = Home::new()
        .with("RELAY_API_URL", "")
        .with("RELAY_API_KEY", "")
        .with("HANDOFF_ENCRYPTION_KEY", "");
    home.write(
        FILE,
        &format!("relay_url = {:?}\napi_key = \"relay_file\"\n", relay.url),
    );
    home.run(&["channels"]).ok();
    assert_eq!(key_used(&relay), "Bearer relay_file");
}

#[test]
fn the_file_is_where_xdg_config_home_says() {
    let home = Home::new();
    let elsewhere = home.path("elsewhere");
    let home = home.with("XDG_CONFIG_HOME", elsewhere.to_str().unwrap());
    home.write(
        "elsewhere/handoff/config.toml",
        "relay_url = \"http://relay.test\"",
    );
    let config = home.run(&["config", "--json"]).json();
    assert_eq!(config["relay_url"]["value"], "http://relay.test");
    assert_eq!(config["relay_url"]["source"], "the config file");
}

#[test]
fn config_shows_where_settings_come_from_and_no_secret() {
    let key = format!("relay_{}", "0123456789abcdef".repeat(3));
    let home = Home::new()
        .with("RELAY_API_KEY", &key)
        .with("HANDOFF_ENCRYPTION_KEY", "correct horse battery staple");
    for arguments in [&["config"][..], &["config", "--json"]] {
        let shown = home.run(arguments).ok();
        assert!(shown.contains("relay_0123"), "{shown}");
        assert!(shown.contains("RELAY_API_KEY"), "{shown}");
        assert!(shown.contains("http://localhost:3000"), "{shown}");
        assert!(!shown.contains("0123456789"), "{shown}");
        assert!(!shown.contains("horse battery"), "{shown}");
    }
}

#[test]
fn a_file_that_others_can_read_is_warned_of() {
    let home = Home::new();
    home.write(FILE, "api_key = \"relay_file\"");
    let mode = |mode| fs::set_permissions(home.path(FILE), fs::Permissions::from_mode(mode));
    mode(0o640).unwrap();
    let ran = home.run(&["config"]);
    assert!(ran.err.contains("chmod 600"), "{}", ran.err);
    mode(0o600).unwrap();
    assert_eq!(home.run(&["config"]).err, "");
}

#[test]
fn a_mistake_in_the_file_is_told_without_what_stands_there() {
    let home = Home::new();
    for text in ["\napi_kex = \"relay_secret\"", "\napi_key = relay_secret"] {
        home.write(FILE, text);
        let said = home.run(&["whoami"]).failed(2);
        assert!(said.contains("line 2"), "{said}");
        assert!(!said.contains("relay_secret"), "{said}");
    }
}

#[test]
fn no_key_is_like_one_that_is_not_let_in() {
    let said = Home::new().run(&["whoami"]).failed(3);
    assert!(said.contains("RELAY_API_KEY"), "{said}");
    assert!(said.contains("signup"), "{said}");
}

#[test]
fn an_address_or_secret_that_can_t_be_one_is_wrong_usage() {
    let home = Home::new().with("RELAY_API_KEY", "relay_x");
    let said = home.run(&["whoami", "--relay-url", "nonsense"]).failed(2);
    assert!(said.contains("nonsense"), "{said}");
    assert!(said.contains("--relay-url"), "{said}");
}

#[test]
fn signup_keeps_address_and_key_and_what_else_is_in_the_file() {
    let relay = StandIn::new(|_| {
        let team = json!({"id": "7", "name": "acme", "created_at": "2026-01-01T00:00:00Z"});
        Some((201, json!({"team": team, "api_key": "relay_new"})))
    });
    let home = Home::new().with("RELAY_API_URL", &relay.url);
    home.write(FILE, "encryption_key = \"the team's secret\"");
    let signup = ["signup", "--team", "acme", "--name", "alice"];

    assert!(home.run(&signup).ok().contains("relay_new"));
    let kept = fs::read_to_string(home.path(FILE)).unwrap();
    assert!(!kept.contains("relay_new"), "only when it is told to");

    home.run(&[&signup[..], &["--save"]].concat()).ok();
    let kept = fs::read_to_string(home.path(FILE)).unwrap();
    for word in ["relay_new", &relay.url, "the team's secret"] {
        assert!(kept.contains(word), "{word}: {kept}");
    }
    let mode = fs::metadata(home.path(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(relay.asked()[0].line, "POST /api/signup");
    let body: serde_json::Value = serde_json::from_str(&relay.asked()[0].body).unwrap();
    assert_eq!(body, json!({"team_name": "acme", "sender_name": "alice"}));
}
