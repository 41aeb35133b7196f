//! Messages as they come, over one connection after another: each picks up where the last was cut,
//! so that nothing is skipped and nothing comes twice.

use crate::{
    Client, Error, Result,
    request::{Query, Waits, may_pass, refusal, retry_after},
    transport::{ApiRequest, StreamResponse, TransportError},
    types::Message,
};
use bytes::Bytes;
use futures_util::{
    FutureExt, StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use http::{Request, StatusCode, header};
use sse_stream::{Sse, SseByteStream};
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// A stream without a byte for so long is cut: the relay says something every 25 seconds.
const SILENCE: Duration = Duration::from_secs(60);
/// A connection that held for so long was a good one: the next wait is short again.
const GOOD_CONNECTION: Duration = Duration::from_secs(10);
/// How long a relay has to tell where a stream starts. Ours does so at once.
const POSITION_WAIT: Duration = Duration::from_secs(2);
/// Bytes of a refusal that are read at most.
const REFUSAL_MAX_BYTES: usize = 64 * 1024;

/// What to follow.
#[derive(Clone, Debug, Default)]
pub struct StreamQuery {
    /// These channels.
    pub channels: Vec<String>,
    /// Everything after this ID; none: what is posted from now on.
    pub after_id: Option<String>,
}

/// Messages of channels as they come. Connects again for ever when it is cut; ends only where
/// another try can't help, with the error that says why.
pub struct MessageStream {
    /// Holds the connection, so that a caller that stops waiting for `next` loses nothing.
    happenings: BoxStream<'static, Happening>,
    opened: bool,
    start: Option<String>,
}

/// What a stream comes upon.
enum Happening {
    /// A connection was opened at this ID: what is posted from here on comes.
    Opened(Option<Position>),
    Message(Message),
    /// The last one.
    End(Error),
}

impl MessageStream {
    pub(crate) fn new(client: Client, query: StreamQuery) -> Self {
        let channels = query.channels.join(",");
        let channels = Query::new().text("channels", Some(&channels)).into_text();
        let follower = Follower {
            client,
            target: format!("/api/stream{channels}"),
            position: query.after_id.map(Position),
            state: State::Cut,
            message: None,
            waits: Waits::endless(),
            was_open: false,
        };
        let happenings = stream::unfold(follower, |mut follower| async move {
            let happening = follower.next().await?;
            Some((happening, follower))
        });
        Self {
            happenings: happenings.boxed(),
            opened: false,
            start: None,
        }
    }

    /// The next message; none after the stream has ended. May be given up and called again.
    pub async fn next(&mut self) -> Option<Result<Message>> {
        loop {
            match self.happenings.next().await? {
                Happening::Opened(position) => self.note_opened(position),
                Happening::Message(message) => return Some(Ok(message)),
                Happening::End(error) => return Some(Err(error)),
            }
        }
    }

    /// Waits until the stream is open for the first time: whatever is posted from then on comes,
    /// even if the connection is cut at that moment.
    pub async fn opened(&mut self) -> Result<()> {
        if self.opened {
            return Ok(());
        }
        // No message comes before the opening.
        match self.happenings.next().await {
            Some(Happening::End(error)) => Err(error),
            Some(Happening::Opened(position)) => {
                self.note_opened(position);
                Ok(())
            }
            Some(Happening::Message(_)) => {
                self.opened = true;
                Ok(())
            }
            None => Err(Error::InvalidArgument("The stream has ended before".into())),
        }
    }

    /// Where it was when it opened for the first time, so far as the relay tells: a stream from
    /// this ID on misses nothing that this one brings.
    pub fn start(&self) -> Option<&str> {
        self.start.as_deref()
    }

    fn note_opened(&mut self, position: Option<Position>) {
        if !self.opened {
            self.opened = true;
            self.start = position.map(|position| position.0);
        }
    }
}

/// Follows the channels from connection to connection.
struct Follower {
    client: Client,
    /// Path and query.
    target: String,
    position: Option<Position>,
    state: State,
    /// Came with the opening, and is handed out after it.
    message: Option<Message>,
    waits: Waits,
    was_open: bool,
}

enum State {
    /// No connection.
    Cut,
    /// A connection that has not told yet where it starts: were it cut, nobody could say what was
    /// missed.
    Opening(Events),
    /// A connection, and a position to go on from after it.
    Open(Events),
    /// There is no more.
    Ended,
}

/// What comes over a connection.
struct Events {
    blocks: BoxStream<'static, Result<Sse, sse_stream::Error>>,
    since: Instant,
}

impl Follower {
    async fn next(&mut self) -> Option<Happening> {
        if let Some(message) = self.message.take() {
            return Some(Happening::Message(message));
        }
        loop {
            let step = match &mut self.state {
                State::Ended => return None,
                State::Cut => self.open().await,
                State::Opening(events) => {
                    let deadline = events.since + POSITION_WAIT;
                    match timeout_at(deadline, events.blocks.next()).await {
                        Ok(block) => self.read(block).await,
                        // A relay that tells no place: the stream is open all the same.
                        Err(_) => Ok(None),
                    }
                    .map(|message| self.has_opened(message))
                }
                State::Open(events) => {
                    let block = events.blocks.next().await;
                    self.read(block)
                        .await
                        .map(|message| message.map(Happening::Message))
                }
            };
            match step {
                Ok(None) => {}
                Ok(Some(happening)) => return Some(happening),
                Err(error) if self.may_reconnect(&error) => self.cut(&error).await,
                Err(error) => {
                    self.state = State::Ended;
                    return Some(Happening::End(error));
                }
            }
        }
    }

    /// Opens a connection.
    async fn open(&mut self) -> Result<Option<Happening>> {
        let response = self.client.transport.stream(self.request()?).await?;
        if response.status != StatusCode::OK {
            return Err(read_refusal(response).await);
        }
        let is_stream = response
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        if !is_stream {
            return Err(Error::BadAnswer("it is no event stream".into()));
        }
        self.was_open = true;
        let events = Events {
            blocks: SseByteStream::new(until_silent(response.body)).boxed(),
            since: Instant::now(),
        };
        if self.position.is_none() {
            self.state = State::Opening(events);
            return Ok(None);
        }
        self.state = State::Open(events);
        Ok(Some(Happening::Opened(self.position.clone())))
    }

    fn request(&self) -> Result<ApiRequest> {
        let mut request = Request::get(&self.target).header(header::ACCEPT, "text/event-stream");
        if let Some(position) = &self.position {
            request = request.header("last-event-id", &position.0);
        }
        request
            .body(Bytes::new())
            .map_err(|error| Error::InvalidArgument(format!("This makes no request: {error}")))
    }

    /// Whether the stream can be called open now, after something came or nothing did.
    fn has_opened(&mut self, message: Option<Message>) -> Option<Happening> {
        self.message = message;
        let State::Opening(events) = &self.state else {
            return None;
        };
        if self.position.is_none() && events.since.elapsed() < POSITION_WAIT {
            return None;
        }
        if let State::Opening(events) = std::mem::replace(&mut self.state, State::Cut) {
            self.state = State::Open(events);
        }
        Some(Happening::Opened(self.position.clone()))
    }

    /// Takes a block in. Fails where it can't be taken in now: the position stays before it.
    async fn read(
        &mut self,
        block: Option<Result<Sse, sse_stream::Error>>,
    ) -> Result<Option<Message>> {
        let block = match block {
            Some(Ok(block)) => block,
            Some(Err(error)) => return Err(broken(error)),
            None => return Err(broken("the relay ended the stream")),
        };
        let position = block.id.filter(|id| !id.is_empty()).map(Position);
        if let (Some(position), Some(reached)) = (&position, &self.position)
            && !position.is_after(reached)
        {
            return Ok(None);
        }
        let is_message = block
            .event
            .as_deref()
            .is_none_or(|event| event == "message");
        let message = match block.data.filter(|_| is_message) {
            None => None,
            Some(data) => {
                let mut message = serde_json::from_str(&data)
                    .map_err(|error| Error::BadAnswer(format!("an event: {error}")))?;
                self.client
                    .decrypt_messages(None, std::slice::from_mut(&mut message))
                    .await?;
                self.waits = Waits::endless();
                Some(message)
            }
        };
        // A block of an ID alone moves it too: the relay has looked through everything up to it.
        if position.is_some() {
            self.position = position;
        }
        Ok(message)
    }

    /// Gives the connection up, and waits before the next.
    async fn cut(&mut self, error: &Error) {
        if let State::Opening(events) | State::Open(events) =
            std::mem::replace(&mut self.state, State::Cut)
            && events.since.elapsed() >= GOOD_CONNECTION
        {
            self.waits = Waits::endless();
        }
        // The waits of a stream never run out.
        let wait = self
            .waits
            .next(retry_after(error))
            .unwrap_or(GOOD_CONNECTION);
        tracing::debug!("Stream is opened again in {wait:?}: {error}");
        tokio::time::sleep(wait).await;
    }

    /// Whether another try may help.
    fn may_reconnect(&self, error: &Error) -> bool {
        match error {
            Error::Api(refusal) if refusal.status.is_server_error() => true,
            // What was a relay's URL before may be answered by a proxy while relays are replaced.
            Error::Api(refusal) if refusal.code == "HTTP_404" => self.was_open,
            error => may_pass(error),
        }
    }
}

/// Ends a stream that says nothing for too long. Counted in bytes rather than in events, as a
/// keep-alive may be no more than a comment.
fn until_silent(
    body: BoxStream<'static, Result<Bytes, TransportError>>,
) -> BoxStream<'static, Result<Bytes, TransportError>> {
    stream::unfold(body, |mut body| async move {
        match timeout(SILENCE, body.next()).await {
            Ok(chunk) => Some((chunk?, body)),
            Err(_) => {
                let silent = format!("the stream was silent for {SILENCE:?}");
                Some((Err(TransportError(silent.into())), body))
            }
        }
    })
    .boxed()
}

/// The ID up to which everything has come.
#[derive(Clone, Debug)]
struct Position(String);

impl Position {
    /// IDs ascend as numbers. What is no number can only be told from itself.
    fn is_after(&self, other: &Self) -> bool {
        match (self.0.parse::<u64>(), other.0.parse::<u64>()) {
            (Ok(this), Ok(other)) => this > other,
            _ => self.0 != other.0,
        }
    }
}

async fn read_refusal(response: StreamResponse) -> Error {
    let mut body = Vec::new();
    let mut chunks = response.body;
    let reading = async {
        while let Ok(Some(chunk)) = chunks.try_next().await {
            body.extend_from_slice(&chunk);
            if body.len() > REFUSAL_MAX_BYTES {
                break;
            }
        }
    };
    // Cut short or not, the status says most.
    let _ = timeout(SILENCE, reading.boxed()).await;
    refusal(response.status, &response.headers, &body)
}

fn broken(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Transport(TransportError(cause.into()))
}
