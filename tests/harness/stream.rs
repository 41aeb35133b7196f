//! A strict reader of event streams: every byte must be what the contract says, so that each test
//! that streams also checks the format.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::{DEADLINE, contract};

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its ID: a cursor.
    pub id: String,
    /// Its kind, `message` for messages.
    pub event: String,
    /// Its content.
    pub data: Value,
}

/// What stands between two blank lines of a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Block {
    /// Lines that begin with a colon.
    Comment(String),
    /// An ID alone, which moves the client's cursor and dispatches nothing.
    Id(String),
    /// An event.
    Event(Event),
}

/// What a stream does next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// It brings an event.
    Event(Event),
    /// It ends as it should: the last chunk says so.
    End,
    /// Its connection is lost.
    Broken(String),
}

/// An open stream. Dropping it closes the connection.
pub struct EventStream {
    request: String,
    headers: HeaderMap,
    body: Incoming,
    unread: BytesMut,
    raw: Vec<u8>,
    last_id: Option<String>,
    seen: VecDeque<Event>,
}

enum Chunk {
    Block(Block),
    End,
    Broken(String),
    Late,
}

impl EventStream {
    pub(crate) fn new(request: String, response: hyper::Response<Incoming>) -> EventStream {
        let (parts, body) = response.into_parts();
        EventStream {
            request,
            headers: parts.headers,
            body,
            unread: BytesMut::new(),
            raw: Vec::new(),
            last_id: None,
            seen: VecDeque::new(),
        }
    }

    /// Panics unless the relay's own document allows such a stream.
    pub(crate) fn hold_against_contract(&self) {
        if let Some(wrong) = contract::violation(&self.request, 200, &self.headers, b"") {
            panic!(
                "{}: the OpenAPI document doesn't allow the stream: {wrong}",
                self.request
            );
        }
    }

    /// A header of the answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// All headers of the answer.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The ID to resume from: the last that came, with or without an event.
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// Everything that came so far (the last MiB of it), byte for byte.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The next event.
    pub async fn next(&mut self) -> Event {
        match self.next_or_end().await {
            Next::Event(event) => event,
            other => panic!("{other:?} instead of an event; {}", self.story()),
        }
    }

    /// The next `count` events.
    pub async fn take(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::with_capacity(count);
        for _ in 0..count {
            events.push(self.next().await);
        }
        events
    }

    /// The next event, or how the stream ended.
    pub async fn next_or_end(&mut self) -> Next {
        let end = Instant::now() + DEADLINE;
        loop {
            match self.chunk(end).await {
                Chunk::Block(Block::Event(event)) => return Next::Event(event),
                Chunk::Block(_) => {}
                Chunk::End => return Next::End,
                Chunk::Broken(error) => return Next::Broken(error),
                Chunk::Late => panic!("nothing came for {DEADLINE:?}; {}", self.story()),
            }
        }
    }

    /// The next block, comments and bare IDs included.
    pub async fn next_block(&mut self) -> Block {
        match self.chunk(Instant::now() + DEADLINE).await {
            Chunk::Block(block) => block,
            Chunk::End => panic!("the stream ended; {}", self.story()),
            Chunk::Broken(error) => panic!("{error}; {}", self.story()),
            Chunk::Late => panic!("nothing came for {DEADLINE:?}; {}", self.story()),
        }
    }

    /// The next block, comments and bare IDs included, or how the stream ended.
    pub async fn block_or_end(&mut self) -> Result<Block, Next> {
        match self.chunk(Instant::now() + DEADLINE).await {
            Chunk::Block(block) => Ok(block),
            Chunk::End => Err(Next::End),
            Chunk::Broken(error) => Err(Next::Broken(error)),
            Chunk::Late => panic!("nothing came for {DEADLINE:?}; {}", self.story()),
        }
    }

    /// Asserts that no event comes for a while, and that the stream stays open.
    pub async fn expect_silence(&mut self, duration: Duration) {
        let end = Instant::now() + duration;
        loop {
            match self.chunk(end).await {
                Chunk::Late => return,
                Chunk::Block(Block::Event(event)) => {
                    panic!("{event:?} where silence was due; {}", self.story())
                }
                Chunk::Block(_) => {}
                Chunk::End => panic!("the stream ended; {}", self.story()),
                Chunk::Broken(error) => panic!("{error}; {}", self.story()),
            }
        }
    }

    /// Asserts a silence that is long against the time an event takes, yet short for a test.
    pub async fn stays_silent(&mut self) {
        self.expect_silence(Duration::from_millis(300)).await;
    }

    /// Waits for the stream's clean end; returns the events that still came before it.
    pub async fn ended(&mut self) -> Vec<Event> {
        let mut rest = Vec::new();
        loop {
            match self.next_or_end().await {
                Next::Event(event) => rest.push(event),
                Next::End => return rest,
                Next::Broken(error) => panic!("{error} instead of an end; {}", self.story()),
            }
        }
    }

    async fn chunk(&mut self, end: Instant) -> Chunk {
        loop {
            if let Some(block) = self.cut_block() {
                let block = self.parse(&block);
                match &block {
                    Block::Comment(_) => {}
                    Block::Id(id) => self.last_id = Some(id.clone()),
                    Block::Event(event) => {
                        self.last_id = Some(event.id.clone());
                        self.seen.push_back(event.clone());
                        if self.seen.len() > 5 {
                            self.seen.pop_front();
                        }
                    }
                }
                return Chunk::Block(block);
            }
            match timeout_at(end, self.body.frame()).await {
                Err(_) => return Chunk::Late,
                Ok(None) if self.unread.is_empty() => return Chunk::End,
                Ok(None) => panic!("the stream ended inside a block; {}", self.story()),
                Ok(Some(Err(error))) => return Chunk::Broken(error.to_string()),
                Ok(Some(Ok(frame))) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.keep(&bytes);
                    }
                }
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        self.raw.extend_from_slice(bytes);
        if self.raw.len() > 2 << 20 {
            self.raw.drain(..1 << 20);
        }
    }

    /// Up to the next blank line, if it is there already.
    fn cut_block(&mut self) -> Option<Bytes> {
        let end = self.unread.windows(2).position(|pair| pair == b"\n\n")?;
        let block = self.unread.split_to(end + 2).freeze();
        Some(block.slice(..end))
    }

    fn parse(&self, block: &[u8]) -> Block {
        let text = std::str::from_utf8(block)
            .unwrap_or_else(|_| panic!("a stream is UTF-8; {}", self.story()));
        assert!(!text.contains('\r'), "a stream has LF only: {text:?}");
        if text.starts_with(':') {
            assert!(
                text.lines().all(|line| line.starts_with(':')),
                "mixed block: {text:?}"
            );
            return Block::Comment(text.to_owned());
        }
        let lines: Vec<&str> = text.split('\n').collect();
        let field = |line: &str, name: &str| -> String {
            let value = line
                .strip_prefix(name)
                .and_then(|rest| rest.strip_prefix(": "));
            value
                .unwrap_or_else(|| panic!("`{name}: ` was due in {text:?}"))
                .to_owned()
        };
        match lines[..] {
            [id] => Block::Id(field(id, "id")),
            [id, event, data] => {
                let data = field(data, "data");
                let event = Event {
                    id: field(id, "id"),
                    event: field(event, "event"),
                    data: serde_json::from_str(&data)
                        .unwrap_or_else(|error| panic!("{error} in {data:?}")),
                };
                if event.event == "message"
                    && let Some(wrong) = contract::message_violation(&event.data)
                {
                    panic!("the OpenAPI document doesn't allow {event:?}: {wrong}");
                }
                Block::Event(event)
            }
            _ => panic!("neither a comment, an ID nor an event: {text:?}"),
        }
    }

    fn story(&self) -> String {
        format!(
            "{}: the last events were {:?}, after them came {:?}",
            self.request,
            self.seen,
            String::from_utf8_lossy(&self.unread)
        )
    }
}
