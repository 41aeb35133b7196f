//! GET `/api/inbox`.

use std::time::{Duration, Instant};

use harness::{Agent, TestRelay};
use serde_json::{Value, json};
use tokio::time::timeout;

/// Long enough to show that a wait would have gone on.
const SHORT: Duration = Duration::from_secs(2);
/// No wait that is woken takes this long.
const DEADLINE: Duration = Duration::from_secs(30);

async fn say(agent: &Agent, channel: &str, content: &str, mention: Option<&str>) -> Value {
    let body = json!({"content": content, "mention": mention});
    agent
        .post(format!("/api/channels/{channel}/messages"), body)
        .await
        .expect(201)
}

async fn inbox(agent: &Agent, query: &str) -> Value {
    agent.get(format!("/api/inbox?{query}")).await.expect(200)
}

fn contents(messages: &Value) -> Vec<&str> {
    let messages = messages.as_array().unwrap();
    messages
        .iter()
        .map(|message| message["content"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn it_shows_what_others_wrote_since_the_ack_mentions_first() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let bob = relay.agent("bob", json!({"*": "write"})).await;
    assert_eq!(
        inbox(&bob, "").await,
        json!({
            "mentions": [], "messages": [], "unread": {"mentions": 0, "channels": {}},
            "has_more": false, "next_after_id": "0",
        })
    );

    let first = say(&admin, "build", "one", None).await;
    let called = say(&admin, "deploy", "two, bob?", Some("bob")).await;
    let other = say(&admin, "build", "three", Some("ada")).await;
    say(&bob, "build", "my own", None).await;
    say(&bob, "build", "a note to myself", Some("bob")).await;
    let found = inbox(&bob, "").await;
    assert_eq!(found["mentions"], json!([called]));
    assert_eq!(found["messages"], json!([first, other]));
    assert_eq!(
        found["unread"],
        json!({"mentions": 1, "channels": {"build": 2, "deploy": 1}})
    );
    assert_eq!(found["has_more"], false);
    assert_eq!(found["next_after_id"], other["id"]);

    // Reading moved nothing; an ack does, for its channel alone.
    assert_eq!(inbox(&bob, "").await, found);
    let ack = json!({"last_read_id": first["id"]});
    bob.post("/api/channels/build/ack", ack).await.expect(200);
    let found = inbox(&bob, "").await;
    assert_eq!(found["messages"], json!([other]));
    assert_eq!(found["mentions"], json!([called]));

    // A deleted message calls nobody.
    let path = format!(
        "/api/channels/deploy/messages/{}",
        called["id"].as_str().unwrap()
    );
    admin.delete(path).await.expect(204);
    assert_eq!(
        inbox(&bob, "").await["unread"],
        json!({"mentions": 0, "channels": {"build": 1}})
    );
}

#[tokio::test]
async fn it_shows_only_what_the_key_can_read() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let bob = relay.agent("bob", json!({"build": "read"})).await;
    let stranger = relay.signup("other team", "bob").await;
    say(&admin, "build", "for all", Some("bob")).await;
    say(&admin, "secret", "not for bob", Some("bob")).await;
    for query in ["", "channels=build,secret"] {
        let found = inbox(&bob, query).await;
        assert_eq!(contents(&found["mentions"]), ["for all"]);
        assert_eq!(
            found["unread"],
            json!({"mentions": 1, "channels": {"build": 1}})
        );
    }
    assert_eq!(inbox(&bob, "channels=secret").await["mentions"], json!([]));
    assert_eq!(inbox(&stranger, "").await["unread"]["mentions"], 0);
}

#[tokio::test]
async fn a_budget_cuts_it_and_the_rest_is_counted() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let bob = relay.agent("bob", json!({"*": "write"})).await;
    let mut posted = Vec::new();
    for n in 0..6 {
        let mention = (n % 2 == 1).then_some("bob");
        posted.push(say(&admin, "ops", &format!("{n:0>100}"), mention).await);
    }
    let counts = inbox(&bob, "max_bytes=0").await;
    assert_eq!(counts["mentions"], json!([]));
    assert_eq!(counts["messages"], json!([]));
    assert_eq!(
        counts["unread"],
        json!({"mentions": 3, "channels": {"ops": 6}})
    );
    assert_eq!(counts["has_more"], true);
    assert_eq!(counts["next_after_id"], "0");

    let cut = inbox(&bob, "max_bytes=400").await;
    assert_eq!(cut["mentions"], json!([posted[1], posted[3], posted[5]]));
    assert_eq!(cut["messages"], json!([posted[0]]));
    assert_eq!(cut["has_more"], true);
    assert_eq!(cut["unread"], counts["unread"]);
    // Nothing that was left out lies before this.
    assert_eq!(cut["next_after_id"], posted[0]["id"]);

    // What is longer than the budget comes alone rather than never.
    let one = inbox(&bob, "max_bytes=1").await;
    assert_eq!(one["mentions"], json!([posted[1]]));
    assert_eq!(one["messages"], json!([]));

    let after = posted[3]["id"].as_str().unwrap();
    let newer = inbox(&bob, &format!("after_id={after}")).await;
    assert_eq!(newer["mentions"], json!([posted[5]]));
    assert_eq!(newer["messages"], json!([posted[4]]));
    let called = inbox(&bob, "mentions_only=true").await;
    assert_eq!(contents(&called["mentions"]).len(), 3);
    assert_eq!(called["messages"], json!([]));

    for _ in 0..3 {
        let posts = (0..40).map(|_| say(&admin, "ops", "more", Some("bob")));
        futures_util::future::join_all(posts).await;
    }
    let many = inbox(&bob, "max_bytes=0").await;
    assert_eq!(
        many["unread"],
        json!({"mentions": 100, "channels": {"ops": 100}})
    );
}

#[tokio::test]
async fn what_others_wrote_is_found_behind_many_of_ones_own() {
    let relay = TestRelay::builder()
        .env("RATE_LIMIT_MAX", 100_000)
        .start()
        .await;
    let bob = relay.agent("bob", json!({"*": "write"})).await;
    for _ in 0..13 {
        let posts = (0..100).map(|_| bob.say("ops", "of my own"));
        futures_util::future::join_all(posts).await;
    }
    let found = inbox(&bob, "").await;
    assert_eq!(found["unread"], json!({"mentions": 0, "channels": {}}));
    let other = say(&relay.admin(), "ops", "and mine", None).await;
    // A look goes over a thousand or so, and the next goes on from there.
    let found = inbox(&bob, "").await;
    assert_eq!(found["unread"]["channels"], json!({"ops": 1}));
    assert_eq!(found["messages"], json!([other]));
    let called = say(&relay.admin(), "ops", "bob?", Some("bob")).await;
    let found = inbox(&bob, "").await;
    assert_eq!(
        found["unread"],
        json!({"mentions": 1, "channels": {"ops": 2}})
    );
    assert_eq!(found["mentions"], json!([called]));
    assert_eq!(found["messages"], json!([other]));
}

#[tokio::test]
async fn a_wait_ends_when_something_comes_or_its_time_is_over() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let bob = relay.agent("bob", json!({"*": "write"})).await;
    say(&bob, "ops", "of my own", None).await;
    // What is there is answered at once; what is one's own is nothing.
    let start = Instant::now();
    let nothing = inbox(&bob, "wait=1").await;
    assert_eq!(nothing["messages"], json!([]));
    assert!(start.elapsed() >= Duration::from_secs(1), "it waited");

    for (channel, query, mention) in [
        ("ops", "wait=50", None),
        ("opened-meanwhile", "wait=50", None),
        ("ops", "wait=50&mentions_only=true", Some("bob")),
        ("ops", "wait=50&channels=ops", Some("bob")),
    ] {
        let after = admin.say("ops", "read already").await;
        let query = format!("{query}&after_id={}", after["id"].as_str().unwrap());
        let mut waiting = std::pin::pin!(inbox(&bob, &query));
        assert!(
            timeout(SHORT, &mut waiting).await.is_err(),
            "{query}: nothing came yet"
        );
        let posted = say(&admin, channel, "wake up", mention).await;
        let found = timeout(DEADLINE, waiting).await.expect("it was woken");
        let kind = if mention.is_some() {
            "mentions"
        } else {
            "messages"
        };
        assert_eq!(found[kind], json!([posted]), "{query}");
    }
}

#[tokio::test]
async fn a_wait_for_mentions_sleeps_through_the_rest() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let bob = relay.agent("bob", json!({"*": "write"})).await;
    say(&admin, "ops", "hello", None).await;
    let mut waiting = std::pin::pin!(inbox(&bob, "wait=50&mentions_only=true"));
    assert!(timeout(SHORT, &mut waiting).await.is_err());
    say(&admin, "ops", "not for bob", Some("ada")).await;
    assert!(timeout(SHORT, &mut waiting).await.is_err());
    // Nor does a channel that is deleted end it.
    say(&admin, "gone-soon", "hello", None).await;
    assert!(timeout(SHORT, &mut waiting).await.is_err());
    let gone = admin.delete("/api/channels/gone-soon").await;
    gone.expect(204);
    assert!(timeout(SHORT, &mut waiting).await.is_err());
    let called = say(&admin, "ops", "bob!", Some("bob")).await;
    let found = timeout(DEADLINE, waiting).await.expect("it was woken");
    assert_eq!(found["mentions"], json!([called]));
    assert_eq!(found["messages"], json!([]));
}

#[tokio::test]
async fn g5_g7_who_waits_counts_as_a_stream_and_ends_with_the_key() {
    let relay = TestRelay::builder()
        .env("HANDOFF_STREAMS_PER_KEY", 1)
        .start()
        .await;
    let admin = relay.admin();
    let bob = relay.agent("bob", json!({"*": "write"})).await;
    let mut waiting = std::pin::pin!(bob.get("/api/inbox?wait=50"));
    assert!(timeout(SHORT, &mut waiting).await.is_err());
    let refused = bob.get("/api/inbox?wait=50").await;
    refused.refused(429, "SSE_LIMIT_REACHED");
    inbox(&bob, "").await;
    admin
        .delete(format!("/api/keys/{}", bob.key_hash()))
        .await
        .expect(204);
    let ended = timeout(DEADLINE, waiting).await.expect("the wait ended");
    ended.refused(401, "INVALID_API_KEY");
}

#[tokio::test]
async fn bad_parameters_are_refused() {
    let relay = TestRelay::new().await;
    for (query, code) in [
        ("wait=56", "INVALID_LIMIT"),
        ("wait=-1", "INVALID_LIMIT"),
        ("wait=1.5", "INVALID_LIMIT"),
        ("max_bytes=262145", "INVALID_LIMIT"),
        ("max_bytes=x", "INVALID_LIMIT"),
        ("mentions_only=perhaps", "INVALID_PARAMETER"),
        ("after_id=x", "INVALID_CURSOR"),
        ("channels=..", "INVALID_CHANNEL_NAME"),
        ("channels=a,,b", "INVALID_CHANNEL_NAME"),
    ] {
        let answer = relay.admin().get(format!("/api/inbox?{query}")).await;
        answer.refused(400, code);
    }
    inbox(&relay.admin(), "wait=&max_bytes=&after_id=&channels=").await;
}
