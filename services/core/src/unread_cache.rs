//! What was counted of callers' unread messages, so that the next look counts only what is new.
//!
//! A count is no answer: each look asks Postgres which of these counts still stand, and goes on
//! from them. So nothing here is ever stale, and it can be lost at any time.

use handoff_protocol::{Name, TeamId};
use handoff_store::{
    epochs::Epoch,
    inbox::{ChannelUnread, Counted},
};
use std::{sync::Arc, time::Duration};

/// Counts remembered at most, one a channel and caller; of about 50 bytes each.
const CAPACITY: u64 = 200_000;

/// Whose counts they are. In another epoch the same IDs may be other messages.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Counter {
    pub(crate) epoch: Option<Epoch>,
    pub(crate) team: TeamId,
    pub(crate) sender: Name,
}

pub(crate) struct UnreadCache {
    /// In ascending order of the channels.
    counts: moka::sync::Cache<Counter, Arc<[Counted]>>,
}

impl UnreadCache {
    pub(crate) fn new() -> Self {
        let weight = |_: &Counter, counts: &Arc<[Counted]>| {
            u32::try_from(counts.len()).unwrap_or(u32::MAX).max(1)
        };
        Self {
            counts: moka::sync::Cache::builder()
                .max_capacity(CAPACITY)
                .weigher(weight)
                .time_to_idle(Duration::from_secs(3_600))
                .build(),
        }
    }

    /// What was counted for a caller.
    pub(crate) fn get(&self, counter: &Counter) -> Arc<[Counted]> {
        self.counts.get(counter).unwrap_or_default()
    }

    /// Remembers what a look found that began with `known`. Counts of channels that it didn't look
    /// at stay, unless it looked at all.
    pub(crate) fn insert(
        &self,
        counter: Counter,
        known: &[Counted],
        found: &[ChannelUnread],
        looked_at_all: bool,
    ) {
        let was_found = |known: &&Counted| {
            let place = found.binary_search_by_key(&known.channel(), |channel| channel.id);
            place.is_ok()
        };
        let new = found.iter().map(|channel| channel.counted);
        let mut counts: Vec<_> = new.filter(Counted::is_of_use).collect();
        if !looked_at_all {
            counts.extend(known.iter().filter(|known| !was_found(known)));
            counts.sort_unstable_by_key(Counted::channel);
        }
        if counts != known {
            self.counts.insert(counter, counts.into());
        }
    }
}
