//! A lane against a model of Postgres: posts in bursts, to channels that exist or not, with and
//! without idempotency keys; values that Postgres refuses; connections that can't be made, or are
//! lost before or after the commit; answers that never come; channels that are deleted. All is drawn
//! from a seed, and the clock is tokio's, which goes on by itself when everything waits.
//!
//! Nothing that was answered is lost, nothing stands twice, every write is answered, only a culprit
//! is refused, only what shared a batch with a fault is in doubt, batches are bounded and
//! exclusive, two at once share no slot, and in each slot what doesn't have to wait is written, and
//! the feed told of it, in the order in which it came.

use super::*;
use crate::{
    ChannelId,
    digest::Digest,
    epochs::Epoch,
    feed::EventKind,
    planted::{self, Bug},
};
use futures_util::future::join_all;
use handoff_protocol::{ChannelName, Content, Name, TeamId, Timestamp, messages::NewMessage};
use handoff_simulation::{finds, simulate};
use rand::{RngExt, rngs::StdRng};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::MutexGuard,
};

const TEAMS: i64 = 3;
const CHANNELS: i64 = 3;
const CLIENTS: usize = 12;
const BURSTS: usize = 6;

/// What stands: the number of the post.
struct Row {
    id: i64,
    number: usize,
}

struct World {
    random: StdRng,
    last_id: i64,
    rows: Vec<Row>,
    channels: HashMap<(TeamId, String), ChannelId>,
    by_idempotency: HashMap<(TeamId, Digest), usize>,
    /// Numbers of posts whose batch met with a fault.
    in_doubt: HashSet<usize>,
    /// Numbers of posts that had to wait: for their channel, or for their twin.
    held_back: HashSet<usize>,
    /// By slot.
    newest: HashMap<Slot, usize>,
    next_number: usize,
    batches: u64,
    /// The batches under way, each with its slots.
    under_way: Vec<BTreeSet<Slot>>,
    /// How many batches were begun beside another one.
    beside: u64,
    /// What the feed was told: IDs, and whether to settle.
    told: BTreeSet<i64>,
    newest_told: HashMap<Slot, i64>,
    settles: u64,
}

#[derive(Clone)]
struct Model(Arc<std::sync::Mutex<World>>);

impl Model {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    async fn some_time(&self, most_ms: u64) {
        let millis = self.world().random.random_range(0..most_ms);
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
}

/// The post's number is its content's start.
fn number_of(queued: &Queued) -> usize {
    let Write::Post(post) = &queued.write else {
        panic!("only posts are written")
    };
    let mut words = post.message.content.as_str().split(' ');
    words.next().unwrap().parse().unwrap()
}

fn is_poison(queued: &Queued) -> bool {
    matches!(&queued.write, Write::Post(post) if post.message.content.as_str().contains("poison"))
}

impl World {
    /// What every batch must be like.
    fn check(&mut self, batch: &Batch) {
        self.batches += 1;
        self.beside += u64::from(!self.under_way.is_empty());
        let slots = batch.slots();
        let is_apart = |other: &BTreeSet<Slot>| other.is_disjoint(&slots);
        assert!(
            self.under_way.iter().all(is_apart),
            "two batches share a slot"
        );
        assert!(self.under_way.len() < LANE_SESSIONS);
        assert!((1..=BATCH_ITEMS).contains(&batch.len()));
        assert!(batch.text_bytes() <= BATCH_BYTES || batch.len() == 1);
        let mut keys = HashSet::new();
        let mut numbers = HashSet::new();
        for queued in batch.items() {
            let number = number_of(queued);
            assert!(numbers.insert(number), "a write is twice in its batch");
            let Write::Post(post) = &queued.write else {
                continue;
            };
            let mut holds_back = queued.may_create_channel;
            if let Some(idempotency) = &post.idempotency {
                let key = (post.team, idempotency.digest);
                assert!(keys.insert(key), "a key is twice in its batch");
                holds_back = true;
            }
            if holds_back {
                self.held_back.insert(number);
            }
        }
    }

    /// What Postgres makes of it, all or nothing.
    fn commit(&mut self, batch: &Batch) -> Committed {
        let mut committed = Committed::default();
        for queued in batch.items() {
            let Write::Post(post) = &queued.write else {
                continue;
            };
            let number = number_of(queued);
            let channel = (post.team, post.channel.as_str().to_owned());
            let key = post.idempotency.as_ref();
            let key = key.map(|idempotency| (post.team, idempotency.digest));
            if let Some(earlier) = key.as_ref().and_then(|key| self.by_idempotency.get(key)) {
                let id = self.rows.iter().find(|row| row.number == *earlier);
                let message = post.as_message(id.unwrap().id, 1, Timestamp::from_micros(0));
                let replayed = Outcome::Post(PostOutcome::Replayed(message.into()));
                committed.outcomes.push(Some(replayed));
                continue;
            }
            if !self.channels.contains_key(&channel) {
                if !queued.may_create_channel {
                    committed.outcomes.push(None);
                    continue;
                }
                self.last_id += 1;
                self.channels
                    .insert(channel.clone(), ChannelId(self.last_id));
                committed.events.push(Event {
                    team: post.team,
                    channel: Some(ChannelId(self.last_id)),
                    id: self.last_id,
                    kind: EventKind::ChannelCreated,
                });
            }
            self.last_id += 1;
            let id = self.last_id;
            if !self.held_back.contains(&number) {
                let newest = self.newest.entry(post.team.slot()).or_default();
                assert!(number >= *newest, "{number} comes after {newest}");
                *newest = number;
            }
            self.rows.push(Row { id, number });
            if let Some(key) = key {
                self.by_idempotency.insert(key, number);
            }
            let message = Arc::new(post.as_message(id, 1, Timestamp::from_micros(0)));
            committed.events.push(Event {
                team: post.team,
                channel: Some(self.channels[&channel]),
                id,
                kind: EventKind::Message(message.clone()),
            });
            let posted = Outcome::Post(PostOutcome::Posted(message));
            committed.outcomes.push(Some(posted));
        }
        committed
    }
}

/// A batch that is under way, until it is dropped.
struct UnderWay(Model, BTreeSet<Slot>);

impl UnderWay {
    fn begin(model: &Model, batch: &Batch) -> Self {
        let mut world = model.world();
        world.check(batch);
        world.under_way.push(batch.slots());
        Self(model.clone(), batch.slots())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        // After a failed check nobody counts any more.
        if let Ok(mut world) = self.0.0.lock() {
            world.under_way.retain(|slots| *slots != self.1);
        }
    }
}

struct ModelSession {
    model: Model,
    closed: bool,
}

impl Database for Model {
    type Session = ModelSession;

    async fn connect(&self) -> Result<ModelSession> {
        self.some_time(20).await;
        Ok(ModelSession {
            model: self.clone(),
            closed: false,
        })
    }
}

impl Session for ModelSession {
    fn is_closed(&self) -> bool {
        self.closed
    }

    async fn run(&mut self, batch: &Batch, _: i64) -> Result<Committed> {
        let _under_way = UnderWay::begin(&self.model, batch);
        self.model.some_time(5).await;
        let fault = self.model.world().random.random_range(0..40);
        let is_refused = batch.items().iter().any(is_poison);
        if fault == 0 || (fault < 3 && !is_refused) {
            let numbers = batch.items().iter().map(number_of);
            self.model.world().in_doubt.extend(numbers);
        }
        if fault == 0 {
            self.closed = true;
            return Err(Error::unavailable(
                "the connection was lost before the commit",
            ));
        }
        if is_refused {
            return Err(Error::Rejected("poison".into()));
        }
        let committed = self.model.world().commit(batch);
        match fault {
            1 => {
                self.closed = true;
                Err(Error::unavailable(
                    "the connection was lost after the commit",
                ))
            }
            2 => {
                tokio::time::sleep(2 * BATCH_TIMEOUT).await;
                Err(Error::unavailable("nobody waits for this"))
            }
            _ => Ok(committed),
        }
    }

    async fn catch_up(&self) -> Result<()> {
        Ok(())
    }
}

impl Epochs for Model {
    fn in_epoch(&self, _: &Epoch) {}
}

impl Commits for Model {
    fn committed(&self, commit: SlotCommit) {
        let mut world = self.world();
        let ascending = commit.events.windows(2).all(|pair| pair[0].id < pair[1].id);
        assert!(ascending, "a commit's events are in order");
        for event in commit.events {
            assert!(world.told.insert(event.id), "the feed is told once");
            let newest = world.newest_told.insert(commit.slot, event.id);
            assert!(newest < Some(event.id), "the feed is told in order");
        }
    }

    fn unsettled(&self, _: Slot) {
        self.world().settles += 1;
    }
}

/// A post that a client makes.
fn post(world: &mut World) -> (usize, Write) {
    let number = world.next_number;
    world.next_number += 1;
    let random = &mut world.random;
    let kind = match random.random_range(0..100) {
        0 => "poison",
        _ => "sound",
    };
    let length = match random.random_range(0..20) {
        0 => BATCH_BYTES / 3,
        _ => 10,
    };
    // Twins, now and then: a retry that came while the first was on its way.
    let idempotency = random.random_bool(0.2).then(|| {
        let key = random.random_range(0..number / 10 + 1);
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&key.to_be_bytes());
        Idempotency {
            digest: Digest::of(hash),
            body_digest: Digest::of([0; 32]),
        }
    });
    let write = Write::Post(Post {
        team: TeamId::from_row(random.random_range(1..=TEAMS)),
        channel: ChannelName::from_row(&format!("c{}", random.random_range(1..=CHANNELS))),
        sender: Name::from_row("s"),
        message: NewMessage {
            content: Content::from_row(&format!("{number} {kind} {}", "x".repeat(length))),
            mention: None,
            thread_id: None,
        },
        idempotency,
        traceparent: None,
    });
    (number, write)
}

/// A client's bursts, each of posts that are queued at once, in order.
async fn client(lanes: &Lanes, model: &Model) {
    for _ in 0..BURSTS {
        model.some_time(20).await;
        let count = model.world().random.random_range(1..12);
        let posts = (0..count).map(async |_| {
            let (number, write) = post(&mut model.world());
            let Write::Post(content) = &write else {
                unreachable!()
            };
            let is_sound = content.message.content.as_str().contains("sound");
            let outcome = lanes.submit(write).await;
            let mut world = model.world();
            let stands = world.rows.iter().filter(|row| row.number == number);
            let stands: Vec<i64> = stands.map(|row| row.id).collect();
            match outcome {
                Ok(Outcome::Post(PostOutcome::Posted(message))) => {
                    assert_eq!(stands, [message.id.serial()], "{number} is answered");
                    assert!(
                        world.told.contains(&stands[0]),
                        "first the feed, then the writer"
                    );
                }
                Ok(Outcome::Post(PostOutcome::Replayed(_))) => assert!(stands.is_empty()),
                Ok(_) => panic!("{number} got another's answer"),
                Err(Error::Rejected(_)) => assert!(!is_sound && stands.is_empty()),
                Err(Error::Unavailable { .. }) => {
                    assert!(world.in_doubt.contains(&number), "{number} met no fault");
                    assert!(stands.len() <= 1, "{number} stands twice");
                }
                Err(error) => panic!("{number}: {error:?}"),
            }
            // All channels are deleted, now and then.
            if world.random.random_bool(0.02) {
                world.channels.clear();
            }
        });
        join_all(posts).await;
    }
}

fn run(random: StdRng) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let model = Model(Arc::new(std::sync::Mutex::new(World {
            random,
            last_id: 0,
            rows: Vec::new(),
            channels: HashMap::new(),
            by_idempotency: HashMap::new(),
            in_doubt: HashSet::new(),
            held_back: HashSet::new(),
            newest: HashMap::new(),
            next_number: 0,
            batches: 0,
            under_way: Vec::new(),
            beside: 0,
            told: BTreeSet::new(),
            newest_told: HashMap::new(),
            settles: 0,
        })));
        let (sender, queue) = mpsc::channel(QUEUE_ITEMS);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let metrics = LaneMetrics::new();
        let committer = Committer {
            number: 0,
            database: model.clone(),
            channels_per_team: 0,
            metrics: metrics.clone(),
            publisher: Publisher {
                commits: Arc::new(model.clone()),
                notifier: NotifierHandle::silent(),
                runtime: Handle::current(),
            },
        };
        let worker = Worker::new(committer, queue, queued_bytes.clone(), 3);
        let lane = Lane {
            sender: std::sync::RwLock::new(Some(sender)),
            queued_bytes: queued_bytes.clone(),
            ended: Mutex::new(None),
        };
        let lanes = Lanes {
            lanes: vec![lane],
            metrics,
        };
        let working = tokio::spawn(worker.run());
        join_all((0..CLIENTS).map(|_| client(&lanes, &model))).await;
        lanes.close().await;
        working
            .await
            .expect("the worker ends when its queue is closed and empty");
        assert_eq!(
            queued_bytes.load(Ordering::SeqCst),
            0,
            "bytes that nobody queued"
        );

        let world = model.world();
        let ids = world.rows.windows(2).all(|pair| pair[0].id < pair[1].id);
        assert!(ids, "IDs ascend");
        let numbers: HashSet<usize> = world.rows.iter().map(|row| row.number).collect();
        assert_eq!(numbers.len(), world.rows.len(), "something stands twice");
        for row in &world.rows {
            let known = world.told.contains(&row.id) || world.in_doubt.contains(&row.number);
            assert!(known, "the feed was never told of {}", row.id);
        }
        assert!(world.in_doubt.is_empty() || world.settles > 0);
        assert!(world.beside > 0, "there never were two batches at once");
        // Steps of this simulation: writes and batches.
        world.next_number as u64 + world.batches
    })
}

#[test]
fn simulation_loses_nothing_and_answers_everything_once() {
    simulate("lane", 60, run);
}

#[test]
fn simulation_finds_planted_bugs() {
    for bug in [Bug::ForgetExclusive, Bug::ForgetPutBack, Bug::ReorderHalves] {
        planted::with(bug, || finds(&format!("{bug:?}"), 60, run));
    }
}
