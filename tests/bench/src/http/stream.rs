//! A stream of server-sent events: bytes come in, its lines go out.
//!
//! Thousands of them are read by one thread, so a stream holds no buffer of its own: what is read is
//! looked at where it lies, and only a line that is cut is kept.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Poll, ready};

use anyhow::{Result, ensure};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use super::body::{Chunks, Length};

/// What one read takes at most.
const READ: usize = 64 * 1024;

thread_local! {
    /// Where all streams of a thread are read to.
    static READ_TO: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// An open stream.
pub(crate) struct EventStream {
    socket: TcpStream,
    text: Text,
    /// What came with the head of the answer.
    begun: Vec<u8>,
}

impl EventStream {
    /// Takes a connection over after the head of its answer; `begun` is what came with that.
    pub(super) fn new(socket: TcpStream, length: Length, begun: Vec<u8>) -> Self {
        let text = Text {
            chunks: (length == Length::Chunked).then(Chunks::default),
            lines: Lines::default(),
        };
        Self {
            socket,
            text,
            begun,
        }
    }

    /// Waits for more of the stream and hands every whole line that is not empty to `line`.
    pub(crate) async fn read(&mut self, mut line: impl FnMut(&[u8])) -> Result<()> {
        let (socket, text) = (&mut self.socket, &mut self.text);
        if !self.begun.is_empty() {
            return text.take(&std::mem::take(&mut self.begun), &mut line);
        }
        poll_fn(|context| {
            READ_TO.with_borrow_mut(|bytes| {
                let mut read = ReadBuf::new(bytes);
                ready!(Pin::new(&mut *socket).poll_read(context, &mut read))?;
                ensure_open(!read.filled().is_empty())?;
                Poll::Ready(text.take(read.filled(), &mut line))
            })
        })
        .await
    }
}

fn ensure_open(open: bool) -> Result<()> {
    ensure!(open, "the relay ended the stream");
    Ok(())
}

/// The text of a stream, out of its chunks.
struct Text {
    chunks: Option<Chunks>,
    lines: Lines,
}

impl Text {
    fn take(&mut self, bytes: &[u8], line: &mut impl FnMut(&[u8])) -> Result<()> {
        let Some(chunks) = &mut self.chunks else {
            self.lines.take(bytes, line);
            return Ok(());
        };
        chunks.take(bytes, |part| self.lines.take(part, line))?;
        ensure_open(!chunks.ended())
    }
}

/// Lines, however they are cut into pieces.
#[derive(Default)]
struct Lines {
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
}

impl Lines {
    fn take(&mut self, mut piece: &[u8], line: &mut impl FnMut(&[u8])) {
        while let Some(length) = memchr::memchr(b'\n', piece) {
            let (end, rest) = (&piece[..length], &piece[length + 1..]);
            if !self.begun.is_empty() {
                self.begun.extend_from_slice(end);
                line(&self.begun);
                self.begun = Vec::new();
            } else if !end.is_empty() {
                line(end);
            }
            piece = rest;
        }
        self.begun.extend_from_slice(piece);
    }
}
