//! Writers and readers that keep a relay busy: agents on one or more replicas go in, the
//! [`History`] of all that they were told comes out, for the checker to judge. What may go wrong in a test (503, a lost
//! connection) is borne as a good client would bear it; anything else fails the test at once.
//!
//! Writers, walkers and followers are tasks of the [`Load`]; [`Load::finish`] stops them, waits
//! for them, and hands on their panics.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handoff_checker::history::{
    Answer, Call, Change, Channel, EndedBy, Final, Id, Message, Number, Value as WriteValue,
};
use handoff_checker::{History, Log, Recorder};
use hyper::Method;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::{Agent, Block, DEADLINE, EventStream, Next, Response, eventually, within};

/// How long a client waits before it tries again, or elsewhere.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a reader stays when it has everything, for what should not come.
const LINGER: Duration = Duration::from_millis(200);

/// What the writers do.
#[derive(Clone)]
pub struct Writing {
    /// How many write at a time.
    pub writers: usize,
    /// Where to: each goes from one to the next.
    pub channels: Vec<String>,
    /// What they write.
    pub kind: Kind,
    /// How much each writes; without it they go on until the load is finished.
    pub each: Option<usize>,
    /// How long each rests after a write.
    pub pause: Duration,
    /// Whether they try again until they are answered, with an `Idempotency-Key`.
    pub retry: bool,
    /// How long the contents are, at least.
    pub bytes: usize,
}

impl Writing {
    /// Sixteen writers of short messages, until the load is finished.
    pub fn to(channels: &[&str]) -> Writing {
        Writing {
            writers: 16,
            channels: channels
                .iter()
                .map(|channel| (*channel).to_owned())
                .collect(),
            kind: Kind::Message,
            each: None,
            pause: Duration::ZERO,
            retry: false,
            bytes: 0,
        }
    }
}

/// The two kinds of things that have a place in a team's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A message.
    Message,
    /// A change of a status entry.
    Status,
}

/// A channel's messages, or its status changes: what one cursor walks over.
type Place = (String, Kind);

/// What a page holds.
enum Page {
    Messages(Vec<Message>),
    Changes(Vec<Change>),
}

impl Page {
    fn last(&self) -> Option<Id> {
        match self {
            Page::Messages(items) => items.last().map(|item| item.id),
            Page::Changes(items) => items.last().map(|item| item.id),
        }
    }

    fn len(&self) -> usize {
        match self {
            Page::Messages(items) => items.len(),
            Page::Changes(items) => items.len(),
        }
    }
}

/// Status keys that a place's writers use.
const STATUS_KEYS: usize = 5;

/// Values that no writer uses, for contents that no writer wrote.
const FOREIGN: WriteValue = 1 << 63;

/// Writers and readers at work.
pub struct Load {
    shared: Arc<Shared>,
    writers: JoinSet<()>,
    readers: JoinSet<()>,
}

struct Shared {
    /// The same agent on every replica that may be used.
    seats: Vec<Agent>,
    recorder: Recorder,
    values: AtomicU64,
    /// How long the content of each write is.
    lengths: Mutex<HashMap<WriteValue, usize>>,
    stored: AtomicUsize,
    places: Mutex<BTreeSet<Place>>,
    resumed: AtomicUsize,
    /// Held by the load; writers stop when it says so.
    stop: watch::Sender<bool>,
    /// Held by the load; readers stop when they have reached what it names.
    ends: watch::Sender<Option<BTreeMap<Place, u64>>>,
}

impl Load {
    /// A load that uses one agent on these replicas.
    pub fn new(agent: &Agent, replicas: impl IntoIterator<Item = usize>) -> Load {
        let seats = replicas.into_iter().map(|replica| agent.on(replica));
        Load::with_seats(seats.collect())
    }

    /// A load that uses these in turn: one agent, wherever its requests go.
    pub fn with_seats(seats: Vec<Agent>) -> Load {
        let shared = Shared {
            seats,
            recorder: Recorder::in_memory(0, "a load"),
            values: AtomicU64::new(0),
            lengths: Mutex::default(),
            stored: AtomicUsize::new(0),
            places: Mutex::default(),
            resumed: AtomicUsize::new(0),
            stop: watch::Sender::new(false),
            ends: watch::Sender::new(None),
        };
        Load {
            shared: Arc::new(shared),
            writers: JoinSet::new(),
            readers: JoinSet::new(),
        }
    }

    /// Eight writers that give up on a write that fails, and eight that retry it; between them they
    /// take the two channels in either order.
    pub fn write_in_both_ways(&mut self, [first, second]: [&str; 2], pause: Duration) {
        self.write(Writing {
            writers: 8,
            pause,
            ..Writing::to(&[first, second])
        });
        self.write(Writing {
            writers: 8,
            pause,
            retry: true,
            ..Writing::to(&[second, first])
        });
    }

    /// Starts writers; each uses the replicas in turn.
    pub fn write(&mut self, writing: Writing) {
        for me in 0..writing.writers {
            self.writers
                .spawn(write(self.shared.clone(), writing.clone(), me));
        }
    }

    /// Starts a reader that goes page by page from the beginning, asking the replicas in turn.
    pub fn walk(&mut self, channel: &str, kind: Kind, limit: usize) {
        let place = (channel.to_owned(), kind);
        self.readers.spawn(walk(self.shared.clone(), place, limit));
    }

    /// Starts a reader of a channel's stream that resumes elsewhere when it ends.
    pub fn follow(&mut self, channel: &str, from: Option<&str>, seat: usize) {
        let path = format!("/api/channels/{channel}/stream");
        self.follow_path(path, &[channel], from, seat);
    }

    /// Starts a reader of a channel's stream that waits for no more than the patience: once the
    /// writers have stopped and its stream has been silent for so long, it was due all that stands.
    pub fn follow_until_silent(
        &mut self,
        channel: &str,
        from: Option<&str>,
        seat: usize,
        patience: Duration,
    ) {
        let path = format!("/api/channels/{channel}/stream");
        let follower = Follower {
            patience: Some(patience),
            ..Follower::new(path, &[channel], from, seat)
        };
        self.readers.spawn(follower.run(self.shared.clone()));
    }

    /// Starts a reader that goes page by page for a while, then opens a stream from now on, and
    /// reads on by pages up to where the stream begins: by then all that comes before was due.
    pub fn walk_up_to_a_stream(&mut self, channel: &str, seat: usize, wait: Duration) {
        let walking = walk_up_to_a_stream(self.shared.clone(), channel.to_owned(), seat, wait);
        self.readers.spawn(walking);
    }

    /// Starts a reader of one stream of many channels that resumes elsewhere when it ends.
    pub fn follow_many(&mut self, channels: &[&str], from: Option<&str>, seat: usize) {
        let path = format!("/api/stream?channels={}", channels.join(","));
        self.follow_path(path, channels, from, seat);
    }

    fn follow_path(&mut self, path: String, channels: &[&str], from: Option<&str>, seat: usize) {
        let follower = Follower::new(path, channels, from, seat);
        self.readers.spawn(follower.run(self.shared.clone()));
    }

    /// Starts a reader that drops its stream again and again, after 1, 2, … `at_most` events, and
    /// resumes on the next replica.
    pub fn hop(&mut self, channel: &str, from: Option<&str>, at_most: usize) {
        let path = format!("/api/channels/{channel}/stream");
        let follower = Follower {
            stays_for: Some(at_most),
            ..Follower::new(path, &[channel], from, 0)
        };
        self.readers.spawn(follower.run(self.shared.clone()));
    }

    /// Writes one message as a writer of the load, beginning at that seat, and returns its ID if
    /// it was stored.
    pub async fn write_one(&self, channel: &str, seat: usize, retry: bool) -> Option<u64> {
        let writing = Writing {
            retry,
            ..Writing::to(&[channel])
        };
        let mut log = self.shared.recorder.process();
        self.shared.write(&mut log, &writing, channel, seat).await
    }

    /// Who writes the history down, for what a test adds to it.
    pub fn recorder(&self) -> &Recorder {
        &self.shared.recorder
    }

    /// How many writes have been answered 2xx.
    pub fn stored(&self) -> usize {
        self.shared.stored.load(Ordering::Relaxed)
    }

    /// Waits until that many more writes have been answered 2xx.
    pub async fn stored_more(&self, more: usize) {
        let goal = self.stored() + more;
        eventually(&format!("{goal} stored writes"), || async {
            (self.stored() >= goal).then_some(())
        })
        .await;
    }

    /// How many times followers had to resume.
    pub fn resumed(&self) -> usize {
        self.shared.resumed.load(Ordering::Relaxed)
    }

    /// Waits for the writers whose number of writes is set.
    pub async fn written(&mut self) {
        within("the writers have written all", join(&mut self.writers)).await;
    }

    /// Stops the writers, lets the readers read to the end, and tells what happened.
    pub async fn finish(mut self) -> History {
        let shared = self.shared;
        shared.stop.send_replace(true);
        within("the writers stop", join(&mut self.writers)).await;

        let mut ends = BTreeMap::new();
        for place in shared.written_places() {
            let end = shared.newest(&place).await;
            ends.insert(place, end);
        }
        shared.ends.send_replace(Some(ends));
        within("the readers reach the end", join(&mut self.readers)).await;

        shared.read_all().await;
        shared.recorder.close().expect("memory can be written to");
        shared.recorder.take()
    }
}

/// Waits for all tasks, and panics as they did.
async fn join<T: 'static>(tasks: &mut JoinSet<T>) -> Vec<T> {
    let mut done = Vec::new();
    while let Some(task) = tasks.join_next().await {
        match task {
            Ok(outcome) => done.push(outcome),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    done
}

async fn write(shared: Arc<Shared>, writing: Writing, me: usize) {
    let stop = shared.stop.subscribe();
    let mut log = shared.recorder.process();
    for turn in me.. {
        if writing.each.is_some_and(|each| turn - me >= each) || *stop.borrow() {
            return;
        }
        let channel = &writing.channels[turn % writing.channels.len()];
        shared.write(&mut log, &writing, channel, turn).await;
        if !writing.pause.is_zero() {
            sleep(writing.pause).await;
        }
    }
}

impl Shared {
    fn seat(&self, turn: usize) -> &Agent {
        &self.seats[turn % self.seats.len()]
    }

    fn channel(&self, name: &str) -> Channel {
        self.recorder.channel(name)
    }

    /// One write, with its retries if there are to be any; recorded. The ID of a message that was
    /// stored.
    async fn write(
        &self,
        log: &mut Log,
        writing: &Writing,
        channel: &str,
        mut turn: usize,
    ) -> Option<u64> {
        let value = self.values.fetch_add(1, Ordering::Relaxed);
        let content = format!("{value:0>width$}", width = writing.bytes);
        self.lengths.lock().unwrap().insert(value, content.len());
        let place = (channel.to_owned(), writing.kind);
        self.places.lock().unwrap().insert(place);

        let deadline = Instant::now() + DEADLINE;
        let c = self.channel(channel);
        let key = turn % STATUS_KEYS;
        log.invoke(match writing.kind {
            Kind::Message => Call::Post {
                c,
                v: value,
                key: writing.retry,
                mention: None,
                thread: None,
            },
            Kind::Status => Call::Set {
                c,
                k: key as Number,
                v: value,
            },
        });
        let answer = loop {
            if let Some(answer) = self.attempt(writing, channel, &content, key, turn).await {
                break answer;
            }
            assert!(
                Instant::now() < deadline,
                "no answer but 503 for {DEADLINE:?}"
            );
            // Nothing keeps a second attempt at a status from being a second change.
            if !writing.retry || writing.kind == Kind::Status {
                log.info(0);
                return None;
            }
            sleep(PAUSE).await;
            turn += 1;
        };
        let id = match &answer {
            Answer::Posted { id, .. } => Some(*id),
            _ => None,
        };
        log.ok(answer);
        self.stored.fetch_add(1, Ordering::Relaxed);
        id
    }

    /// One request; nothing when its outcome is unknown.
    async fn attempt(
        &self,
        writing: &Writing,
        channel: &str,
        content: &str,
        key: usize,
        turn: usize,
    ) -> Option<Answer> {
        let agent = self.seat(turn);
        let request = match writing.kind {
            Kind::Message => agent
                .request(Method::POST, format!("/api/channels/{channel}/messages"))
                .json(&json!({"content": content})),
            Kind::Status => agent
                .request(Method::PUT, format!("/api/channels/{channel}/status"))
                .json(&json!({"key": format!("key {key}"), "value": content})),
        };
        let request = match writing.retry {
            true => request.header("idempotency-key", content),
            false => request,
        };
        let response = request.try_send().await.ok()?;
        match (response.status(), writing.kind) {
            (201, Kind::Message) => {}
            (200, Kind::Message) if writing.retry => {
                assert_eq!(
                    response.header("idempotent-replay"),
                    Some("true"),
                    "{response:?}"
                );
            }
            (200, Kind::Status) => return Some(Answer::Done),
            _ => {
                assert_unavailable(&response);
                return None;
            }
        }
        let message = response.json();
        Some(Answer::Posted {
            id: id_of_value(&message),
            seq: seq_of(&message),
        })
    }

    /// The value of the write that has this content, whole and unaltered.
    fn value_of(&self, content: &str) -> WriteValue {
        let lengths = self.lengths.lock().unwrap();
        let value: Option<WriteValue> = content.parse().ok();
        let own = value.filter(|value| {
            let length = lengths.get(value);
            length.is_some_and(|length| format!("{value:0>length$}") == content)
        });
        own.unwrap_or_else(|| {
            let mut hasher = DefaultHasher::new();
            content.hash(&mut hasher);
            hasher.finish() | FOREIGN
        })
    }

    fn message_of(&self, message: &Value) -> Message {
        Message {
            id: id_of_value(message),
            channel: self.channel(message["channel"].as_str().unwrap()),
            seq: seq_of(message),
            value: self.value_of(message["content"].as_str().unwrap()),
        }
    }

    fn change_of(&self, change: &Value) -> Change {
        let value = self.value_of(change["value"].as_str().unwrap());
        Change {
            id: id_of_value(change),
            channel: self.channel(change["channel"].as_str().unwrap()),
            key: key_of(change["key"].as_str().unwrap()),
            value: (change["deleted"] != true).then_some(value),
        }
    }

    fn page_of(&self, kind: Kind, page: &Value) -> Page {
        let items = |name: &str| page[name].as_array().unwrap().iter();
        match kind {
            Kind::Message => Page::Messages(
                items("messages")
                    .map(|message| self.message_of(message))
                    .collect(),
            ),
            Kind::Status => Page::Changes(
                items("changes")
                    .map(|change| self.change_of(change))
                    .collect(),
            ),
        }
    }

    /// A JSON answer from the first replica that gives one, beginning at that turn; before each
    /// attempt and after each that fails the log is told.
    async fn read(&self, path: &str, turn: usize, log: Option<(&mut Log, Call)>) -> Value {
        let turns = AtomicUsize::new(turn);
        let log = Mutex::new(log);
        eventually(path, || async {
            let agent = self.seat(turns.fetch_add(1, Ordering::Relaxed));
            if let Some((log, call)) = &mut *log.lock().unwrap() {
                log.invoke(call.clone());
            }
            let answer = match agent.request(Method::GET, path).try_send().await {
                Ok(response) if response.status() == 200 => Some(response.json()),
                Ok(response) => {
                    assert_unavailable(&response);
                    None
                }
                Err(_) => None,
            };
            if answer.is_none()
                && let Some((log, _)) = &mut *log.lock().unwrap()
            {
                log.info(0);
            }
            answer
        })
        .await
    }

    /// Reads the next page of a place as a reader that is at `after`, and moves that; whether more
    /// follows.
    async fn read_page(
        &self,
        log: &mut Log,
        place: &Place,
        after: &mut Id,
        limit: usize,
        turn: usize,
    ) -> bool {
        let (channel, kind) = place;
        let c = self.channel(channel);
        let call = match kind {
            Kind::Message => Call::Messages { c, after: *after },
            Kind::Status => Call::Changes { c, after: *after },
        };
        let path = page_path(channel, *kind, *after, limit);
        let page = self.read(&path, turn, Some((log, call))).await;
        let items = self.page_of(*kind, &page);
        *after = items.last().unwrap_or(*after);
        assert_eq!(page["next_after_id"], after.to_string(), "{page}");
        assert!(items.len() <= limit, "{page}");
        let more = page["has_more"] != false;
        log.ok(match items {
            Page::Messages(items) => Answer::Messages { items, more },
            Page::Changes(items) => Answer::Changes { items, more },
        });
        more
    }

    /// Opens a stream; nothing where it can't be had just now.
    async fn open(
        &self,
        log: &mut Log,
        path: &str,
        channels: &[Channel],
        cursor: Option<&str>,
        turn: usize,
    ) -> Option<EventStream> {
        let mut request = self.seat(turn).request(Method::GET, path);
        if let Some(cursor) = cursor {
            request = request.header("last-event-id", cursor);
        }
        log.invoke(Call::Stream {
            c: channels.to_vec(),
            after: cursor.map(id_of),
            key: None,
        });
        match request.try_open().await {
            Ok(Ok(stream)) => {
                log.ok(Answer::Done);
                return Some(stream);
            }
            Ok(Err(refusal)) => {
                log.info(refusal.status());
                assert_unavailable(&refusal);
            }
            Err(_) => log.info(0),
        }
        sleep(PAUSE).await;
        None
    }

    fn written_places(&self) -> BTreeSet<Place> {
        self.places.lock().unwrap().clone()
    }

    /// The newest ID of a place.
    async fn newest(&self, (channel, kind): &Place) -> u64 {
        let path = format!("/api/channels/{channel}/{}?limit=1", resource(*kind));
        let page = self.read(&path, 0, None).await;
        id_of(page["next_after_id"].as_str().unwrap())
    }

    /// All places that were written to, from their beginnings, as every replica in reach has them.
    /// It is read when all has ended: a write of unknown outcome may have come to be after all.
    async fn read_all(&self) {
        for (channel, kind) in self.written_places() {
            let c = self.channel(&channel);
            let (mut after, mut turn) = (0, 0);
            loop {
                let path = page_path(&channel, kind, after, 100);
                let page = self.read(&path, turn, None).await;
                let items = self.page_of(kind, &page);
                let done = items.len() == 0;
                after = items.last().unwrap_or(after);
                turn += 1;
                self.recorder.stands(match items {
                    Page::Messages(items) => Final::Messages { c, items, done },
                    Page::Changes(items) => Final::Changes { c, items, done },
                });
                if done {
                    break;
                }
            }
            if kind == Kind::Status {
                let path = format!("/api/channels/{channel}/status");
                let entries = self.read(&path, 0, None).await;
                let entries = entries.as_array().unwrap().iter().map(|entry| {
                    let value = self.value_of(entry["value"].as_str().unwrap());
                    (key_of(entry["key"].as_str().unwrap()), value)
                });
                let entries = entries.collect();
                self.recorder.stands(Final::Entries { c, entries });
            }
        }
    }
}

fn resource(kind: Kind) -> &'static str {
    match kind {
        Kind::Message => "messages",
        Kind::Status => "status/changes",
    }
}

fn page_path(channel: &str, kind: Kind, after: u64, limit: usize) -> String {
    let resource = resource(kind);
    format!("/api/channels/{channel}/{resource}?after_id={after}&limit={limit}")
}

async fn walk(shared: Arc<Shared>, place: Place, limit: usize) {
    let ends = shared.ends.subscribe();
    let mut log = shared.recorder.process();
    let mut after = 0;
    for turn in limit.. {
        let until = ends
            .borrow()
            .as_ref()
            .map(|ends| ends.get(&place).copied().unwrap_or(0));
        if let Some(until) = until.filter(|until| after >= *until) {
            log.due(until);
            break;
        }
        let more = shared
            .read_page(&mut log, &place, &mut after, limit, turn)
            .await;
        if !more {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Reads all, opens a stream, and reads up to where that begins.
async fn walk_up_to_a_stream(shared: Arc<Shared>, channel: String, seat: usize, wait: Duration) {
    sleep(wait).await;
    let mut pages = shared.recorder.process();
    let mut streams = shared.recorder.process();
    let c = shared.channel(&channel);
    let place = (channel, Kind::Message);
    let mut after = 0;
    while shared
        .read_page(&mut pages, &place, &mut after, 100, seat)
        .await
    {}
    let path = format!("/api/channels/{}/stream", place.0);
    'turns: for turn in seat.. {
        let Some(mut stream) = shared.open(&mut streams, &path, &[c], None, turn).await else {
            continue;
        };
        let start = loop {
            match stream.block_or_end().await {
                Ok(Block::Id(id)) => break id_of(&id),
                Ok(Block::Comment(_)) => {}
                Ok(Block::Event(event)) => panic!("{event:?} before the stream's start"),
                Err(_) => {
                    streams.end(EndedBy::Loss);
                    continue 'turns;
                }
            }
        };
        streams.events(Vec::new(), Some(start));
        streams.end(EndedBy::Client);
        while shared
            .read_page(&mut pages, &place, &mut after, 100, turn)
            .await
            && after < start
        {}
        pages.due(start);
        return;
    }
}

struct Follower {
    path: String,
    channels: Vec<String>,
    cursor: Option<String>,
    seat: usize,
    /// After how many events at most it leaves by itself.
    stays_for: Option<usize>,
    /// How long it waits in silence for what is due; without it, until all has come.
    patience: Option<Duration>,
}

impl Follower {
    fn new(path: String, channels: &[&str], from: Option<&str>, seat: usize) -> Follower {
        Follower {
            path,
            channels: channels
                .iter()
                .map(|channel| (*channel).to_owned())
                .collect(),
            cursor: from.map(str::to_owned),
            seat,
            stays_for: None,
            patience: None,
        }
    }

    async fn run(mut self, shared: Arc<Shared>) {
        let mut log = shared.recorder.process();
        let channels = self.channels.iter().map(|channel| shared.channel(channel));
        let channels: Vec<Channel> = channels.collect();
        let mut opened = 0;
        loop {
            let cursor = self.cursor.as_deref();
            let opening = shared.open(&mut log, &self.path, &channels, cursor, self.seat);
            if let Some(stream) = opening.await {
                opened += 1;
                let stays_for = self.stays_for.map_or(usize::MAX, |most| 1 + opened % most);
                if let Some(until) = self.read(stream, stays_for, &shared, &mut log).await {
                    log.due(until);
                    return;
                }
                shared.resumed.fetch_add(1, Ordering::Relaxed);
            }
            self.seat += 1;
        }
    }

    /// Reads one stream until it ends or has been read for long enough; the ID of the end, if
    /// that was reached or patience was over.
    async fn read(
        &mut self,
        mut stream: EventStream,
        mut stays_for: usize,
        shared: &Shared,
        log: &mut Log,
    ) -> Option<u64> {
        let mut ends = shared.ends.subscribe();
        while stays_for > 0 {
            let end = self.end(&ends.borrow_and_update());
            if let Some(until) = end {
                let _ = timeout(LINGER, async {
                    while let Ok(block) = stream.block_or_end().await {
                        self.take(block, shared, log);
                    }
                })
                .await;
                log.end(EndedBy::Client);
                return Some(until);
            }
            let last = self.last(&ends.borrow());
            let patience = last.and(self.patience).unwrap_or(Duration::MAX);
            tokio::select! {
                () = sleep(patience) => {
                    log.end(EndedBy::Client);
                    return last;
                }
                block = stream.block_or_end() => match block {
                    Ok(block) => stays_for -= usize::from(self.take(block, shared, log)),
                    Err(Next::End) => {
                        log.end(EndedBy::Relay);
                        return None;
                    }
                    Err(Next::Broken(_)) => {
                        log.end(EndedBy::Loss);
                        return None;
                    }
                    Err(Next::Event(event)) => unreachable!("{event:?} is a block"),
                },
                _ = ends.changed() => {}
            }
        }
        log.end(EndedBy::Client);
        None
    }

    /// Keeps what came; whether it was an event.
    fn take(&mut self, block: Block, shared: &Shared, log: &mut Log) -> bool {
        match block {
            Block::Comment(_) => false,
            Block::Id(id) => {
                log.events(Vec::new(), Some(id_of(&id)));
                self.cursor = Some(id);
                false
            }
            Block::Event(event) if event.event == "message" => {
                let message = shared.message_of(&event.data);
                assert_eq!(
                    event.id,
                    message.id.to_string(),
                    "the event's ID is the message's"
                );
                log.events(vec![message], None);
                self.cursor = Some(event.id);
                true
            }
            Block::Event(_) => false,
        }
    }

    /// The last ID that this reader has to wait for, once it is known and reached.
    fn end(&self, ends: &Option<BTreeMap<Place, u64>>) -> Option<u64> {
        let until = self.last(ends)?;
        let reached = self.cursor.as_deref().map(id_of)?;
        (reached >= until).then_some(until)
    }

    /// The last ID that this reader has to wait for, once it is known.
    fn last(&self, ends: &Option<BTreeMap<Place, u64>>) -> Option<u64> {
        let place = |channel: &String| (channel.clone(), Kind::Message);
        let ends = ends.as_ref()?;
        let until = self
            .channels
            .iter()
            .filter_map(|channel| ends.get(&place(channel)));
        Some(until.max().copied().unwrap_or(0))
    }
}

/// The only error that a healthy client may see while something is broken behind the relay.
#[track_caller]
fn assert_unavailable(response: &Response) {
    assert_eq!(response.status(), 503, "{response:?}");
    assert!(
        matches!(response.code().as_str(), "UNAVAILABLE" | "OVERLOADED"),
        "{response:?}"
    );
    let retry_after = response
        .header("retry-after")
        .and_then(|value| value.parse().ok());
    assert!(
        retry_after.is_some_and(|seconds: u64| seconds >= 1),
        "{response:?}"
    );
}

fn id_of(id: &str) -> u64 {
    id.parse()
        .unwrap_or_else(|_| panic!("IDs are decimal: {id:?}"))
}

fn id_of_value(item: &Value) -> u64 {
    id_of(
        item["id"]
            .as_str()
            .unwrap_or_else(|| panic!("an ID is a string: {item}")),
    )
}

fn seq_of(message: &Value) -> u64 {
    message["seq"]
        .as_u64()
        .unwrap_or_else(|| panic!("no seq: {message}"))
}

/// A status key's number; one that the load doesn't use has the last one.
fn key_of(name: &str) -> Number {
    let number = name.strip_prefix("key ").and_then(|key| key.parse().ok());
    number.unwrap_or(Number::MAX)
}
