//! Those who follow streams, over all their ends and losses.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use handoff_checker::Log;
use handoff_checker::history::{Answer, Call, Channel, EndedBy, Id, Message, Number};
use hyper::Method;
use rand::RngExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::content::WireMessage;
use super::link::{Piece, Pieces};
use super::seat::Seat;
use super::{Ends, Shared};

/// A stream that brings nothing for longer than this is dead: keep-alives come every 25 s.
const SILENCE: Duration = Duration::from_secs(40);

/// How long a reader stays when it has everything, for what should not come.
const LINGER: Duration = Duration::from_millis(200);

/// What a follower follows.
pub(super) struct Following {
    pub(super) channels: Vec<usize>,
    /// The cursor; none: from now on.
    pub(super) cursor: Option<Id>,
    /// It leaves by itself after such a time.
    pub(super) leaves: Option<Duration>,
    /// The number of its API key, if that is one that changes.
    pub(super) key: Option<Number>,
}

impl Following {
    fn path(&self, shared: &Shared) -> String {
        let names: Vec<&str> = self
            .channels
            .iter()
            .map(|channel| shared.channels[*channel].name.as_str())
            .collect();
        match names[..] {
            [name] => format!("/api/channels/{name}/stream"),
            _ => format!("/api/stream?channels={}", names.join(",")),
        }
    }

    fn call(&self, shared: &Shared) -> Call {
        let numbers = self.channels.iter();
        Call::Stream {
            c: numbers
                .map(|channel| shared.channels[*channel].number)
                .collect(),
            after: self.cursor,
            key: self.key,
        }
    }

    /// The last ID that it has to wait for.
    fn end(&self, shared: &Shared, ends: &Ends) -> Option<Id> {
        let last = ends.last.as_ref()?;
        let of = |channel: &usize| {
            let number = shared.channels[*channel].number;
            last.get(&number).map_or(0, |(message, _)| *message)
        };
        self.channels.iter().map(of).max()
    }
}

/// Why a reader leaves a stream.
enum Left {
    /// It has everything up to the end.
    Done,
    /// The stream is over.
    Over,
    /// It was told to stop.
    Stopped,
}

/// Follows to the load's end; tells where it could not get to.
pub(super) async fn follow(mut seat: Seat, mut following: Following) -> Option<String> {
    let shared = seat.shared.clone();
    let mut ends = shared.ends.subscribe();
    let mut log = seat.log();
    let mut opened = false;
    loop {
        let now = ends.borrow_and_update().clone();
        if now.give_up {
            let end = following.end(&shared, &now)?;
            let cursor = following.cursor?;
            if cursor >= end {
                log.due(end);
                return None;
            }
            log.due(end);
            let path = following.path(&shared);
            return Some(format!("a stream of {path} is at {cursor}, not {end}"));
        }
        // Nobody tells where a stream would have begun that was never let in.
        if now.last.is_some() && following.cursor.is_none() && !opened {
            return None;
        }
        let Some(pieces) = open(&mut seat, &mut log, &following).await else {
            seat.rest().await;
            continue;
        };
        if opened {
            shared.meter.streams_resumed.one();
        }
        opened = true;
        let until = following.leaves.map(|leaves| {
            let factor = seat.random.random_range(0.2..1.0);
            Instant::now() + leaves.mul_f64(factor)
        });
        let reading = read(&shared, &mut log, &mut following, pieces, &mut ends, until);
        match reading.await {
            Left::Done => return None,
            Left::Over | Left::Stopped => seat.turn += 1,
        }
    }
}

/// Follows with an API key that changes, until it is told to stop; where it is refused it tries again.
pub(super) async fn follow_with_key(
    mut seat: Seat,
    mut following: Following,
    mut stop: watch::Receiver<bool>,
) {
    let shared = seat.shared.clone();
    let mut ends = shared.ends.subscribe();
    let mut log = seat.log();
    while !*stop.borrow() {
        match open(&mut seat, &mut log, &following).await {
            Some(pieces) => {
                let reading = read(&shared, &mut log, &mut following, pieces, &mut ends, None);
                tokio::select! {
                    _ = reading => {}
                    _ = stop.wait_for(|stop| *stop) => {
                        log.end(EndedBy::Client);
                        return;
                    }
                }
                seat.turn += 1;
            }
            None => {
                let _ = timeout(Duration::from_millis(250), stop.wait_for(|stop| *stop)).await;
            }
        }
    }
}

async fn open(seat: &mut Seat, log: &mut Log, following: &Following) -> Option<Pieces> {
    let shared = seat.shared.clone();
    let mut ask = seat.ask(Method::GET, following.path(&shared));
    if let Some(cursor) = following.cursor {
        ask = ask.header("last-event-id", &cursor.to_string());
    }
    log.invoke(following.call(&shared));
    let host = shared.host(seat.turn);
    match seat.link.stream(&host, &ask).await {
        Ok(pieces) => {
            log.ok(Answer::Done);
            shared.meter.streams_opened.one();
            Some(pieces)
        }
        Err(status) => {
            if (400..500).contains(&status) {
                log.fail(status);
                if following.key.is_none() {
                    seat.refused("a stream", status);
                }
            } else {
                log.info(status);
                shared.meter.errors.one();
            }
            seat.turn += 1;
            None
        }
    }
}

async fn read(
    shared: &Shared,
    log: &mut Log,
    following: &mut Following,
    mut pieces: Pieces,
    ends: &mut watch::Receiver<Ends>,
    until: Option<Instant>,
) -> Left {
    let mut parser = Parser::default();
    let opened = Instant::now();
    loop {
        let now = ends.borrow_and_update().clone();
        if let Some(end) = following.end(shared, &now)
            && following.cursor.is_some_and(|cursor| cursor >= end)
        {
            let _ = timeout(LINGER, async {
                while let Piece::Bytes(bytes) = pieces.next().await {
                    take(shared, log, following, parser.take(&bytes, shared), false);
                }
            })
            .await;
            log.due(end);
            log.end(EndedBy::Client);
            return Left::Done;
        }
        if now.give_up {
            log.end(EndedBy::Client);
            return Left::Stopped;
        }
        let silence = Instant::now() + SILENCE;
        let leave = until.map_or(silence, |until| until.min(silence));
        tokio::select! {
            piece = pieces.next() => match piece {
                Piece::Bytes(bytes) => {
                    // What came at first may have been posted long before.
                    let is_live = opened.elapsed() > Duration::from_secs(1);
                    take(shared, log, following, parser.take(&bytes, shared), is_live);
                }
                Piece::End => {
                    log.end(EndedBy::Relay);
                    return Left::Over;
                }
                Piece::Lost => {
                    log.end(EndedBy::Loss);
                    return Left::Over;
                }
            },
            () = sleep_until(leave) => {
                log.end(EndedBy::Client);
                return Left::Over;
            }
            _ = ends.changed() => {}
        }
    }
}

fn take(shared: &Shared, log: &mut Log, following: &mut Following, got: Got, is_live: bool) {
    if got.messages.is_empty() && got.cursor.is_none() {
        return;
    }
    let last = got.messages.last().map(|message| message.id);
    following.cursor = got.cursor.or(last).or(following.cursor);
    shared.meter.events.add(got.messages.len() as u64);
    let values: Vec<u64> = match is_live {
        true => got.messages.iter().map(|message| message.value).collect(),
        false => Vec::new(),
    };
    let at = log.events(got.messages, got.cursor);
    if is_live {
        shared.meter.delivered(values.into_iter(), at);
    }
}

/// What a piece of a stream brought.
#[derive(Default)]
struct Got {
    messages: Vec<Message>,
    /// The ID of a block without an event, if no event came after it.
    cursor: Option<Id>,
}

/// Cuts a stream into blocks.
#[derive(Default)]
struct Parser {
    unread: BytesMut,
    /// How far there is no end of a block.
    searched: usize,
}

impl Parser {
    fn take(&mut self, bytes: &[u8], shared: &Shared) -> Got {
        self.unread.extend_from_slice(bytes);
        let mut got = Got::default();
        while let Some(end) = self.next_end() {
            let block = self.unread.split_to(end);
            self.unread.advance(2);
            self.searched = 0;
            read_block(&block, shared, &mut got);
        }
        got
    }

    fn next_end(&mut self) -> Option<usize> {
        let from = self.searched.saturating_sub(1);
        let rest = &self.unread[from..];
        match rest.windows(2).position(|pair| pair == b"\n\n") {
            Some(end) => Some(from + end),
            None => {
                self.searched = self.unread.len();
                None
            }
        }
    }
}

/// A block of lines: a comment, an ID alone, or an event. An event whose ID is not its message's is
/// recorded with the event's ID, since it is from there that a client would go on.
fn read_block(block: &[u8], shared: &Shared, got: &mut Got) {
    let mut id = None;
    let mut data = None;
    for line in block.split(|byte| *byte == b'\n') {
        if let Some(value) = line.strip_prefix(b"id: ") {
            id = std::str::from_utf8(value)
                .ok()
                .and_then(|id| id.parse::<Id>().ok());
        } else if let Some(value) = line.strip_prefix(b"data: ") {
            data = Some(value);
        }
    }
    match (id, data) {
        (Some(id), None) => got.cursor = Some(id),
        (Some(id), Some(data)) => {
            let message = serde_json::from_slice::<WireMessage<'_>>(data).ok();
            let message = message.and_then(|message| {
                // A channel that nobody asked for has a number that none has.
                let number = shared.numbers.get(message.channel.as_ref());
                message.read(number.copied().unwrap_or(Channel::MAX))
            });
            // What can't be read is recorded as well, with a value that no writer used.
            let message = message.unwrap_or(Message {
                id,
                channel: Channel::MAX,
                seq: 0,
                value: u64::MAX,
            });
            got.messages.push(Message { id, ..message });
            got.cursor = None;
        }
        (None, _) => {}
    }
}
