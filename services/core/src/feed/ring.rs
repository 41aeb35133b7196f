//! A ring: a channel's recent events as frames, shared by all of its streams.

use super::trace::Undelivered;
use bytes::Bytes;
use handoff_protocol::{Timestamp, messages::Message, sse::message_frame};
use handoff_store::feed::{Event, EventKind};
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::Notify;

/// Frames that a ring keeps at most.
const RING_FRAMES: usize = 1_024;
/// Bytes that a ring keeps at most, but for its newest frame.
const RING_BYTES: usize = 4 << 20;

/// Bytes that all rings of a replica may hold together.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    max: usize,
}

impl Budget {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicUsize::new(0),
            max,
        })
    }

    fn is_spent(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.max
    }
}

/// A message as streams show it, encoded once for all of them.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) bytes: Bytes,
    pub(crate) created_at: Timestamp,
    /// Where the message is traced and came straight from the feed.
    pub(crate) trace: Option<Undelivered>,
}

impl Frame {
    pub(crate) fn new(message: &Message) -> Self {
        Self {
            bytes: message_frame(message),
            created_at: message.created_at,
            trace: None,
        }
    }
}

/// Names a subscription within its slot.
pub(crate) type SubscriberId = u64;

struct Entry {
    id: i64,
    /// None where the message was deleted.
    frame: Option<Frame>,
}

/// Recent events of one channel, complete between two IDs.
pub(crate) struct Ring {
    entries: VecDeque<Entry>,
    bytes: usize,
    budget: Arc<Budget>,
    /// Everything after this ID, up to the slot's watermark, is here.
    complete_after: i64,
    deleted: bool,
    subscribers: HashMap<SubscriberId, Arc<Notify>>,
}

impl Ring {
    pub(crate) fn new(complete_after: i64, budget: Arc<Budget>) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            budget,
            complete_after,
            deleted: false,
            subscribers: HashMap::new(),
        }
    }

    pub(crate) fn subscribe(&mut self, id: SubscriberId, wake: Arc<Notify>) {
        self.subscribers.insert(id, wake);
    }

    /// Answers whether nobody is left.
    pub(crate) fn unsubscribe(&mut self, id: SubscriberId) -> bool {
        self.subscribers.remove(&id);
        self.subscribers.is_empty()
    }

    pub(crate) fn wake_all(&self) {
        for wake in self.subscribers.values() {
            wake.notify_one();
        }
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted
    }

    pub(crate) fn complete_after(&self) -> i64 {
        self.complete_after
    }

    /// Takes in what happened; events come by ascending ID. Answers whether streams care.
    pub(crate) fn apply(&mut self, event: &Event) -> bool {
        match &event.kind {
            EventKind::Message(message) => {
                self.push(Entry {
                    id: event.id,
                    frame: Some(Frame {
                        trace: message.traceparent.map(Undelivered::new),
                        ..Frame::new(message)
                    }),
                });
                true
            }
            EventKind::MessageDeleted(message) => {
                self.blank(*message);
                false
            }
            EventKind::ChannelDeleted => {
                self.deleted = true;
                true
            }
            EventKind::ChannelCreated
            | EventKind::AckMoved
            | EventKind::StatusChanged
            | EventKind::Denied => false,
        }
    }

    fn push(&mut self, entry: Entry) {
        self.grow(entry.frame.as_ref().map_or(0, |frame| frame.bytes.len()));
        self.entries.push_back(entry);
        while self.entries.len() > 1
            && (self.entries.len() > RING_FRAMES
                || self.bytes > RING_BYTES
                || self.budget.is_spent())
        {
            if let Some(oldest) = self.entries.pop_front() {
                self.shrink(oldest.frame.as_ref().map_or(0, |frame| frame.bytes.len()));
                self.complete_after = self.complete_after.max(oldest.id);
            }
        }
    }

    fn blank(&mut self, id: i64) {
        let found = self.entries.binary_search_by_key(&id, |entry| entry.id);
        if let Ok(index) = found
            && let Some(frame) = self.entries[index].frame.take()
        {
            self.shrink(frame.bytes.len());
        }
    }

    /// Forgets everything: what happened up to this ID is only in the tables.
    pub(crate) fn reset(&mut self, complete_after: i64) {
        self.entries.clear();
        self.shrink(self.bytes);
        self.complete_after = complete_after;
    }

    /// The frames after a cursor, oldest first, with their IDs.
    pub(crate) fn after(&self, cursor: i64) -> impl Iterator<Item = (i64, &Frame)> {
        let start = self.entries.partition_point(|entry| entry.id <= cursor);
        self.entries
            .range(start..)
            .filter_map(|entry| entry.frame.as_ref().map(|frame| (entry.id, frame)))
    }

    fn grow(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.budget.used.fetch_add(bytes, Ordering::Relaxed);
    }

    fn shrink(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
