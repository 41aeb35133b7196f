//! Writers and readers that keep a relay busy: agents on one or more replicas go in, the
//! [`History`] of all that they were told comes out. What may go wrong in a test (503, a lost
//! connection) is borne as a good client would bear it; anything else fails the test at once.
//!
//! Writers, walkers and followers are tasks of the [`Load`]; [`Load::finish`] stops them, waits
//! for them, and hands on their panics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::history::{CaughtUp, History, Item, Outcome, Tick, View, Write};
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

/// How a history names a place.
fn name_of(place: &Place) -> String {
    match place.1 {
        Kind::Message => place.0.clone(),
        Kind::Status => format!("{} (status)", place.0),
    }
}

/// Writers and readers at work.
pub struct Load {
    shared: Arc<Shared>,
    writers: JoinSet<()>,
    readers: JoinSet<View>,
}

struct Shared {
    /// The same agent on every replica that may be used.
    seats: Vec<Agent>,
    ticks: AtomicU64,
    names: AtomicU64,
    writes: Mutex<Vec<Write>>,
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
            ticks: AtomicU64::new(0),
            names: AtomicU64::new(0),
            writes: Mutex::default(),
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

    /// Starts a reader of one stream of many channels that resumes elsewhere when it ends.
    pub fn follow_many(&mut self, channels: &[&str], from: Option<&str>, seat: usize) {
        let path = format!("/api/stream?channels={}", channels.join(","));
        self.follow_path(path, channels, from, seat);
    }

    fn follow_path(&mut self, path: String, channels: &[&str], from: Option<&str>, seat: usize) {
        let follower = Follower {
            path,
            channels: channels
                .iter()
                .map(|channel| (*channel).to_owned())
                .collect(),
            cursor: from.map(str::to_owned),
            after: from.map(id_of),
            seat,
            stays_for: None,
            items: Vec::new(),
        };
        self.readers.spawn(follower.run(self.shared.clone()));
    }

    /// Starts a reader that drops its stream again and again, after 1, 2, … `at_most` events, and
    /// resumes on the next replica.
    pub fn hop(&mut self, channel: &str, from: Option<&str>, at_most: usize) {
        let follower = Follower {
            path: format!("/api/channels/{channel}/stream"),
            channels: vec![channel.to_owned()],
            cursor: from.map(str::to_owned),
            after: from.map(id_of),
            seat: 0,
            stays_for: Some(at_most),
            items: Vec::new(),
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
        match self.shared.write(&writing, channel, seat).await {
            Outcome::Stored { id, .. } => id,
            Outcome::Unknown | Outcome::Refused => None,
        }
    }

    /// How many writes have been answered 2xx.
    pub fn stored(&self) -> usize {
        let writes = self.shared.writes.lock().unwrap();
        writes
            .iter()
            .filter(|write| matches!(write.outcome, Outcome::Stored { .. }))
            .count()
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

        let table = shared.table().await;
        let ends = table
            .iter()
            .filter_map(|(place, items)| Some((place.clone(), items.last()?.id)));
        shared.ends.send_replace(Some(ends.collect()));
        let views = within("the readers reach the end", join(&mut self.readers)).await;

        // Read once more: a write of unknown outcome may have come to be after all.
        let table = shared.table().await.into_values().flatten().collect();
        let writes = std::mem::take(&mut *shared.writes.lock().unwrap());
        History {
            writes,
            table,
            views,
        }
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
    for turn in me.. {
        if writing.each.is_some_and(|each| turn - me >= each) || *stop.borrow() {
            return;
        }
        let channel = &writing.channels[turn % writing.channels.len()];
        shared.write(&writing, channel, turn).await;
        if !writing.pause.is_zero() {
            sleep(writing.pause).await;
        }
    }
}

impl Shared {
    fn tick(&self) -> Tick {
        self.ticks.fetch_add(1, Ordering::SeqCst)
    }

    fn seat(&self, turn: usize) -> &Agent {
        &self.seats[turn % self.seats.len()]
    }

    /// One write, with its retries if there are to be any; recorded, and its outcome returned.
    async fn write(&self, writing: &Writing, channel: &str, mut turn: usize) -> Outcome {
        let place = (channel.to_owned(), writing.kind);
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        let content = format!("{number:0>width$}", width = writing.bytes);
        self.places.lock().unwrap().insert(place.clone());

        let deadline = Instant::now() + DEADLINE;
        let began = self.tick();
        let outcome = loop {
            if let Some(stored) = self.attempt(writing, &place.0, &content, turn).await {
                break stored;
            }
            assert!(
                Instant::now() < deadline,
                "no answer but 503 for {DEADLINE:?}"
            );
            if !writing.retry {
                break Outcome::Unknown;
            }
            sleep(PAUSE).await;
            turn += 1;
        };
        let channel = name_of(&place);
        let write = Write {
            channel,
            content,
            began,
            ended: self.tick(),
            outcome,
        };
        self.writes.lock().unwrap().push(write);
        outcome
    }

    /// One request; nothing when its outcome is unknown.
    async fn attempt(
        &self,
        writing: &Writing,
        channel: &str,
        content: &str,
        turn: usize,
    ) -> Option<Outcome> {
        let agent = self.seat(turn);
        let request = match writing.kind {
            Kind::Message => agent
                .request(Method::POST, format!("/api/channels/{channel}/messages"))
                .json(&json!({"content": content})),
            Kind::Status => agent
                .request(Method::PUT, format!("/api/channels/{channel}/status"))
                .json(&json!({"key": format!("key {}", turn % 5), "value": content})),
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
            (200, Kind::Status) => {
                return Some(Outcome::Stored {
                    id: None,
                    seq: None,
                });
            }
            _ => {
                assert_unavailable(&response);
                return None;
            }
        }
        let message = response.json();
        Some(Outcome::Stored {
            id: Some(id_of_value(&message)),
            seq: message["seq"].as_u64(),
        })
    }

    /// A page after a cursor, from the first replica that answers, beginning at that turn.
    async fn page(&self, place: &Place, after: u64, limit: usize, turn: usize) -> (Tick, Value) {
        let (channel, kind) = place;
        let resource = match kind {
            Kind::Message => "messages",
            Kind::Status => "status/changes",
        };
        let path = format!("/api/channels/{channel}/{resource}?after_id={after}&limit={limit}");
        let turns = AtomicUsize::new(turn);
        eventually(&path, || async {
            let agent = self.seat(turns.fetch_add(1, Ordering::Relaxed));
            let began = self.tick();
            let response = agent.request(Method::GET, &path).try_send().await.ok()?;
            if response.status() != 200 {
                assert_unavailable(&response);
                return None;
            }
            Some((began, response.json()))
        })
        .await
    }

    /// All places that were written to, from their beginnings, as every replica in reach has them.
    async fn table(&self) -> BTreeMap<Place, Vec<Item>> {
        let places = self.places.lock().unwrap().clone();
        let mut table = BTreeMap::new();
        for place in places {
            let mut items: Vec<Item> = Vec::new();
            loop {
                let after = items.last().map_or(0, |item| item.id);
                let (_, page) = self.page(&place, after, 100, items.len() / 100).await;
                let page = items_of(&place, &page);
                if page.is_empty() {
                    break;
                }
                items.extend(page);
            }
            table.insert(place, items);
        }
        table
    }
}

async fn walk(shared: Arc<Shared>, place: Place, limit: usize) -> View {
    let ends = shared.ends.subscribe();
    let mut view = View {
        reader: format!("the walk over {} by {limit}", name_of(&place)),
        channels: [name_of(&place)].into(),
        after: 0,
        items: Vec::new(),
        until: 0,
        caught_up: Vec::new(),
    };
    for turn in limit.. {
        let after = view.items.last().map_or(0, |item| item.id);
        let until = ends
            .borrow()
            .as_ref()
            .map(|ends| ends.get(&place).copied().unwrap_or(0));
        if let Some(until) = until.filter(|until| after >= *until) {
            view.until = until;
            break;
        }
        let (began, page) = shared.page(&place, after, limit, turn).await;
        let items = items_of(&place, &page);
        let last = items.last().map_or(after, |item| item.id);
        assert_eq!(page["next_after_id"], last.to_string(), "{page}");
        assert!(items.len() <= limit, "{page}");
        view.items.extend(items);
        if page["has_more"] == false {
            view.caught_up.push(CaughtUp {
                began,
                items: view.items.len(),
            });
            sleep(Duration::from_millis(5)).await;
        }
    }
    view
}

struct Follower {
    path: String,
    channels: Vec<String>,
    cursor: Option<String>,
    after: Option<u64>,
    seat: usize,
    /// After how many events at most it leaves by itself.
    stays_for: Option<usize>,
    items: Vec<Item>,
}

impl Follower {
    async fn run(mut self, shared: Arc<Shared>) -> View {
        let first_seat = self.seat;
        let mut opened = 0;
        let until = loop {
            let agent = shared.seat(self.seat);
            let mut request = agent.request(Method::GET, &self.path);
            if let Some(cursor) = &self.cursor {
                request = request.header("last-event-id", cursor);
            }
            match request.try_open().await {
                Ok(Ok(stream)) => {
                    opened += 1;
                    let stays_for = self.stays_for.map_or(usize::MAX, |most| 1 + opened % most);
                    if let Some(until) = self.read(stream, stays_for, &shared).await {
                        break until;
                    }
                    shared.resumed.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Err(refusal)) => {
                    assert_unavailable(&refusal);
                    sleep(PAUSE).await;
                }
                Err(_) => sleep(PAUSE).await,
            }
            self.seat += 1;
        };
        View {
            reader: format!("the stream of {} from seat {first_seat}", self.path),
            channels: self.channels.into_iter().collect(),
            after: self.after.unwrap_or(until),
            items: self.items,
            until,
            caught_up: Vec::new(),
        }
    }

    /// Reads one stream until it ends or has been read for long enough; the ID of the end, if
    /// that was reached.
    async fn read(
        &mut self,
        mut stream: EventStream,
        mut stays_for: usize,
        shared: &Shared,
    ) -> Option<u64> {
        let mut ends = shared.ends.subscribe();
        while stays_for > 0 {
            let end = self.end(&ends.borrow_and_update());
            if let Some(until) = end {
                let _ = timeout(LINGER, async {
                    while let Ok(block) = stream.block_or_end().await {
                        self.take(block);
                    }
                })
                .await;
                return Some(until);
            }
            tokio::select! {
                block = stream.block_or_end() => match block {
                    Ok(block) => stays_for -= usize::from(self.take(block)),
                    Err(Next::End | Next::Broken(_)) => return None,
                    Err(Next::Event(event)) => unreachable!("{event:?} is a block"),
                },
                _ = ends.changed() => {}
            }
        }
        None
    }

    /// Keeps what came; whether it was an event.
    fn take(&mut self, block: Block) -> bool {
        match block {
            Block::Comment(_) => false,
            Block::Id(id) => {
                self.after.get_or_insert(id_of(&id));
                self.cursor = Some(id);
                false
            }
            Block::Event(event) if event.event == "message" => {
                let item = item_of(&event.data);
                assert_eq!(
                    event.id,
                    item.id.to_string(),
                    "the event's ID is the message's"
                );
                self.after.get_or_insert(item.id - 1);
                self.items.push(item);
                self.cursor = Some(event.id);
                true
            }
            Block::Event(_) => false,
        }
    }

    /// The last ID that this reader has to wait for, once it is known and reached.
    fn end(&self, ends: &Option<BTreeMap<Place, u64>>) -> Option<u64> {
        let place = |channel: &String| (channel.clone(), Kind::Message);
        let ends = ends.as_ref()?;
        let until = self
            .channels
            .iter()
            .filter_map(|channel| ends.get(&place(channel)));
        let until = until.max().copied().unwrap_or(0);
        let reached = self.cursor.as_deref().map(id_of)?;
        (reached >= until).then_some(until)
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

fn item_of(message: &Value) -> Item {
    Item {
        id: id_of_value(message),
        channel: message["channel"].as_str().unwrap().to_owned(),
        seq: Some(
            message["seq"]
                .as_u64()
                .unwrap_or_else(|| panic!("no seq: {message}")),
        ),
        content: message["content"].as_str().unwrap().to_owned(),
    }
}

fn items_of(place: &Place, page: &Value) -> Vec<Item> {
    match place.1 {
        Kind::Message => page["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(item_of)
            .collect(),
        Kind::Status => page["changes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|change| Item {
                id: id_of_value(change),
                channel: name_of(place),
                seq: None,
                content: change["value"].as_str().unwrap().to_owned(),
            })
            .collect(),
    }
}
