//! The tools.

use std::time::Duration;

use harness::{DEADLINE, TestRelay};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::client::{LEGACY, Language, MODERN, McpClient, Transport, WAYS};

/// The tools of the contract, and those of ours.
const TOOLS: [&str; 21] = [
    "ack",
    "create_channel",
    "create_key",
    "delete_channel",
    "delete_message",
    "delete_status",
    "get_acks",
    "get_status",
    "get_status_changes",
    "list_channels",
    "list_keys",
    "post_message",
    "read_audit_log",
    "read_inbox",
    "read_messages",
    "read_thread",
    "read_unread",
    "set_key_permissions",
    "set_status",
    "wait_for_messages",
    "whoami",
];

async fn two_replicas() -> TestRelay {
    TestRelay::builder()
        .replicas(2)
        .env("RATE_LIMIT_MAX", 100_000)
        .start()
        .await
}

#[tokio::test]
async fn every_client_finds_the_tools_and_they_cost_little() {
    let relay = two_replicas().await;
    for way in WAYS {
        let mut client = McpClient::connect(way, &relay, &relay.admin()).await;
        let listed = client.list_tools().await;
        let tools = listed["tools"].as_array().unwrap();
        let mut names: Vec<&str> = tools
            .iter()
            .map(|tool| tool["name"].as_str().unwrap())
            .collect();
        let tokens = listed.to_string().chars().count() / 4;
        assert!(tokens < 6_000, "{way:?}: tools/list has {tokens} tokens");
        names.sort_unstable();
        assert_eq!(names, TOOLS, "{way:?}");
        for tool in tools {
            for part in ["description", "inputSchema", "outputSchema", "annotations"] {
                assert!(!tool[part].is_null(), "{way:?}: {part} of {tool}");
            }
        }
        // The client of Python asks for nothing where it is told the revision.
        let unasked = (way.0, way.2) == (Language::Python, MODERN);
        assert!(
            unasked
                || client
                    .instructions()
                    .await
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
            "{way:?}: instructions"
        );
        match (way.2, &client.protocol_version) {
            (MODERN, Some(version)) => assert_eq!(version, MODERN),
            (LEGACY, Some(version)) => assert_ne!(version, MODERN),
            _ => {}
        }
        assert_eq!(
            client.list_tools().await["tools"],
            listed["tools"],
            "{way:?}: in the same order again"
        );
    }
}

#[tokio::test]
async fn every_tool_does_its_work_through_every_client() {
    let relay = two_replicas().await;
    for (number, way) in WAYS.into_iter().enumerate() {
        let admin = relay.signup("team", "ada").await;
        let mut client = McpClient::connect(way, &relay, &admin).await;
        every_tool(&mut client, number).await;
    }
}

async fn every_tool(client: &mut McpClient, number: usize) {
    let channel = format!("build-{number}");
    let me = client.call("whoami", json!({})).await;
    assert_eq!(me["sender"], "ada", "{me}");

    let made = json!({"name": channel, "description": "what is built"});
    let made = client.call("create_channel", made).await;
    assert_eq!(made["name"], channel.as_str(), "{made}");
    let channels = client.call("list_channels", json!({})).await;
    assert_eq!(channels["channels"][0]["description"], "what is built");

    let key = json!({"sender_name": "bob", "permissions": {"*": "write"}});
    let key = client.call("create_key", key).await;
    assert!(key["api_key"].as_str().unwrap().starts_with("relay_"));
    let hash = key["key"].clone();
    let keys = client.call("list_keys", json!({})).await;
    assert_eq!(keys["keys"].as_array().unwrap().len(), 2);
    let narrowed = json!({"key_hash": hash, "permissions": {channel.as_str(): "read"}});
    let narrowed = client.call("set_key_permissions", narrowed).await;
    assert_eq!(narrowed["permissions"], json!({channel.as_str(): "read"}));

    let post = json!({"channel": channel, "content": "who builds?", "mention": "bob"});
    let first = client.call("post_message", post).await;
    let id = first["id"].clone();
    let reply = json!({"channel": channel, "content": "I do\nas always", "thread_id": id});
    let reply = client.call("post_message", reply).await;
    let page = client
        .call("read_messages", json!({"channel": channel, "limit": 10}))
        .await;
    assert_eq!(page["messages"][0]["content"], "who builds?");
    assert_eq!(page["messages"][1]["content"], "I do\nas always");
    assert_eq!(page["messages"][1]["thread_id"], id);
    assert_eq!(page["next_after_id"], reply["id"]);
    assert_eq!(page["has_more"], false);
    let called = json!({"channel": channel, "mention": "bob", "sender": "ada", "after_id": "0"});
    let called = client.call("read_messages", called).await;
    assert_eq!(called["messages"].as_array().unwrap().len(), 1);
    let thread = json!({"channel": channel, "message_id": id});
    let thread = client.call("read_thread", thread).await;
    assert_eq!(thread["parent"]["content"], "who builds?");
    assert_eq!(thread["replies"][0]["id"], reply["id"]);
    let unread = client
        .call("read_unread", json!({"channel": channel}))
        .await;
    assert_eq!(unread["messages"].as_array().unwrap().len(), 2);
    let ack = json!({"channel": channel, "last_read_id": reply["id"]});
    let ack = client.call("ack", ack).await;
    assert_eq!(ack["last_read_id"], reply["id"]);
    let acks = client.call("get_acks", json!({"channel": channel})).await;
    assert_eq!(acks["acks"][0]["sender"], "ada");

    for value in ["red", "green"] {
        let status = json!({"channel": channel, "key": "state", "value": value});
        let status = client.call("set_status", status).await;
        assert_eq!(status["value"], value);
    }
    for arguments in [json!({}), json!({"channel": channel, "key": "state"})] {
        let statuses = client.call("get_status", arguments).await;
        assert_eq!(statuses["statuses"][0]["value"], "green", "{statuses}");
    }
    let changes = client
        .call("get_status_changes", json!({"channel": channel}))
        .await;
    assert_eq!(changes["changes"].as_array().unwrap().len(), 2);
    client
        .call("delete_status", json!({"channel": channel, "key": "state"}))
        .await;
    let statuses = client.call("get_status", json!({"channel": channel})).await;
    assert_eq!(statuses["statuses"], json!([]));
    client
        .call("read_audit_log", json!({"result": "denied"}))
        .await;
    client.call("read_inbox", json!({})).await;

    let gone = json!({"channel": channel, "message_id": id});
    client.call("delete_message", gone.clone()).await;
    let again = client.refused("delete_message", gone).await;
    assert!(again.contains("MESSAGE_NOT_FOUND"), "{again}");
    client
        .call("delete_channel", json!({"channel": channel}))
        .await;
    let again = client
        .refused("delete_channel", json!({"channel": channel}))
        .await;
    assert!(again.contains("CHANNEL_NOT_FOUND"), "{again}");
}

#[tokio::test]
async fn refusals_are_results_that_say_what_to_do() {
    let relay = two_replicas().await;
    let reader = relay.agent("reader", json!({"open": "read"})).await;
    for way in [WAYS[0], WAYS[1], WAYS[3], WAYS[5]] {
        let mut client = McpClient::connect(way, &relay, &reader).await;
        for (tool, arguments, hint) in [
            (
                "post_message",
                json!({"channel": "open", "content": "x"}),
                "FORBIDDEN",
            ),
            ("read_messages", json!({"channel": "secret"}), "FORBIDDEN"),
            ("create_key", json!({"sender_name": "me too"}), "FORBIDDEN"),
            (
                "read_messages",
                json!({"channel": "../x"}),
                "INVALID_CHANNEL_NAME",
            ),
            (
                "read_messages",
                json!({"channel": "open", "limit": 1000}),
                "limit",
            ),
            (
                "read_messages",
                json!({"channel": "open", "after_id": "x"}),
                "INVALID_CURSOR",
            ),
            ("read_messages", json!({}), "channel"),
            (
                "post_message",
                json!({"channel": 7, "content": "x"}),
                "channel",
            ),
        ] {
            let refusal = client.refused(tool, arguments.clone()).await;
            assert!(
                refusal.contains(hint),
                "{way:?} {tool} {arguments}: {refusal}"
            );
        }
        // And what it may do still works.
        client
            .call("read_messages", json!({"channel": "open"}))
            .await;
    }
}

#[tokio::test]
async fn every_result_tells_of_unread_mentions() {
    let relay = two_replicas().await;
    let bob = relay.agent("bob", json!({"*": "write"})).await;
    let body = json!({"content": "bob?", "mention": "bob"});
    relay
        .admin()
        .post("/api/channels/ops/messages", body)
        .await
        .expect(201);
    for way in WAYS {
        let mut client = McpClient::connect(way, &relay, &bob).await;
        let result = client.result("list_channels", json!({})).await;
        let unread = &result["structuredContent"]["unread"];
        assert_eq!(unread["mentions"], 1, "{way:?}: {result}");
        assert_eq!(unread["channels"]["ops"], 1, "{way:?}: {result}");
        let text = result["content"].to_string();
        assert!(text.contains("read_inbox"), "{way:?}: {text}");
    }
    let mut client = McpClient::connect(WAYS[0], &relay, &bob).await;
    let inbox = client.call("read_inbox", json!({})).await;
    assert_eq!(inbox["mentions"][0]["content"], "bob?");
    let id = inbox["mentions"][0]["id"].clone();
    client
        .call("ack", json!({"channel": "ops", "last_read_id": id}))
        .await;
    let result = client.result("list_channels", json!({})).await;
    let text = result["content"].to_string();
    assert!(!text.contains("read_inbox"), "nothing is unread: {text}");
}

#[tokio::test]
async fn a_wait_is_woken_by_a_message_and_shows_its_progress() {
    let relay = two_replicas().await;
    let bob = relay.agent("bob", json!({"*": "write"})).await;
    for way in WAYS {
        let mut client = McpClient::connect(way, &relay, &bob).await;
        // What bob has read already wakes nobody.
        let seen = relay.admin().say("ops", "seen").await;
        let ack = json!({"last_read_id": seen["id"]});
        bob.post("/api/channels/ops/ack", ack).await.expect(200);
        let nothing = client
            .call("wait_for_messages", json!({"timeout_seconds": 1}))
            .await;
        assert_eq!(
            nothing["messages"].as_array().map_or(0, Vec::len),
            0,
            "{nothing}"
        );

        let waiting = client.result("wait_for_messages", json!({"timeout_seconds": 60}));
        let posting = async {
            sleep(Duration::from_millis(300)).await;
            let body = json!({"content": "wake up", "mention": "bob"});
            relay
                .admin()
                .on(1)
                .post("/api/channels/ops/messages", body)
                .await
                .expect(201)
        };
        let (woken, posted) = timeout(DEADLINE, async { futures_util::join!(waiting, posting) })
            .await
            .unwrap_or_else(|_| panic!("{way:?}: nobody woke"));
        let woken = &woken["structuredContent"];
        assert_eq!(woken["mentions"][0]["id"], posted["id"], "{way:?}: {woken}");
        let ack = json!({"last_read_id": posted["id"]});
        bob.post("/api/channels/ops/ack", ack).await.expect(200);
    }
    let mut client = McpClient::connect(WAYS[0], &relay, &bob).await;
    let result = client
        .result(
            "wait_for_messages",
            json!({"timeout_seconds": 12, "mentions_only": true}),
        )
        .await;
    assert!(
        !result["progress"].as_array().unwrap().is_empty(),
        "a wait shows progress: {result}"
    );
}

#[tokio::test]
async fn what_is_encrypted_is_read_by_those_with_the_key_and_by_nobody_else() {
    let relay = two_replicas().await;
    let admin = relay.admin();
    let bob = relay.agent("bob", json!({"*": "write"})).await;
    let (key, other_key) = ("correct horse battery staple", "another one");
    for (language, channel) in [(Language::Python, "py"), (Language::TypeScript, "ts")] {
        let mut ada = McpClient::encrypting(language, &relay, &admin, key).await;
        let post = json!({"channel": channel, "content": "the launch code is 0000"});
        let posted = ada.call("post_message", post).await;
        let status = json!({"channel": channel, "key": "code", "value": "launch code 0000 set"});
        ada.call("set_status", status).await;

        let mut reader = McpClient::encrypting(language, &relay, &bob, key).await;
        let page = reader
            .call("read_messages", json!({"channel": channel}))
            .await;
        assert_eq!(page["messages"][0]["content"], "the launch code is 0000");
        let statuses = reader.call("get_status", json!({"channel": channel})).await;
        assert_eq!(statuses["statuses"][0]["value"], "launch code 0000 set");

        // With a wrong key: an error for that message, and the plain one beside it is there.
        let plain = admin.say(channel, "in the clear").await;
        let mut stranger = McpClient::encrypting(language, &relay, &bob, other_key).await;
        let result = stranger
            .result("read_messages", json!({"channel": channel}))
            .await;
        let messages = &result["structuredContent"]["messages"];
        assert_eq!(messages[0]["id"], posted["id"], "{result}");
        assert_eq!(messages[1]["id"], plain["id"], "{result}");
        assert_eq!(messages[1]["content"], "in the clear");
        assert!(!result.to_string().contains("launch code"), "{result}");
        let text = result["content"][0]["text"].as_str().unwrap();
        assert!(text.contains("cannot decrypt"), "{text}");
    }
    // Without a key the tool passes on what it can't read.
    let mut relayed = McpClient::connect(WAYS[0], &relay, &bob).await;
    let page = relayed
        .call("read_messages", json!({"channel": "py"}))
        .await;
    let content = page["messages"][0]["content"].as_str().unwrap();
    assert!(content.starts_with("e2ee:"), "{content}");

    let database = relay.database().connect().await;
    let tables = database
        .query(
            "select quote_ident(tablename) from pg_tables where schemaname = 'public'",
            &[],
        )
        .await
        .unwrap();
    assert!(tables.len() > 10);
    let mut rows_with_envelopes = 0;
    for table in tables {
        let table: String = table.get(0);
        let count = async |pattern: &str| -> i64 {
            let sql = format!("select count(*) from {table} t where t::text like $1");
            database.query_one(&sql, &[&pattern]).await.unwrap().get(0)
        };
        assert_eq!(
            count("%launch code%").await,
            0,
            "{table} holds the plaintext"
        );
        rows_with_envelopes += count("%e2ee:%").await;
    }
    assert!(rows_with_envelopes >= 4, "{rows_with_envelopes}");
}

#[tokio::test]
async fn without_a_good_key_there_is_no_mcp() {
    let relay = TestRelay::new().await;
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}});
    relay
        .anyone()
        .post("/mcp", request.clone())
        .await
        .refused(401, "MISSING_API_KEY");
    relay
        .admin()
        .with_key("relay_000000000000000000000000000000000000000000000000")
        .post("/mcp", request)
        .await
        .refused(401, "INVALID_API_KEY");
    relay
        .admin()
        .get("/mcp")
        .await
        .refused(405, "METHOD_NOT_ALLOWED");
}

#[tokio::test]
async fn g5_a_revoked_key_ends_a_wait() {
    let relay = two_replicas().await;
    let bob = relay.agent("bob", json!({"*": "write"})).await;
    let way = (Language::Python, Transport::Http, MODERN);
    let mut client = McpClient::connect(way, &relay, &bob).await;
    let waiting = client.refused("wait_for_messages", json!({"timeout_seconds": 300}));
    let revoking = async {
        sleep(Duration::from_millis(500)).await;
        let path = format!("/api/keys/{}", bob.key_hash());
        relay.admin().delete(path).await.expect(204);
    };
    let (refusal, ()) = timeout(DEADLINE, async { futures_util::join!(waiting, revoking) })
        .await
        .expect("the wait ends with the key");
    assert!(refusal.contains("INVALID_API_KEY"), "{refusal}");
}
