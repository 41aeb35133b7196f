//! Server-sent events: a stream of the core as an HTTP answer.
//!
//! The answer carries the stream, and whoever takes it first writes it out: the connection itself
//! ([`write`], with nothing in between), or a body, where the answer goes another way (HTTP/1.0,
//! requests within the process).

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::stream;
use handoff_core::{Epoch, MessageStream};
use handoff_protocol::sse::cursor_block;
use http::{HeaderValue, header, response::Parts};
use std::{
    convert::Infallible,
    future::poll_fn,
    io::{self, IoSlice, Write as _},
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};

/// A stream is never silent for longer.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const CRLF: &[u8] = b"\r\n";
/// Ends a chunked answer.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// An answer that proxies neither buffer nor compress nor keep. Without a stream it is the answer
/// to HEAD.
pub(crate) fn response(stream: Option<MessageStream>, epoch: Option<&Epoch>) -> Response {
    let mut response = match stream {
        Some(stream) => {
            let live = Live(Arc::new(Mutex::new(Some(stream))));
            let mut response = Response::new(body(live.clone()));
            response.extensions_mut().insert(live);
            response
        }
        None => Response::new(Body::empty()),
    };
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-transform"),
    );
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    if let Some(epoch) = epoch.and_then(|epoch| HeaderValue::from_str(epoch.as_str()).ok()) {
        headers.insert("handoff-epoch", epoch);
    }
    response
}

/// A stream that an answer carries.
#[derive(Clone)]
struct Live(Arc<Mutex<Option<MessageStream>>>);

impl Live {
    fn take(&self) -> Option<MessageStream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The stream that an answer carries, for one who writes it out; the body is empty from then on.
pub(crate) fn take(response: &mut Response) -> Option<MessageStream> {
    response.extensions_mut().remove::<Live>()?.take()
}

/// The stream's frames, after a comment and the place where it starts: a cut before the first
/// event loses nothing. Keep-alives repeat the place reached.
fn body(live: Live) -> Body {
    Body::from_stream(stream::unfold(State::Closed(live), next_chunk))
}

enum State {
    Closed(Live),
    Open(Box<MessageStream>),
}

async fn next_chunk(state: State) -> Option<(Result<Bytes, Infallible>, State)> {
    let mut stream = match state {
        State::Closed(live) => {
            let stream = live.take()?;
            let opening = cursor_block(stream.cursor()).into();
            return Some((Ok(opening), State::Open(Box::new(stream))));
        }
        State::Open(stream) => stream,
    };
    let chunk = match tokio::time::timeout(KEEP_ALIVE, stream.next()).await {
        Ok(Some(frames)) => frames.concat().into(),
        Ok(None) => return None,
        Err(_) => cursor_block(stream.cursor()).into(),
    };
    Some((Ok(chunk), State::Open(stream)))
}

/// Writes an answer with its stream to a socket, until the stream ends or the client is gone; then
/// closes the connection. Frames are shared by all streams and go out as they are, all that is
/// ready in one write.
///
/// # Errors
/// When the client is gone, or the stream ended while it couldn't be written to.
pub(crate) async fn write(
    socket: TcpStream,
    head: &Parts,
    stream: MessageStream,
) -> io::Result<()> {
    let mut writer = Writer {
        socket,
        stream,
        keep_alive: Box::pin(sleep(KEEP_ALIVE)),
        silent_since: Instant::now(),
    };
    writer.open(head).await?;
    loop {
        let frames = match writer.next().await {
            Next::Frames(frames) => frames,
            Next::KeepAlive => vec![cursor_block(writer.stream.cursor()).into()],
            Next::End => break,
            Next::Gone => return Ok(()),
        };
        writer.write_chunk(&[], &frames).await?;
    }
    writer.write_all(&mut [IoSlice::new(LAST_CHUNK)]).await?;
    writer.socket.shutdown().await
}

struct Writer {
    socket: TcpStream,
    stream: MessageStream,
    keep_alive: Pin<Box<Sleep>>,
    silent_since: Instant,
}

enum Next {
    Frames(Vec<Bytes>),
    /// Nothing was to be said for so long that something must be.
    KeepAlive,
    /// The stream has ended.
    End,
    /// The client has.
    Gone,
}

impl Writer {
    /// The head and the stream's first block, together.
    async fn open(&mut self, head: &Parts) -> io::Result<()> {
        let opening = cursor_block(self.stream.cursor());
        self.write_chunk(&head_bytes(head), &[opening.into()]).await
    }

    async fn next(&mut self) -> Next {
        let Self {
            socket,
            stream,
            keep_alive,
            silent_since,
        } = self;
        let mut frames = pin!(stream.next());
        poll_fn(|context| {
            if poll_gone(socket, context).is_ready() {
                return Poll::Ready(Next::Gone);
            }
            if let Poll::Ready(frames) = frames.as_mut().poll(context) {
                return Poll::Ready(frames.map_or(Next::End, Next::Frames));
            }
            // Set anew only when it fires, not with every event.
            while keep_alive.as_mut().poll(context).is_ready() {
                let due = *silent_since + KEEP_ALIVE;
                if due <= Instant::now() {
                    return Poll::Ready(Next::KeepAlive);
                }
                keep_alive.as_mut().reset(due);
            }
            Poll::Pending
        })
        .await
    }

    /// Writes frames as one chunk, after what comes before it.
    async fn write_chunk(&mut self, before: &[u8], frames: &[Bytes]) -> io::Result<()> {
        let length: usize = frames.iter().map(Bytes::len).sum();
        let mut size = [0; 18];
        let mut rest = &mut size[..];
        write!(rest, "{length:x}\r\n")?;
        let unused = rest.len();
        let size = &size[..18 - unused];
        let mut slices = Vec::with_capacity(frames.len() + 3);
        slices.extend([IoSlice::new(before), IoSlice::new(size)]);
        slices.extend(frames.iter().map(|frame| IoSlice::new(frame)));
        slices.push(IoSlice::new(CRLF));
        self.write_all(&mut slices).await?;
        self.silent_since = Instant::now();
        Ok(())
    }

    async fn write_all(&mut self, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        // Empty slices at the front count as written.
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            match self.socket.try_write_vectored(slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut slices, written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::select! {
                        writable = self.socket.writable() => writable?,
                        // A client that doesn't read isn't waited for.
                        () = self.stream.over() => return Err(io::ErrorKind::ConnectionAborted.into()),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Ready when the client has closed its end. What it sends meanwhile is dropped.
fn poll_gone(socket: &TcpStream, context: &mut Context<'_>) -> Poll<()> {
    loop {
        if ready!(socket.poll_read_ready(context)).is_err() {
            return Poll::Ready(());
        }
        match socket.try_read(&mut [0; 512]) {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => return Poll::Ready(()),
        }
    }
}

/// The head of an answer in chunks that is its connection's last.
fn head_bytes(answer: &Parts) -> Vec<u8> {
    let mut head = Vec::with_capacity(768);
    head.extend_from_slice(b"HTTP/1.1 ");
    head.extend_from_slice(answer.status.as_str().as_bytes());
    head.push(b' ');
    let reason = answer.status.canonical_reason().unwrap_or_default();
    head.extend_from_slice(reason.as_bytes());
    head.extend_from_slice(CRLF);
    let date = httpdate::fmt_http_date(SystemTime::now());
    let own = [
        ("date", date.as_bytes()),
        ("transfer-encoding", b"chunked"),
        ("connection", b"close"),
    ];
    let given = answer.headers.iter();
    let given = given.map(|(name, value)| (name.as_str(), value.as_bytes()));
    for (name, value) in given.chain(own) {
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value);
        head.extend_from_slice(CRLF);
    }
    head.extend_from_slice(CRLF);
    head
}
