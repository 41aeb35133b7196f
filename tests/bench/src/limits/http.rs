//! Limit (a): the relay's HTTP stack, answering what the relay answers, and storing nothing.
//!
//! The relay is asked once, and its answer recorded: status, headers and body. A process of its own
//! then gives that answer to every request that it has read to the end, through the same crates with
//! the same settings as `services/relay/src/connection.rs` and `main.rs` have: tokio's threads, hyper's
//! connections, axum's router and body, the allocator, page size. It checks no key, parses no JSON,
//! counts nothing, and has no timers.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::any;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{HeaderMap, StatusCode};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tower::Service;

use crate::http::{Answer, Connection, Prepared};

/// The argument that makes this program the server.
pub(crate) const ARGUMENT: &str = "answer-without-storing";
/// As the relay has it.
const MAX_BUFFER: usize = 64 << 10;
/// hyper writes these itself.
const WRITTEN_BY_HYPER: [&str; 3] = ["date", "content-length", "connection"];

/// An answer to be given again.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Recorded {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Recorded {
    fn of(answer: &Answer<'_>) -> Result<Self> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        response.parse(answer.head)?;
        let mut recorded = Vec::new();
        for header in response.headers {
            if !WRITTEN_BY_HYPER.contains(&header.name.to_ascii_lowercase().as_str()) {
                let value = std::str::from_utf8(header.value)?;
                recorded.push((header.name.to_owned(), value.to_owned()));
            }
        }
        Ok(Self {
            status: answer.status.as_u16(),
            headers: recorded,
            body: std::str::from_utf8(answer.body)?.to_owned(),
        })
    }
}

/// The server's process; killed when dropped.
pub(crate) struct Server {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Records what the relay answers to a request, and starts a server that answers the same.
    pub(crate) async fn start(relay: SocketAddr, request: &Prepared) -> Result<Self> {
        let mut connection = Connection::open(relay).await?;
        let recorded = Recorded::of(&connection.send(request).await?)?;
        let mut process = Command::new(std::env::current_exe()?)
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdin = process.stdin.take().context("no standard input")?;
        let stdout = process.stdout.take().context("no standard output")?;
        // Made first: the process ends with it.
        let mut server = Self {
            process,
            address: relay,
        };
        stdin.write_all(&serde_json::to_vec(&recorded)?)?;
        drop(stdin);
        let mut said = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut said)?;
        server.address = said.trim().parse().context("the server opens no port")?;
        server.check(request, &recorded).await?;
        Ok(server)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The limit is one only if it answers the same bytes.
    async fn check(&self, request: &Prepared, recorded: &Recorded) -> Result<()> {
        let mut connection = Connection::open(self.address).await?;
        let again = Recorded::of(&connection.send(request).await?)?;
        let sorted = |recorded: &Recorded| {
            let mut headers = recorded.headers.clone();
            headers.sort();
            headers
        };
        ensure!(
            again.status == recorded.status
                && again.body == recorded.body
                && sorted(&again) == sorted(recorded),
            "the server that stores nothing answers something else than the relay"
        );
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Neither can fail but for a process that has ended and been waited for already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the child process does: reads an answer from standard input, prints its address, serves.
pub(crate) fn serve() -> Result<()> {
    let _ = nix::sys::prctl::set_thp_disable(true);
    let mut recorded = String::new();
    std::io::stdin().read_to_string(&mut recorded)?;
    let recorded: Recorded = serde_json::from_str(&recorded)?;
    let mut headers = HeaderMap::new();
    for (name, value) in &recorded.headers {
        headers.insert(name.parse::<hyper::header::HeaderName>()?, value.parse()?);
    }
    let answer = Arc::new((
        StatusCode::from_u16(recorded.status)?,
        headers,
        Bytes::from(recorded.body),
    ));
    let handler = async move |request: Request| {
        // Read as the relay reads it: collected to one piece.
        let read = request.into_body().collect().await;
        let whole = read.is_ok_and(|body| !body.to_bytes().is_empty());
        let (status, headers, body) = &*answer;
        let mut response = Response::new(Body::from(body.clone()));
        *response.status_mut() = if whole {
            *status
        } else {
            StatusCode::BAD_REQUEST
        };
        *response.headers_mut() = headers.clone();
        response
    };
    let router = Router::new().route("/api/channels/{channel}/messages", any(handler));
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(accept(router))
}

async fn accept(router: Router) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let graceful = GracefulShutdown::new();
    loop {
        let (stream, _) = listener.accept().await?;
        attend(stream, router.clone(), &graceful);
    }
}

/// Serves a connection in a task of its own.
fn attend(stream: TcpStream, router: Router, graceful: &GracefulShutdown) {
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let mut router = router.clone();
        async move {
            let answer: Result<Response, Infallible> = router.call(request.map(Body::new)).await;
            answer
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .header_read_timeout(None)
        .half_close(true)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        // The load breaks off at the end.
        let _ = connection.await;
    });
}
