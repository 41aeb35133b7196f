//! The feed: what was committed, by this replica or another, on its way to the streams.
//!
//! Each slot has a state machine ([`slot::SlotFeed`]) and a pump, a task that does its reading.
//! Lanes and the listener put in what they know; subscriptions take out frames. The tables stay
//! the truth: whatever is unclear is read there, and everything in memory is bounded.

pub(crate) mod changes;
pub(crate) mod ring;
pub(crate) mod slot;
mod trace;

use crate::metrics::FeedMetrics;
use changes::Changes;
use handoff_protocol::{TeamId, ids::Slot, keys::KeyHash};
use handoff_store::{
    ChannelId, Store,
    bell::Bell,
    epochs::{Epoch, Epochs},
    feed::{Event, SlotCommit},
    lane::Commits,
    listener::Bells,
};
use ring::{Budget, SubscriberId};
use slot::{ChannelKey, SlotFeed, Step, Stirs, Taken, Watcher};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use trace::FeedSpans;

/// Bytes that all rings of a replica hold at most.
const RINGS_BYTES: usize = 64 << 20;
/// Frames that a subscription takes at once.
const TAKE_FRAMES: usize = 256;
/// Changed keys that wait to be dropped; beyond that the next sweep finds them.
const CHANGED_KEYS: usize = 1_024;

struct SlotState {
    slot: Slot,
    feed: Mutex<SlotFeed>,
    changes: Changes,
    /// Wakes the pump.
    pump: Notify,
}

impl SlotState {
    fn feed(&self) -> MutexGuard<'_, SlotFeed> {
        self.feed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts something in, and takes in at once what follows on; the pump does the rest.
    fn put(&self, put: impl FnOnce(&mut SlotFeed)) {
        let step = {
            let mut feed = self.feed();
            put(&mut feed);
            feed.advance(Instant::now())
        };
        if step != Step::Idle {
            self.pump.notify_one();
        }
    }
}

/// The feed of a replica.
pub struct Feed {
    slots: Vec<Arc<SlotState>>,
    next_subscriber: AtomicU64,
    changed_keys: mpsc::Sender<KeyHash>,
    epoch: watch::Sender<Option<Epoch>>,
    metrics: FeedMetrics,
}

impl Feed {
    /// A feed that knows nothing yet, and the keys that it hears were changed.
    pub(crate) fn new() -> (Arc<Self>, mpsc::Receiver<KeyHash>) {
        let budget = Budget::new(RINGS_BYTES);
        let (changed_keys, receiver) = mpsc::channel(CHANGED_KEYS);
        let slots = Slot::all().map(|slot| {
            let feed = Mutex::new(SlotFeed::new(budget.clone()));
            Arc::new(SlotState {
                slot,
                feed,
                changes: Changes::default(),
                pump: Notify::new(),
            })
        });
        let feed = Self {
            slots: slots.collect(),
            next_subscriber: AtomicU64::new(0),
            changed_keys,
            epoch: watch::Sender::default(),
            metrics: FeedMetrics::new(),
        };
        (Arc::new(feed), receiver)
    }

    /// Starts a pump for each slot; they stop with `stop`.
    pub(crate) fn start(&self, store: &Arc<Store>, tasks: &TaskTracker, stop: &CancellationToken) {
        for slot in &self.slots {
            let (slot, store, stop) = (slot.clone(), store.clone(), stop.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = pump(slot, store) => {}
                }
            });
        }
    }

    fn slot(&self, slot: Slot) -> &Arc<SlotState> {
        &self.slots[slot.index()]
    }

    /// Takes in what a sweep read of the slots' sequences.
    pub(crate) fn swept(&self, last_values: &[i64]) {
        for (slot, last_value) in self.slots.iter().zip(last_values) {
            slot.changes.swept(*last_value);
            let missed = slot.feed().swept(*last_value);
            if missed {
                self.metrics.sweep_catches.increment(1);
                tracing::debug!(slot = slot.slot.index(), "The sweep makes up for a bell");
                slot.pump.notify_one();
            }
        }
    }

    /// The epoch, and when it changes; none before the first connection.
    pub(crate) fn epoch(&self) -> watch::Receiver<Option<Epoch>> {
        self.epoch.subscribe()
    }

    /// How long, in seconds, the slot that is behind the longest has been so.
    pub(crate) fn lag(&self) -> f64 {
        let since = self
            .slots
            .iter()
            .filter_map(|slot| slot.feed().behind_since());
        since
            .min()
            .map_or(0.0, |since| since.elapsed().as_secs_f64())
    }

    /// What happened of late in the slot of a team.
    pub(crate) fn changes(&self, team: TeamId) -> &Changes {
        &self.slot(team.slot()).changes
    }

    /// A subscription to a team's channels, of which none is named yet.
    pub(crate) fn subscribe(&self, team: TeamId) -> Subscription {
        let slot = self.slot(team.slot()).clone();
        let restarts = slot.feed().restarts();
        Subscription {
            id: self.next_subscriber.fetch_add(1, Ordering::Relaxed),
            restarts,
            slot,
            team,
            channels: Vec::new(),
            wake: Arc::new(Notify::new()),
            stirs: Arc::default(),
        }
    }
}

impl Epochs for Feed {
    /// In another epoch nothing that memory holds counts: streams end, and begin again elsewhere.
    fn in_epoch(&self, epoch: &Epoch) {
        let mut is_another = false;
        // The sweep says it every second: only a change is news.
        self.epoch.send_if_modified(|known| {
            if known.as_ref() == Some(epoch) {
                return false;
            }
            is_another = known.replace(epoch.clone()).is_some();
            true
        });
        if is_another {
            tracing::warn!(%epoch, "The epoch changed: streams end");
            for slot in &self.slots {
                slot.changes.unclear();
                slot.put(SlotFeed::restart);
            }
        }
    }
}

impl Commits for Feed {
    fn committed(&self, commit: SlotCommit) {
        let slot = self.slot(commit.slot);
        slot.changes.committed(&commit);
        slot.put(|feed| {
            if feed.is_active() {
                let spans = FeedSpans::start(&commit);
                feed.committed(commit, spans);
            }
        });
    }

    fn unsettled(&self, slot: Slot) {
        self.slot(slot).changes.unclear();
        self.slot(slot).put(SlotFeed::unsettled);
    }
}

impl Bells for Feed {
    fn heard(&self, bell: Bell) {
        match bell {
            Bell::Commits(_) if planted!(SwallowBell) => {}
            Bell::KeyChanged(_) if planted!(ForgetRevocation) => {}
            Bell::Commits(entries) => {
                self.metrics.bells_heard.increment(1);
                for entry in entries {
                    let slot = self.slot(entry.slot);
                    slot.changes.heard(&entry);
                    slot.put(|feed| feed.heard(entry));
                }
            }
            Bell::KeyChanged(key) => drop(self.changed_keys.try_send(key)),
            Bell::Own => {}
        }
    }

    fn listening(&self) {
        for slot in &self.slots {
            slot.changes.unclear();
            slot.put(SlotFeed::unsettled);
        }
    }
}

/// Does a slot's reading, for ever. What can't be read is tried again.
async fn pump(slot: Arc<SlotState>, store: Arc<Store>) {
    const PAUSE: Duration = Duration::from_millis(100);
    loop {
        let step = slot.feed().advance(Instant::now());
        let done = match step {
            Step::Idle => {
                slot.pump.notified().await;
                Ok(())
            }
            Step::WaitUntil(due) => {
                tokio::select! {
                    () = slot.pump.notified() => {}
                    () = tokio::time::sleep_until(due.into()) => {}
                }
                Ok(())
            }
            Step::Read(request) => read(&slot, &store, &request).await,
            Step::Settle => settle(&slot, &store).await,
        };
        if let Err(error) = done {
            tracing::warn!(
                slot = slot.slot.index(),
                error = &error as &dyn std::error::Error,
                "The feed can't read"
            );
            slot.feed().failed();
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn read(
    slot: &SlotState,
    store: &Store,
    request: &slot::ReadRequest,
) -> handoff_store::Result<()> {
    let began = SystemTime::now();
    let slot::ReadRequest {
        channels,
        after,
        up_to,
        deletions,
        ..
    } = request;
    let read = store
        .read_range(channels, *after, *up_to, *deletions)
        .await?;
    let traced: Vec<_> = read.events.iter().filter_map(Event::traceparent).collect();
    let taken_in = slot.feed().apply_read(request, read);
    if taken_in {
        trace::read(traced, began);
    }
    Ok(())
}

async fn settle(slot: &SlotState, store: &Store) -> handoff_store::Result<()> {
    let waiters = slot.feed().begin_settling();
    let settled = store.settled_value(slot.slot).await;
    let value = match settled {
        Ok(value) => value,
        Err(error) => {
            for waiter in waiters {
                let _ = waiter.send(Err(handoff_store::Error::Unavailable {
                    context: "the slot can't be settled",
                    source: None,
                }));
            }
            return Err(error);
        }
    };
    for waiter in waiters {
        let _ = waiter.send(Ok(value));
    }
    let request = slot.feed().settled(value);
    match request {
        Some(request) => read(slot, store, &request).await,
        None => Ok(()),
    }
}

/// A stream's hold on the feed: which channels it follows, and how it is woken.
pub(crate) struct Subscription {
    id: SubscriberId,
    /// How often the slot had begun anew when this began: it ends at the next time.
    restarts: u64,
    slot: Arc<SlotState>,
    team: TeamId,
    channels: Vec<ChannelKey>,
    wake: Arc<Notify>,
    /// What was heard of acks and status changes, and not yet taken.
    stirs: Arc<AtomicU8>,
}

impl Subscription {
    /// Follows a channel from now on.
    pub(crate) fn add_channel(&mut self, channel: ChannelId) {
        let key = (self.team, channel);
        if !self.channels.contains(&key) {
            self.channels.push(key);
            self.slot
                .put(|feed| feed.subscribe(key, self.id, self.wake.clone()));
        }
    }

    /// Hears of acks or status changes in a channel that is followed, from now on.
    pub(crate) fn watch(&self, channel: ChannelId, wants: Stirs) {
        let watcher = Watcher {
            wants,
            heard: self.stirs.clone(),
            wake: self.wake.clone(),
        };
        self.slot
            .put(|feed| feed.watch((self.team, channel), self.id, watcher));
    }

    /// What was heard of acks and status changes since the last time.
    pub(crate) fn take_stirs(&self) -> Stirs {
        Stirs::take(&self.stirs)
    }

    /// Hears of channels that are opened, from now on or no longer.
    pub(crate) fn wait_for_channels(&self, waiting: bool) {
        let wake = waiting.then(|| self.wake.clone());
        self.slot.put(|feed| feed.wait_for_channels(self.id, wake));
    }

    /// Changes whenever a channel may have been opened.
    pub(crate) fn channels_created(&self) -> u64 {
        self.slot.feed().channels_created()
    }

    /// The team whose channels are followed.
    pub(crate) fn team(&self) -> TeamId {
        self.team
    }

    /// The channels followed.
    pub(crate) fn channel_ids(&self) -> Vec<ChannelId> {
        self.channels.iter().map(|(_, channel)| *channel).collect()
    }

    /// The slot's settled value, read after this call began and shared by all that wait.
    pub(crate) async fn settle(&self) -> handoff_store::Result<i64> {
        let (sender, settled) = oneshot::channel();
        self.slot.put(|feed| feed.settle(sender));
        settled
            .await
            .unwrap_or(Err(handoff_store::Error::Unavailable {
                context: "the feed stopped",
                source: None,
            }))
    }

    /// What memory holds after the cursor.
    pub(crate) fn take(&self, cursor: i64, channels_seen: Option<u64>) -> Taken {
        let feed = self.slot.feed();
        if feed.restarts() != self.restarts {
            return Taken::Over;
        }
        feed.take(&self.channels, cursor, TAKE_FRAMES, channels_seen)
    }

    /// Waits until something may have happened. A wake-up that came before is not lost.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.slot.feed().unsubscribe(&self.channels, self.id);
    }
}
