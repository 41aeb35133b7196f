//! What a replica knows of a slot with subscribers: a state machine without I/O or clock of its
//! own.
//!
//! Commits of this replica and bells of others come in, in any order; frames in ID order come
//! out. The watermark W says up to which ID the rings are complete. Within a slot IDs become
//! visible in ascending order, so whatever is heard of an ID, all before it are decided: a commit
//! that follows on W is taken in as it is, and one that doesn't (a bell is late, a batch was
//! aborted) waits a moment and is then read from the tables, for all subscribed channels at once.

use super::{
    ring::{Budget, Frame, Ring, SubscriberId},
    trace::FeedSpans,
};
use handoff_protocol::TeamId;
use handoff_store::{
    ChannelId,
    bell::{BellEntry, Touched},
    feed::{Event, EventKind, RangeRead, SlotCommit},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Notify, oneshot};

/// How long a gap may last before it is read over: bells of neighbours overtake each other.
const GAP_PATIENCE: Duration = Duration::from_millis(20);
/// Commits and bells that wait at most; beyond that they are forgotten, and the slot is settled.
const PENDING_MAX: usize = 1_024;
/// Events of own commits that wait at most.
const PENDING_EVENTS_MAX: usize = 8_192;

/// A channel within a slot.
pub(crate) type ChannelKey = (TeamId, ChannelId);

/// What the pump is to do next.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Nothing, until something is heard.
    Idle,
    /// Nothing until then.
    WaitUntil(Instant),
    /// Read these channels in `(after, up_to]`, then call [`SlotFeed::apply_read`].
    Read(ReadRequest),
    /// Learn the settled value, then call [`SlotFeed::settled`].
    Settle,
}

/// A range to be read from the tables. All of it is decided.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ReadRequest {
    pub(crate) channels: Vec<ChannelKey>,
    pub(crate) after: i64,
    pub(crate) up_to: i64,
    /// Whether something may have been deleted in the range.
    pub(crate) deletions: bool,
    /// What the range touches: a ring that came meanwhile knows whether it missed something.
    touched: Touched,
}

enum Pending {
    /// With the spans of its messages, which end when it is taken in.
    Own(SlotCommit, FeedSpans),
    Heard {
        last: i64,
        touched: Touched,
        channel_created: bool,
        deletions: bool,
    },
}

impl Pending {
    fn last(&self) -> i64 {
        match self {
            Pending::Own(commit, _) => commit.last,
            Pending::Heard { last, .. } => *last,
        }
    }
}

/// Waits for the slot to be settled; answered with the settled value.
pub(crate) type SettleWaiter = oneshot::Sender<handoff_store::Result<i64>>;

/// Things that happen in a channel and that no stream shows, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stirs(u8);

impl Stirs {
    pub(crate) const ACKS: Self = Self(1);
    pub(crate) const STATUSES: Self = Self(2);
    pub(crate) const ALL: Self = Self(3);

    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// What was noted there since the last time.
    pub(crate) fn take(heard: &AtomicU8) -> Self {
        Self(heard.swap(0, Ordering::SeqCst))
    }
}

/// One who wants to hear of stirs: the feed notes them and wakes, the subscription takes them.
#[derive(Clone)]
pub(crate) struct Watcher {
    pub(crate) wants: Stirs,
    pub(crate) heard: Arc<AtomicU8>,
    pub(crate) wake: Arc<Notify>,
}

impl Watcher {
    fn stir(&self, stirs: Stirs) {
        let wanted = self.wants.0 & stirs.0;
        if wanted != 0 {
            self.heard.fetch_or(wanted, Ordering::SeqCst);
            self.wake.notify_one();
        }
    }
}

/// See the module.
pub(crate) struct SlotFeed {
    /// W; none while nobody subscribes, and until the slot is first settled.
    watermark: Option<i64>,
    /// By first ID.
    pending: BTreeMap<i64, Pending>,
    pending_events: usize,
    rings: HashMap<ChannelKey, Ring>,
    /// Subscriptions that want to hear of acks or status changes. They follow the channel as well,
    /// so the slot is active.
    watchers: HashMap<ChannelKey, HashMap<SubscriberId, Watcher>>,
    /// Subscriptions that wait for a channel to be opened.
    waiting_for_channels: HashMap<SubscriberId, Arc<Notify>>,
    /// Counts the times at which a channel may have been opened.
    channels_created: u64,
    gap_since: Option<Instant>,
    /// Since when something is known of that the rings don't have.
    behind_since: Option<Instant>,
    settle_wanted: bool,
    settle_waiters: Vec<SettleWaiter>,
    /// What the last sweep saw of the sequence.
    swept_value: i64,
    /// How often everything was forgotten.
    restarts: u64,
    budget: Arc<Budget>,
}

impl SlotFeed {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self {
            watermark: None,
            pending: BTreeMap::new(),
            pending_events: 0,
            rings: HashMap::new(),
            watchers: HashMap::new(),
            waiting_for_channels: HashMap::new(),
            channels_created: 0,
            gap_since: None,
            behind_since: None,
            settle_wanted: false,
            settle_waiters: Vec::new(),
            swept_value: 0,
            restarts: 0,
            budget,
        }
    }

    /// Whether anybody subscribes here.
    pub(crate) fn is_active(&self) -> bool {
        !self.rings.is_empty() || !self.waiting_for_channels.is_empty()
    }

    // What comes in.

    /// A lane of this replica committed.
    pub(crate) fn committed(&mut self, commit: SlotCommit, spans: FeedSpans) {
        if self.is_active() {
            self.stir_by(&commit.events);
            self.pending_events += commit.events.len();
            self.add_pending(commit.first, Pending::Own(commit, spans));
        }
    }

    /// Another replica rang.
    pub(crate) fn heard(&mut self, bell: BellEntry) {
        if self.is_active() {
            self.stir_where(&bell.acks, Stirs::ACKS);
            self.stir_where(&bell.statuses, Stirs::STATUSES);
            let BellEntry {
                first,
                last,
                touched,
                channel_created,
                deletions,
                ..
            } = bell;
            self.add_pending(
                first,
                Pending::Heard {
                    last,
                    touched,
                    channel_created,
                    deletions,
                },
            );
        }
    }

    // What is committed can be read at once, so stirs don't wait for what comes before them.

    fn stir_by(&self, events: &[Event]) {
        if self.watchers.is_empty() {
            return;
        }
        for event in events {
            let stirs = match event.kind {
                EventKind::AckMoved => Stirs::ACKS,
                EventKind::StatusChanged => Stirs::STATUSES,
                _ => continue,
            };
            let watchers = event
                .channel
                .and_then(|channel| self.watchers.get(&(event.team, channel)));
            for watcher in watchers.into_iter().flat_map(HashMap::values) {
                watcher.stir(stirs);
            }
        }
    }

    fn stir_where(&self, touched: &Touched, stirs: Stirs) {
        for ((_, channel), watchers) in &self.watchers {
            if touched.includes(*channel) {
                watchers.values().for_each(|watcher| watcher.stir(stirs));
            }
        }
    }

    fn add_pending(&mut self, first: i64, pending: Pending) {
        if self.pending.len() >= PENDING_MAX || self.pending_events > PENDING_EVENTS_MAX {
            self.forget_pending();
            self.settle_wanted = true;
            return;
        }
        // Two that begin alike overlap; the one that reaches further says more.
        match self.pending.get(&first) {
            Some(waiting) if waiting.last() > pending.last() => self.settle_wanted = true,
            _ => drop(self.pending.insert(first, pending)),
        }
    }

    fn forget_pending(&mut self) {
        self.pending.clear();
        self.pending_events = 0;
        self.gap_since = None;
    }

    /// Something may have been committed that nobody told of.
    pub(crate) fn unsettled(&mut self) {
        self.settle_wanted |= self.is_active();
    }

    /// The sweep read the slot's sequence. A slot that lags behind what the sweep before this one
    /// saw has missed a bell; answers whether that is so.
    pub(crate) fn swept(&mut self, last_value: i64) -> bool {
        let missed = self
            .watermark
            .is_some_and(|watermark| watermark < self.swept_value);
        self.swept_value = last_value;
        self.settle_wanted |= missed;
        missed
    }

    /// Asks for the slot to be settled from now on.
    pub(crate) fn settle(&mut self, waiter: SettleWaiter) {
        self.settle_waiters.push(waiter);
    }

    /// The database is another than it was: nothing that is known of it counts. Every subscription
    /// of before is over.
    pub(crate) fn restart(&mut self) {
        self.restarts += 1;
        self.watermark = None;
        self.swept_value = 0;
        self.forget_pending();
        self.rings.drain().for_each(|(_, ring)| ring.wake_all());
        let waiting = self.waiting_for_channels.drain();
        waiting.for_each(|(_, wake)| wake.notify_one());
        self.settle_wanted = false;
    }

    /// Changes whenever everything was forgotten.
    pub(crate) fn restarts(&self) -> u64 {
        self.restarts
    }

    // What the pump does.

    /// Takes in what follows on, and says what is to be done about the rest.
    pub(crate) fn advance(&mut self, now: Instant) -> Step {
        let step = self.next_step(now);
        self.behind_since = match step {
            Step::Idle => None,
            _ => self.behind_since.or(Some(now)),
        };
        step
    }

    /// Since when it is behind what it knows of.
    pub(crate) fn behind_since(&self) -> Option<Instant> {
        self.behind_since
    }

    fn next_step(&mut self, now: Instant) -> Step {
        let unread = self.take_in();
        if self.settle_wanted || !self.settle_waiters.is_empty() {
            return Step::Settle;
        }
        let Some(watermark) = self.watermark else {
            return if self.is_active() {
                Step::Settle
            } else {
                Step::Idle
            };
        };
        if let Some(request) = unread {
            return Step::Read(request);
        }
        if self.pending.is_empty() {
            self.gap_since = None;
            return Step::Idle;
        }
        let due = *self.gap_since.get_or_insert(now) + GAP_PATIENCE;
        if now < due {
            return Step::WaitUntil(due);
        }
        let up_to = self
            .pending
            .values()
            .map(Pending::last)
            .max()
            .unwrap_or(watermark);
        let channels = self.rings.keys().copied().collect();
        Step::Read(ReadRequest {
            channels,
            after: watermark,
            up_to,
            deletions: true,
            touched: Touched::Any,
        })
    }

    /// Takes in what follows on the watermark, up to what must be read first.
    fn take_in(&mut self) -> Option<ReadRequest> {
        let mut watermark = self.watermark?;
        while let Some((&first, waiting)) = self.pending.first_key_value()
            && (first <= watermark + 1 || self.overtakes(waiting))
        {
            if let Pending::Heard {
                last,
                touched,
                deletions,
                ..
            } = waiting
                && *last > watermark
            {
                let channels = self.subscribed(touched);
                if !channels.is_empty() {
                    return Some(ReadRequest {
                        channels,
                        after: watermark,
                        up_to: *last,
                        deletions: *deletions,
                        touched: touched.clone(),
                    });
                }
            }
            match self.pending.pop_first() {
                Some((_, Pending::Own(commit, _spans))) => {
                    self.pending_events -= commit.events.len();
                    self.apply(&commit.events, watermark);
                    watermark = watermark.max(commit.last);
                }
                Some((
                    _,
                    Pending::Heard {
                        last,
                        channel_created,
                        ..
                    },
                )) => {
                    if channel_created {
                        self.channel_created();
                    }
                    watermark = watermark.max(last);
                }
                None => break,
            }
            self.watermark = Some(watermark);
            self.gap_since = None;
        }
        None
    }

    /// Whether what waits is taken in before what comes first.
    fn overtakes(&self, waiting: &Pending) -> bool {
        planted!(MergeWithoutWatermark)
            && self.rings.len() > 1
            && matches!(waiting, Pending::Own(..))
    }

    fn subscribed(&self, touched: &Touched) -> Vec<ChannelKey> {
        match touched {
            Touched::Any => self.rings.keys().copied().collect(),
            Touched::Channels(channels) if channels.is_empty() => Vec::new(),
            // IDs are unique within a team only: another team of the slot may have the same.
            Touched::Channels(channels) => self
                .rings
                .keys()
                .filter(|(_, id)| channels.contains(id))
                .copied()
                .collect(),
        }
    }

    /// Takes in what a range holds, unless it is no longer news: commits may have been taken in
    /// since it was asked for. Answers whether it was.
    pub(crate) fn apply_read(&mut self, request: &ReadRequest, read: RangeRead) -> bool {
        let Some(watermark) = self.watermark else {
            return false;
        };
        if watermark < request.after || watermark >= request.up_to {
            return false;
        }
        // What nobody told of may be that a channel was opened, or anything else.
        if request.touched == Touched::Any {
            self.channel_created();
            self.stir_where(&Touched::Any, Stirs::ALL);
        }
        for (key, ring) in &mut self.rings {
            let touched = match &request.touched {
                Touched::Any => true,
                Touched::Channels(channels) => channels.contains(&key.1),
            };
            if touched && (read.cut_off || !request.channels.contains(key)) {
                ring.reset(request.up_to);
                ring.wake_all();
            }
        }
        let after = if read.cut_off { i64::MAX } else { watermark };
        self.apply(&read.events, after);
        self.watermark = Some(request.up_to);
        self.gap_since = None;
        self.drop_covered(request.up_to);
        true
    }

    /// Forgets what waits but is covered by the watermark now.
    fn drop_covered(&mut self, watermark: i64) {
        let mut channel_created = false;
        let mut events = 0;
        self.pending.retain(|_, waiting| {
            let keep = waiting.last() > watermark;
            match waiting {
                Pending::Own(commit, _) => {
                    events += if keep { commit.events.len() } else { 0 };
                    channel_created |= !keep
                        && commit
                            .events
                            .iter()
                            .any(|event| matches!(event.kind, EventKind::ChannelCreated));
                }
                Pending::Heard {
                    channel_created: created,
                    ..
                } => {
                    channel_created |= !keep && *created;
                }
            }
            keep
        });
        self.pending_events = events;
        if channel_created {
            self.channel_created();
        }
    }

    /// Passes events after `after` to their rings, and wakes whom they concern.
    fn apply(&mut self, events: &[Event], after: i64) {
        for event in events {
            if matches!(event.kind, EventKind::ChannelCreated) {
                self.channel_created();
            }
            // That a channel is gone is true whenever it is learned.
            let counts = event.id > after || matches!(event.kind, EventKind::ChannelDeleted);
            let ring = event
                .channel
                .and_then(|channel| self.rings.get_mut(&(event.team, channel)));
            if let Some(ring) = ring
                && counts
                && ring.apply(event)
            {
                ring.wake_all();
            }
        }
    }

    fn channel_created(&mut self) {
        self.channels_created += 1;
        for wake in self.waiting_for_channels.values() {
            wake.notify_one();
        }
    }

    /// Those who wait for the settling that begins now; who comes later waits for the next one.
    pub(crate) fn begin_settling(&mut self) -> Vec<SettleWaiter> {
        self.settle_wanted = false;
        std::mem::take(&mut self.settle_waiters)
    }

    /// Everything up to `value` is decided. Answers what must be read before the rings are
    /// complete up to there; nothing if they are.
    pub(crate) fn settled(&mut self, value: i64) -> Option<ReadRequest> {
        if !self.is_active() {
            return None;
        }
        match self.watermark {
            None => {
                // Nothing was taken in yet, so the rings begin here.
                self.watermark = Some(value);
                for ring in self.rings.values_mut() {
                    ring.reset(value);
                    ring.wake_all();
                }
                self.drop_covered(value);
                self.channel_created();
                self.stir_where(&Touched::Any, Stirs::ALL);
                None
            }
            Some(watermark) if value > watermark => Some(ReadRequest {
                channels: self.rings.keys().copied().collect(),
                after: watermark,
                up_to: value,
                deletions: true,
                touched: Touched::Any,
            }),
            Some(_) => None,
        }
    }

    /// What was to be read or learned could not be: try again.
    pub(crate) fn failed(&mut self) {
        self.settle_wanted |= self.is_active();
    }

    // What subscriptions do.

    /// Adds a subscription to a channel.
    pub(crate) fn subscribe(&mut self, key: ChannelKey, id: SubscriberId, wake: Arc<Notify>) {
        // A ring of a slot that isn't settled yet is complete nowhere.
        let complete_after = self.watermark.unwrap_or(i64::MAX);
        let budget = self.budget.clone();
        self.rings
            .entry(key)
            .or_insert_with(|| Ring::new(complete_after, budget))
            .subscribe(id, wake);
    }

    /// Makes a subscription that follows a channel hear of its stirs.
    pub(crate) fn watch(&mut self, key: ChannelKey, id: SubscriberId, watcher: Watcher) {
        self.watchers.entry(key).or_default().insert(id, watcher);
    }

    /// Makes a subscription hear of channels that are opened, or no longer.
    pub(crate) fn wait_for_channels(&mut self, id: SubscriberId, wake: Option<Arc<Notify>>) {
        match wake {
            Some(wake) => drop(self.waiting_for_channels.insert(id, wake)),
            None => drop(self.waiting_for_channels.remove(&id)),
        }
    }

    /// Ends a subscription.
    pub(crate) fn unsubscribe(&mut self, channels: &[ChannelKey], id: SubscriberId) {
        self.waiting_for_channels.remove(&id);
        for key in channels {
            if self
                .rings
                .get_mut(key)
                .is_some_and(|ring| ring.unsubscribe(id))
            {
                self.rings.remove(key);
            }
            if let Some(watchers) = self.watchers.get_mut(key) {
                watchers.remove(&id);
                if watchers.is_empty() {
                    self.watchers.remove(key);
                }
            }
        }
        if !self.is_active() {
            self.watermark = None;
            self.forget_pending();
            self.settle_wanted = false;
        }
    }

    /// Changes whenever a channel may have been opened.
    pub(crate) fn channels_created(&self) -> u64 {
        self.channels_created
    }

    /// What these channels hold after a cursor: frames merged by ID, up to W.
    ///
    /// A stream that waits for channels to be opened says how often that had happened when it
    /// last looked: its cursor must not pass what a new channel holds.
    pub(crate) fn take(
        &self,
        channels: &[ChannelKey],
        cursor: i64,
        most: usize,
        channels_seen: Option<u64>,
    ) -> Taken {
        if channels_seen.is_some_and(|seen| seen != self.channels_created) {
            return Taken::ChannelsCreated;
        }
        let rings: Vec<&Ring> = channels
            .iter()
            .filter_map(|key| self.rings.get(key))
            .collect();
        if rings.len() < channels.len() || rings.iter().any(|ring| ring.is_deleted()) {
            return Taken::Over;
        }
        let Some(watermark) = self.watermark else {
            return Taken::Unsettled;
        };
        if rings.iter().any(|ring| ring.complete_after() > cursor) {
            return Taken::Behind { watermark };
        }
        let mut frames: Vec<(i64, Frame)> = match rings.as_slice() {
            [ring] => ring
                .after(cursor)
                .take(most)
                .map(|(id, f)| (id, f.clone()))
                .collect(),
            rings => {
                let each = rings.iter().flat_map(|ring| ring.after(cursor).take(most));
                let mut frames: Vec<_> = each.map(|(id, frame)| (id, frame.clone())).collect();
                if !planted!(DisorderBatch) {
                    frames.sort_unstable_by_key(|(id, _)| *id);
                }
                frames
            }
        };
        frames.truncate(most);
        let cursor = match frames.last() {
            Some((id, _)) if frames.len() == most => *id,
            _ => cursor.max(watermark),
        };
        Taken::Frames {
            cursor,
            frames: frames.into_iter().map(|(_, frame)| frame).collect(),
        }
    }
}

/// What [`SlotFeed::take`] found.
pub(crate) enum Taken {
    /// Frames, perhaps none, and the place up to which they are all.
    Frames { frames: Vec<Frame>, cursor: i64 },
    /// The cursor is older than what memory holds: read from the tables. What such a read doesn't
    /// find up to `watermark` isn't there.
    Behind { watermark: i64 },
    /// The slot isn't settled yet; a wake-up follows.
    Unsettled,
    /// One of the channels is gone, or the whole database is another.
    Over,
    /// A channel that the stream waits for may have been opened: look first.
    ChannelsCreated,
}

#[cfg(test)]
mod simulation;
