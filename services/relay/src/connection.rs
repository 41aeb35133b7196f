//! A connection: hyper reads its requests and writes their answers, until one is answered with a
//! live stream. That one takes the connection over: hyper is let go of with its buffers, and the
//! socket and the stream stay in a small task of their own. So thousands of streams cost little
//! memory, and an event goes out in one write.

use crate::{
    cors::{Asked, Origins},
    door::Peer,
    router, sse,
    telemetry::metrics,
};
use axum::{Router, extract::Request, response::Response};
use futures_util::FutureExt;
use handoff_core::MessageStream;
use http::{Version, response::Parts};
use hyper::{
    body::Incoming,
    rt::{Read, ReadBufCursor, Write},
    server::conn::http1,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tower::Service;

/// How long a client may take to send a request's head, and how long a connection may idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// A request's head at most.
const HEAD_MAX: usize = 64 << 10;

/// What a listener serves, and to whose pages.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) router: Router,
    pub(crate) origins: Origins,
}

/// A live stream with the connection that it took over.
pub(crate) struct TakenOver {
    socket: TcpStream,
    answer: StreamAnswer,
}

/// The head of an answer, and the stream that follows.
struct StreamAnswer {
    head: Parts,
    stream: MessageStream,
}

impl TakenOver {
    /// Writes the answer to its end; a client that breaks off is no error of ours.
    pub(crate) async fn write(self) {
        let StreamAnswer { head, stream } = self.answer;
        let _ = sse::write(self.socket, &head, stream).await;
    }
}

/// Answers a connection's requests until it ends or a stream takes it over. After `stop` it ends
/// once the request under way is answered.
pub(crate) async fn serve(
    socket: TcpStream,
    peer: SocketAddr,
    site: Site,
    stop: CancellationToken,
) -> Option<TakenOver> {
    let handover = Arc::new(Handover::default());
    let io = WatchedIo {
        socket: TokioIo::new(socket),
        handover: handover.clone(),
    };
    let for_requests = handover.clone();
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        answer(site.clone(), request, peer, for_requests.clone())
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_MAX)
        .serve_connection(io, service);
    let mut stopping = pin!(stop.cancelled());
    let mut told = false;
    let answer = poll_fn(|context| {
        if !told && stopping.as_mut().poll(context).is_ready() {
            told = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        match Pin::new(&mut connection).poll(context) {
            // A client that breaks off is no error of ours.
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => handover
                .take()
                .map_or(Poll::Pending, |it| Poll::Ready(Some(it))),
        }
    })
    .await?;
    Some(TakenOver {
        socket: connection.into_parts().io.socket.into_inner(),
        answer,
    })
}

/// Where a request leaves its stream for the connection's task.
#[derive(Default)]
struct Handover {
    answer: Mutex<Option<StreamAnswer>>,
    is_set: AtomicBool,
    /// An earlier answer is still on its way out: it comes first.
    is_writing: AtomicBool,
}

impl Handover {
    fn put(&self, answer: StreamAnswer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        self.is_set.store(true, Ordering::Relaxed);
    }

    fn take(&self) -> Option<StreamAnswer> {
        if !self.is_set.load(Ordering::Relaxed) || self.is_writing.load(Ordering::Relaxed) {
            return None;
        }
        self.answer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// A socket that notes whether something waits to be written.
struct WatchedIo {
    socket: TokioIo<TcpStream>,
    handover: Arc<Handover>,
}

impl WatchedIo {
    fn note<T>(&self, written: Poll<T>) -> Poll<T> {
        let is_writing = written.is_pending();
        self.handover
            .is_writing
            .store(is_writing, Ordering::Relaxed);
        written
    }
}

impl Read for WatchedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl Write for WatchedIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

/// Answers a request; a handler that panics answers 500 and takes nothing else with it.
async fn answer(
    mut site: Site,
    request: hyper::Request<Incoming>,
    peer: SocketAddr,
    handover: Arc<Handover>,
) -> Result<Response, Infallible> {
    let asked = Asked::by(&request);
    let version = request.version();
    let mut request: Request = request.map(axum::body::Body::new);
    request.extensions_mut().insert(Peer(peer));
    let answer = AssertUnwindSafe(site.router.call(request))
        .catch_unwind()
        .await;
    let Ok(mut answer) = answer.unwrap_or_else(|_| {
        metrics::panicked();
        tracing::error!("A handler panicked");
        Ok(router::broken())
    });
    site.origins.answer(asked, answer.headers_mut());
    // HTTP/1.0 has no chunks: there hyper writes the stream, and its end is the connection's.
    if version == Version::HTTP_11
        && let Some(stream) = sse::take(&mut answer)
    {
        let (head, _) = answer.into_parts();
        handover.put(StreamAnswer { head, stream });
        // The connection's task goes on from here, and drops this.
        return std::future::pending().await;
    }
    Ok(answer)
}
