//! Permissions: every route against every level, and what a map may say.

use harness::{Agent, TestRelay};
use serde_json::{Value, json};

use crate::fixtures::{at_once, column, count, has_fields, messages, refusal, status, text};
use crate::routes::{Needs, ROUTES, Route, Scene, answer, wide_relay};

/// What a map grants: on the channel of the scene, and on `*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    None,
    Read,
    Write,
    Admin,
}

const NAMES: [(Level, Option<&str>); 4] = [
    (Level::None, None),
    (Level::Read, Some("read")),
    (Level::Write, Some("write")),
    (Level::Admin, Some("admin")),
];

/// Whether a key with these two entries may use a route: the exact entry wins, if there is one.
fn may(route: &Route, exact: Level, star: Level) -> bool {
    let level = if exact == Level::None { star } else { exact };
    match route.needs {
        Needs::Nothing | Needs::Key => true,
        Needs::Read => level >= Level::Read,
        Needs::Write => level >= Level::Write,
        Needs::Admin => level >= Level::Admin,
        Needs::TeamAdmin => star >= Level::Admin,
    }
}

#[tokio::test]
async fn every_route_asks_for_its_level_and_denials_are_audited() {
    let relay = wide_relay().await;
    let admin = relay.admin();
    let mut denials = Vec::new();
    for (exact, exact_name) in NAMES {
        for (star, star_name) in NAMES {
            for (number, route) in ROUTES.iter().enumerate() {
                let scene = Scene::new(&admin, &format!("c{number}-{exact:?}-{star:?}")).await;
                let mut map = json!({"elsewhere": "admin"});
                if let Some(name) = exact_name {
                    map[&scene.channel] = name.into();
                }
                if let Some(name) = star_name {
                    map["*"] = name.into();
                }
                let agent = relay.agent("agent", map.clone()).await;
                let (status, refused) = answer(route.request(&agent, &scene)).await;
                let what = format!("{} {} with {map}", route.method, route.path);
                if may(route, exact, star) {
                    assert_eq!(status, route.success, "{what}: {refused:?}");
                } else {
                    refused
                        .unwrap_or_else(|| panic!("granted: {what}"))
                        .refused(403, "FORBIDDEN");
                    let path = route.path_in(&scene);
                    let channel = if route.in_channel() {
                        scene.channel.as_str()
                    } else {
                        "*"
                    };
                    denials.push((
                        agent.key_hash(),
                        format!("{} {}", route.method, path.split('?').next().unwrap()),
                        channel.to_owned(),
                    ));
                }
            }
        }
    }
    assert!(denials.len() > 100);
    let entries = crate::fixtures::walk(&admin, "/api/audit", "entries", 100).await;
    let audited: Vec<_> = entries
        .iter()
        .map(|entry| {
            assert_eq!(entry["result"], "denied");
            let field = |name| text(entry, name).to_owned();
            (field("key_hash"), field("action"), field("channel"))
        })
        .collect();
    for (audited, denied) in audited.iter().zip(&denials) {
        let many = ["GET /api/stream", "POST /api/inbox/ack", "POST /api/wait"];
        if many.iter().any(|many| denied.1 == *many) {
            // Many channels in the query or body: which of them stands in the log is left open.
            assert_eq!((&audited.0, &audited.1), (&denied.0, &denied.1));
        } else {
            assert_eq!(audited, denied);
        }
    }
    assert_eq!(audited.len(), denials.len());
}

#[tokio::test]
async fn admin_on_one_channel_is_no_team_matter() {
    let relay = TestRelay::new().await;
    let scene = Scene::new(&relay.admin(), "ops").await;
    let agent = relay
        .agent("agent", json!({"ops": "admin", "*": "write"}))
        .await;
    for route in ROUTES
        .iter()
        .filter(|route| route.needs == Needs::TeamAdmin)
    {
        route
            .request(&agent, &scene)
            .send()
            .await
            .refused(403, "FORBIDDEN");
    }
}

#[tokio::test]
async fn a_denial_is_alike_whether_or_not_the_channel_exists() {
    let relay = TestRelay::new().await;
    let there = Scene::new(&relay.admin(), "there").await;
    let not_there = Scene {
        channel: "absent".into(),
        ..Scene::imaginary("absent")
    };
    let agent = relay.agent("agent", json!({"elsewhere": "admin"})).await;
    for route in ROUTES
        .iter()
        .filter(|route| route.path.contains("{channel}"))
    {
        let mut answers = Vec::new();
        for scene in [&there, &not_there] {
            let refused = route.request(&agent, scene).send().await;
            let body = refusal(&refused)
                .to_string()
                .replace(&scene.channel, "CHANNEL");
            answers.push((refused.status(), body.replace(&scene.message, "ID")));
        }
        assert_eq!(answers[0], answers[1], "{} {}", route.method, route.path);
    }
}

#[tokio::test]
async fn a_write_key_opens_its_channel_by_writing_to_it() {
    let relay = TestRelay::new().await;
    let agent = relay
        .agent("builder", json!({"build": "write", "deploy": "write"}))
        .await;
    agent
        .post("/api/channels", json!({"name": "build"}))
        .await
        .refused(403, "FORBIDDEN");
    agent.say("build", "started").await;
    crate::fixtures::set(&agent, "deploy", "phase", "waiting").await;
    let channels = agent.get("/api/channels").await.expect(200);
    assert_eq!(column(&channels, "name"), ["build", "deploy"]);
}

#[tokio::test]
async fn lists_show_what_the_key_may_read() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    for channel in ["a", "b", "c"] {
        crate::fixtures::set(&admin, channel, "k", "v").await;
    }
    for (map, visible) in [
        (json!({}), vec![]),
        (json!({"b": "read"}), vec!["b"]),
        (
            json!({"a": "write", "c": "admin", "nowhere": "read"}),
            vec!["a", "c"],
        ),
        (json!({"*": "read"}), vec!["a", "b", "c"]),
    ] {
        let agent = relay.agent("agent", map.clone()).await;
        let channels = agent.get("/api/channels").await.expect(200);
        assert_eq!(column(&channels, "name"), visible, "{map}");
        let entries = agent.get("/api/status").await.expect(200);
        assert_eq!(column(&entries, "channel"), visible, "{map}");
    }
}

#[tokio::test]
async fn a_map_names_channels_and_levels_and_nothing_else() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let spare = relay.agent("spare", json!({})).await;
    let path = format!("/api/keys/{}/permissions", spare.key_hash());
    let refused = |map: Value, code: &'static str| {
        let (admin, path) = (admin.clone(), path.clone());
        async move {
            admin
                .post("/api/keys", json!({"sender_name": "a", "permissions": map}))
                .await
                .refused(400, code);
            admin
                .put(path, json!({"permissions": map}))
                .await
                .refused(400, code);
        }
    };
    for level in [
        "Admin",
        "ADMIN",
        "none",
        "",
        "read ",
        " read",
        "owner",
        "rw",
        "re\u{0}ad",
    ] {
        refused(json!({"ops": level}), "INVALID_PERMISSIONS").await;
        refused(json!({"*": level}), "INVALID_PERMISSIONS").await;
        refused(json!({"a": "read", "ops": level}), "INVALID_PERMISSIONS").await;
    }
    let too_long = "x".repeat(129);
    for channel in [
        "", "**", "a b", "-a", "ops*", "ä", "a\u{0}", "a/b", &too_long,
    ] {
        refused(json!({channel: "read"}), "INVALID_PERMISSIONS").await;
    }
    for no_text in [
        json!(1),
        json!(true),
        json!(["read"]),
        json!({"level": "read"}),
    ] {
        refused(json!({"ops": no_text}), "INVALID_JSON").await;
    }
    for no_map in [
        json!([]),
        json!("read"),
        json!(7),
        json!(true),
        json!([["ops", "read"]]),
    ] {
        refused(no_map, "INVALID_JSON").await;
    }
    // Nothing came of it.
    let keys = admin.get("/api/keys").await.expect(200);
    assert_eq!(keys.as_array().unwrap().len(), 2);
    for good in [
        json!({}),
        json!({"*": "read"}),
        json!({"a": "read", "b": "write", "*": "admin"}),
    ] {
        let set = admin
            .put(&path, json!({"permissions": good}))
            .await
            .expect(200);
        assert_eq!(set, json!({"key": spare.key_hash(), "permissions": good}));
    }
}

#[tokio::test]
async fn an_empty_map_grants_nothing_and_an_absent_one_everything() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let nobody = relay.agent("nobody", json!({})).await;
    nobody.get(messages("ops")).await.refused(403, "FORBIDDEN");
    assert_eq!(nobody.get("/api/channels").await.expect(200), json!([]));
    assert_eq!(
        nobody.get("/api/me").await.expect(200)["permissions"],
        json!({})
    );
    let made = admin
        .post("/api/keys", json!({"sender_name": "all"}))
        .await
        .expect(201);
    let all = admin.with_key(text(&made, "api_key"));
    assert_eq!(
        all.get("/api/me").await.expect(200)["permissions"],
        json!({"*": "admin"})
    );
}

async fn narrow(by: &Agent, key: &Agent, map: Value) -> harness::Response {
    by.put(
        format!("/api/keys/{}/permissions", key.key_hash()),
        json!({"permissions": map}),
    )
    .await
}

#[tokio::test]
async fn a_team_keeps_one_admin() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    relay
        .agent("writer", json!({"*": "write", "ops": "admin"}))
        .await;
    // Another team's admin does not count.
    relay.signup("other", "ann").await;
    for less in [json!({}), json!({"*": "write"}), json!({"ops": "admin"})] {
        narrow(&admin, &admin, less)
            .await
            .refused(409, "LAST_ADMIN");
    }
    let path = format!("/api/keys/{}", admin.key_hash());
    admin.delete(&path).await.refused(409, "LAST_ADMIN");
    // Less on a channel is not less on the team.
    narrow(&admin, &admin, json!({"*": "admin", "ops": "read"}))
        .await
        .expect(200);
    narrow(&admin, &admin, json!({"*": "admin"}))
        .await
        .expect(200);

    let second = relay.agent("second", json!({"*": "admin"})).await;
    narrow(&admin, &admin, json!({"*": "read"}))
        .await
        .expect(200);
    admin.get("/api/keys").await.refused(403, "FORBIDDEN");
    narrow(&second, &second, json!({}))
        .await
        .refused(409, "LAST_ADMIN");
    second.delete(&path).await.expect(204);
    second
        .delete(format!("/api/keys/{}", second.key_hash()))
        .await
        .refused(409, "LAST_ADMIN");
    second.get("/api/keys").await.expect(200);
}

#[tokio::test]
async fn admins_who_go_at_once_leave_one() {
    let relay = TestRelay::builder().replicas(2).start().await;
    for round in 0..5 {
        let first = relay.signup(&format!("team {round}"), "a").await;
        let mut admins = vec![first.clone()];
        for _ in 0..7 {
            admins.push(first.new_key("b", json!({"*": "admin"})).await);
        }
        let answers = at_once(admins.len(), |number| {
            let admin = admins[number].on(number % 2);
            let path = format!("/api/keys/{}", admin.key_hash());
            if number % 2 == 0 {
                admin.request(harness::Method::DELETE, path)
            } else {
                admin
                    .request(harness::Method::PUT, format!("{path}/permissions"))
                    .json(&json!({"permissions": {}}))
            }
        })
        .await;
        assert_eq!(count(&answers, 409), 1, "{answers:?}");
        answers
            .iter()
            .find(|a| a.status() == 409)
            .unwrap()
            .refused(409, "LAST_ADMIN");
        let left = answers
            .iter()
            .position(|answer| answer.status() == 409)
            .unwrap();
        let keys = admins[left].get("/api/keys").await.expect(200);
        let admin_keys: Vec<_> = keys
            .as_array()
            .unwrap()
            .iter()
            .filter(|key| key["permissions"] == json!({"*": "admin"}))
            .collect();
        assert_eq!(admin_keys.len(), 1);
    }
}

#[tokio::test]
async fn new_permissions_hold_at_once_where_they_were_set() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let agent = relay.agent("agent", json!({"*": "write"})).await;
    for _ in 0..20 {
        agent.say("ops", "hello").await;
        let set = narrow(&admin, &agent, json!({"*": "read"}))
            .await
            .expect(200);
        has_fields(&set, &["key", "permissions"]);
        agent
            .post(messages("ops"), json!({"content": "x"}))
            .await
            .refused(403, "FORBIDDEN");
        agent.get(messages("ops")).await.expect(200);
        narrow(&admin, &agent, json!({"*": "write"}))
            .await
            .expect(200);
    }
}

#[tokio::test]
async fn the_map_is_replaced_as_a_whole() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let agent = relay
        .agent("agent", json!({"a": "write", "b": "read"}))
        .await;
    narrow(&admin, &agent, json!({"c": "read"}))
        .await
        .expect(200);
    agent.get(messages("a")).await.refused(403, "FORBIDDEN");
    agent.get(status("b")).await.refused(403, "FORBIDDEN");
    agent.get(status("c")).await.expect(200);
}
