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
use axum::{Router, body::Body, extract::Request, response::Response};
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use handoff_core::MessageStream;
use http::{Version, response::Parts};
use http_body_util::BodyExt;
use hyper::{
    body::{Body as _, Incoming},
    rt::{Read, ReadBufCursor, Write},
    server::conn::http1,
};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    mem::MaybeUninit,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{io::ReadBuf, net::TcpStream, time::Instant};
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
    let progress = Arc::new(Progress::new());
    let io = WatchedIo {
        socket: TokioIo::new(socket),
        progress: progress.clone(),
    };
    let for_requests = progress.clone();
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        answer(site.clone(), request, peer, for_requests.clone())
    });
    let mut connection = http1::Builder::new()
        // We time heads and see to clients that hang up ourselves: hyper would set a timer for each
        // request, and get a buffer for it to look for the end of what the client sends.
        .header_read_timeout(None)
        .half_close(true)
        .max_buf_size(HEAD_MAX)
        .serve_connection(io, service);
    // Alone in a collection, since that looks at it only when it has something to tell. Looked at
    // with every request, the signal that all connections share would be in their way.
    let mut signals = FuturesUnordered::from_iter([progress.end(&stop)]);
    let answer = poll_fn(|context| {
        while let Poll::Ready(Some(end)) = signals.poll_next_unpin(context) {
            match end {
                End::Stop => Pin::new(&mut connection).graceful_shutdown(),
                End::TooSlow => return Poll::Ready(None),
            }
        }
        match Pin::new(&mut connection).poll(context) {
            // A client that breaks off is no error of ours.
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => progress
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

/// Why a connection ends.
enum End {
    /// The replica stops.
    Stop,
    /// No request's head came in time.
    TooSlow,
}

/// How far a connection has come with its requests.
struct Progress {
    opened: Instant,
    /// When the connection began to wait for a request's head, in milliseconds since it was opened;
    /// [`Self::ANSWERING`] while a request is being answered, which takes as long as its body.
    waits_since: AtomicU64,
    /// An answer is still on its way out.
    is_writing: AtomicBool,
    /// Where a request leaves its stream for the connection's task.
    answer: Mutex<Option<StreamAnswer>>,
    is_set: AtomicBool,
}

impl Progress {
    const ANSWERING: u64 = u64::MAX;

    fn new() -> Self {
        Self {
            opened: Instant::now(),
            waits_since: AtomicU64::new(0),
            is_writing: AtomicBool::new(false),
            answer: Mutex::default(),
            is_set: AtomicBool::new(false),
        }
    }

    fn begin_to_answer(&self) {
        self.waits_since.store(Self::ANSWERING, Ordering::Relaxed);
    }

    fn answered(&self) {
        let since = self.opened.elapsed().as_millis() as u64;
        self.waits_since.store(since, Ordering::Relaxed);
    }

    /// Notes whether an answer is still on its way out.
    fn writes(&self, is_writing: bool) {
        let was_writing = self.is_writing.swap(is_writing, Ordering::Relaxed);
        if was_writing && !is_writing && !self.is_answering() {
            self.answered();
        }
    }

    fn is_answering(&self) -> bool {
        self.waits_since.load(Ordering::Relaxed) == Self::ANSWERING
    }

    /// When the next head is late; none while a request is being answered.
    fn head_is_due(&self) -> Option<Instant> {
        let since = self.waits_since.load(Ordering::Relaxed);
        let is_waiting = since != Self::ANSWERING && !self.is_writing.load(Ordering::Relaxed);
        is_waiting.then(|| self.opened + Duration::from_millis(since) + HEAD_TIMEOUT)
    }

    /// Resolves when the connection has to end. Requests come and go without touching its timer.
    async fn end(&self, stop: &CancellationToken) -> End {
        loop {
            let now = Instant::now();
            let due = self.head_is_due().unwrap_or(now + HEAD_TIMEOUT);
            if due <= now {
                return End::TooSlow;
            }
            tokio::select! {
                () = stop.cancelled() => return End::Stop,
                () = tokio::time::sleep_until(due) => {}
            }
        }
    }

    fn put(&self, answer: StreamAnswer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        self.is_set.store(true, Ordering::Relaxed);
    }

    /// The stream, once the answers before it are out.
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

/// A request's answer, until it is dropped.
struct Answered(Arc<Progress>);

impl Drop for Answered {
    fn drop(&mut self) {
        self.0.answered();
    }
}

/// A socket that notes whether something waits to be written, and fails when the client hangs up
/// while it waits for an answer.
struct WatchedIo {
    socket: TokioIo<TcpStream>,
    progress: Arc<Progress>,
}

impl WatchedIo {
    fn note<T>(&self, written: Poll<T>) -> Poll<T> {
        self.progress.writes(written.is_pending());
        written
    }

    /// Whether the client has hung up. Else its doing so wakes the connection.
    fn has_hung_up(&self, context: &mut Context<'_>) -> bool {
        let mut next = [MaybeUninit::uninit()];
        let mut next = ReadBuf::uninit(&mut next);
        match self.socket.inner().poll_peek(context, &mut next) {
            // What it sends is its next request.
            Poll::Ready(Ok(bytes)) => bytes == 0,
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        }
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

    /// hyper calls this whenever it looks at the connection, also while a request is being answered:
    /// the only sign that it gives of itself then, since it doesn't read.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.progress.is_answering() && self.has_hung_up(context) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
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
    progress: Arc<Progress>,
) -> Result<Response, Infallible> {
    progress.begin_to_answer();
    let asked = Asked::by(&request);
    let version = request.version();
    let mut request: Request = request.map(Body::new);
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
        progress.put(StreamAnswer { head, stream });
        // The connection's task goes on from here, and drops this.
        return std::future::pending().await;
    }
    if answer.body().size_hint().exact().is_some() {
        progress.answered();
        return Ok(answer);
    }
    // It is answered when all that comes has come.
    let answered = Answered(progress);
    Ok(answer.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _until_the_end = &answered;
            frame
        }))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        time::{advance, timeout},
    };

    const MOMENT: Duration = Duration::from_millis(10);

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_when_no_head_comes_in_time() {
        let (progress, stop) = (Progress::new(), CancellationToken::new());
        let mut end = Box::pin(progress.end(&stop));
        assert!(
            timeout(HEAD_TIMEOUT - MOMENT, &mut end).await.is_err(),
            "too early"
        );
        assert!(matches!(end.await, End::TooSlow));
        assert_eq!(progress.opened.elapsed(), HEAD_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_may_take_its_time_and_the_next_head_has_all_of_it() {
        let (progress, stop) = (Progress::new(), CancellationToken::new());
        let mut end = Box::pin(progress.end(&stop));
        progress.begin_to_answer();
        assert!(timeout(HEAD_TIMEOUT * 3, &mut end).await.is_err());
        progress.answered();
        // Nor does the time count in which the client doesn't take the answer.
        progress.writes(true);
        assert!(timeout(HEAD_TIMEOUT * 3, &mut end).await.is_err());
        progress.writes(false);
        assert!(timeout(HEAD_TIMEOUT - MOMENT, &mut end).await.is_err());
        advance(MOMENT).await;
        assert!(matches!(end.await, End::TooSlow));
    }

    /// A connection to a server whose `/stream` goes on until the sender is dropped.
    async fn connect() -> (TcpStream, tokio::sync::mpsc::UnboundedSender<&'static str>) {
        let (sender, frames) = tokio::sync::mpsc::unbounded_channel();
        let frames = futures_util::stream::unfold(frames, async |mut frames| {
            let frame: &str = frames.recv().await?;
            Some((Ok::<_, Infallible>(frame), frames))
        });
        let body = Arc::new(Mutex::new(Some(Body::from_stream(frames))));
        let router = Router::new().route("/", get(async || "done")).route(
            "/stream",
            get(move || {
                let body = body.lock().unwrap().take();
                async { body.unwrap_or_default() }
            }),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await;
        let (socket, peer) = listener.accept().await.unwrap();
        let origins = Origins::none();
        let site = Site { router, origins };
        tokio::spawn(serve(socket, peer, site, CancellationToken::new()));
        (client.unwrap(), sender)
    }

    async fn reads(client: &mut TcpStream, end: &str) {
        let mut read = String::new();
        while !read.ends_with(end) {
            let mut next = [0; 512];
            let bytes = client.read(&mut next).await.unwrap();
            assert_ne!(bytes, 0, "{read}");
            read += std::str::from_utf8(&next[..bytes]).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_nothing_more_is_let_go_of_in_time() {
        let (mut client, _sender) = connect().await;
        for _ in 0..3 {
            client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            reads(&mut client, "done").await;
            tokio::time::sleep(HEAD_TIMEOUT / 2).await;
        }
        // Half a head is none.
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let waits = timeout(HEAD_TIMEOUT / 3, client.read_u8());
        assert!(waits.await.is_err());
        let read = timeout(HEAD_TIMEOUT / 3, client.read_u8()).await.unwrap();
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_goes_on_keeps_its_connection() {
        for version in ["1.0", "1.1"] {
            let (mut client, sender) = connect().await;
            let request = format!("GET /stream HTTP/{version}\r\n\r\n");
            client.write_all(request.as_bytes()).await.unwrap();
            sender.send("first").unwrap();
            reads(
                &mut client,
                if version == "1.0" {
                    "first"
                } else {
                    "first\r\n"
                },
            )
            .await;
            tokio::time::sleep(HEAD_TIMEOUT * 5).await;
            sender.send("last").unwrap();
            reads(
                &mut client,
                if version == "1.0" { "last" } else { "last\r\n" },
            )
            .await;
            // Nor does anything else come; and its end lets go of the stream.
            client.shutdown().await.unwrap();
            sender.closed().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_when_the_replica_stops() {
        let (progress, stop) = (Progress::new(), CancellationToken::new());
        let mut end = Box::pin(progress.end(&stop));
        assert!(timeout(MOMENT, &mut end).await.is_err());
        stop.cancel();
        assert!(matches!(end.await, End::Stop));
    }
}
