//! `wait=` on pages, POST `/api/wait` and POST `/api/inbox/ack`.

use std::time::{Duration, Instant};

use harness::{Agent, TestRelay, eventually, within};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::fixtures::{ack, id, messages, reply, set, text};

/// Long enough to show that a wait would have gone on.
const SHORT: Duration = Duration::from_secs(1);
/// A wait that ends this late was not woken.
const LATE: Duration = Duration::from_secs(20);

async fn wait(agent: &Agent, body: Value) -> Value {
    agent.post("/api/wait", body).await.expect(200)
}

/// Waits for a condition, and shows that it is not true before `act` and is right after.
async fn becomes_true(agent: &Agent, condition: Value, act: impl Future<Output = Value>) -> Value {
    let waiting = wait(agent, json!({"any": [condition], "timeout_seconds": 50}));
    let mut waiting = std::pin::pin!(waiting);
    assert!(timeout(SHORT, &mut waiting).await.is_err(), "{condition}");
    act.await;
    let acted = Instant::now();
    let outcome = within("the wait is woken", waiting).await;
    assert!(acted.elapsed() < LATE, "{condition}");
    assert_eq!(outcome["satisfied"], true, "{outcome}");
    outcome["conditions"][0].clone()
}

#[tokio::test]
async fn a_page_is_waited_for() {
    let relay = TestRelay::new().await;
    let (admin, bob) = (
        relay.admin(),
        relay.agent("bob", json!({"*": "write"})).await,
    );
    let first = admin.say("ops", "one").await;
    let path = messages("ops");
    // What is there is answered at once.
    let page = bob
        .get(format!("{path}?after_id=0&wait=50"))
        .await
        .expect(200);
    assert_eq!(page["messages"], json!([first]));
    let unread = bob
        .get("/api/channels/ops/unread?wait=50")
        .await
        .expect(200);
    assert_eq!(unread["messages"], json!([first]));
    ack(&bob, "ops", id(&first)).await;

    let after = format!("{path}?after_id={}", id(&first));
    let all = bob.get(format!("{after}&wait=50"));
    let mine = bob.get(format!("{after}&wait=50&mention=bob"));
    let ours = bob.get(format!("{after}&wait=50&sender=ada"));
    let replies = bob.get(format!("{after}&wait=50&thread_id={}", id(&first)));
    let unread = bob.get("/api/channels/ops/unread?wait=50".to_owned());
    let unopened = bob.get(format!("{}?wait=50", messages("unopened")));
    let mut waits = [all, mine, ours, replies, unread, unopened].map(Box::pin);
    for waiting in &mut waits {
        assert!(timeout(SHORT / 4, waiting).await.is_err());
    }
    let [
        mut all,
        mut mine,
        mut ours,
        mut replies,
        mut unread,
        mut unopened,
    ] = waits;
    let second = admin.say("ops", "two").await;
    let page = |answer: harness::Response| answer.expect(200)["messages"].clone();
    assert_eq!(page(within("all", &mut all).await), json!([second]));
    assert_eq!(page(within("unread", &mut unread).await), json!([second]));
    // What doesn't concern a wait doesn't end it.
    for waiting in [&mut mine, &mut ours, &mut replies, &mut unopened] {
        assert!(timeout(SHORT / 4, waiting).await.is_err());
    }
    let call = json!({"content": "bob?", "mention": "bob"});
    let call = admin.post(&path, call).await.expect(201);
    assert_eq!(page(within("mine", &mut mine).await), json!([call]));
    let ada = relay.agent("ada", json!({"*": "write"})).await;
    let third = ada.say("ops", "hello").await;
    assert_eq!(page(within("ours", &mut ours).await), json!([third]));
    let answer = reply(&ada, &first, "on it").await;
    assert_eq!(page(within("replies", &mut replies).await), json!([answer]));
    let opened = ada.say("unopened", "first").await;
    assert_eq!(
        page(within("unopened", &mut unopened).await),
        json!([opened])
    );

    // Nothing comes: an empty page after the time, fit to go on from.
    let began = Instant::now();
    let page = bob
        .get(format!("{path}?after_id={}&wait=1", id(&answer)))
        .await
        .expect(200);
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(page["messages"], json!([]));
    assert_eq!(page["next_after_id"], answer["id"]);
    for bad in ["51", "-1", "1.5", "x"] {
        let refused = bob.get(format!("{path}?wait={bad}")).await;
        refused.refused(400, "INVALID_LIMIT");
    }
}

#[tokio::test]
async fn each_kind_of_condition_wakes() {
    let relay = TestRelay::new().await;
    let (admin, bob) = (
        relay.admin(),
        relay.agent("bob", json!({"*": "write"})).await,
    );
    let first = admin.say("ops", "one").await;

    // In a channel that doesn't exist yet, and in one that does.
    for channel in ["build", "ops"] {
        let condition = json!({"status": {"channel": channel, "key": "phase", "value": "green"}});
        let seen = becomes_true(&bob, condition, async {
            set(&admin, channel, "phase", "red").await;
            set(&admin, channel, "phase", "green").await
        })
        .await;
        assert_eq!(text(&seen["status"], "value"), "green");
        assert_eq!(seen["status"]["updated_by"], "admin");
        // The same value again is a change after it.
        let condition = json!({"status": {"channel": channel, "key": "phase",
            "after_id": seen["next_after_id"]}});
        let act = async { set(&admin, channel, "phase", "green").await };
        becomes_true(&bob, condition, act).await;
    }

    let condition = json!({"acks": {"channel": "ops", "id": first["id"], "count": 2}});
    let ada = relay.agent("ada", json!({"*": "write"})).await;
    let seen = becomes_true(&bob, condition, async {
        ack(&admin, "ops", id(&first)).await;
        ack(&ada, "ops", id(&first)).await
    })
    .await;
    let readers: Vec<&str> = seen["acks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|ack| text(ack, "sender"))
        .collect();
    assert_eq!(readers, ["ada", "admin"]);

    let condition = json!({"reply": {"channel": "ops", "id": first["id"], "by": "ada"}});
    let seen = becomes_true(&bob, condition, async {
        reply(&admin, &first, "not this one").await;
        reply(&ada, &first, "this one").await
    })
    .await;
    assert_eq!(seen["message"]["content"], "this one");

    let condition = json!({"message": {"channel": "ops", "mention": "bob", "sender": "ada"}});
    let say = async |agent: &Agent, mention: &str| {
        let body = json!({"content": "you?", "mention": mention});
        agent.post(messages("ops"), body).await.expect(201)
    };
    let seen = becomes_true(&bob, condition, async {
        say(&admin, "bob").await;
        say(&ada, "eve").await;
        say(&ada, "bob").await
    })
    .await;
    assert_eq!(
        (&seen["message"]["sender"], &seen["message"]["mention"]),
        (&json!("ada"), &json!("bob"))
    );
    assert_eq!(seen["next_after_id"], seen["message"]["id"]);

    // A channel of the same name is the one that counts from then on.
    let condition = json!({"status": {"channel": "build", "key": "phase", "value": "new"}});
    becomes_true(&bob, condition, async {
        admin.delete("/api/channels/build").await.expect(204);
        set(&admin, "build", "phase", "new").await
    })
    .await;
}

#[tokio::test]
async fn what_is_true_is_answered_at_once_and_what_is_not_in_time() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let first = admin.say("ops", "one").await;
    set(&admin, "ops", "phase", "green").await;
    let message = json!({"message": {"channel": "ops", "after_id": "0"}});
    let from_now = json!({"message": {"channel": "ops"}});
    let green = json!({"status": {"channel": "ops", "key": "phase", "value": "green"}});
    let red = json!({"status": {"channel": "ops", "key": "phase", "value": "red"}});

    let began = Instant::now();
    let body = json!({"any": [red, message], "timeout_seconds": 50});
    let outcome = wait(&admin, body).await;
    assert_eq!(outcome["satisfied"], true);
    assert_eq!(outcome["conditions"][0]["satisfied"], false);
    assert_eq!(
        outcome["conditions"][0]["status"]["value"], "green",
        "what it says instead"
    );
    assert_eq!(outcome["conditions"][1]["index"], 1);
    assert_eq!(outcome["conditions"][1]["message"], first);
    let outcome = wait(
        &admin,
        json!({"all": [green, message], "timeout_seconds": 50}),
    )
    .await;
    assert_eq!(outcome["satisfied"], true);
    assert!(began.elapsed() < LATE);

    let began = Instant::now();
    let body = json!({"all": [green, from_now], "timeout_seconds": 1});
    let outcome = wait(&admin, body).await;
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(outcome["satisfied"], false);
    assert_eq!(outcome["conditions"][0]["satisfied"], true);
    let next = &outcome["conditions"][1];
    assert_eq!(
        (&next["satisfied"], &next["message"]),
        (&json!(false), &Value::Null)
    );
    // What is posted between two waits is not missed.
    let between = admin.say("ops", "between").await;
    let again = json!({"message": {"channel": "ops", "after_id": next["next_after_id"]}});
    let outcome = wait(&admin, json!({"any": [again]})).await;
    assert_eq!(outcome["conditions"][0]["message"], between);
}

#[tokio::test]
async fn all_is_true_once_the_last_one_is() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let phase = |key: &str| json!({"status": {"channel": "ops", "key": key, "value": "done"}});
    let body = json!({"all": [phase("a"), phase("b")], "timeout_seconds": 50});
    let mut waiting = std::pin::pin!(wait(&admin, body));
    for (key, value) in [("a", "done"), ("a", "undone"), ("b", "done")] {
        set(&admin, "ops", key, value).await;
        assert!(
            timeout(SHORT / 2, &mut waiting).await.is_err(),
            "{key} {value}"
        );
    }
    set(&admin, "ops", "a", "done").await;
    let outcome = within("the wait ends", waiting).await;
    assert_eq!(outcome["satisfied"], true);
}

#[tokio::test]
async fn bad_waits_are_refused() {
    let relay = TestRelay::new().await;
    let bob = relay.agent("bob", json!({"ops": "read"})).await;
    let one = json!({"message": {"channel": "ops"}});
    for (body, code) in [
        (json!({}), "MISSING_FIELDS"),
        (json!({"any": []}), "MISSING_FIELDS"),
        (json!({"any": [one], "all": [one]}), "INVALID_JSON"),
        (json!({"any": [{}]}), "MISSING_FIELDS"),
        (json!({"any": [{"message": {}}]}), "MISSING_FIELDS"),
        (
            json!({"any": [{"message": {"channel": "ops"}, "reply": {"channel": "ops", "id": "1"}}]}),
            "MISSING_FIELDS",
        ),
        (
            json!({"any": [{"status": {"channel": "ops"}}]}),
            "MISSING_FIELDS",
        ),
        (
            json!({"any": [{"acks": {"channel": "ops", "id": "1"}}]}),
            "MISSING_FIELDS",
        ),
        (
            json!({"any": [{"acks": {"channel": "ops", "id": "1", "count": 0}}]}),
            "INVALID_LIMIT",
        ),
        (
            json!({"any": [{"acks": {"channel": "ops", "id": "1", "count": 101}}]}),
            "INVALID_LIMIT",
        ),
        (
            json!({"any": [{"reply": {"channel": "ops", "id": "x"}}]}),
            "INVALID_CURSOR",
        ),
        (
            json!({"any": [{"message": {"channel": "o s"}}]}),
            "INVALID_CHANNEL_NAME",
        ),
        (
            json!({"any": [{"message": {"channel": "ops", "sender": "a\0"}}]}),
            "INVALID_CONTENT",
        ),
        (json!({"any": vec![one.clone(); 17]}), "INVALID_LIMIT"),
        (json!({"any": [one], "timeout_seconds": 0}), "INVALID_LIMIT"),
        (
            json!({"any": [one], "timeout_seconds": 51}),
            "INVALID_LIMIT",
        ),
        (json!({"any": one}), "INVALID_JSON"),
    ] {
        let refused = bob.post("/api/wait", body.clone()).await;
        assert_eq!((refused.status(), &*refused.code()), (400, code), "{body}");
    }
    let other = json!({"any": [one, {"message": {"channel": "secret"}}]});
    bob.post("/api/wait", other).await.refused(403, "FORBIDDEN");
}

#[tokio::test]
async fn g7_a_wait_counts_as_a_stream_and_ends_with_its_key() {
    let relay = TestRelay::builder()
        .env("HANDOFF_STREAMS_PER_KEY", 2)
        .start()
        .await;
    let bob = relay.agent("bob", json!({"*": "write"})).await;
    let body = json!({"any": [{"message": {"channel": "ops"}}], "timeout_seconds": 50});
    let mut conditions = std::pin::pin!(bob.post("/api/wait", body.clone()));
    let mut page = std::pin::pin!(bob.get("/api/channels/ops/messages?wait=50"));
    assert!(timeout(SHORT, &mut conditions).await.is_err());
    assert!(timeout(SHORT, &mut page).await.is_err());
    bob.post("/api/wait", body)
        .await
        .refused(429, "SSE_LIMIT_REACHED");
    let path = format!("/api/keys/{}", bob.key_hash());
    relay.admin().delete(path).await.expect(204);
    within("the wait ends", conditions)
        .await
        .refused(401, "INVALID_API_KEY");
    within("the page ends", page)
        .await
        .refused(401, "INVALID_API_KEY");
}

#[tokio::test]
async fn a_wait_ends_when_the_replica_stops() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    admin.say("ops", "one").await;
    let body = json!({"any": [{"message": {"channel": "ops"}}], "timeout_seconds": 50});
    let mut waiting = std::pin::pin!(admin.post("/api/wait", body));
    assert!(timeout(SHORT, &mut waiting).await.is_err());
    let began = Instant::now();
    let replica = relay.replica(0);
    let (outcome, status) = tokio::join!(waiting, replica.terminate());
    assert_eq!(outcome.expect(200)["satisfied"], false);
    assert!(status.success());
    assert!(began.elapsed() < LATE);
}

#[tokio::test]
async fn acks_of_several_channels_move_together_or_not_at_all() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let bob = relay
        .agent("bob", json!({"a": "write", "b": "write", "c": "read"}))
        .await;
    let (a, b) = (admin.say("a", "one").await, admin.say("b", "two").await);
    let c = admin.say("c", "three").await;
    let wish = |channel: &str, id: &Value| json!({"channel": channel, "last_read_id": id});
    let post = async |acks: Value| bob.post("/api/inbox/ack", json!({"acks": acks})).await;
    let standing = async || {
        let mut all = Vec::new();
        for channel in ["a", "b", "c"] {
            let acks = admin
                .get(format!("/api/channels/{channel}/acks"))
                .await
                .expect(200);
            all.extend(acks.as_array().unwrap().clone());
        }
        json!(all)
    };
    post(json!([wish("a", &a["id"]), wish("c", &c["id"])]))
        .await
        .refused(403, "FORBIDDEN");
    post(json!([wish("a", &a["id"]), wish("b", &json!("x"))]))
        .await
        .refused(400, "INVALID_CURSOR");
    post(json!([wish("a", &a["id"]), wish("b", &json!(null))]))
        .await
        .refused(400, "MISSING_FIELDS");
    post(json!([])).await.refused(400, "MISSING_FIELDS");
    post(json!(vec![wish("a", &a["id"]); 101]))
        .await
        .refused(400, "INVALID_LIMIT");
    admin.delete("/api/channels/b").await.expect(204);
    post(json!([wish("a", &a["id"]), wish("b", &b["id"])]))
        .await
        .refused(404, "CHANNEL_NOT_FOUND");
    assert_eq!(standing().await, json!([]), "nothing moved");

    let b = admin.say("b", "again").await;
    let acks = json!([
        wish("b", &b["id"]),
        wish("a", &json!("0")),
        wish("a", &a["id"])
    ]);
    let moved = post(acks).await.expect(200);
    assert_eq!(moved[0]["channel"], "b");
    assert_eq!(moved[0]["last_read_id"], b["id"]);
    assert_eq!(moved[1], moved[2], "the furthest counts");
    assert_eq!(standing().await, json!([moved[1], moved[0]]));
    // Never back.
    let back = post(json!([wish("b", &json!("0"))])).await.expect(200);
    assert_eq!(back[0], moved[0]);
}

/// A connection to the relay, for what no HTTP client does.
async fn connect(relay: &TestRelay) -> TcpStream {
    let address = relay.replica(0).address();
    TcpStream::connect(address).await.expect("connects")
}

fn get(path: &str, agent: &Agent) -> String {
    let key = agent.key();
    format!("GET {path} HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer {key}\r\n\r\n")
}

#[tokio::test]
async fn a_client_that_hangs_up_waits_no_more() {
    let relay = TestRelay::builder()
        .env("HANDOFF_STREAMS_PER_KEY", 1)
        .start()
        .await;
    let bob = relay.agent("bob", json!({"*": "write"})).await;
    let mut connection = connect(&relay).await;
    let wait = get("/api/channels/ops/messages?wait=50", &bob);
    connection.write_all(wait.as_bytes()).await.expect("sends");
    let mut answer = Vec::new();
    let read = connection.read_to_end(&mut answer);
    assert!(timeout(SHORT, read).await.is_err(), "it waits");
    let another = async || bob.get("/api/channels/ops/messages?wait=1").await;
    another().await.refused(429, "SSE_LIMIT_REACHED");

    let began = Instant::now();
    connection.shutdown().await.expect("hangs up");
    within(
        "the relay hangs up as well",
        connection.read_to_end(&mut answer),
    )
    .await
    .expect("reads");
    assert_eq!(String::from_utf8_lossy(&answer), "");
    eventually("the place is free", async || {
        (another().await.status() == 200).then_some(())
    })
    .await;
    assert!(began.elapsed() < LATE, "the wait ended by itself");
}

#[tokio::test]
async fn requests_that_follow_a_wait_on_its_connection_are_answered_after_it() {
    let relay = TestRelay::new().await;
    let admin = relay.admin();
    let mut connection = connect(&relay).await;
    let wait = get("/api/channels/ops/messages?wait=50", &admin);
    let me = get("/api/me", &admin);
    // One comes with the wait, another one while it goes on.
    let both = format!("{wait}{me}");
    connection.write_all(both.as_bytes()).await.expect("sends");
    let mut answers = [0; 1];
    assert!(timeout(SHORT, connection.peek(&mut answers)).await.is_err());
    let last = me.replace("Host", "Connection: close\r\nHost");
    connection.write_all(last.as_bytes()).await.expect("sends");
    assert!(timeout(SHORT, connection.peek(&mut answers)).await.is_err());
    let message = admin.say("ops", "now").await;

    let mut answers = String::new();
    within("all answers", connection.read_to_string(&mut answers))
        .await
        .expect("reads");
    let bodies: Vec<Value> = answers
        .split("\r\n\r\n")
        .skip(1)
        .map(|rest| {
            let body = rest.split("HTTP/1.1").next().unwrap_or_default();
            serde_json::from_str(body).expect(rest)
        })
        .collect();
    assert_eq!(bodies.len(), 3, "{answers}");
    assert_eq!(bodies[0]["messages"], json!([message]));
    let team = &bodies[1]["team"];
    assert!(team.is_object() && bodies[2]["team"] == *team, "{answers}");
}
