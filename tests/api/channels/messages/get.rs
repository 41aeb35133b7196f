//! GET `/api/channels/{channel}/messages`: filters. Pages: `conventions::pages`.

use std::collections::BTreeSet;

use harness::{Method, TestRelay};
use serde_json::{Value, json};

use crate::fixtures::{
    Page, at_once, count, encode, id, messages, page, reply, say_many, text, walk,
};

#[tokio::test]
async fn a_page_names_its_channel_and_a_missing_one_reads_as_empty() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let empty = admin.get(messages("ops")).await.expect(200);
    assert_eq!(
        empty,
        json!({"messages": [], "next_after_id": "0", "has_more": false, "channel": "ops"})
    );
    for list in ["acks", "status"] {
        assert_eq!(
            admin
                .get(format!("/api/channels/ops/{list}"))
                .await
                .expect(200),
            json!([])
        );
    }
    let unread = admin.get("/api/channels/ops/unread").await.expect(200);
    assert_eq!(unread["messages"], json!([]));
    let changes = admin
        .get("/api/channels/ops/status/changes")
        .await
        .expect(200);
    assert_eq!(
        changes,
        json!({"changes": [], "next_after_id": "0", "has_more": false})
    );
    let said = admin.say("ops", "hello").await;
    let one = admin.get(messages("ops")).await.expect(200);
    assert_eq!(
        one,
        json!({
            "messages": [said], "next_after_id": said["id"], "has_more": false, "channel": "ops"
        })
    );
}

/// Messages of two senders, with two mentions, in and out of two threads.
struct Crowd {
    relay: TestRelay,
    all: Vec<Value>,
    threads: [String; 2],
}

impl Crowd {
    async fn new() -> Crowd {
        let relay = TestRelay::new().await;
        let admin = relay.admin();
        let senders = [
            relay.agent("ann", json!({"*": "write"})).await,
            relay.agent("b\u{f6}b", json!({"*": "write"})).await,
        ];
        let parents = [admin.say("ops", "one").await, admin.say("ops", "two").await];
        let mut all = parents.to_vec();
        for number in 0..27 {
            let mention = [Value::Null, json!("carol"), json!("d\u{e4}ve")][number / 2 % 3].clone();
            let thread =
                [&Value::Null, &parents[0]["id"], &parents[1]["id"]][number / 6 % 3].clone();
            let body =
                json!({"content": number.to_string(), "mention": mention, "thread_id": thread});
            all.push(
                senders[number % 2]
                    .post(messages("ops"), body)
                    .await
                    .expect(201),
            );
        }
        // Reading again: the parents have replies by now.
        let all = {
            let read = page(&admin, format!("{}?limit=100", messages("ops")), "messages").await;
            assert_eq!(read.items.len(), all.len());
            read.items
        };
        let threads = [id(&parents[0]).to_owned(), id(&parents[1]).to_owned()];
        Crowd {
            relay,
            all,
            threads,
        }
    }
}

#[tokio::test]
async fn filters_match_exactly_alone_and_together() {
    let crowd = Crowd::new().await;
    let admin = crowd.relay.admin();
    let senders = [
        "", "ann", "b\u{f6}b", "admin", "nobody", "an", "ANN", "ann ",
    ];
    let mentions = ["", "carol", "d\u{e4}ve", "caro", "Carol", "@carol"];
    let threads = ["", &crowd.threads[0], &crowd.threads[1], "4000000000", "0"];
    for sender in senders {
        for mention in mentions {
            for thread in threads {
                let expected: Vec<Value> = crowd
                    .all
                    .iter()
                    .filter(|m| sender.is_empty() || m["sender"] == sender)
                    .filter(|m| mention.is_empty() || m["mention"] == mention)
                    .filter(|m| thread.is_empty() || m["thread_id"] == thread)
                    .cloned()
                    .collect();
                let path = format!(
                    "{}?sender={}&mention={}&thread_id={thread}",
                    messages("ops"),
                    encode(sender),
                    encode(mention)
                );
                let newest = page(&admin, format!("{path}&limit=4"), "messages").await;
                assert_eq!(
                    newest.items,
                    expected[expected.len().saturating_sub(4)..],
                    "{path}"
                );
                assert!(!newest.has_more, "{path}");
                for limit in [3, 100] {
                    let walked = walk(&admin, &path, "messages", limit).await;
                    assert_eq!(walked, expected, "{path} by {limit}");
                }
            }
        }
    }
}

#[tokio::test]
async fn thread_id_gives_the_replies_alone() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let parent = admin.say("ops", "hello").await;
    let answer = reply(&admin, &parent, "hi").await;
    let deeper = reply(&admin, &answer, "hm").await;
    let replies = |thread: String| {
        let admin = admin.clone();
        async move {
            page(
                &admin,
                format!("{}?thread_id={thread}", messages("ops")),
                "messages",
            )
            .await
            .items
        }
    };
    assert_eq!(replies(id(&answer).into()).await, [deeper.clone()]);
    assert_eq!(replies(id(&deeper).into()).await, [] as [Value; 0]);
    let first = replies(id(&parent).into()).await;
    assert_eq!(first.len(), 1);
    assert_eq!(id(&first[0]), id(&answer));
}

#[tokio::test]
async fn matches_are_found_however_far_ahead_they_are() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let parent = admin.say("ops", "parent").await;
    let needle = |content: &'static str| {
        let body = json!({"content": content, "mention": "carol", "thread_id": parent["id"]});
        let admin = admin.clone();
        async move { admin.post(messages("ops"), body).await.expect(201) }
    };
    let mut needles = vec![needle("first").await];
    for part in 0..2 {
        // Thousands of others, as other clients would post them.
        let hay = relay
            .agent(&format!("hay {part}"), json!({"*": "write"}))
            .await;
        for _ in 0..15 {
            let answers = at_once(100, |_| {
                hay.request(Method::POST, messages("ops"))
                    .json(&json!({"content": "hay"}))
            })
            .await;
            assert_eq!(count(&answers, 201), 100);
        }
        needles.push(needle("next").await);
    }
    let filters = [
        "mention=carol".to_owned(),
        "sender=admin&mention=carol".into(),
        format!("thread_id={}", id(&parent)),
        format!("thread_id={}&sender=admin&mention=carol", id(&parent)),
    ];
    for filter in filters {
        let path = format!("{}?{filter}", messages("ops"));
        assert_eq!(
            walk(&admin, &path, "messages", 1).await,
            needles,
            "{filter}"
        );
        assert_eq!(
            walk(&admin, &path, "messages", 100).await,
            needles,
            "{filter}"
        );
        let newest = page(&admin, format!("{path}&limit=3"), "messages").await;
        assert_eq!(newest.items, needles, "{filter}");
        let page = page(
            &admin,
            format!("{path}&after_id={}&limit=1", id(&needles[0])),
            "messages",
        )
        .await;
        assert_eq!(
            (&page.items[..], page.has_more),
            (&needles[1..2], true),
            "{filter}"
        );
        let last = crate::fixtures::page(
            &admin,
            format!("{path}&after_id={}&limit=1", page.next_after_id),
            "messages",
        )
        .await;
        assert_eq!(
            (&last.items[..], last.has_more),
            (&needles[2..], false),
            "{filter}"
        );
    }
}

#[tokio::test]
async fn the_cursor_of_a_filtered_page_misses_nothing_that_comes() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    say_many(&admin, "ops", 5).await;
    let filtered = |after: String| {
        let admin = admin.clone();
        async move {
            let path = format!("{}?mention=carol&after_id={after}&limit=2", messages("ops"));
            page(&admin, path, "messages").await
        }
    };
    let mut cursor = filtered("0".into()).await.next_after_id;
    let mut found = BTreeSet::new();
    for round in 0..6 {
        admin.say("ops", "for nobody").await;
        let body = json!({"content": round.to_string(), "mention": "carol"});
        let said = admin.post(messages("ops"), body).await.expect(201);
        let Page {
            items,
            next_after_id,
            ..
        } = filtered(cursor).await;
        assert_eq!(items, [said.clone()]);
        assert!(found.insert(text(&said, "content").to_owned()));
        cursor = next_after_id;
    }
}

#[tokio::test]
async fn the_newest_page_is_the_newest_also_when_it_is_not_full() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    for known in 1..=4 {
        admin.say("ops", &known.to_string()).await;
        let newest = page(&admin, format!("{}?limit=3", messages("ops")), "messages").await;
        let oldest = 1.max(known - 2);
        let expected: Vec<String> = (oldest..=known).map(|number| number.to_string()).collect();
        assert_eq!(newest.contents(), expected);
        assert!(!newest.has_more);
    }
}
