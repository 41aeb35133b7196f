//! Server-sent events: a stream of the core as an HTTP body.

use axum::{body::Body, response::Response};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use handoff_core::{Epoch, MessageStream};
use handoff_protocol::sse::cursor_block;
use http::{HeaderValue, header};
use std::{convert::Infallible, time::Duration};

/// A stream is never silent for longer.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// An answer that proxies neither buffer nor compress nor keep.
pub(crate) fn response(body: Body, epoch: Option<&Epoch>) -> Response {
    let mut response = Response::new(body);
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

/// The stream's frames, after a comment and the place where it starts: a cut before the first
/// event loses nothing. Keep-alives repeat the place reached.
pub(crate) fn body(stream: MessageStream) -> Body {
    let opening = Bytes::from(cursor_block(stream.cursor()));
    Body::from_stream(stream::unfold((stream, Some(opening)), next_chunk))
}

type State = (MessageStream, Option<Bytes>);

async fn next_chunk((mut stream, opening): State) -> Option<(Result<Bytes, Infallible>, State)> {
    let chunk = match opening {
        Some(opening) => opening,
        None => match tokio::time::timeout(KEEP_ALIVE, stream.next()).await {
            Ok(Some(frames)) => join(frames),
            Ok(None) => return None,
            Err(_) => cursor_block(stream.cursor()).into(),
        },
    };
    Some((Ok(chunk), (stream, None)))
}

/// One write for all that is ready; a lone frame is passed on as it is, shared by all streams.
fn join(frames: Vec<Bytes>) -> Bytes {
    match <[Bytes; 1]>::try_from(frames) {
        Ok([frame]) => frame,
        Err(frames) => {
            let mut joined = BytesMut::with_capacity(frames.iter().map(Bytes::len).sum());
            frames
                .iter()
                .for_each(|frame| joined.extend_from_slice(frame));
            joined.freeze()
        }
    }
}
