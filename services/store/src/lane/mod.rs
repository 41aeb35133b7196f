//! Lanes: every write to a team's data goes through one, in batches.
//!
//! A lane is a thread with connections of its own. It takes what has queued while its last batch
//! was under way (an idle lane commits a single write at once) and commits it as one transaction,
//! sent in one go: take the locks of the batch's slots in ascending order, then draw IDs and
//! write. Postgres makes a commit visible before it frees its locks, so within a slot IDs become
//! visible in ascending order (guarantee G2).
//!
//! Large batches are cheap, so a lane has one under way. Only where many writes wait it divides them
//! by slots between two connections: then Postgres works on one batch while the other one is
//! flushed, or waits for the lane.
//!
//! A writer that hangs up drops its wait, never a transaction.

mod batch;
mod posts;
#[cfg(test)]
mod simulation;
mod transaction;
mod write;

pub use write::*;

use crate::{
    DatabaseUrl, Error, Result, StoreConfig,
    bell::BellEntry,
    connection::{SessionKind, session},
    epochs::{self, Epochs},
    feed::{Event, SlotCommit},
    metrics::LaneMetrics,
    notifier::NotifierHandle,
    trace,
};
use batch::{Batch, Queued, Room, SlotSet, Waiting};
use futures_util::{StreamExt, poll, stream::FuturesUnordered};
use handoff_protocol::ids::Slot;
use posts::SharedHeads;
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    runtime::Handle,
    sync::{Mutex, mpsc, oneshot},
};
use transaction::{Committed, LaneSession};

/// Writes that wait in a lane at most.
const QUEUE_ITEMS: usize = 4_096;
/// Bytes of text that wait in a lane at most.
const QUEUE_BYTES: usize = 16 << 20;
/// Writes in a batch at most.
const BATCH_ITEMS: usize = 512;
/// Bytes of text in a batch at most, but for a single write that has more.
const BATCH_BYTES: usize = 2 << 20;
/// Fewer writes than these are worth a turn of the scheduler, which may bring more.
const FEW_ITEMS: usize = 8;
/// A lane's connections to Postgres.
const LANE_SESSIONS: usize = 2;
/// So many writes are worth a batch beside the one that is under way.
const BESIDE_ITEMS: usize = 12;
/// How long a batch's answer may take: longer than every timeout that Postgres applies itself.
const BATCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Who is told at once of what this replica's lanes have committed.
pub trait Commits: Epochs {
    /// These events are visible. Called in commit order for each slot.
    fn committed(&self, commit: SlotCommit);
    /// Something may have been committed in this slot, and nobody knows what.
    fn unsettled(&self, slot: Slot);
}

/// The lanes of a replica.
pub(crate) struct Lanes {
    lanes: Vec<Lane>,
    metrics: LaneMetrics,
}

struct Lane {
    sender: std::sync::RwLock<Option<mpsc::Sender<Queued>>>,
    queued_bytes: Arc<AtomicUsize>,
    /// Resolves when the lane's thread has ended.
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Lanes {
    pub(crate) fn start(
        config: &StoreConfig,
        commits: Arc<dyn Commits>,
        notifier: NotifierHandle,
    ) -> Result<Self> {
        let metrics = LaneMetrics::new();
        let lanes = (0..config.lanes)
            .map(|number| {
                let (sender, queue) = mpsc::channel(QUEUE_ITEMS);
                let queued_bytes = Arc::new(AtomicUsize::new(0));
                let postgres = Postgres {
                    url: config.listen_url.clone(),
                    application: format!("handoff lane {number}"),
                    commits: commits.clone(),
                    heads: SharedHeads::default(),
                };
                let committer = Committer {
                    number,
                    database: postgres,
                    channels_per_team: i64::from(config.channels_per_team),
                    metrics: metrics.clone(),
                    publisher: Publisher {
                        commits: commits.clone(),
                        notifier: notifier.clone(),
                        runtime: Handle::current(),
                    },
                };
                let worker = Worker::new(committer, queue, queued_bytes.clone(), BESIDE_ITEMS);
                Ok(Lane {
                    sender: std::sync::RwLock::new(Some(sender)),
                    queued_bytes,
                    ended: Mutex::new(Some(worker.start()?)),
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { lanes, metrics })
    }

    /// Queues a write, and waits until it is committed.
    ///
    /// # Errors
    /// [`Error::Overloaded`] at once when the lane is full.
    pub(crate) fn submit(&self, write: Write) -> impl Future<Output = Result<Outcome>> + use<> {
        // Who waits holds nothing but the end at which the answer comes.
        let queued = self.queue(write);
        async {
            let answer = queued?.await;
            answer.map_err(|_| Error::unavailable("the lane stopped"))?
        }
    }

    fn queue(&self, write: Write) -> Result<oneshot::Receiver<Result<Outcome>>> {
        let lane = &self.lanes[write.team().slot().index() % self.lanes.len()];
        let (reply, answer) = oneshot::channel();
        let bytes = write.text_bytes();
        let queued = Queued {
            write,
            reply,
            bytes,
            may_create_channel: false,
        };
        let sender = lane.sender.read().ok().and_then(|sender| sender.clone());
        let sender = sender.ok_or(Error::unavailable("this replica is stopping"))?;
        if lane.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > QUEUE_BYTES
            || sender.try_send(queued).is_err()
        {
            lane.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.metrics.refusals.increment(1);
            return Err(Error::Overloaded);
        }
        Ok(answer)
    }

    /// How many writes wait, and how many bytes of text lanes hold.
    pub(crate) fn queued(&self) -> (usize, usize) {
        let mut queued = (0, 0);
        for lane in &self.lanes {
            let sender = lane.sender.read().ok().and_then(|sender| sender.clone());
            queued.0 += sender.map_or(0, |sender| sender.max_capacity() - sender.capacity());
            queued.1 += lane.queued_bytes.load(Ordering::Relaxed);
        }
        queued
    }

    /// Takes no more writes, finishes those that wait, and stops.
    pub(crate) async fn close(&self) {
        for lane in &self.lanes {
            if let Ok(mut sender) = lane.sender.write() {
                sender.take();
            }
        }
        for lane in &self.lanes {
            if let Some(ended) = lane.ended.lock().await.take() {
                let _ = ended.await;
            }
        }
    }
}

/// Where a lane's transactions run: Postgres, or the simulation's model of it.
trait Database: Send + Sync + 'static {
    type Session: Session + 'static;
    fn connect(&self) -> impl Future<Output = Result<Self::Session>> + Send;
}

/// A lane's connection.
trait Session: Send {
    fn is_closed(&self) -> bool;
    /// Commits the batch: see [`LaneSession::run`].
    fn run(
        &mut self,
        batch: &Batch,
        channels_per_team: i64,
    ) -> impl Future<Output = Result<Committed>> + Send;
    /// Waits until all that was sent is done.
    fn catch_up(&self) -> impl Future<Output = Result<()>> + Send;
}

struct Postgres {
    url: DatabaseUrl,
    application: String,
    commits: Arc<dyn Commits>,
    heads: SharedHeads,
}

impl Database for Postgres {
    type Session = LaneSession;

    async fn connect(&self) -> Result<LaneSession> {
        let session = session(&self.url, &self.application, SessionKind::Lane).await?;
        // Before anything is written: another database's IDs must be past all that clients have
        // seen.
        let epoch = epochs::establish(&session.client).await?;
        self.commits.in_epoch(&epoch);
        LaneSession::prepare(session.client, &self.heads).await
    }
}

impl Session for LaneSession {
    fn is_closed(&self) -> bool {
        self.is_closed()
    }

    fn run(
        &mut self,
        batch: &Batch,
        channels_per_team: i64,
    ) -> impl Future<Output = Result<Committed>> + Send {
        self.run(batch, channels_per_team)
    }

    fn catch_up(&self) -> impl Future<Output = Result<()>> + Send {
        self.catch_up()
    }
}

/// What a lane does, on a thread of its own. It stops when its queue is closed and empty.
struct Worker<D: Database> {
    committer: Arc<Committer<D>>,
    /// Sessions without a batch; none where there is no connection yet, or no more.
    idle: Vec<Option<D::Session>>,
    /// Slots that a batch under way writes to.
    busy: SlotSet,
    queue: mpsc::Receiver<Queued>,
    /// Taken from the queue, and in no batch yet.
    left_over: VecDeque<Queued>,
    queued_bytes: Arc<AtomicUsize>,
    /// See [`BESIDE_ITEMS`].
    beside_items: usize,
}

/// A batch that is no longer under way, in the parts that it was committed in.
struct Done<S> {
    session: Option<S>,
    slots: SlotSet,
    bytes: usize,
    parts: Vec<Part>,
}

/// What came of a batch, or a part of it. Its writers don't know it yet.
struct Part {
    batch: Batch,
    committed: Result<Committed>,
}

impl<D: Database> Worker<D> {
    fn new(
        committer: Committer<D>,
        queue: mpsc::Receiver<Queued>,
        queued_bytes: Arc<AtomicUsize>,
        beside_items: usize,
    ) -> Self {
        Self {
            committer: Arc::new(committer),
            idle: (0..LANE_SESSIONS).map(|_| None).collect(),
            busy: SlotSet::default(),
            queue,
            left_over: VecDeque::new(),
            queued_bytes,
            beside_items,
        }
    }

    /// Starts the lane; the receiver resolves when it has ended.
    ///
    /// The thread is its own, with the connections on it: among the tasks of hundreds of requests
    /// an answer of Postgres would wait until they had their turn, and Postgres for the next batch.
    fn start(self) -> Result<oneshot::Receiver<()>> {
        let internal = |error: std::io::Error| Error::Internal(Box::new(error));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(internal)?;
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name(format!("lane-{}", self.committer.number))
            .spawn(move || {
                runtime.block_on(self.run());
                let _ = end.send(());
            })
            .map_err(internal)?;
        Ok(ended)
    }

    async fn run(mut self) {
        let mut under_way = FuturesUnordered::new();
        let mut untold: Vec<Part> = Vec::new();
        loop {
            self.take_queued();
            if self.left_over.len() < FEW_ITEMS && !untold.is_empty() {
                self.tell(std::mem::take(&mut untold));
                continue;
            }
            if under_way.is_empty() {
                if self.left_over.is_empty() {
                    match self.queue.recv().await {
                        Some(queued) => self.left_over.push_back(queued),
                        None => return,
                    }
                }
                if self.left_over.len() < FEW_ITEMS {
                    // The scheduler's next turn may bring more, and a batch costs nearly the same
                    // whatever its size. With many at hand Postgres must not wait for it.
                    tokio::task::yield_now().await;
                    self.take_queued();
                }
            }
            while let Some((session, batch)) = self.next_batch() {
                under_way.push(self.committer.clone().commit(session, batch));
            }
            let mut done = Poll::Pending;
            if !untold.is_empty() {
                // Batches go to their connections, which send them when the one before is told of.
                // The other way round more threads want a processor at once than a small machine
                // has, and batches become smaller.
                done = poll!(under_way.next());
                self.tell(std::mem::take(&mut untold));
            }
            let done = match done {
                Poll::Ready(done) => done,
                Poll::Pending => under_way.next().await,
            };
            if let Some(done) = done {
                self.queued_bytes.fetch_sub(done.bytes, Ordering::Relaxed);
                self.busy.remove(done.slots);
                self.idle.push(done.session);
                untold = done.parts;
            }
        }
    }

    fn take_queued(&mut self) {
        while self.left_over.len() < BATCH_ITEMS
            && let Ok(queued) = self.queue.try_recv()
        {
            self.left_over.push_back(queued);
        }
    }

    /// What is to be committed now, and by which session: whatever waits, if nothing is under way.
    /// Beside another batch only one that is worth it.
    fn next_batch(&mut self) -> Option<(Option<D::Session>, Batch)> {
        let waiting = Waiting::elsewhere(&self.left_over, self.busy);
        let is_alone = self.idle.len() == LANE_SESSIONS;
        if waiting.writes() < if is_alone { 1 } else { self.beside_items } {
            return None;
        }
        let session = self.idle.pop()?;
        let room = Room {
            items: BATCH_ITEMS,
            bytes: BATCH_BYTES,
            slots: match is_alone && waiting.writes() >= 2 * self.beside_items {
                true => waiting.half_of_the_slots(),
                false => waiting.slots(),
            },
        };
        let batch = Batch::take(&mut self.left_over, room);
        self.busy.add(batch.slot_set());
        Some((session, batch))
    }

    /// Tells of what was committed, and answers the writers. In each slot in the order of its
    /// commits: a batch is told of before the next one in its slots can be done.
    fn tell(&mut self, parts: Vec<Part>) {
        for Part { batch, committed } in parts {
            match committed {
                Ok(committed) => {
                    let missing = self.committer.publisher.publish(batch, committed);
                    self.put_back(missing);
                }
                Err(error) => self.committer.fail(batch, error),
            }
        }
    }

    /// Posts whose channel is missing go ahead of what waits: they came first.
    fn put_back(&mut self, missing: Vec<Queued>) {
        if planted!(ForgetPutBack) {
            return;
        }
        for queued in missing.into_iter().rev() {
            self.queued_bytes.fetch_add(queued.bytes, Ordering::Relaxed);
            self.left_over.push_front(queued);
        }
    }
}

/// What commits a lane's batches.
struct Committer<D> {
    number: usize,
    database: D,
    channels_per_team: i64,
    metrics: LaneMetrics,
    publisher: Publisher,
}

impl<D: Database> Committer<D> {
    /// Commits a batch; where Postgres refuses a value in it, its halves, down to the culprit.
    async fn commit(
        self: Arc<Self>,
        mut session: Option<D::Session>,
        batch: Batch,
    ) -> Done<D::Session> {
        let (slots, bytes) = (batch.slot_set(), batch.text_bytes());
        let mut waiting = VecDeque::from([batch]);
        let mut parts = Vec::new();
        while let Some(batch) = waiting.pop_front() {
            match self.try_commit(&mut session, &batch).await {
                Err(Error::Rejected(_)) if batch.len() > 1 => {
                    let (first, second) = batch.halves();
                    let (first, second) = match planted!(ReorderHalves) {
                        true => (second, first),
                        false => (first, second),
                    };
                    waiting.push_front(second);
                    waiting.push_front(first);
                }
                committed => parts.push(Part { batch, committed }),
            }
        }
        Done {
            session,
            slots,
            bytes,
            parts,
        }
    }

    async fn try_commit(
        &self,
        session: &mut Option<D::Session>,
        batch: &Batch,
    ) -> Result<Committed> {
        let (began, began_at) = (Instant::now(), SystemTime::now());
        let mut connected = match session.take() {
            Some(connected) if !connected.is_closed() => connected,
            _ => self.database.connect().await?,
        };
        let run = connected.run(batch, self.channels_per_team);
        let Ok(committed) = tokio::time::timeout(BATCH_TIMEOUT, run).await else {
            // Never cancelled: a cancelled wait for a synchronous standby would commit with no
            // more than a warning. The outcome is unknown, and the session is not used again.
            return Err(Error::unavailable("no answer to a batch in time"));
        };
        let connected = session.insert(connected);
        let committed = committed?;
        if planted!(DeliverUncommitted) {
            self.publisher.tell(committed.events.clone());
            connected.catch_up().await?;
        }
        self.metrics.commit_duration.record(began.elapsed());
        self.metrics.batch_writes.record(batch.len() as f64);
        trace::committed(&batch.traced(), began_at, batch.len());
        Ok(committed)
    }

    fn fail(&self, batch: Batch, error: Error) {
        if !matches!(error, Error::Rejected(_)) {
            self.metrics.batch_failures.increment(1);
            tracing::warn!(
                lane = self.number,
                writes = batch.len(),
                error = &error as &dyn std::error::Error,
                "A batch failed"
            );
            for slot in batch.slots() {
                self.publisher.commits.unsettled(slot);
            }
        }
        let mut error = Some(error);
        for queued in batch.into_items() {
            let again = match error.as_ref() {
                Some(Error::Unavailable { context, .. }) => Error::unavailable(context),
                Some(Error::Internal(_)) => Error::Internal("the batch failed".into()),
                _ => Error::unavailable("the batch failed"),
            };
            let _ = queued.reply.send(Err(error.take().unwrap_or(again)));
        }
    }
}

/// Tells of what was committed.
struct Publisher {
    commits: Arc<dyn Commits>,
    notifier: NotifierHandle,
    /// Where the writers wait.
    runtime: Handle,
}

impl Publisher {
    /// Tells the feed and the other replicas, then answers the writers; but for those whose
    /// channel must be opened first, which it returns.
    fn publish(&self, batch: Batch, committed: Committed) -> Vec<Queued> {
        self.tell(committed.events);
        let mut missing = Vec::new();
        let mut answers = Vec::new();
        for (queued, outcome) in batch.into_items().into_iter().zip(committed.outcomes) {
            match outcome {
                Some(outcome) => answers.push((queued.reply, outcome)),
                None if queued.may_create_channel => {
                    let error = Error::Internal("a channel was neither opened nor refused".into());
                    let _ = queued.reply.send(Err(error));
                }
                None => missing.push(Queued {
                    may_create_channel: true,
                    ..queued
                }),
            }
        }
        // From there, since each writer that is woken from another thread costs a turn at a lock of
        // all workers, and perhaps the wake-up of one.
        self.runtime.spawn(async move {
            for (reply, outcome) in answers {
                // A writer that hung up wants no answer.
                let _ = reply.send(Ok(outcome));
            }
        });
        missing
    }

    /// Tells the feed and the other replicas.
    fn tell(&self, events: Vec<Event>) {
        let mut commits: Vec<SlotCommit> = Vec::new();
        for event in events {
            let slot = event.team.slot();
            match commits.iter_mut().find(|commit| commit.slot == slot) {
                Some(commit) => commit.push(event),
                None => commits.push(SlotCommit::new(slot, event)),
            }
        }
        for mut commit in commits {
            commit.events.sort_by_key(|event| event.id);
            let traced = commit.events.iter().filter_map(Event::traceparent);
            self.notifier.ring(BellEntry::from(&commit), traced);
            self.commits.committed(commit);
        }
    }
}
