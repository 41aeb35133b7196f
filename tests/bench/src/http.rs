//! A lean HTTP/1.1 client: prepared requests go out, statuses and raw bodies come in.
//!
//! The load shares the machine with what it measures, so a request must cost little: one
//! connection is one socket driven by the task that uses it, without a pool, a second task or a
//! parse of the answer. It follows no redirects, retries nothing and speaks no TLS.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A request that can be sent any number of times.
#[derive(Clone)]
pub(crate) struct Prepared {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl Prepared {
    /// A request without a body.
    pub(crate) fn get(path: &str, key: &str) -> Result<Self> {
        Self::new(Method::GET, path, key, Bytes::new())
    }

    /// A request with a JSON body.
    pub(crate) fn post(path: &str, key: &str, body: &serde_json::Value) -> Result<Self> {
        Self::new(Method::POST, path, key, body.to_string().into())
    }

    /// `key` may be empty, for the routes that need none.
    fn new(method: Method, path: &str, key: &str, body: Bytes) -> Result<Self> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("relay"));
        if !key.is_empty() {
            headers.insert(AUTHORIZATION, format!("Bearer {key}").parse()?);
        }
        Ok(Self {
            method,
            uri: path.parse()?,
            headers,
            body,
        })
    }

    /// The same request with one more header.
    pub(crate) fn with_header(&self, name: &'static str, value: &str) -> Result<Self> {
        let mut prepared = self.clone();
        prepared
            .headers
            .insert(HeaderName::from_static(name), value.parse()?);
        Ok(prepared)
    }

    /// The same request with another body.
    pub(crate) fn with_body(&self, body: Bytes) -> Self {
        Self {
            body,
            ..self.clone()
        }
    }

    fn to_request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// A status and a body, as they came.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body, if the status is the expected one; an error that shows both if not.
    pub(crate) fn expect(self, status: StatusCode) -> Result<Bytes> {
        ensure!(
            self.status == status,
            "the relay answered {} instead of {status}: {}",
            self.status,
            String::from_utf8_lossy(&self.body)
        );
        Ok(self.body)
    }
}

/// One keep-alive connection.
pub(crate) struct Connection {
    requests: http1::SendRequest<Full<Bytes>>,
    socket: http1::Connection<TokioIo<TcpStream>, Full<Bytes>>,
    /// The socket's side has ended; it must not be polled again.
    ended: bool,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .context("the relay takes no connection")?;
        stream.set_nodelay(true)?;
        let (requests, socket) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self {
            requests,
            socket,
            ended: false,
        })
    }

    /// Sends a request and waits for the whole answer.
    pub(crate) async fn send(&mut self, request: &Prepared) -> Result<Answer> {
        let requests = &mut self.requests;
        let answer = async {
            requests.ready().await?;
            let response = requests.send_request(request.to_request()).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            Ok::<_, hyper::Error>(Answer { status, body })
        };
        Ok(drive(&mut self.socket, &mut self.ended, answer).await?)
    }

    /// Opens a stream of events; the connection serves nothing else from then on.
    pub(crate) async fn stream(mut self, request: &Prepared) -> Result<EventStream> {
        let response = self.requests.send_request(request.to_request());
        let response = drive(&mut self.socket, &mut self.ended, response).await?;
        if response.status() != StatusCode::OK {
            let status = response.status();
            let body = drive(
                &mut self.socket,
                &mut self.ended,
                response.into_body().collect(),
            );
            bail!(
                "the stream was refused with {status}: {}",
                String::from_utf8_lossy(&body.await?.to_bytes())
            );
        }
        Ok(EventStream {
            connection: self,
            body: response.into_body(),
            pending: Vec::new(),
        })
    }
}

/// Polls the socket and what waits for it in one task: an answer that has arrived is taken in the
/// same poll that read it.
async fn drive<T>(
    socket: &mut http1::Connection<TokioIo<TcpStream>, Full<Bytes>>,
    ended: &mut bool,
    wanted: impl Future<Output = T>,
) -> T {
    let mut wanted = pin!(wanted);
    std::future::poll_fn(|context| {
        if !*ended && pin!(&mut *socket).poll(context).is_ready() {
            // Whatever ended it, the one who waits is told so as well.
            *ended = true;
        }
        match wanted.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(value),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// An open stream of server-sent events.
pub(crate) struct EventStream {
    connection: Connection,
    body: Incoming,
    pending: Vec<u8>,
}

impl EventStream {
    /// Waits for more of the stream and hands every whole `data:` line to `take`.
    pub(crate) async fn read(&mut self, mut take: impl FnMut(&[u8])) -> Result<()> {
        let Connection { socket, ended, .. } = &mut self.connection;
        let frame = drive(socket, ended, self.body.frame()).await;
        let Some(frame) = frame else {
            bail!("the relay ended the stream")
        };
        if let Some(chunk) = frame?.data_ref() {
            self.pending.extend_from_slice(chunk);
        }
        let mut start = 0;
        while let Some(length) = self.pending[start..].iter().position(|byte| *byte == b'\n') {
            if let Some(data) = self.pending[start..start + length].strip_prefix(b"data: ") {
                take(data);
            }
            start += length + 1;
        }
        self.pending.drain(..start);
        Ok(())
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
            &["HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n"],
        ]);
        let address = address.await;
        let request = Prepared::get("/api", "key").unwrap();
        let mut connection = Connection::open(address).await.unwrap();
        let body = connection
            .send(&request)
            .await
            .unwrap()
            .expect(StatusCode::CREATED)
            .unwrap();
        assert_eq!(body, "{}");
        // The server hangs up in the middle of its second answer: an error, never a hang.
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
        let request = Prepared::get("/api", "key").unwrap();
        let mut stream = connection.stream(&request).await.unwrap();
        let mut events = Vec::new();
        let ended = loop {
            let take = |data: &[u8]| events.push(String::from_utf8(data.to_vec()).unwrap());
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
            .stream(&Prepared::get("/api", "key").unwrap())
            .await
            .err()
            .unwrap();
        assert!(error.to_string().contains("429"), "{error}");
        assert!(error.to_string().contains("no"), "{error}");
    }
}
