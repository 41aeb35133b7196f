//! The transport over a real socket, against a server that answers byte for byte what it is told.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use futures_util::StreamExt;
use handoff_client::{Client, Error, HttpTransport, StreamQuery, types::NewMessage};
use std::sync::{Arc, Mutex};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What the server does with a connection once it has read a request from it.
enum Act {
    /// Writes this and closes.
    Write(String),
    /// Writes this and stays.
    Hold(String),
}

impl Act {
    fn answer(status: &str, body: &str) -> Self {
        Self::Write(format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        ))
    }

    /// Closes without a word: the request arrived, its answer is lost.
    fn lose() -> Self {
        Self::Write(String::new())
    }
}

const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
    transfer-encoding: chunked\r\n\r\n";

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

struct Server {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        tokio::spawn(async move {
            let mut held = Vec::new();
            for act in acts {
                let (mut connection, _) = listener.accept().await.unwrap();
                let request = read_request(&mut connection).await;
                seen.lock().unwrap().push(request);
                let (Act::Write(text) | Act::Hold(text)) = &act;
                connection.write_all(text.as_bytes()).await.unwrap();
                if let Act::Hold(_) = act {
                    held.push(connection);
                }
            }
            std::future::pending::<()>().await;
        });
        Self { url, requests }
    }

    fn client(&self) -> Client {
        Client::connect(&self.url, Some("relay_secret")).unwrap()
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn read_request(connection: &mut TcpStream) -> String {
    let mut request = String::new();
    loop {
        let mut buffer = [0; 4096];
        let length = connection.read(&mut buffer).await.unwrap();
        assert_ne!(length, 0, "half a request: {request}");
        request += std::str::from_utf8(&buffer[..length]).unwrap();
        let Some((head, body)) = request.split_once("\r\n\r\n") else {
            continue;
        };
        if body.len() == header(head, "content-length").map_or(0, |text| text.parse().unwrap()) {
            return request;
        }
    }
}

fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    request.lines().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then_some(value)
    })
}

const MESSAGE: &str = r#"{"id":"7","channel":"ops","seq":1,"sender":"ana","content":"hi","mention":null,"thread_id":null,"reply_count":0,"created_at":"2026-01-01T00:00:00Z"}"#;

#[tokio::test]
async fn a_post_whose_answer_is_lost_is_sent_again_with_its_key() {
    let half = format!(
        "HTTP/1.1 201 Created\r\ncontent-length: 200\r\n\r\n{}",
        &MESSAGE[..50]
    );
    let server = Server::start(vec![
        Act::lose(),
        Act::Write(half),
        Act::answer("200 OK", MESSAGE),
    ])
    .await;
    let message = NewMessage {
        content: "hi".into(),
        ..NewMessage::default()
    };
    let posted = server.client().post_message("ops", message).await.unwrap();
    assert!(posted.replayed);
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    for request in &requests {
        assert!(
            request.starts_with("POST /api/channels/ops/messages HTTP/1.1\r\n"),
            "{request}"
        );
        assert_eq!(
            header(request, "authorization"),
            Some("Bearer relay_secret")
        );
        let agent = header(request, "user-agent").unwrap();
        assert!(agent.starts_with("handoff-client/"), "{agent}");
        assert_eq!(
            header(request, "idempotency-key"),
            header(&requests[0], "idempotency-key")
        );
        assert!(
            request.ends_with("\r\n\r\n{\"content\":\"hi\"}"),
            "{request}"
        );
    }
    assert!(header(&requests[0], "idempotency-key").is_some());
}

#[tokio::test]
async fn a_key_is_not_made_again_when_its_answer_is_lost() {
    let server = Server::start(vec![Act::lose(), Act::answer("201 Created", "{}")]).await;
    let error = server.client().create_key("ana", None).await.err().unwrap();
    assert!(
        matches!(&error, Error::Transport(error) if !error.is_unsent()),
        "{error:?}"
    );
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_url_may_have_a_path_and_a_slash() {
    for (suffix, path) in [
        ("", ""),
        ("/", ""),
        ("/team/relay", "/team/relay"),
        ("/a/", "/a"),
    ] {
        let server = Server::start(vec![Act::answer("200 OK", "[]")]).await;
        let client = Client::connect(&format!("{}{suffix}", server.url), None).unwrap();
        client.list_statuses("ops", Some("ü/")).await.unwrap();
        let request = &server.requests()[0];
        let line = format!("GET {path}/api/channels/ops/status?key=%C3%BC%2F HTTP/1.1\r\n");
        assert!(request.starts_with(&line), "{request}");
        assert_eq!(header(request, "authorization"), None);
    }
}

#[tokio::test]
async fn status_keys_arrive_as_they_were_encoded() {
    let server = Server::start(vec![Act::answer("204 No Content", "")]).await;
    server
        .client()
        .delete_status("ops", "a/../b?c#d%2F..")
        .await
        .unwrap();
    let line = "DELETE /api/channels/ops/status/a%2F..%2Fb%3Fc%23d%252F.. HTTP/1.1\r\n";
    assert!(
        server.requests()[0].starts_with(line),
        "{}",
        server.requests()[0]
    );
}

#[tokio::test]
async fn a_wrong_url_or_key_is_told_apart_at_once() {
    for url in [
        "",
        "relay.example.com",
        "ftp://relay.example.com",
        "http://",
        "https://relay.example.com/?x=1",
        "https://relay.example.com/#x",
        "https://user:secret@relay.example.com",
    ] {
        let error = HttpTransport::new(url, None).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::InvalidArgument(_)), "{url}: {text}");
        assert!(text.starts_with("RELAY_API_URL must be"), "{url}: {text}");
        assert!(!text.contains("secret"), "{text}");
    }
    let error = Client::connect("http://127.0.0.1:1", Some("relay_sec\nret")).unwrap_err();
    assert!(matches!(&error, Error::InvalidArgument(_)), "{error:?}");
    assert!(!error.to_string().contains("sec"), "{error}");
}

#[tokio::test]
async fn a_relay_may_be_behind_tls() {
    for url in ["https://relay.example.com", "HTTPS://relay.example.com/x/"] {
        HttpTransport::new(url, None).unwrap();
    }
}

#[tokio::test]
async fn an_absent_relay_is_told_with_its_cause_and_without_the_key() {
    // Bound, so that nobody else takes it, but nobody listens there.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let key = Some("relay_secret".into());
    let transport = HttpTransport::new(&format!("http://{address}"), key).unwrap();
    assert!(!format!("{transport:?}").contains("relay_secret"));
    let client = Client::new(Arc::new(transport));
    assert!(!format!("{client:?}").contains("relay_secret"));
    let error = client.list_channels().await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("refused"), "{text}");
    assert!(!format!("{error:?}").contains("relay_secret"));
    assert!(matches!(error, Error::Transport(error) if error.is_unsent()));
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_the_key() {
    let redirect = "HTTP/1.1 301 Moved\r\nlocation: https://127.0.0.1:1/api/channels\r\n\
        content-length: 0\r\nconnection: close\r\n\r\n";
    let server = Server::start(vec![Act::Write(redirect.into())]).await;
    let error = server
        .client()
        .create_channel("ops", None)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("https://127.0.0.1:1/api/channels"),
        "{error}"
    );
}

#[tokio::test]
async fn a_stream_goes_on_over_cut_connections() {
    let event = |id: u32| {
        let json = MESSAGE.replace("\"id\":\"7\"", &format!("\"id\":\"{id}\""));
        format!("id: {id}\nevent: message\ndata: {json}\n\n")
    };
    let opening = chunk(": handoff\n\nid: 5\n\n");
    let server = Server::start(vec![
        // Nothing but the headers, then an opening, then half an event, then a clean end.
        Act::Write(STREAM_HEAD.into()),
        Act::Write(format!("{STREAM_HEAD}{opening}")),
        Act::Write(format!(
            "{STREAM_HEAD}{}{}",
            chunk(&event(6)),
            chunk(&event(7)[..40])
        )),
        Act::Write(format!(
            "{STREAM_HEAD}{}{}0\r\n\r\n",
            chunk(&event(7)),
            chunk("id: 9\n\n")
        )),
        Act::Hold(format!("{STREAM_HEAD}{}", chunk(&event(10)))),
    ])
    .await;
    let mut stream = server.client().stream(StreamQuery {
        channels: vec!["ops".into(), "dev".into()],
        after_id: None,
    });
    stream.opened().await.unwrap();
    for id in ["6", "7", "10"] {
        assert_eq!(stream.next().await.unwrap().unwrap().id, id);
    }
    let requests = server.requests();
    let points: Vec<_> = requests
        .iter()
        .map(|request| header(request, "last-event-id"))
        .collect();
    assert_eq!(points, [None, None, Some("5"), Some("6"), Some("9")]);
    assert!(requests[0].starts_with("GET /api/stream?channels=ops%2Cdev HTTP/1.1\r\n"));
    assert_eq!(header(&requests[0], "accept"), Some("text/event-stream"));
}

#[tokio::test]
async fn many_requests_at_once_share_a_client() {
    let server = Server::start((0..20).map(|_| Act::answer("200 OK", "[]")).collect()).await;
    let client = server.client();
    let asked = futures_util::stream::iter(0..20)
        .map(|_| client.list_keys())
        .buffer_unordered(20)
        .collect::<Vec<_>>()
        .await;
    assert!(asked.iter().all(Result::is_ok), "{asked:?}");
}
