//! What a replica tells of itself: metrics, traces, logs, and the alerts that are made of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use harness::{DEADLINE, Method, Replica, TestRelay, eventually, tool};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

const TEXT: &str = "the text that nobody but its readers may see";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn traceparent() -> String {
    format!("00-{TRACE}-{SPAN}-01")
}

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs a program on an input; its output.
async fn piped(program: &str, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(tool(program))
        .args(arguments)
        .current_dir(project())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let output = timeout(DEADLINE, child.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    let (stdout, stderr) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert!(output.status.success(), "{program}: {stdout}\n{stderr}");
    stdout
}

/// What a replica shows on its listener for metrics.
async fn scrape(replica: &Replica) -> String {
    let address = eventually("the log says where the metrics are", || async {
        let logs = replica.logs();
        let (_, rest) = logs.split_once("Metrics are served on http://")?;
        Some(rest.split_once("/metrics")?.0.to_owned())
    })
    .await;
    let mut connection = TcpStream::connect(&address).await.unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, connection.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    body.to_owned()
}

/// Metrics as Prometheus' own parser reads them.
struct Metrics(Vec<Value>);

impl Metrics {
    async fn of(replica: &Replica) -> Self {
        let script = "tests/deploy/read_metrics.py";
        let read = piped(
            "python/deploy/bin/python",
            &[script],
            &scrape(replica).await,
        )
        .await;
        Self(serde_json::from_str(&read).unwrap())
    }

    fn samples(&self) -> impl Iterator<Item = &Value> {
        self.0
            .iter()
            .flat_map(|family| family["samples"].as_array().unwrap())
    }

    /// The sum of the samples with this name and at least these labels.
    fn value(&self, name: &str, labels: Value) -> f64 {
        let wanted = labels.as_object().unwrap();
        let mut found = self
            .samples()
            .filter(|sample| {
                let has = |(label, value)| &sample["labels"][label] == value;
                sample["name"] == name && wanted.iter().all(has)
            })
            .peekable();
        assert!(found.peek().is_some(), "there is no {name} {labels}");
        found.map(|sample| sample["value"].as_f64().unwrap()).sum()
    }

    fn names(&self) -> BTreeSet<&str> {
        let names = self
            .samples()
            .map(|sample| sample["name"].as_str().unwrap());
        names.collect()
    }
}

async fn two_replicas_with_metrics() -> TestRelay {
    TestRelay::builder()
        .replicas(2)
        .env("HANDOFF_METRICS_PORT", 0)
        .start()
        .await
}

const POST: &str = "/api/channels/{channel}/messages";

#[tokio::test]
async fn metrics_count_what_happened() {
    let relay = two_replicas_with_metrics().await;
    let admin = relay.admin();
    admin.say("ops", "opens the channel").await;
    let mut near = admin.stream("/api/channels/ops/stream").await;
    let mut far = admin.on(1).stream("/api/channels/ops/stream").await;
    for _ in 0..3 {
        admin.say("ops", TEXT).await;
    }
    for stream in [&mut near, &mut far] {
        stream.take(3).await;
    }
    let empty = json!({"content": ""});
    admin
        .post("/api/channels/ops/messages", empty)
        .await
        .expect(400);
    admin.get("/there/is/nothing").await.expect(404);

    // Histograms and the answers' counts are complete once the answers are here.
    let metrics = Metrics::of(&relay.replica(0)).await;
    let posts = json!({"http_route": POST, "http_request_method": "POST",
        "http_response_status_code": "201"});
    let requests = "http_server_request_duration_seconds_count";
    assert_eq!(metrics.value(requests, posts), 4.0);
    let unrouted = json!({"http_route": "", "http_response_status_code": "404"});
    assert_eq!(metrics.value(requests, unrouted), 1.0);
    let failed = json!({"http_route": POST, "code": "MISSING_FIELDS"});
    assert_eq!(metrics.value("handoff_request_failures_total", failed), 1.0);
    assert!(metrics.value("handoff_lane_commit_duration_seconds_count", json!({})) >= 4.0);
    assert!(metrics.value("handoff_lane_batch_writes_sum", json!({})) >= 4.0);
    assert_eq!(metrics.value("handoff_streams_open", json!({})), 1.0);
    assert!(metrics.value("handoff_connections_open", json!({})) >= 1.0);
    assert!(metrics.value("handoff_bells_rung_total", json!({})) >= 1.0);
    assert_eq!(metrics.value("handoff_lane_refusals_total", json!({})), 0.0);
    assert!(metrics.value("handoff_key_cache_lookups_total", json!({"result": "hit"})) >= 1.0);
    assert_eq!(metrics.value("handoff_build_info", json!({})), 1.0);
    assert!(metrics.value("process_resident_memory_bytes", json!({})) > 1e6);
    for replica in 0..2 {
        let metrics = Metrics::of(&relay.replica(replica)).await;
        let delivered = "handoff_delivery_duration_seconds_count";
        assert_eq!(
            metrics.value(delivered, json!({})),
            3.0,
            "replica {replica}"
        );
        assert_eq!(metrics.value("handoff_postgres_up", json!({})), 1.0);
        let usage = metrics.value("handoff_notify_queue_usage_ratio", json!({}));
        assert!((0.0..1.0).contains(&usage), "{usage}");
    }
    assert!(
        Metrics::of(&relay.replica(1))
            .await
            .value("handoff_bells_heard_total", json!({}))
            >= 1.0
    );
    piped(
        "bin/promtool",
        &["check", "metrics"],
        &scrape(&relay.replica(0)).await,
    )
    .await;
}

#[tokio::test]
async fn metrics_say_that_postgres_is_gone_and_back() {
    let relay = TestRelay::builder()
        .own_postgres()
        .env("HANDOFF_METRICS_PORT", 0)
        .start()
        .await;
    let up = |wanted: f64| {
        let replica = relay.replica(0);
        async move {
            eventually("the gauge says how Postgres is", || async {
                let metrics = Metrics::of(&replica).await;
                (metrics.value("handoff_postgres_up", json!({})) == wanted).then_some(())
            })
            .await;
        }
    };
    up(1.0).await;
    relay.postgres().stop_fast().await;
    up(0.0).await;
    relay.postgres().start().await;
    up(1.0).await;
}

/// Names of metrics in a text that says more than that.
fn metric_names(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| {
            ["handoff_", "http_server_", "process_"]
                .iter()
                .any(|prefix| word.starts_with(prefix))
        })
        .collect()
}

#[tokio::test]
async fn alerts_and_dashboard_use_what_a_relay_shows() {
    let relay = two_replicas_with_metrics().await;
    relay.anyone().get("/api/me").await.expect(401);
    let metrics = Metrics::of(&relay.replica(0)).await;
    let mut shown = metrics.names();
    shown.extend(
        metrics
            .0
            .iter()
            .map(|family| family["name"].as_str().unwrap()),
    );
    for file in ["alerts.yaml", "dashboard.json"] {
        let text = fs::read_to_string(project().join("helm/handoff/files").join(file)).unwrap();
        let mut used = metric_names(&text);
        // These are labels and words, not metrics.
        for label in [
            "http_route",
            "http_request_method",
            "http_response_status_code",
        ] {
            used.remove(label);
        }
        assert!(used.len() > 10, "{file}: {used:?}");
        let unknown: Vec<_> = used.difference(&shown).collect();
        assert!(unknown.is_empty(), "{file} uses {unknown:?}");
        serde_json::from_str::<Value>(&text).map_or_else(
            |error| assert!(file.ends_with(".yaml"), "{file}: {error}"),
            |dashboard| assert!(dashboard["panels"].as_array().unwrap().len() > 10),
        );
    }
}

#[tokio::test]
async fn alerts_fire_when_they_should_and_have_an_entry_in_the_runbook() {
    let files = project().join("helm/handoff");
    piped(
        "bin/promtool",
        &["check", "rules", "helm/handoff/files/alerts.yaml"],
        "",
    )
    .await;
    piped(
        "bin/promtool",
        &["test", "rules", "tests/deploy/alerts_test.yaml"],
        "",
    )
    .await;
    let rules = fs::read_to_string(files.join("files/alerts.yaml")).unwrap();
    let runbook = fs::read_to_string(files.join("RUNBOOK.md")).unwrap();
    let tests = fs::read_to_string(project().join("tests/deploy/alerts_test.yaml")).unwrap();
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    for alert in &alerts {
        let name = alert.lines().next().unwrap();
        let address = format!("runbook_url: RUNBOOK.md#{}\n", name.to_lowercase());
        assert!(alert.contains(&address), "{name} has no {address}");
        let (_, entry) = runbook
            .split_once(&format!("\n## {name}\n"))
            .unwrap_or_else(|| panic!("the runbook says nothing of {name}"));
        let entry = entry.split("\n## ").next().unwrap();
        for part in ["**Meaning.**", "**Look.**", "**Do.**"] {
            assert!(entry.contains(part), "{name}: {part}");
        }
        assert_eq!(
            tests.matches(&format!("alertname: {name}}}")).count(),
            1,
            "{name}"
        );
        assert_eq!(
            tests.matches(&format!("alertname=\"{name}\"")).count(),
            1,
            "{name}"
        );
    }
    let entries = runbook.matches("\n## ").count();
    assert_eq!(
        entries,
        alerts.len(),
        "the runbook has entries for other alerts"
    );
}

/// A collector that takes spans as they come.
struct Collector {
    endpoint: String,
    spans: Arc<Mutex<Vec<Value>>>,
    _child: Child,
}

impl Collector {
    async fn start() -> Self {
        let mut child = Command::new(tool("python/deploy/bin/python"))
            .arg(project().join("tests/deploy/otlp_receiver.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = timeout(DEADLINE, lines.next_line()).await.unwrap();
        let port = port.unwrap().unwrap();
        let spans = Arc::new(Mutex::new(Vec::new()));
        let received = spans.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let span = serde_json::from_str(&line).unwrap();
                received.lock().unwrap().push(span);
            }
        });
        Self {
            endpoint: format!("http://127.0.0.1:{port}"),
            spans,
            _child: child,
        }
    }

    fn spans(&self) -> Vec<Value> {
        self.spans.lock().unwrap().clone()
    }

    /// Two replicas that send their spans here.
    async fn relay(&self) -> TestRelay {
        self.tell(TestRelay::builder().replicas(2)).start().await
    }

    /// These replicas send their spans here.
    fn tell(&self, relay: harness::Builder) -> harness::Builder {
        relay
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &self.endpoint)
            .env("OTEL_BSP_SCHEDULE_DELAY", 50)
            .env("HANDOFF_METRICS_PORT", 0)
            .env("RUST_LOG", "debug")
            .replica_env(0, "OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=a")
            .replica_env(1, "OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=b")
    }

    /// The one span with this name of this trace on this replica, below that parent.
    async fn span(&self, trace: &str, name: &str, replica: &str, parent: &str) -> Value {
        let what = format!("{name} of replica {replica} in trace {trace} below {parent}");
        let found = eventually(&what, || async {
            let found = self.spans().into_iter().filter(|span| {
                span["trace_id"] == trace
                    && span["name"] == name
                    && span["resource"]["service.instance.id"] == replica
                    && (parent.is_empty() || span["parent_span_id"] == parent)
            });
            let found: Vec<Value> = found.collect();
            (!found.is_empty()).then_some(found)
        })
        .await;
        // What waited in the feed when a read brought it as well is there twice.
        assert!(found.len() == 1 || name == "feed", "{found:#?}");
        let span = found.into_iter().next().unwrap();
        assert_eq!(span["path"], "/v1/traces");
        assert_eq!(span["resource"]["service.name"], "handoff-relay");
        assert!(span["start"].as_u64() <= span["end"].as_u64(), "{span}");
        span
    }

    /// All that happens to a post to replica a, from its `send` to its deliveries on both.
    async fn journey(&self, trace: &str, send: &Value) {
        let send = send["span_id"].as_str().unwrap();
        let commit = self.span(trace, "commit", "a", send).await;
        let batch = commit["links"][0].as_str().unwrap();
        let batch = eventually("the batch's span", || async {
            let mut spans = self.spans().into_iter();
            spans.find(|span| span["span_id"] == batch)
        })
        .await;
        assert_eq!(batch["name"], "commit batch");
        assert!(
            batch["links"].as_array().unwrap().contains(&json!(send)),
            "{batch}"
        );
        self.span(trace, "bell", "a", send).await;
        for replica in ["a", "b"] {
            self.span(trace, "feed", replica, send).await;
            self.span(trace, "deliver", replica, send).await;
        }
    }
}

fn id(span: &Value) -> &str {
    span["span_id"].as_str().unwrap()
}

#[tokio::test]
async fn a_post_is_one_trace_from_its_caller_to_readers_on_every_replica() {
    let collector = Collector::start().await;
    let relay = collector.relay().await;
    let admin = relay.admin();
    admin.say("ops", "opens the channel").await;
    let mut near = admin.stream("/api/channels/ops/stream").await;
    let mut far = admin.on(1).stream("/api/channels/ops/stream").await;

    let path = "/api/channels/ops/messages";
    let post = |idempotency_key: &'static str| {
        admin
            .request(Method::POST, path)
            .header("traceparent", traceparent())
            .header("tracestate", "vendor=1")
            .header("idempotency-key", idempotency_key)
            .json(&json!({"content": TEXT}))
            .send()
    };
    let posted = post("once").await.expect(201);
    let name = format!("POST {POST}");
    let server = collector.span(TRACE, &name, "a", SPAN).await;
    assert_eq!(server["kind"], 2);
    assert_eq!(server["tracestate"], "vendor=1");
    assert_eq!(server["attributes"]["http.route"], POST);
    assert_eq!(server["attributes"]["http.request.method"], "POST");
    assert_eq!(server["attributes"]["http.response.status_code"], 201);
    let send = collector.span(TRACE, "send", "a", id(&server)).await;
    assert_eq!(send["kind"], 4);
    assert_eq!(send["attributes"]["messaging.message.id"], posted["id"]);

    // Readers get the span of the post, wherever they read.
    let expected = json!(format!("00-{TRACE}-{}-01", id(&send)));
    assert_eq!(posted["traceparent"], expected);
    for stream in [&mut near, &mut far] {
        assert_eq!(stream.next().await.data, posted);
    }
    let page = admin.on(1).get(format!("{path}?limit=1")).await.expect(200);
    assert_eq!(page["messages"], json!([posted]));
    assert_eq!(post("once").await.expect(200), posted);
    collector.journey(TRACE, &send).await;
}

#[tokio::test]
async fn a_read_shows_where_its_time_went() {
    let collector = Collector::start().await;
    let relay = collector.relay().await;
    let admin = relay.admin();
    admin.say("ops", TEXT).await;
    let page = admin
        .on(1)
        .request(Method::GET, "/api/channels/ops/messages?limit=5")
        .header("traceparent", traceparent())
        .send()
        .await
        .expect(200);
    assert_eq!(page["messages"][0]["content"], TEXT);

    let name = "GET /api/channels/{channel}/messages";
    let server = collector.span(TRACE, name, "b", SPAN).await;
    let handler = collector.span(TRACE, "handle", "b", id(&server)).await;
    assert_eq!(handler["kind"], 1);
    // The replica hasn't seen this key before.
    let key = collector.span(TRACE, "find key", "b", id(&handler)).await;
    let read = collector
        .span(TRACE, "list messages", "b", id(&handler))
        .await;
    for statement in [&key, &read] {
        assert_eq!(statement["kind"], 3, "{statement}");
        let attributes = &statement["attributes"];
        assert_eq!(attributes["db.system.name"], "postgresql", "{statement}");
        assert_eq!(attributes["db.query.summary"], statement["name"]);
        assert_eq!(statement["status"], 0, "{statement}");
    }
    // Each read waits for a connection first.
    let waited = eventually("the wait before the read", || async {
        let spans = collector.spans();
        spans.into_iter().find(|span| {
            span["name"] == "wait for connection"
                && span["parent_span_id"] == handler["span_id"]
                && span["end"].as_u64() <= read["start"].as_u64()
        })
    })
    .await;
    let times = [&server, &handler, &waited, &read].map(|span| span["start"].as_u64());
    assert!(times.is_sorted(), "{times:?}");
    assert!(read["end"].as_u64() <= handler["end"].as_u64());
    assert!(handler["end"].as_u64() <= server["end"].as_u64());

    // What replicas do by themselves is no trace.
    let spans = collector.spans();
    let roots = spans.iter().filter(|span| span["parent_span_id"] == "");
    let roots: BTreeSet<&str> = roots.map(|span| span["name"].as_str().unwrap()).collect();
    let known = |name: &&str| name.contains('/') || *name == "commit batch";
    assert!(roots.iter().all(known), "{roots:?}");
}

#[tokio::test]
async fn what_fails_in_a_request_is_told_below_it() {
    let collector = Collector::start().await;
    let relay = collector
        .tell(TestRelay::builder().own_postgres())
        .start()
        .await;
    let admin = relay.admin();
    admin.say("ops", "hello").await;
    relay.postgres().stop_fast().await;
    let refused = admin
        .request(Method::GET, "/api/channels/ops/messages")
        .header("traceparent", traceparent())
        .send()
        .await;
    refused.expect(503);

    let name = "GET /api/channels/{channel}/messages";
    let server = collector.span(TRACE, name, "a", SPAN).await;
    assert_eq!(server["status"], 2);
    let handler = collector.span(TRACE, "handle", "a", id(&server)).await;
    let events = handler["events"].as_array().unwrap();
    let told = events.iter().any(|event| {
        event["attributes"]["level"] == "WARN" && event["attributes"]["code"] == "UNAVAILABLE"
    });
    assert!(told, "{handler:#}");
}

#[tokio::test]
async fn the_meta_of_an_mcp_call_makes_its_post_part_of_the_trace() {
    let collector = Collector::start().await;
    let relay = collector.relay().await;
    let admin = relay.admin();
    admin.say("ops", "opens the channel").await;
    let _near = admin.stream("/api/channels/ops/stream").await;
    let mut far = admin.on(1).stream("/api/channels/ops/stream").await;
    let name = format!("POST {POST}");
    let call = |trace: &str| {
        json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {
            "name": "post_message",
            "arguments": {"channel": "ops", "content": TEXT},
            "_meta": {"traceparent": format!("00-{trace}-{SPAN}-01")},
        }})
    };

    let over_http = "11111111111111111111111111111111";
    let answer = admin
        .request(Method::POST, "/mcp")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2025-11-25")
        .json(&call(over_http))
        .send()
        .await
        .expect(200);
    assert_eq!(answer["result"]["isError"], false, "{answer}");
    let server = collector.span(over_http, &name, "a", SPAN).await;
    let send = collector.span(over_http, "send", "a", id(&server)).await;
    let read = far.next().await.data;
    assert_eq!(
        read["traceparent"],
        format!("00-{over_http}-{}-01", id(&send))
    );
    collector.journey(over_http, &send).await;

    let over_stdio = "22222222222222222222222222222222";
    let mut mcp = Command::new(harness::relay_binary().with_file_name("handoff"))
        .arg("mcp")
        .env("RELAY_API_URL", relay.replica(0).url())
        .env("RELAY_API_KEY", admin.key())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = mcp.stdin.take().unwrap();
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }});
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    for message in [hello, ready, call(over_stdio)] {
        stdin
            .write_all(format!("{message}\n").as_bytes())
            .await
            .unwrap();
    }
    let server = collector.span(over_stdio, &name, "a", SPAN).await;
    let send = collector.span(over_stdio, "send", "a", id(&server)).await;
    collector.journey(over_stdio, &send).await;
}

#[tokio::test]
async fn without_a_collector_the_callers_span_goes_to_readers() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let path = "/api/channels/ops/messages";
    let mut far = admin.on(1).stream("/api/channels/ops/stream").await;
    let unsampled = format!("00-{TRACE}-{SPAN}-00");
    let zero = format!("00-{}-{SPAN}-01", "0".repeat(32));
    for (header, handed_on) in [
        (traceparent(), Some(traceparent())),
        (unsampled, None),
        (zero, None),
        ("nonsense".to_owned(), None),
        (String::new(), None),
    ] {
        let posted = admin
            .request(Method::POST, path)
            .header("traceparent", &header)
            .json(&json!({"content": "hello"}))
            .send()
            .await
            .expect(201);
        let field = posted.get("traceparent").and_then(Value::as_str);
        assert_eq!(field.map(str::to_owned), handed_on, "{header:?}");
        assert_eq!(far.next().await.data, posted);
    }
    assert!(admin.say("ops", "hello").await.get("traceparent").is_none());
}

#[tokio::test]
async fn logs_name_the_request_and_nothing_shows_a_secret() {
    let collector = Collector::start().await;
    let relay = collector.relay().await;
    let admin = relay.admin();
    // A stream that waits for its channel may read the first message from the table, untraced.
    admin.say("ops", "hello").await;
    let mut stream = relay
        .anyone()
        .stream(format!("/api/channels/ops/stream?token={}", admin.key()))
        .await;
    let status = json!({"key": "a-secret-status-key", "value": TEXT});
    admin
        .put("/api/channels/ops/status", status)
        .await
        .expect(200);
    // Reads with what they look for.
    for path in [
        "/api/channels/ops/status?key=a-secret-status-key".to_owned(),
        "/api/channels/ops/messages?mention=a-secret-mention".to_owned(),
        format!("/api/inbox?token={}", admin.key()),
    ] {
        admin.get(path).await.expect(200);
    }
    let path = "/api/channels/ops/status/a-secret-status-key";
    admin.delete(path).await.expect(204);
    let posted = admin
        .request(Method::POST, "/api/channels/ops/messages")
        .header("traceparent", traceparent())
        .header("x-request-id", "the-id-of-a-request")
        .json(&json!({"content": TEXT, "mention": "a-secret-mention"}))
        .send()
        .await;
    assert_eq!(posted.header("x-request-id"), Some("the-id-of-a-request"));
    posted.expect(201);
    stream.next().await;
    let broken = admin.request(Method::POST, "/api/channels/ops/messages");
    broken
        .body(format!("{{\"content\": {TEXT}"))
        .send()
        .await
        .expect(400);

    let name = format!("POST {POST}");
    let server = collector.span(TRACE, &name, "a", SPAN).await;
    collector.span(TRACE, "deliver", "a", "").await;
    for read in ["list statuses", "list messages", "count unread messages"] {
        eventually(read, || async {
            let spans = collector.spans();
            spans.iter().any(|span| span["name"] == read).then_some(())
        })
        .await;
    }
    let line = eventually("the request's line in the log", || async {
        let logs = relay.replica(0).logs();
        let line = logs
            .lines()
            .find(|line| line.contains("the-id-of-a-request"));
        line.map(|line| serde_json::from_str::<Value>(line).unwrap())
    })
    .await;
    assert_eq!(line["request_id"], "the-id-of-a-request");
    assert_eq!(line["trace_id"], TRACE);
    assert_eq!(line["span_id"], server["span_id"]);
    assert_eq!(line["http.route"], POST);

    let mut told = serde_json::to_string(&collector.spans()).unwrap();
    for replica in 0..2 {
        let logs = relay.replica(replica).logs();
        for line in logs.lines() {
            serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        }
        told.push_str(&logs);
        told.push_str(&scrape(&relay.replica(replica)).await);
    }
    let hash = admin.key_hash();
    for secret in [
        admin.key(),
        &hash,
        TEXT,
        "a-secret-status-key",
        "a-secret-mention",
    ] {
        let place = told.find(secret);
        let around = place.map(|at| &told[at.saturating_sub(300)..(at + 100).min(told.len())]);
        assert!(place.is_none(), "{secret} in {around:?}");
    }
}

#[tokio::test]
async fn a_failed_request_is_logged_with_its_trace() {
    let relay = TestRelay::builder().own_postgres().start().await;
    let admin = relay.admin();
    admin.say("ops", "hello").await;
    relay.postgres().stop_fast().await;
    let refused = admin
        .request(Method::POST, "/api/channels/ops/messages")
        .header("traceparent", traceparent())
        .header("x-request-id", "the-id-of-a-request")
        .json(&json!({"content": TEXT}))
        .send()
        .await;
    assert_eq!(refused.header("x-request-id"), Some("the-id-of-a-request"));
    refused.expect(503);
    let line = eventually("the failure's line in the log", || async {
        let logs = relay.replica(0).logs();
        let line = logs
            .lines()
            .find(|line| line.contains("the-id-of-a-request"));
        line.map(|line| serde_json::from_str::<Value>(line).unwrap())
    })
    .await;
    assert_eq!(line["code"], "UNAVAILABLE", "{line}");
    assert_eq!(line["trace_id"], TRACE, "{line}");
    assert!(line["error"].is_string(), "{line}");
}

#[tokio::test]
async fn settings_that_cannot_be_meant_are_all_reported() {
    let output = Command::new(harness::relay_binary())
        .arg("serve")
        .env_clear()
        .env("DATABASE_URL", "postgres://localhost/nowhere")
        .env("HANDOFF_METRICS_PORT", "70000")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        .env("OTEL_TRACES_SAMPLER", "traceidratio")
        .env("OTEL_TRACES_SAMPLER_ARG", "2")
        .output();
    let output = timeout(DEADLINE, output).await.unwrap().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    for name in [
        "HANDOFF_METRICS_PORT: \"70000\" is not a number from 0 to 65535",
        "OTEL_EXPORTER_OTLP_ENDPOINT: \"collector:4318\" is no URL",
        "OTEL_EXPORTER_OTLP_PROTOCOL: must be http/protobuf",
        "OTEL_TRACES_SAMPLER_ARG: must be a number from 0 to 1",
    ] {
        assert!(told.contains(name), "{name} is not in {told}");
    }
    let same = Command::new(harness::relay_binary())
        .arg("serve")
        .env_clear()
        .env("DATABASE_URL", "postgres://localhost/nowhere")
        .env("PORT", "3917")
        .env("HANDOFF_METRICS_PORT", "3917")
        .output();
    let same = timeout(DEADLINE, same).await.unwrap().unwrap();
    let told = String::from_utf8(same.stderr).unwrap();
    assert!(
        told.contains("HANDOFF_METRICS_PORT: is the PORT of the relay itself"),
        "{told}"
    );
}
