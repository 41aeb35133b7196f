//! The feeds of several replicas against a model of the slot: transactions that are under way while
//! others read, commit or are aborted; own commits that are told of late; bells that come late, in
//! another order or never; reads that take their time or fail; replicas that crash; streams of
//! several channels that are read slowly, cut, and go on elsewhere. All is drawn from a seed. Every
//! stream must get every message that stands, once, in order, and nothing but wake-ups makes it
//! look.

use super::*;
use crate::{
    feed::ring::Budget,
    planted::{self, Bug},
    streams::{cursor_after_page, cursor_of_resume},
};
use futures_util::FutureExt;
use handoff_protocol::{
    ChannelName, Content, Id, Name, Timestamp,
    ids::Slot,
    messages::{Message, SharedMessage},
};
use handoff_simulation::{finds, simulate};
use rand::{RngExt, rngs::StdRng};
use std::collections::{BTreeSet, VecDeque};
use tokio::sync::oneshot::error::TryRecvError;

const REPLICAS: usize = 3;
const CHANNELS: i64 = 4;
const STREAMS: usize = 6;
const PAGE: usize = 3;
const TAKE: usize = 4;
/// Frames on their way to a client at most.
const IN_FLIGHT: usize = 8;
const STEPS: u64 = 400;

#[derive(Clone)]
struct Row {
    id: i64,
    channel: ChannelId,
    kind: RowKind,
}

#[derive(Clone)]
enum RowKind {
    Message {
        message: SharedMessage,
        deleted: bool,
    },
    Deletion(i64),
    Unstreamed,
}

/// Drew its IDs under the slot's lock; its rows are not visible yet.
struct Transaction {
    replica: usize,
    rows: Vec<Row>,
    commit: SlotCommit,
}

/// A read that was asked for at one moment and is answered at a later one.
enum Reading {
    Range(ReadRequest, RangeRead),
    Settling(Vec<SettleWaiter>),
}

struct Replica {
    feed: SlotFeed,
    /// Own commits reach the feed in order, a little late.
    own: VecDeque<SlotCommit>,
    /// Bells of others on their way here.
    bells: Vec<BellEntry>,
    reading: Option<Reading>,
}

impl Replica {
    fn new() -> Self {
        Self {
            feed: SlotFeed::new(Budget::new(2_000)),
            own: VecDeque::new(),
            bells: Vec::new(),
            reading: None,
        }
    }
}

/// A client with its stream, on whichever replica.
struct Stream {
    channels: Vec<ChannelKey>,
    /// After this it is to get everything; none until the stream is open.
    start: Option<i64>,
    /// What it saw by reading up to its start when the stream opened.
    seen_before: BTreeSet<i64>,
    got: Vec<i64>,
    /// What it would resume after.
    last_event_id: i64,
    on: Connection,
}

/// A stream's connection: what the relay knows of it.
struct Connection {
    replica: usize,
    id: SubscriberId,
    wake: Arc<Notify>,
    /// It looks again without being woken.
    awake: bool,
    cursor: i64,
    /// A start "now" that waits for the slot to be settled.
    settling: Option<oneshot::Receiver<handoff_store::Result<i64>>>,
    page: Option<(Vec<i64>, bool, i64)>,
    in_flight: VecDeque<i64>,
}

struct World {
    random: StdRng,
    replicas: Vec<Replica>,
    table: Vec<Row>,
    /// IDs drawn so far, aborted ones included.
    drawn: i64,
    under_way: Option<Transaction>,
    streams: Vec<Stream>,
    next_subscriber: SubscriberId,
    now: Instant,
}

fn team() -> TeamId {
    TeamId::from_row(1)
}

fn message(id: i64, channel: ChannelId) -> RowKind {
    let message = Message {
        id: Id::from_serial(id),
        channel: ChannelName::from_row(&format!("c{channel}")),
        seq: id,
        sender: Name::from_row("s"),
        content: Content::from_row("x"),
        mention: None,
        thread_id: None,
        reply_count: 0,
        created_at: Timestamp::from_micros(0),
        traceparent: None,
    };
    RowKind::Message {
        message: message.into(),
        deleted: false,
    }
}

impl World {
    fn new(random: StdRng) -> Self {
        Self {
            random,
            replicas: (0..REPLICAS).map(|_| Replica::new()).collect(),
            table: Vec::new(),
            drawn: 0,
            under_way: None,
            streams: Vec::new(),
            next_subscriber: 0,
            now: Instant::now(),
        }
    }

    fn any_replica(&mut self) -> usize {
        self.random.random_range(0..REPLICAS)
    }

    /// Everything up to here is visible or never will be.
    fn decided(&self) -> i64 {
        match &self.under_way {
            Some(transaction) => transaction.commit.first - 1,
            None => self.drawn,
        }
    }

    // Transactions.

    fn begin(&mut self) {
        let replica = self.any_replica();
        let first = self.drawn + 1;
        let mut rows = Vec::new();
        let mut events = Vec::new();
        for _ in 0..self.random.random_range(1..=3) {
            self.drawn += 1;
            let id = self.drawn;
            let channel = ChannelId(self.random.random_range(1..=CHANNELS));
            let standing = self.table.iter().find(|row| {
                row.channel == channel
                    && matches!(row.kind, RowKind::Message { deleted: false, .. })
            });
            let deletes = rows
                .iter()
                .any(|row: &Row| matches!(row.kind, RowKind::Deletion(_)));
            let kind = match (self.random.random_range(0..10), standing) {
                (0, Some(row)) if !deletes => RowKind::Deletion(row.id),
                (1, _) => RowKind::Unstreamed,
                _ => message(id, channel),
            };
            events.push(Event {
                team: team(),
                channel: Some(channel),
                id,
                kind: match &kind {
                    RowKind::Message { message, .. } => EventKind::Message(message.clone()),
                    RowKind::Deletion(message) => EventKind::MessageDeleted(*message),
                    RowKind::Unstreamed => EventKind::AckMoved,
                },
            });
            rows.push(Row { id, channel, kind });
        }
        let commit = SlotCommit {
            slot: Slot::new(1).unwrap(),
            first,
            last: self.drawn,
            events,
        };
        self.under_way = Some(Transaction {
            replica,
            rows,
            commit,
        });
    }

    fn commit(&mut self) {
        let Some(transaction) = self.under_way.take() else {
            return;
        };
        for row in &transaction.rows {
            if let RowKind::Deletion(id) = row.kind {
                let deleted = self.table.iter_mut().find(|row| row.id == id);
                if let Some(RowKind::Message { deleted, .. }) = deleted.map(|row| &mut row.kind) {
                    *deleted = true;
                }
            }
        }
        self.table.extend(transaction.rows);
        let entry = BellEntry::from(&transaction.commit);
        for number in 0..REPLICAS {
            let is_heard = self.random.random_bool(0.85);
            let replica = &mut self.replicas[number];
            if number == transaction.replica {
                replica.own.push_back(transaction.commit.clone());
            } else if is_heard {
                replica.bells.push(entry.clone());
            }
        }
    }

    fn abort(&mut self) {
        if let Some(transaction) = self.under_way.take() {
            self.replicas[transaction.replica].feed.unsettled();
        }
    }

    // What a replica does.

    fn tell(&mut self, number: usize) {
        let replica = &mut self.replicas[number];
        if let Some(commit) = replica.own.pop_front() {
            replica.feed.committed(commit, FeedSpans::default());
            replica.feed.advance(self.now);
        }
    }

    fn hear(&mut self, number: usize) {
        let replica = &mut self.replicas[number];
        if !replica.bells.is_empty() {
            let index = self.random.random_range(0..replica.bells.len());
            let bell = replica.bells.swap_remove(index);
            replica.feed.heard(bell);
            replica.feed.advance(self.now);
        }
    }

    /// The sweep reads the sequence without the lock: what is under way counts.
    fn sweep(&mut self, number: usize) {
        if !planted!(SkipSweep) {
            self.replicas[number].feed.swept(self.drawn);
        }
    }

    fn read_range(&self, request: &ReadRequest) -> RangeRead {
        assert!(
            request.up_to <= self.decided(),
            "an undecided ID is read over"
        );
        let mut read = RangeRead::default();
        for row in &self.table {
            let wanted = row.id > request.after
                && row.id <= request.up_to
                && request.channels.contains(&(team(), row.channel));
            let kind = match &row.kind {
                RowKind::Message {
                    message,
                    deleted: false,
                } if wanted => EventKind::Message(message.clone()),
                RowKind::Deletion(message) if wanted && request.deletions => {
                    EventKind::MessageDeleted(*message)
                }
                _ => continue,
            };
            read.events.push(Event {
                team: team(),
                channel: Some(row.channel),
                id: row.id,
                kind,
            });
        }
        read.cut_off = read.events.len() > 6;
        if read.cut_off {
            read.events.truncate(6);
        }
        read
    }

    /// One turn of the pump: begin a read, or end the one under way.
    fn pump(&mut self, number: usize, may_fail: bool) {
        let fails = may_fail && self.random.random_bool(0.05);
        match self.replicas[number].reading.take() {
            Some(_) if fails => self.replicas[number].feed.failed(),
            Some(Reading::Range(request, read)) => {
                self.replicas[number].feed.apply_read(&request, read);
            }
            // It waits for the slot's lock.
            Some(Reading::Settling(waiters)) if self.under_way.is_some() => {
                self.replicas[number].reading = Some(Reading::Settling(waiters));
            }
            Some(Reading::Settling(waiters)) => {
                for waiter in waiters {
                    let _ = waiter.send(Ok(self.drawn));
                }
                let request = self.replicas[number].feed.settled(self.drawn);
                let read = request.map(|request| {
                    let read = self.read_range(&request);
                    Reading::Range(request, read)
                });
                self.replicas[number].reading = read;
            }
            None => match self.replicas[number].feed.advance(self.now) {
                Step::Idle | Step::WaitUntil(_) => {}
                Step::Read(request) => {
                    let read = self.read_range(&request);
                    self.replicas[number].reading = Some(Reading::Range(request, read));
                }
                Step::Settle => {
                    let waiters = self.replicas[number].feed.begin_settling();
                    self.replicas[number].reading = Some(Reading::Settling(waiters));
                }
            },
        }
    }

    /// Everything in memory is gone. What it committed and nobody heard of is the sweep's to find.
    fn crash(&mut self, number: usize) {
        if self
            .under_way
            .as_ref()
            .is_some_and(|transaction| transaction.replica == number)
        {
            self.under_way = None;
        }
        self.replicas[number] = Replica::new();
        for index in 0..self.streams.len() {
            if self.streams[index].on.replica == number {
                self.resume(index);
            }
        }
    }

    // What clients do.

    fn connect(&mut self, channels: &[ChannelKey], after: Option<i64>) -> Connection {
        let replica = self.any_replica();
        let feed = &mut self.replicas[replica].feed;
        let (id, wake) = (self.next_subscriber, Arc::new(Notify::new()));
        self.next_subscriber += 1;
        for key in channels {
            feed.subscribe(*key, id, wake.clone());
        }
        let (cursor, settling) = match after {
            Some(after) => (cursor_of_resume(after), None),
            None if planted!(UnsettledStart) => {
                let (sender, settled) = oneshot::channel();
                let _ = sender.send(Ok(self.drawn));
                (0, Some(settled))
            }
            None => {
                let (sender, settled) = oneshot::channel();
                feed.settle(sender);
                (0, Some(settled))
            }
        };
        feed.advance(self.now);
        Connection {
            replica,
            id,
            wake,
            awake: true,
            cursor,
            settling,
            page: None,
            in_flight: VecDeque::new(),
        }
    }

    fn open(&mut self) {
        let mut channels = BTreeSet::new();
        for _ in 0..self.random.random_range(1..=3) {
            channels.insert((team(), ChannelId(self.random.random_range(1..=CHANNELS))));
        }
        let channels: Vec<ChannelKey> = channels.into_iter().collect();
        // Half of them read on from somewhere, half from now on.
        let after = self.random.random_bool(0.5);
        let after = after.then(|| self.random.random_range(0..=self.decided()));
        let on = self.connect(&channels, after);
        self.streams.push(Stream {
            channels,
            start: after,
            seen_before: BTreeSet::new(),
            got: Vec::new(),
            last_event_id: after.unwrap_or_default(),
            on,
        });
    }

    /// The connection is cut, with all that is in flight, and made again to any replica.
    fn resume(&mut self, index: usize) {
        let Stream {
            channels,
            start,
            last_event_id,
            ..
        } = &self.streams[index];
        let (channels, after) = (channels.clone(), start.map(|_| *last_event_id));
        let on = self.connect(&channels, after);
        let before = std::mem::replace(&mut self.streams[index].on, on);
        let feed = &mut self.replicas[before.replica].feed;
        feed.unsubscribe(&channels, before.id);
    }

    /// The client reads what came, or a keep-alive.
    fn receive(&mut self, index: usize) {
        let stream = &mut self.streams[index];
        match stream.on.in_flight.pop_front() {
            Some(id) => {
                stream.got.push(id);
                stream.last_event_id = id;
            }
            None if stream.start.is_some() && stream.on.page.is_none() => {
                stream.last_event_id = stream.on.cursor;
            }
            None => {}
        }
    }

    /// One turn of a stream on the relay: what `MessageStream::next_frames` does, with its read in
    /// two parts. Answers whether it did anything.
    fn turn(&mut self, index: usize) -> bool {
        let stream = &mut self.streams[index];
        let Stream { channels, on, .. } = stream;
        if let Some(settling) = &mut on.settling {
            let settled = match settling.try_recv() {
                Ok(settled) => settled,
                Err(TryRecvError::Empty) => return false,
                // The opening failed: the client tries again.
                Err(TryRecvError::Closed) => {
                    self.resume(index);
                    return true;
                }
            };
            on.settling = None;
            on.cursor = settled.unwrap();
            // Reads what came before, once it knows where the stream starts.
            let visible = self.table.iter().map(|row| row.id);
            stream.seen_before = visible.filter(|id| *id <= on.cursor).collect();
            (stream.start, stream.last_event_id) = (Some(on.cursor), on.cursor);
            return true;
        }
        if let Some((ids, is_full, watermark)) = on.page.take() {
            let last = ids.last().copied().unwrap_or(on.cursor);
            on.cursor = cursor_after_page(last, is_full, watermark);
            on.in_flight.extend(ids);
            return true;
        }
        on.awake |= on.wake.notified().now_or_never().is_some();
        if !on.awake || on.in_flight.len() >= IN_FLIGHT {
            return false;
        }
        let feed = &self.replicas[on.replica].feed;
        match feed.take(channels, on.cursor, TAKE, None) {
            Taken::Frames { frames, cursor } => {
                on.cursor = cursor;
                on.awake = !frames.is_empty();
                on.in_flight.extend(frames.iter().map(id_of));
            }
            Taken::Behind { watermark } => {
                let rows = self.table.iter().filter(|row| {
                    row.id > on.cursor
                        && channels.contains(&(team(), row.channel))
                        && matches!(row.kind, RowKind::Message { deleted: false, .. })
                });
                let ids: Vec<i64> = rows.map(|row| row.id).take(PAGE).collect();
                let is_full = ids.len() == PAGE;
                on.page = Some((ids, is_full, watermark));
            }
            Taken::Unsettled => on.awake = false,
            Taken::Over | Taken::ChannelsCreated => panic!("no channel comes or goes"),
        }
        true
    }

    fn check(&self, stream: &Stream) {
        let got = &stream.got;
        let ascending = got.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(ascending, "out of order or twice: {got:?}");
        let Some(start) = stream.start else { return };
        let in_channels = |row: &&Row| stream.channels.contains(&(team(), row.channel));
        for row in self.table.iter().filter(in_channels) {
            let (id, is_got) = (row.id, got.binary_search(&row.id).is_ok());
            match row.kind {
                // Deleted after it was delivered, perhaps.
                RowKind::Message { deleted: true, .. } => {}
                RowKind::Message { .. } if id > start && id <= stream.last_event_id => {
                    assert!(is_got, "{id} was skipped after {start}, got {got:?}");
                }
                RowKind::Message { .. } if id <= start && !stream.seen_before.is_empty() => {
                    assert!(
                        stream.seen_before.contains(&id),
                        "{id} came below the start"
                    );
                }
                _ => assert!(
                    !is_got || id > stream.last_event_id,
                    "{id} is not this stream's"
                ),
            }
        }
    }

    fn step(&mut self) {
        let replica = self.any_replica();
        let stream = match self.streams.len() {
            0 => None,
            streams => Some(self.random.random_range(0..streams)),
        };
        match (self.random.random_range(0..200), stream) {
            (0..50, _) if self.under_way.is_none() => self.begin(),
            (0..46, _) => self.commit(),
            (46..50, _) => self.abort(),
            (50..76, _) => self.tell(replica),
            (76..96, _) => self.hear(replica),
            (96..130, _) => self.pump(replica, true),
            (130..134, _) => self.sweep(replica),
            (134..136, _) => self.replicas[replica].feed.unsettled(),
            (136..142, _) if self.streams.len() < STREAMS => self.open(),
            (142, Some(index)) => {
                let stream = self.streams.swap_remove(index);
                let feed = &mut self.replicas[stream.on.replica].feed;
                feed.unsubscribe(&stream.channels, stream.on.id);
                self.check(&stream);
            }
            (143..147, Some(index)) => self.resume(index),
            (147, _) => self.crash(replica),
            (148..170, Some(index)) => drop(self.turn(index)),
            (170..192, Some(index)) => self.receive(index),
            _ => self.now += Duration::from_millis(self.random.random_range(1..30)),
        }
    }

    /// Lets everything come to rest: bells that were never rung are the sweep's to find.
    fn come_to_rest(&mut self) {
        self.commit();
        for round in 0..200 {
            self.now += GAP_PATIENCE;
            for replica in 0..REPLICAS {
                self.tell(replica);
                self.hear(replica);
                if round % 10 == 0 {
                    self.sweep(replica);
                }
                self.pump(replica, false);
            }
            for index in 0..self.streams.len() {
                while self.turn(index) || !self.streams[index].on.in_flight.is_empty() {
                    self.receive(index);
                }
            }
        }
    }
}

fn id_of(frame: &Frame) -> i64 {
    let text = std::str::from_utf8(&frame.bytes).unwrap();
    let id = text.strip_prefix("id: ").unwrap().split('\n').next();
    id.unwrap().parse().unwrap()
}

fn run(random: StdRng) -> u64 {
    let mut world = World::new(random);
    for _ in 0..STEPS {
        world.step();
    }
    world.come_to_rest();
    for stream in &mut world.streams {
        // Nothing wakes it where nothing is there for it; whatever is must have come.
        assert!(stream.start.is_some(), "a stream never opened");
        stream.last_event_id = world.drawn;
    }
    for stream in &world.streams {
        world.check(stream);
    }
    STEPS
}

#[test]
fn simulation_delivers_everything_once_in_order() {
    simulate("feeds", 500, run);
}

/// Each of these bugs is one that some seed must find.
#[test]
fn simulation_finds_planted_bugs() {
    for bug in [
        Bug::DropFrameAtHandover,
        Bug::SkipOnResume,
        Bug::UnsettledStart,
        Bug::MergeWithoutWatermark,
        Bug::DisorderBatch,
        Bug::SkipSweep,
    ] {
        planted::with(bug, || finds(&format!("{bug:?}"), 500, run));
    }
}
