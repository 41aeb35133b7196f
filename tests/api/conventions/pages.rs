//! Pages and sorting: cursors that are true on every list.

use harness::{Agent, TestRelay};
use serde_json::{Value, json};

use crate::fixtures::{Page, id, page, reply, say_many, set, walk};

/// A list of pages with twelve items in it.
struct List {
    path: String,
    name: &'static str,
    /// Without `after_id` it gives the newest page; threads start at the oldest reply.
    newest_first_page: bool,
    admin: Agent,
}

impl List {
    async fn get(&self, query: &str) -> Page {
        page(&self.admin, format!("{}?{query}", self.path), self.name).await
    }
}

async fn lists(relay: &TestRelay) -> Vec<List> {
    let admin = relay.admin();
    let nobody = relay.agent("nobody", json!({})).await;
    let parent = admin.say("thread", "parent").await;
    say_many(&admin, "ops", 12).await;
    for number in 0..12 {
        set(&admin, "ops", "k", &number.to_string()).await;
        reply(&admin, &parent, &number.to_string()).await;
        nobody
            .get(format!("/api/channels/c{number}/messages"))
            .await
            .refused(403, "FORBIDDEN");
    }
    let list = |path: &str, name, newest_first_page| List {
        path: path.to_owned(),
        name,
        newest_first_page,
        admin: admin.clone(),
    };
    vec![
        list("/api/channels/ops/messages", "messages", true),
        list("/api/channels/ops/status/changes", "changes", true),
        list("/api/audit", "entries", true),
        list(
            &format!("/api/channels/thread/threads/{}", id(&parent)),
            "replies",
            false,
        ),
        list("/api/channels/thread/messages", "messages", true),
    ]
}

#[tokio::test]
async fn without_a_cursor_the_newest_come_and_threads_start_at_the_oldest() {
    let relay = TestRelay::new().await;
    for list in lists(&relay).await {
        let all = list.get("after_id=0&limit=100").await;
        let (count, ids) = (all.items.len(), all.ids());
        assert!(count >= 12);
        let first = list.get("limit=5").await;
        if list.newest_first_page {
            assert_eq!(first.ids(), ids[count - 5..], "{}", list.path);
            assert!(!first.has_more, "nothing follows after the newest");
        } else {
            assert_eq!(first.ids(), ids[..5], "{}", list.path);
            assert!(first.has_more);
        }
        assert_eq!(first.next_after_id, id(first.items.last().unwrap()));
    }
}

#[tokio::test]
async fn a_cursor_gives_the_page_right_after_it() {
    let relay = TestRelay::new().await;
    for list in lists(&relay).await {
        let all = list.get("after_id=0&limit=100").await;
        assert!(!all.has_more);
        let ids = all.ids();
        for start in 0..ids.len() {
            let page = list.get(&format!("after_id={}&limit=3", ids[start])).await;
            let expected: Vec<&str> = ids[start + 1..].iter().take(3).copied().collect();
            assert_eq!(page.ids(), expected, "{} after {}", list.path, ids[start]);
            assert_eq!(
                page.has_more,
                start + 4 < ids.len(),
                "{} after {}",
                list.path,
                ids[start]
            );
            let cursor = expected.last().unwrap_or(&ids[start]);
            assert_eq!(&page.next_after_id, cursor);
        }
    }
}

#[tokio::test]
async fn pages_of_any_size_hold_everything_once() {
    let relay = TestRelay::new().await;
    for list in lists(&relay).await {
        let all = list.get("after_id=0&limit=100").await.items;
        for limit in [1, 2, 3, 4, 6, 12, 13, 100] {
            let walked = walk(&list.admin, &list.path, list.name, limit).await;
            assert_eq!(walked, all, "{} by {limit}", list.path);
        }
    }
}

#[tokio::test]
async fn an_empty_page_gives_its_cursor_back() {
    let relay = TestRelay::new().await;
    for list in lists(&relay).await {
        for cursor in ["999999999", "9223372036854775807"] {
            let page = list.get(&format!("after_id={cursor}")).await;
            assert!(page.items.is_empty() && !page.has_more, "{:?}", page.body);
            assert_eq!(page.next_after_id, cursor);
        }
    }
    let admin = relay.admin();
    let parent = admin.say("lonely", "parent").await;
    for (path, name) in [
        ("/api/channels/nowhere/messages".to_owned(), "messages"),
        ("/api/channels/nowhere/unread".into(), "messages"),
        ("/api/channels/nowhere/status/changes".into(), "changes"),
        (
            format!("/api/channels/lonely/threads/{}", id(&parent)),
            "replies",
        ),
    ] {
        let page = page(&admin, path, name).await;
        assert!(page.items.is_empty() && !page.has_more, "{:?}", page.body);
        assert_eq!(page.next_after_id, "0");
    }
}

#[tokio::test]
async fn the_cursor_of_an_empty_page_finds_what_comes_next() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let mut cursor = page(&admin, "/api/channels/ops/messages", "messages")
        .await
        .next_after_id;
    for round in 0..3 {
        let said = admin.say("ops", "hello").await;
        let next = page(
            &admin,
            format!("/api/channels/ops/messages?after_id={cursor}"),
            "messages",
        )
        .await;
        assert_eq!(next.items, [said], "round {round}");
        cursor = next.next_after_id;
    }
}

#[tokio::test]
async fn lists_go_by_bytes() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let names = [
        "alerts", "Zoo", "a.b", "a-b", "a_b", "ab", "0", "B", "aB", "alerts2",
    ];
    for name in names {
        admin.say(name, "hello").await;
    }
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    assert_eq!(crate::fixtures::channel_names(&admin).await, sorted);

    let texts = [
        "alerts",
        "Zoo",
        "\u{e9}",
        "z",
        "e\u{301}",
        " ",
        "\u{ffff}",
        "\u{10000}",
        "_",
        "日",
    ];
    let mut sorted = texts.to_vec();
    sorted.sort_unstable();
    for text in texts {
        set(&admin, "ops", text, "v").await;
        let agent = relay.agent(text, json!({"*": "write"})).await;
        agent.say("acks", "hello").await;
        crate::fixtures::ack(&agent, "acks", "9223372036854775807").await;
    }
    let by = |list: Value, field: &str| -> Vec<String> {
        crate::fixtures::column(&list, field)
            .into_iter()
            .map(str::to_owned)
            .collect()
    };
    let entries = admin.get("/api/channels/ops/status").await.expect(200);
    assert_eq!(by(entries, "key"), sorted);
    let acks = admin.get("/api/channels/acks/acks").await.expect(200);
    assert_eq!(by(acks, "sender"), sorted);

    set(&admin, "Zoo", "k", "v").await;
    set(&admin, "alerts", "k", "v").await;
    let everywhere = admin.get("/api/status").await.expect(200);
    let mut channels = by(everywhere.clone(), "channel");
    channels.dedup();
    assert_eq!(channels, ["Zoo", "alerts", "ops"]);
}
