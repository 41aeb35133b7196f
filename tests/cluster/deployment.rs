//! Seven agents, seven keys, three replicas: a pipeline from its kick-off to the health check,
//! over streams, threads, mentions, acks and status. Every agent works by itself and knows only
//! what it reads; each also tries what it must not do, and every attempt stands in the audit log.

use std::collections::BTreeMap;
use std::sync::Mutex;

use harness::{Agent, EventStream, Method, Response, TestRelay, within};
use serde_json::{Value, json};

/// Who may do what. A channel that an agent's map does not name is closed to it.
fn permissions() -> Vec<(&'static str, Value)> {
    vec![
        ("orchestrator", json!({"*": "admin"})),
        ("builder", json!({"build": "write", "deploy": "read"})),
        ("reviewer", json!({"review": "write", "build": "read"})),
        ("deployer", json!({"deploy": "write", "build": "read"})),
        (
            "monitor",
            json!({"monitoring": "write", "build": "read", "deploy": "read"}),
        ),
        (
            "qa",
            json!({"review": "write", "build": "read", "deploy": "read"}),
        ),
        ("notifier", json!({"*": "read"})),
    ]
}

const CHANNELS: [&str; 4] = ["build", "deploy", "monitoring", "review"];
const VERSION: &str = "v1.4.0";

/// One agent at work: its key on its replica, and what it has been refused so far.
struct Worker {
    agent: Agent,
    denied: Mutex<Vec<(String, String)>>,
}

impl Worker {
    async fn post(&self, channel: &str, body: Value) -> Value {
        let path = format!("/api/channels/{channel}/messages");
        self.agent.post(path, body).await.expect(201)
    }

    async fn set_status(&self, channel: &str, key: &str, value: &str) {
        let body = json!({"key": key, "value": value});
        let set = self
            .agent
            .put(format!("/api/channels/{channel}/status"), body)
            .await;
        let set = set.expect(200);
        assert_eq!(set["updated_by"], self.agent.sender());
    }

    async fn ack(&self, channel: &str, message: &Value) {
        let body = json!({"last_read_id": message["id"]});
        let acked = self
            .agent
            .post(format!("/api/channels/{channel}/ack"), body)
            .await;
        let acked = acked.expect(200);
        assert_eq!(acked["last_read_id"], message["id"]);
        let unread = self
            .agent
            .get(format!("/api/channels/{channel}/unread"))
            .await
            .expect(200);
        let unread = unread["messages"].as_array().unwrap();
        assert!(
            unread.iter().all(|left| id(left) > id(message)),
            "read is read"
        );
    }

    /// Tries what it must not do.
    async fn must_not(&self, method: Method, path: &str, body: Value) {
        let line = format!("{method} {}", path.split('?').next().unwrap());
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer: Response = self.agent.send(method, path, body).await;
        answer.refused(403, "FORBIDDEN");
        let channel = match path.strip_prefix("/api/channels/") {
            Some(rest) => rest.split('/').next().unwrap(),
            None => "*",
        };
        self.denied.lock().unwrap().push((line, channel.to_owned()));
    }

    /// Tries every operation of a level in a channel.
    async fn must_not_read(&self, channel: &str) {
        let path = |rest: &str| format!("/api/channels/{channel}/{rest}");
        for rest in [
            "messages",
            "stream",
            "acks",
            "unread",
            "status",
            "status/changes",
            "threads/1",
        ] {
            self.must_not(Method::GET, &path(rest), Value::Null).await;
        }
        self.must_not_write(channel).await;
    }

    async fn must_not_write(&self, channel: &str) {
        let path = |rest: &str| format!("/api/channels/{channel}/{rest}");
        let status = json!({"key": "health", "value": "mine now"});
        self.must_not(
            Method::POST,
            &path("messages"),
            json!({"content": "mine now"}),
        )
        .await;
        self.must_not(Method::POST, &path("ack"), json!({"last_read_id": "1"}))
            .await;
        self.must_not(Method::PUT, &path("status"), status).await;
        self.must_not_administer(channel).await;
    }

    async fn must_not_administer(&self, channel: &str) {
        let path = format!("/api/channels/{channel}");
        self.must_not(Method::DELETE, &path, Value::Null).await;
        self.must_not(Method::DELETE, &format!("{path}/messages/1"), Value::Null)
            .await;
        self.must_not(
            Method::DELETE,
            &format!("{path}/status/health"),
            Value::Null,
        )
        .await;
    }

    async fn must_not_run_the_team(&self) {
        let hash = self.agent.key_hash();
        let all = json!({"permissions": {"*": "admin"}});
        self.must_not(Method::PUT, &format!("/api/keys/{hash}/permissions"), all)
            .await;
        self.must_not(Method::DELETE, &format!("/api/keys/{hash}"), Value::Null)
            .await;
        let key = json!({"sender_name": "orchestrator"});
        self.must_not(Method::POST, "/api/keys", key).await;
        self.must_not(Method::GET, "/api/keys", Value::Null).await;
        self.must_not(Method::GET, "/api/audit", Value::Null).await;
        self.must_not(Method::POST, "/api/channels", json!({"name": "secret"}))
            .await;
    }
}

fn id(message: &Value) -> u64 {
    message["id"].as_str().unwrap().parse().unwrap()
}

/// Reads a stream up to the first message of that sender whose content begins so.
async fn heard(stream: &mut EventStream, sender: &str, start: &str) -> Value {
    loop {
        let message = stream.next().await.data;
        if message["sender"] == sender && message["content"].as_str().unwrap().starts_with(start) {
            return message;
        }
    }
}

/// Kicks off, and watches for the end.
async fn orchestrate(worker: &Worker, stream: &mut EventStream) -> Value {
    let kick_off = json!({"content": format!("build {VERSION}, please"), "mention": "builder"});
    let kick_off = worker.post("build", kick_off).await;
    worker.set_status("build", "phase", "requested").await;
    heard(stream, "builder", "built").await;
    let approved = heard(stream, "reviewer", "approved").await;
    assert_eq!(approved["channel"], "review");
    // The deployer cannot see the review: it is told.
    let order = json!({"content": format!("deploy {VERSION}"), "mention": "deployer"});
    let order = worker.post("deploy", order).await;
    let deployed = heard(stream, "deployer", "deployed").await;
    assert_eq!(deployed["thread_id"], order["id"]);
    let check = json!({"content": "check health, please", "mention": "monitor"});
    worker.post("monitoring", check).await;
    // These two know nothing of each other.
    let mut awaited = vec![("monitor", "healthy"), ("qa", "accepted")];
    let mut last = 0;
    while !awaited.is_empty() {
        let message = stream.next().await.data;
        let content = message["content"].as_str().unwrap();
        awaited
            .retain(|(sender, start)| message["sender"] != *sender || !content.starts_with(start));
        last = id(&message);
    }
    let done = json!({"content": format!("{VERSION} is out"), "thread_id": kick_off["id"]});
    let done = worker.post("build", done).await;
    worker.set_status("build", "phase", "released").await;
    assert!(id(&done) > last);
    kick_off
}

/// Builds what it is asked for by mention, in the thread of the request.
async fn build(worker: &Worker, stream: &mut EventStream) {
    let asked = heard(stream, "orchestrator", "build ").await;
    assert_eq!(asked["mention"], "builder");
    let mine = worker
        .agent
        .get("/api/channels/build/messages?mention=builder")
        .await
        .expect(200);
    assert_eq!(mine["messages"][0]["id"], asked["id"]);
    worker.ack("build", &asked).await;
    worker.set_status("build", "phase", "building").await;
    for step in 1..=3 {
        let step = json!({"content": format!("step {step}/3"), "thread_id": asked["id"]});
        worker.post("build", step).await;
    }
    let built = json!({"content": format!("built {VERSION}"), "thread_id": asked["id"]});
    worker.post("build", built).await;
    worker.set_status("build", "artifact", VERSION).await;
}

/// Reads what was built, and approves.
async fn review(worker: &Worker, stream: &mut EventStream) {
    let built = heard(stream, "builder", "built").await;
    let path = format!(
        "/api/channels/build/threads/{}",
        built["thread_id"].as_str().unwrap()
    );
    let thread = worker.agent.get(path).await.expect(200);
    assert_eq!(thread["parent"]["sender"], "orchestrator");
    assert_eq!(
        thread["replies"].as_array().unwrap().len(),
        4,
        "three steps and the result"
    );
    let verdict = json!({"content": format!("approved {VERSION}"), "mention": "orchestrator"});
    worker.post("review", verdict).await;
}

/// Deploys what the build channel's status names, when it is told to.
async fn deploy(worker: &Worker, stream: &mut EventStream) {
    let order = heard(stream, "orchestrator", "deploy ").await;
    assert_eq!(order["mention"], "deployer");
    // The artifact's name is set after the message that made this happen was posted.
    let artifact = harness::eventually("the artifact has a name", || async {
        let status = worker
            .agent
            .get("/api/channels/build/status?key=artifact")
            .await;
        Some(status.expect(200)[0]["value"].as_str()?.to_owned())
    })
    .await;
    worker.ack("deploy", &order).await;
    worker.set_status("deploy", "running", &artifact).await;
    let done = json!({"content": format!("deployed {artifact}"), "thread_id": order["id"]});
    worker.post("deploy", done).await;
}

/// Checks the health of what was deployed, when it is told to.
async fn monitor(worker: &Worker, stream: &mut EventStream) {
    let check = heard(stream, "orchestrator", "check health").await;
    assert_eq!(check["channel"], "monitoring");
    let running = worker
        .agent
        .get("/api/status?key=running")
        .await
        .expect(200);
    assert_eq!(running[0]["channel"], "deploy");
    worker.set_status("monitoring", "health", "green").await;
    let healthy = json!({
        "content": format!("healthy: {}", running[0]["value"].as_str().unwrap()),
        "thread_id": check["id"],
    });
    worker.post("monitoring", healthy).await;
    worker.ack("monitoring", &check).await;
}

/// Tests what runs, and says so in the review.
async fn assure_quality(worker: &Worker, stream: &mut EventStream) {
    let approved = heard(stream, "reviewer", "approved").await;
    let deployed = heard(stream, "deployer", "deployed").await;
    assert!(id(&approved) < id(&deployed), "one stream, one order");
    let body = json!({"content": format!("accepted {VERSION}"), "thread_id": approved["id"]});
    worker.post("review", body).await;
    worker.ack("review", &approved).await;
}

/// Only reads: everything, until the end.
async fn notify(stream: &mut EventStream) -> Vec<Value> {
    let mut seen = Vec::new();
    loop {
        let message = stream.next().await.data;
        let last = message["content"] == format!("{VERSION} is out");
        seen.push(message);
        if last {
            return seen;
        }
    }
}

/// What each agent must not do, tried while the others work.
async fn trespass(worker: &Worker) {
    match worker.agent.sender() {
        "orchestrator" => return, // nothing is closed to it
        "builder" => {
            worker.must_not_administer("build").await;
            worker.must_not_write("deploy").await;
            worker.must_not_read("review").await;
            worker.must_not_read("monitoring").await;
        }
        "reviewer" => {
            worker.must_not_administer("review").await;
            worker.must_not_write("build").await;
            worker.must_not_read("deploy").await;
            worker.must_not_read("monitoring").await;
        }
        "deployer" => {
            worker.must_not_administer("deploy").await;
            worker.must_not_write("build").await;
            worker.must_not_read("review").await;
            worker.must_not_read("monitoring").await;
        }
        "monitor" => {
            worker.must_not_administer("monitoring").await;
            worker.must_not_write("build").await;
            worker.must_not_write("deploy").await;
            worker.must_not_read("review").await;
        }
        "qa" => {
            worker.must_not_administer("review").await;
            worker.must_not_write("build").await;
            worker.must_not_write("deploy").await;
            worker.must_not_read("monitoring").await;
        }
        "notifier" => {
            for channel in CHANNELS {
                worker.must_not_write(channel).await;
            }
        }
        other => panic!("nobody knows {other}"),
    }
    match worker.agent.sender() {
        "notifier" => worker.must_not_write("not-there-yet").await,
        _ => worker.must_not_read("not-there-yet").await,
    }
    worker.must_not_run_the_team().await;
}

#[tokio::test]
async fn g2_g3_g4_seven_agents_run_a_pipeline_over_three_replicas() {
    let relay = TestRelay::builder().replicas(3).start().await;
    let admin = relay.admin();
    let mut workers = BTreeMap::new();
    for (n, (sender, permissions)) in permissions().into_iter().enumerate() {
        let agent = admin.new_key(sender, permissions).await.on(n % 3);
        workers.insert(
            sender,
            Worker {
                agent,
                denied: Mutex::default(),
            },
        );
    }
    for channel in CHANNELS {
        admin
            .post("/api/channels", json!({"name": channel}))
            .await
            .expect(201);
    }

    // Each listens to what it may read, before anything happens.
    let worker = |name: &str| &workers[name];
    let listen = async |name: &str, channels: &str| {
        worker(name)
            .agent
            .stream(format!("/api/stream?channels={channels}"))
            .await
    };
    let mut for_orchestrator = listen("orchestrator", "build,deploy,monitoring,review").await;
    let mut for_builder = worker("builder")
        .agent
        .stream("/api/channels/build/stream")
        .await;
    let mut for_reviewer = worker("reviewer")
        .agent
        .stream("/api/channels/build/stream")
        .await;
    let mut for_deployer = worker("deployer")
        .agent
        .stream("/api/channels/deploy/stream")
        .await;
    let mut for_monitor = listen("monitor", "monitoring,build,deploy").await;
    let mut for_qa = listen("qa", "review,build,deploy").await;
    let mut for_notifier = listen("notifier", "build,deploy,monitoring,review").await;

    let pipeline = async {
        let (kick_off, (), (), (), (), (), seen) = tokio::join!(
            orchestrate(worker("orchestrator"), &mut for_orchestrator),
            build(worker("builder"), &mut for_builder),
            review(worker("reviewer"), &mut for_reviewer),
            deploy(worker("deployer"), &mut for_deployer),
            monitor(worker("monitor"), &mut for_monitor),
            assure_quality(worker("qa"), &mut for_qa),
            notify(&mut for_notifier),
        );
        (kick_off, seen)
    };
    let trespasses = futures_util::future::join_all(workers.values().map(trespass));
    let ((kick_off, seen), _) = within("the pipeline runs to its end", async {
        tokio::join!(pipeline, trespasses)
    })
    .await;

    the_notifier_saw_the_whole_story(&admin, &seen).await;
    what_stands_in_the_end(&relay, &kick_off).await;
    every_attempt_is_in_the_audit_log(&admin, &workers).await;

    let stranger = relay.signup("another team", "orchestrator").await;
    assert_eq!(
        stranger.on(1).get("/api/status").await.expect(200),
        json!([])
    );
    assert_eq!(
        stranger.on(1).get("/api/audit").await.expect(200)["entries"],
        json!([])
    );
}

/// It saw every message of the team, in the order in which they stand.
async fn the_notifier_saw_the_whole_story(admin: &Agent, seen: &[Value]) {
    let mut story = Vec::new();
    for channel in CHANNELS {
        let path = format!("/api/channels/{channel}/messages?after_id=0&limit=100");
        let page = admin.get(path).await.expect(200);
        let messages = page["messages"].as_array().unwrap();
        let seqs: Vec<u64> = messages
            .iter()
            .map(|m| m["seq"].as_u64().unwrap())
            .collect();
        assert_eq!(seqs, (1..=messages.len() as u64).collect::<Vec<u64>>());
        story.extend(
            messages
                .iter()
                .map(|message| (id(message), message["content"].clone())),
        );
    }
    story.sort_by_key(|(id, _)| *id);
    let seen: Vec<_> = seen
        .iter()
        .map(|message| (id(message), message["content"].clone()))
        .collect();
    assert_eq!(seen, story);

    // Cause comes before effect.
    let starts = [
        "build ",
        "step 1",
        "step 2",
        "step 3",
        "built",
        "approved",
        "deploy ",
        "deployed",
        "check health",
        "healthy",
        "v1.4.0 is out",
    ];
    let positions: Vec<usize> = starts
        .iter()
        .map(|start| {
            story
                .iter()
                .position(|(_, content)| content.as_str().unwrap().starts_with(start))
                .unwrap_or_else(|| panic!("nobody said {start:?}"))
        })
        .collect();
    assert!(positions.is_sorted(), "{story:?}");
}

/// Threads, acks and status, as every replica shows them.
async fn what_stands_in_the_end(relay: &TestRelay, kick_off: &Value) {
    for replica in 0..3 {
        let admin = relay.admin().on(replica);
        let path = format!(
            "/api/channels/build/threads/{}",
            kick_off["id"].as_str().unwrap()
        );
        let thread = admin.get(path).await.expect(200);
        assert_eq!(thread["parent"]["reply_count"], 5);
        assert_eq!(thread["replies"][4]["sender"], "orchestrator");

        let status = admin.get("/api/status").await.expect(200);
        let status: Vec<_> = status
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| {
                let text = |name: &str| entry[name].as_str().unwrap().to_owned();
                (
                    text("channel"),
                    text("key"),
                    text("value"),
                    text("updated_by"),
                )
            })
            .collect();
        let entry = |channel: &str, key: &str, value: &str, by: &str| {
            (
                channel.to_owned(),
                key.to_owned(),
                value.to_owned(),
                by.to_owned(),
            )
        };
        assert_eq!(
            status,
            [
                entry("build", "artifact", VERSION, "builder"),
                entry("build", "phase", "released", "orchestrator"),
                entry("deploy", "running", VERSION, "deployer"),
                entry("monitoring", "health", "green", "monitor"),
            ]
        );
        let readers = async |channel: &str| {
            let acks = admin
                .get(format!("/api/channels/{channel}/acks"))
                .await
                .expect(200);
            let acks = acks.as_array().unwrap().clone();
            acks.into_iter()
                .map(|ack| ack["sender"].clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(readers("build").await, ["builder"]);
        assert_eq!(readers("deploy").await, ["deployer"]);
        assert_eq!(readers("monitoring").await, ["monitor"]);
        assert_eq!(readers("review").await, ["qa"]);
        let channels = admin.get("/api/channels").await.expect(200);
        let names: Vec<_> = channels
            .as_array()
            .unwrap()
            .iter()
            .map(|channel| channel["name"].clone())
            .collect();
        assert_eq!(names, CHANNELS, "no attempt opened a channel");
    }
}

/// Every refusal, once, in the order in which each agent made them, and nothing else.
async fn every_attempt_is_in_the_audit_log(admin: &Agent, workers: &BTreeMap<&str, Worker>) {
    let mut entries: Vec<Value> = Vec::new();
    loop {
        let after = entries
            .last()
            .map_or("0", |entry| entry["id"].as_str().unwrap());
        let page = admin
            .get(format!("/api/audit?after_id={after}&limit=100"))
            .await
            .expect(200);
        entries.extend(page["entries"].as_array().unwrap().iter().cloned());
        if page["has_more"] == false {
            break;
        }
    }
    assert!(entries.is_sorted_by_key(id), "the log has one order");
    let mut logged: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for entry in &entries {
        assert_eq!(entry["result"], "denied");
        let sender = entry["sender_name"].as_str().unwrap();
        assert_eq!(entry["key_hash"], workers[sender].agent.key_hash());
        let text = |name: &str| entry[name].as_str().unwrap().to_owned();
        logged
            .entry(sender.to_owned())
            .or_default()
            .push((text("action"), text("channel")));
    }
    for (sender, worker) in workers {
        let tried = worker.denied.lock().unwrap().clone();
        assert_eq!(
            tried.is_empty(),
            *sender == "orchestrator",
            "{sender} tried something"
        );
        assert_eq!(
            logged.remove(*sender).unwrap_or_default(),
            tried,
            "what {sender} tried"
        );
    }
}
