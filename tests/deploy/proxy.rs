//! What a real proxy, with the configuration that is shipped, does to streams, addresses and errors.

use std::net::Ipv4Addr;
use std::time::Duration;

use harness::{Block, Method, Response, TestRelay, eventually, within};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::Instant;

use crate::site::{Kind, Site};

/// Far less than the relay's keep-alive of 15 s, which would flush what a proxy holds back.
const AT_ONCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn haproxy_passes_streams_on_as_they_come() {
    passes_streams_on(Kind::Haproxy).await;
}

#[tokio::test]
async fn nginx_passes_streams_on_as_they_come() {
    passes_streams_on(Kind::Nginx).await;
}

async fn passes_streams_on(kind: Kind) {
    let site = Site::start(kind, 2, TestRelay::builder()).await;
    let admin = site.admin();
    let client = || {
        admin
            .request(Method::GET, "/api/channels/ops/stream")
            .header("accept-encoding", "gzip")
    };

    let opened = Instant::now();
    let mut stream = client().open().await;
    let Block::Comment(_) = stream.next_block().await else {
        panic!("a comment comes first");
    };
    assert!(
        opened.elapsed() < AT_ONCE,
        "held for {:?}",
        opened.elapsed()
    );
    assert_eq!(stream.header("content-encoding"), None);
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    let cache_control = stream.header("cache-control");
    assert_eq!(cache_control, Some("no-cache, no-transform"));

    for n in 0..10 {
        let said = Instant::now();
        let message = admin.say("ops", &format!("message {n}")).await;
        assert_eq!(stream.next().await.data, message);
        assert!(said.elapsed() < AT_ONCE, "held for {:?}", said.elapsed());
    }

    // A page of this size is compressed by the same proxy.
    let page = admin
        .request(Method::GET, "/api/channels/ops/messages")
        .header("accept-encoding", "gzip")
        .send()
        .await;
    assert_eq!(page.header("content-encoding"), Some("gzip"), "{page:?}");

    // Whichever replica has the stream: it ends cleanly, and goes on at the one that is left.
    let survivor = site.relay.replicas();
    site.join(None).await;
    for replica in site.members() {
        if replica != survivor {
            site.leave(replica).await;
        }
    }
    assert_eq!(stream.ended().await, []);
    let missed = admin.on(survivor).say("ops", "said meanwhile").await;
    let last_id = stream.last_id().unwrap().to_owned();
    let mut stream = eventually("the proxy finds the new replica", || async {
        let resumed = client().header("last-event-id", &last_id).try_open().await;
        resumed.ok()?.ok()
    })
    .await;
    assert_eq!(stream.next().await.data, missed);
    let live = admin.on(survivor).say("ops", "and now").await;
    assert_eq!(stream.next().await.data, live);
}

#[tokio::test]
async fn haproxy_leaves_a_silent_stream_alone() {
    leaves_a_silent_stream_alone(Kind::Haproxy).await;
}

#[tokio::test]
async fn nginx_leaves_a_silent_stream_alone() {
    leaves_a_silent_stream_alone(Kind::Nginx).await;
}

async fn leaves_a_silent_stream_alone(kind: Kind) {
    /// Longer than any timeout of the proxy: the wait is the condition itself.
    const SILENCE: Duration = Duration::from_secs(80);
    let site = Site::start(kind, 1, TestRelay::builder()).await;
    let admin = site.admin();
    let mut stream = admin.stream("/api/channels/ops/stream").await;
    let mut keep_alives = 0;
    let opened = Instant::now();
    while opened.elapsed() < SILENCE {
        match stream.next_block().await {
            Block::Comment(_) => keep_alives += 1,
            Block::Id(_) => {}
            Block::Event(event) => panic!("{event:?} out of nowhere"),
        }
    }
    // The first comment, and one every 15 s.
    assert!(keep_alives >= 5, "only {keep_alives} in {SILENCE:?}");
    let message = admin.say("ops", "still there?").await;
    assert_eq!(stream.next().await.data, message);
}

#[tokio::test]
async fn haproxy_tells_who_the_client_is() {
    tells_who_the_client_is(Kind::Haproxy).await;
}

#[tokio::test]
async fn nginx_tells_who_the_client_is() {
    tells_who_the_client_is(Kind::Nginx).await;
}

async fn tells_who_the_client_is(kind: Kind) {
    let builder = TestRelay::builder().env("HANDOFF_SIGNUPS_PER_HOUR", 2);
    let site = Site::start(kind, 2, builder).await;
    let [one, other] = [Ipv4Addr::new(127, 1, 0, 1), Ipv4Addr::new(127, 1, 0, 2)];
    assert_eq!(sign_up(&site, one, "").await, 201);
    assert_eq!(sign_up(&site, one, "").await, 201);
    assert_eq!(sign_up(&site, one, "").await, 429);
    // Neither by a lie of its own, nor because all come through one proxy.
    let lie = "X-Forwarded-For: 203.0.113.9\r\n";
    assert_eq!(sign_up(&site, one, lie).await, 429);
    assert_eq!(sign_up(&site, other, "").await, 201);
}

/// Signs up a team from that address; the answer's status.
async fn sign_up(site: &Site, from: Ipv4Addr, header: &str) -> u16 {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let mut connection = socket.connect(site.address()).await.unwrap();
    let body = json!({"team_name": "acme", "sender_name": "ann"}).to_string();
    let request = format!(
        "POST /api/signup HTTP/1.1\r\nHost: relay\r\n{header}Connection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("an answer", connection.read_to_string(&mut answer))
        .await
        .unwrap();
    let status = answer.split(' ').nth(1);
    status
        .unwrap_or_else(|| panic!("{answer:?}"))
        .parse()
        .unwrap()
}

#[tokio::test]
async fn haproxy_speaks_of_errors_as_the_relay_does() {
    speaks_of_errors_as_the_relay_does(Kind::Haproxy).await;
}

#[tokio::test]
async fn nginx_speaks_of_errors_as_the_relay_does() {
    speaks_of_errors_as_the_relay_does(Kind::Nginx).await;
}

async fn speaks_of_errors_as_the_relay_does(kind: Kind) {
    let site = Site::start(kind, 1, TestRelay::builder()).await;
    let admin = site.admin();
    // What the relay itself says comes through as it is.
    let nothing = admin.get("/api/channels/ops/threads/1").await;
    nothing.refused(404, "MESSAGE_NOT_FOUND");
    for bytes in [300 << 10, 3 << 20] {
        let post = admin
            .request(Method::POST, "/api/channels/ops/messages")
            .json(&json!({"content": "x".repeat(bytes)}));
        // Of the larger one the answer may come before all of it is sent.
        if let Ok(answer) = post.try_send().await {
            answer.refused(413, "BODY_TOO_LARGE");
        } else {
            assert!(bytes > 1 << 20, "no answer to a body of {bytes} bytes");
        }
    }
    let unavailable = |answer: Response| {
        answer.refused(503, "UNAVAILABLE");
        assert_eq!(answer.header("retry-after"), Some("1"), "{answer:?}");
    };
    let replica = site.relay.replica(0);
    replica.kill().await;
    unavailable(admin.get("/api/channels").await);
    // As soon as the proxy has noticed, too.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let post = json!({"content": "anybody?"});
    unavailable(admin.post("/api/channels/ops/messages", post).await);
}
