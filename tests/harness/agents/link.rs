//! One agent's connection: requests go out, whole answers or the pieces of a stream come in. It costs
//! little, since the load shares its machine with the relay. Every wait has a bound; after an error
//! the connection is gone, and the next request opens another one, elsewhere if there is an elsewhere.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// How long a connection may take to be there.
const CONNECT: Duration = Duration::from_secs(2);

/// A status code and a body.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

/// Something to be asked, any number of times.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) key: HeaderValue,
    pub(super) header: Option<(HeaderName, HeaderValue)>,
    pub(super) body: Bytes,
}

impl Ask {
    pub(super) fn new(method: Method, path: impl Into<String>, key: &HeaderValue) -> Ask {
        Ask {
            method,
            path: path.into(),
            key: key.clone(),
            header: None,
            body: Bytes::new(),
        }
    }

    pub(super) fn body(mut self, body: &impl serde::Serialize) -> Ask {
        self.body = serde_json::to_vec(body).expect("plain data is JSON").into();
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: &str) -> Ask {
        let value = value.parse().expect("a header's value is plain ASCII");
        self.header = Some((HeaderName::from_static(name), value));
        self
    }

    fn request(&self, host: &Authority) -> Option<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(&self.method)
            .uri(&self.path)
            .header(HOST, host.as_str())
            .header(AUTHORIZATION, &self.key);
        if !self.body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some((name, value)) = &self.header {
            request = request.header(name, value);
        }
        request.body(Full::new(self.body.clone())).ok()
    }
}

/// `Authorization` for a key.
pub(super) fn bearer(key: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(&format!("Bearer {key}")).expect("a key is plain ASCII");
    value.set_sensitive(true);
    value
}

/// A connection, if there is one.
pub(super) struct Link {
    open: Option<Open>,
    timeout: Duration,
}

struct Open {
    host: Authority,
    requests: http1::SendRequest<Full<Bytes>>,
    /// The task that drives the socket; it ends with this.
    driver: AbortHandle,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Link {
    pub(super) fn new(timeout: Duration) -> Link {
        Link {
            open: None,
            timeout,
        }
    }

    /// Whether there is a connection that may still work.
    pub(super) fn is_open(&self) -> bool {
        self.open
            .as_ref()
            .is_some_and(|open| !open.requests.is_closed())
    }

    /// Where it is connected to.
    pub(super) fn host(&self) -> Option<&Authority> {
        self.open.as_ref().map(|open| &open.host)
    }

    /// Closes the connection.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    async fn connect(&mut self, host: &Authority) -> Option<&mut Open> {
        let fits = self.is_open() && self.host() == Some(host);
        if !fits {
            self.open = None;
            let stream = timeout(CONNECT, TcpStream::connect(host.as_str()));
            let stream = stream.await.ok()?.ok()?;
            stream.set_nodelay(true).ok()?;
            let (requests, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
            let driver = tokio::spawn(async move {
                // Its error reaches whoever waits for an answer.
                let _ = connection.await;
            });
            self.open = Some(Open {
                host: host.clone(),
                requests,
                driver: driver.abort_handle(),
            });
        }
        self.open.as_mut()
    }

    async fn start(&mut self, host: &Authority, ask: &Ask) -> Option<Response<Incoming>> {
        let request = ask.request(host)?;
        let open = self.connect(host).await?;
        open.requests.ready().await.ok()?;
        open.requests.send_request(request).await.ok()
    }

    /// A whole answer, or none.
    pub(super) async fn ask(&mut self, host: &Authority, ask: &Ask) -> Option<Reply> {
        let reply = timeout(self.timeout, async {
            let response = self.start(host, ask).await?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.ok()?.to_bytes();
            Some(Reply { status, body })
        });
        let reply = reply.await.ok().flatten();
        if reply.is_none() {
            self.close();
        }
        reply
    }

    /// Opens a stream. A refusal is given as a status code, no answer as 0.
    pub(super) async fn stream(&mut self, host: &Authority, ask: &Ask) -> Result<Pieces, u16> {
        let response = timeout(self.timeout, self.start(host, ask)).await;
        let response = response.ok().flatten();
        let open = self.open.take();
        let (Some(response), Some(open)) = (response, open) else {
            return Err(0);
        };
        match response.status().as_u16() {
            200 => Ok(Pieces {
                body: response.into_body(),
                _open: open,
            }),
            status => Err(status),
        }
    }
}

/// The body of a stream.
pub(super) struct Pieces {
    body: Incoming,
    /// The connection lives as long as its body is read.
    _open: Open,
}

/// What comes next on a stream.
pub(super) enum Piece {
    /// Some bytes.
    Bytes(Bytes),
    /// The body is whole.
    End,
    /// The connection was lost.
    Lost,
}

impl Pieces {
    pub(super) async fn next(&mut self) -> Piece {
        loop {
            match self.body.frame().await {
                None => return Piece::End,
                Some(Err(_)) => return Piece::Lost,
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Piece::Bytes(bytes);
                    }
                }
            }
        }
    }
}
