//! A lean HTTP/1.1 client: prepared requests go out, statuses and raw bodies come in.
//!
//! The load shares the machine with what it measures, so a request must cost little: it is one
//! write of bytes that stand ready, and its answer one read into a buffer that is kept, of which
//! only the head is parsed. It follows no redirects, retries nothing and speaks no TLS.

mod body;
mod stream;

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use hyper::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use self::body::{Chunks, Length};
pub(crate) use self::stream::EventStream;

/// An answer with a longer head than this is none of the relay's.
const HEADERS: usize = 32;
/// What a buffer holds at first, and has room for at each read.
const BUFFER: usize = 32 * 1024;

/// A request that can be sent any number of times.
#[derive(Clone)]
pub(crate) struct Prepared {
    /// Its line and headers, without what depends on the body and the empty line.
    head: Vec<u8>,
    body: Vec<u8>,
    /// All of it, as it is sent.
    wire: Vec<u8>,
}

impl Prepared {
    /// A request without a body.
    pub(crate) fn get(path: &str, key: &str) -> Self {
        Self::new("GET", path, key, Vec::new())
    }

    /// A request with a JSON body.
    pub(crate) fn post(path: &str, key: &str, body: &serde_json::Value) -> Self {
        Self::new("POST", path, key, body.to_string().into())
    }

    /// A request with a JSON body that replaces what is there.
    pub(crate) fn put(path: &str, key: &str, body: &serde_json::Value) -> Self {
        Self::new("PUT", path, key, body.to_string().into())
    }

    /// `key` may be empty, for the routes that need none.
    fn new(method: &str, path: &str, key: &str, body: Vec<u8>) -> Self {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: relay\r\n");
        if !key.is_empty() {
            head += &format!("authorization: Bearer {key}\r\n");
        }
        if method != "GET" {
            head += "content-type: application/json\r\n";
        }
        Self::of(head.into_bytes(), body)
    }

    fn of(head: Vec<u8>, body: Vec<u8>) -> Self {
        let mut wire = Vec::new();
        write_request(&mut wire, &head, &[], &body);
        Self { head, body, wire }
    }

    /// The same request with one more header.
    pub(crate) fn with_header(&self, name: &str, value: &str) -> Self {
        let mut head = self.head.clone();
        head.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        Self::of(head, self.body.clone())
    }
}

fn write_request(wire: &mut Vec<u8>, head: &[u8], headers: &[(&str, &str)], body: &[u8]) {
    wire.extend_from_slice(head);
    for (name, value) in headers {
        for part in [name, ": ", value, "\r\n"] {
            wire.extend_from_slice(part.as_bytes());
        }
    }
    if !body.is_empty() {
        wire.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    wire.extend_from_slice(b"\r\n");
    wire.extend_from_slice(body);
}

/// A status and a body, as they came.
pub(crate) struct Answer<'connection> {
    pub(crate) status: StatusCode,
    /// The status line and the headers, up to the empty line.
    pub(crate) head: &'connection [u8],
    pub(crate) body: &'connection [u8],
}

impl<'connection> Answer<'connection> {
    /// The body, if the status is the expected one; an error that shows both if not.
    pub(crate) fn expect(self, status: StatusCode) -> Result<&'connection [u8]> {
        ensure!(
            self.status == status,
            "the relay answered {} instead of {status}: {}",
            self.status,
            String::from_utf8_lossy(self.body)
        );
        Ok(self.body)
    }
}

/// One keep-alive connection.
pub(crate) struct Connection {
    socket: TcpStream,
    /// A request that is not sent as it was prepared.
    request: Vec<u8>,
    /// The answer that was read last.
    answer: Vec<u8>,
    /// What a chunked answer says.
    chunked: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let socket = TcpStream::connect(address)
            .await
            .context("the relay takes no connection")?;
        Self::on(socket)
    }

    /// Opens a connection from another address of this machine: one address has too few ports for
    /// some tens of thousands of streams.
    pub(crate) async fn open_from(local: SocketAddr, address: SocketAddr) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(local)?;
        let connected = socket.connect(address).await;
        Self::on(connected.context("the relay takes no connection")?)
    }

    fn on(socket: TcpStream) -> Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self {
            socket,
            request: Vec::new(),
            answer: Vec::new(),
            chunked: Vec::new(),
        })
    }

    /// Sends a request and waits for the whole answer.
    pub(crate) async fn send(&mut self, request: &Prepared) -> Result<Answer<'_>> {
        self.socket.write_all(&request.wire).await?;
        self.answer().await
    }

    /// Sends a request with headers of its own and waits for the whole answer.
    pub(crate) async fn send_with_headers(
        &mut self,
        request: &Prepared,
        headers: &[(&str, &str)],
    ) -> Result<Answer<'_>> {
        self.request.clear();
        write_request(&mut self.request, &request.head, headers, &request.body);
        self.socket.write_all(&self.request).await?;
        self.answer().await
    }

    /// Sends a request with a body of its own and waits for the whole answer.
    pub(crate) async fn send_with_body(
        &mut self,
        request: &Prepared,
        body: &[u8],
    ) -> Result<Answer<'_>> {
        self.request.clear();
        write_request(&mut self.request, &request.head, &[], body);
        self.socket.write_all(&self.request).await?;
        self.answer().await
    }

    /// Opens a stream of events; the connection serves nothing else from then on.
    pub(crate) async fn stream(mut self, request: &Prepared) -> Result<EventStream> {
        self.socket.write_all(&request.wire).await?;
        let head = self.head().await?;
        if head.status != StatusCode::OK {
            let answer = self.rest(head).await?;
            bail!(
                "the stream was refused with {}: {}",
                answer.status,
                String::from_utf8_lossy(answer.body)
            );
        }
        let begun = self.answer.split_off(head.end);
        Ok(EventStream::new(self.socket, head.length, begun))
    }

    async fn answer(&mut self) -> Result<Answer<'_>> {
        let head = self.head().await?;
        self.rest(head).await
    }

    /// Reads until the head of an answer is there.
    async fn head(&mut self) -> Result<Head> {
        self.answer.clear();
        loop {
            self.read_more().await?;
            if let Some(head) = Head::parse(&self.answer)? {
                return Ok(head);
            }
        }
    }

    /// Reads the body that follows a head.
    async fn rest(&mut self, head: Head) -> Result<Answer<'_>> {
        let body = match head.length {
            Length::Known(length) => {
                let end = head.end + length;
                while self.answer.len() < end {
                    self.read_more().await?;
                }
                ensure!(
                    self.answer.len() == end,
                    "an answer with something after it"
                );
                &self.answer[head.end..]
            }
            Length::Chunked => {
                let mut chunks = Chunks::default();
                self.chunked.clear();
                let mut read = head.end;
                loop {
                    chunks.take(&self.answer[read..], |part| {
                        self.chunked.extend_from_slice(part);
                    })?;
                    if chunks.ended() {
                        break &self.chunked[..];
                    }
                    read = self.answer.len();
                    self.read_more().await?;
                }
            }
            Length::UntilEnd => bail!("an answer of unknown length"),
        };
        Ok(Answer {
            status: head.status,
            head: &self.answer[..head.end],
            body,
        })
    }

    async fn read_more(&mut self) -> Result<()> {
        self.answer.reserve(BUFFER);
        let read = self.socket.read_buf(&mut self.answer).await?;
        ensure!(read > 0, "the relay hung up");
        Ok(())
    }
}

/// What the head of an answer says of what follows.
#[derive(Clone, Copy)]
struct Head {
    status: StatusCode,
    length: Length,
    /// Where the body begins.
    end: usize,
}

impl Head {
    /// None while it is not whole.
    fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(end) = response.parse(bytes)? else {
            return Ok(None);
        };
        let status = StatusCode::from_u16(response.code.unwrap_or_default())?;
        let mut length = match status {
            StatusCode::NO_CONTENT => Length::Known(0),
            _ => Length::UntilEnd,
        };
        for header in response.headers {
            if header.name.eq_ignore_ascii_case("content-length") {
                length = Length::Known(std::str::from_utf8(header.value)?.parse()?);
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                length = Length::Chunked;
            }
        }
        Ok(Some(Self {
            status,
            length,
            end,
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::net::SocketAddr;

    use hyper::StatusCode;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::{Connection, Prepared};

    /// A server that takes one connection and answers each request with the next of these texts,
    /// in the pieces given.
    async fn server(answers: &'static [&'static [&'static str]]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.set_nodelay(true).unwrap();
            for answer in answers {
                read_request(&mut socket).await;
                for piece in *answer {
                    socket.write_all(piece.as_bytes()).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        });
        address
    }

    /// Reads to the end of a head; none of the test's requests has a body.
    async fn read_request(socket: &mut TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("GET /api HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("authorization: Bearer key\r\n"), "{head}");
    }

    #[tokio::test]
    async fn one_connection_carries_many_requests() {
        let address = server(&[
            &["HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n", "{}"],
            &[
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
                "2\r\nde\r\n0\r\n\r\n",
            ],
            &["HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n"],
        ]);
        let address = address.await;
        let request = Prepared::get("/api", "key");
        let mut connection = Connection::open(address).await.unwrap();
        let body = connection
            .send(&request)
            .await
            .unwrap()
            .expect(StatusCode::CREATED)
            .unwrap();
        assert_eq!(body, b"{}");
        let answer = connection.send(&request).await.unwrap();
        assert_eq!(
            (answer.status, answer.body),
            (StatusCode::OK, &b"abcde"[..])
        );
        // The server hangs up in the middle of its last answer: an error, never a hang.
        assert!(connection.send(&request).await.is_err());
    }

    #[tokio::test]
    async fn an_event_may_arrive_in_pieces() {
        let address = server(&[&[
            "HTTP/1.1 200 OK\r\n\r\n",
            ": open\n\nid: ",
            "1\nevent: mess",
            "age\ndata: {}\n",
            "\nid: 2\ndata: []\n\ndata: {\"a",
            "\":1}\n\n",
        ]]);
        let connection = Connection::open(address.await).await.unwrap();
        let request = Prepared::get("/api", "key");
        let mut stream = connection.stream(&request).await.unwrap();
        let mut events = Vec::new();
        let ended = loop {
            let take = |line: &[u8]| {
                if let Some(data) = line.strip_prefix(b"data: ") {
                    events.push(String::from_utf8(data.to_vec()).unwrap());
                }
            };
            if let Err(error) = stream.read(take).await {
                break error;
            }
        };
        assert_eq!(events, ["{}", "[]", "{\"a\":1}"]);
        assert_eq!(ended.to_string(), "the relay ended the stream");
    }

    #[tokio::test]
    async fn a_refused_stream_says_why() {
        let address =
            server(&[&["HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\n\r\nno"]]).await;
        let connection = Connection::open(address).await.unwrap();
        let error = connection
            .stream(&Prepared::get("/api", "key"))
            .await
            .err()
            .unwrap();
        assert!(error.to_string().contains("429"), "{error}");
        assert!(error.to_string().contains("no"), "{error}");
    }
}
