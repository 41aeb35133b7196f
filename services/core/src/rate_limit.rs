//! Rate limits that hold over the fleet, without asking for every request.
//!
//! A bucket (a key, or an address without one) has `limit` requests in a window that begins with
//! its first. A lone replica counts by itself. Several share: each spends a small part freely,
//! and beyond that takes tenths from the bucket's row in Postgres, ahead of need, many buckets a
//! statement. So a key that uses one replica has its whole limit there, and one that uses all of
//! them exceeds it by a tenth at most.

use foldhash::HashMap;
use handoff_store::{
    Store,
    rate_limits::{Bucket, Grant},
};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// Buckets counted at once at most; each is forgotten when its window ends.
const BUCKETS_MAX: usize = 200_000;
/// Buckets that one statement asks for.
const ASK_MAX: usize = 500;
/// How long a request waits for its share. After that it passes: what Postgres can't say in time
/// must not turn requests away.
const SHARE_WAIT: Duration = Duration::from_millis(500);

/// What a request is counted against.
#[derive(Clone, Copy, Debug)]
pub struct Budget(pub(crate) Bucket);

/// What came of counting a request.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    /// The whole limit.
    pub limit: u32,
    /// What is left in this window, as far as this replica knows.
    pub remaining: u32,
    /// The request is one too many; wait this long.
    pub refused: Option<Duration>,
}

/// Counts requests of a replica.
pub(crate) struct Budgets {
    limit: u32,
    window: Duration,
    live_replicas: AtomicUsize,
    buckets: Mutex<HashMap<Bucket, Window>>,
    asked: Notify,
}

/// A bucket's window, as this replica sees it.
struct Window {
    ends: Instant,
    /// What may still be spent without asking.
    share_left: u64,
    /// What is left of what the row gave.
    granted_left: u64,
    /// What was spent here and no row knows of.
    unreported: u64,
    /// What the fleet had taken, this replica's grants included, as the row said last.
    fleet_used: u64,
    /// The row has nothing more to give in this window.
    exhausted: bool,
    /// A request for a share is to be sent, or under way.
    asking: bool,
    answered: watch::Sender<()>,
}

enum Count {
    Done(Spent),
    Wait(watch::Receiver<()>),
}

impl Budgets {
    pub(crate) fn new(limit: u32, window: Duration) -> Arc<Self> {
        Arc::new(Self {
            limit,
            window,
            live_replicas: AtomicUsize::new(1),
            buckets: Mutex::default(),
            asked: Notify::new(),
        })
    }

    pub(crate) fn live_replicas(&self) -> usize {
        self.live_replicas.load(Ordering::Relaxed)
    }

    pub(crate) fn set_live_replicas(&self, live: usize) {
        self.live_replicas.store(live.max(1), Ordering::Relaxed);
    }

    fn buckets(&self) -> MutexGuard<'_, HashMap<Bucket, Window>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tenth(&self) -> u64 {
        (u64::from(self.limit) / 10).max(1)
    }

    /// Counts a request.
    pub(crate) async fn spend(&self, budget: Budget) -> Spent {
        let mut now = Instant::now();
        let deadline = now + SHARE_WAIT;
        loop {
            let mut answer = match self.count(budget.0, now, now >= deadline) {
                Count::Done(spent) => return spent,
                Count::Wait(answer) => answer,
            };
            // Boxed, since it is rare, and every request holds room for it.
            let changed = Box::pin(tokio::time::timeout_at(deadline.into(), answer.changed()));
            let _ = changed.await;
            now = Instant::now();
        }
    }

    fn count(&self, bucket: Bucket, now: Instant, must_decide: bool) -> Count {
        let (limit, tenth) = (u64::from(self.limit), self.tenth());
        let live = self.live_replicas() as u64;
        let mut buckets = self.buckets();
        if buckets.len() >= BUCKETS_MAX && !buckets.contains_key(&bucket) {
            buckets.retain(|_, window| window.ends > now);
            if buckets.len() >= BUCKETS_MAX {
                return Count::Done(self.refuse(Duration::from_secs(1)));
            }
        }
        let share = if live == 1 { limit } else { limit / 10 / live };
        let window = buckets
            .entry(bucket)
            .or_insert_with(|| Window::new(now, self.window, share));
        if window.ends <= now {
            window.restart(now, self.window, share);
        }
        if live == 1 && !window.exhausted {
            // Alone, perhaps since a moment ago: nobody to share with.
            window.share_left = limit.saturating_sub(window.used() + window.granted_left);
        }
        if !window.spend() {
            if live == 1 || window.exhausted {
                return Count::Done(self.refuse(window.ends.saturating_duration_since(now)));
            }
            if !must_decide {
                window.ask(&self.asked);
                return Count::Wait(window.answered.subscribe());
            }
            window.unreported += 1;
        }
        let running_out = window.share_left + window.granted_left <= tenth / 2;
        if live > 1 && running_out && !window.exhausted {
            window.ask(&self.asked);
        }
        let remaining = limit.saturating_sub(window.used()) as u32;
        Count::Done(Spent {
            limit: self.limit,
            remaining,
            refused: None,
        })
    }

    fn refuse(&self, wait: Duration) -> Spent {
        Spent {
            limit: self.limit,
            remaining: 0,
            refused: Some(wait),
        }
    }

    /// Forgets windows that have ended.
    pub(crate) fn forget_ended(&self) {
        let now = Instant::now();
        let mut buckets = self.buckets();
        buckets.retain(|_, window| window.ends > now || window.asking);
        if buckets.capacity() > 1_024 && buckets.len() < buckets.capacity() / 8 {
            buckets.shrink_to_fit();
        }
    }

    /// Takes shares for the buckets that need one, until `stop`.
    pub(crate) async fn take_shares(self: Arc<Self>, store: Arc<Store>, stop: CancellationToken) {
        loop {
            let wanted = self.wanted();
            if wanted.is_empty() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.asked.notified() => continue,
                }
            }
            let asked: Vec<Bucket> = wanted.iter().map(|(bucket, _)| *bucket).collect();
            match store
                .take_rate_limits(wanted.clone(), self.limit, self.window)
                .await
            {
                Ok(grants) => {
                    self.take_in(&wanted, &grants.into_iter().collect(), Instant::now());
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "Shares of rate limits can't be taken"
                    );
                    self.give_up(&asked);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn wanted(&self) -> Vec<(Bucket, u64)> {
        let buckets = self.buckets();
        let asking = buckets.iter().filter(|(_, window)| window.asking);
        asking
            .map(|(bucket, window)| (*bucket, window.unreported + self.tenth()))
            .take(ASK_MAX)
            .collect()
    }

    fn take_in(&self, wanted: &[(Bucket, u64)], grants: &HashMap<Bucket, Grant>, now: Instant) {
        let mut buckets = self.buckets();
        for (bucket, wanted) in wanted {
            let (Some(window), Some(grant)) = (buckets.get_mut(bucket), grants.get(bucket)) else {
                continue;
            };
            // What was given covers first what was spent without asking.
            let reported = wanted - self.tenth();
            window.unreported = window.unreported.saturating_sub(reported);
            if grant.used == grant.granted || planted!(VoidGrants) {
                // The row began a new window: what it gave in the last one is void.
                window.granted_left = 0;
            }
            window.granted_left += grant.granted.saturating_sub(reported);
            window.share_left = match planted!(FreeShares) {
                true => self.tenth(),
                false => 0,
            };
            window.exhausted = grant.granted < *wanted;
            window.fleet_used = grant.used;
            window.ends = now + grant.window_left;
            window.asking = false;
            window.answered.send_replace(());
        }
    }

    fn give_up(&self, asked: &[Bucket]) {
        let mut buckets = self.buckets();
        for bucket in asked {
            if let Some(window) = buckets.get_mut(bucket) {
                window.asking = false;
            }
        }
    }
}

impl Window {
    fn new(now: Instant, length: Duration, share: u64) -> Self {
        Self {
            ends: now + length,
            share_left: share,
            granted_left: 0,
            unreported: 0,
            fleet_used: 0,
            exhausted: false,
            asking: false,
            answered: watch::Sender::new(()),
        }
    }

    /// What the fleet has spent, as far as this replica knows.
    fn used(&self) -> u64 {
        self.fleet_used.saturating_sub(self.granted_left) + self.unreported
    }

    fn spend(&mut self) -> bool {
        if self.granted_left > 0 {
            self.granted_left -= 1;
            return true;
        }
        let free = self.share_left > 0;
        if free {
            self.share_left -= 1;
            self.unreported += 1;
        }
        free
    }

    fn ask(&mut self, asked: &Notify) {
        if !self.asking {
            self.asking = true;
            asked.notify_one();
        }
    }

    fn restart(&mut self, now: Instant, length: Duration, granted: u64) {
        let Self {
            asking, answered, ..
        } = std::mem::replace(self, Self::new(now, length, granted));
        self.asking = asking;
        self.answered = answered;
    }
}

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod tests {
    use super::*;

    const BUCKET: Bucket = [7; 32];

    fn count(budgets: &Budgets, now: Instant) -> Option<Spent> {
        match budgets.count(BUCKET, now, false) {
            Count::Done(spent) => Some(spent),
            Count::Wait(_) => None,
        }
    }

    #[test]
    fn a_lone_replica_has_the_whole_limit_in_each_window() {
        let budgets = Budgets::new(5, Duration::from_secs(1));
        let now = Instant::now();
        for left in (0..5).rev() {
            let spent = count(&budgets, now).unwrap();
            assert_eq!((spent.remaining, spent.refused), (left, None));
        }
        assert!(count(&budgets, now).unwrap().refused.is_some());
        assert!(
            count(&budgets, now + Duration::from_secs(1))
                .unwrap()
                .refused
                .is_none()
        );
    }

    /// The bucket's row, as the statement changes it.
    fn grant(row_used: &mut u64, wanted: u64, limit: u64) -> Grant {
        let granted = wanted.min(limit - *row_used);
        *row_used += granted;
        Grant {
            granted,
            used: *row_used,
            window_left: Duration::from_secs(1),
        }
    }

    fn spend_all(replicas: &[Arc<Budgets>], limit: u64) -> Vec<u64> {
        let now = Instant::now();
        let mut row = 0;
        let mut passed = vec![0; replicas.len()];
        loop {
            let mut refused = 0;
            for (replica, passed) in replicas.iter().zip(&mut passed) {
                match count(replica, now) {
                    Some(Spent { refused: None, .. }) => *passed += 1,
                    Some(_) => refused += 1,
                    None => {}
                }
                let wanted = replica.wanted();
                let grants = wanted
                    .iter()
                    .map(|(b, amount)| (*b, grant(&mut row, *amount, limit)));
                let grants = grants.collect();
                replica.take_in(&wanted, &grants, now);
            }
            if refused == replicas.len() {
                return passed;
            }
        }
    }

    fn fleet(size: usize, limit: u32) -> Vec<Arc<Budgets>> {
        let replica = |_| {
            let budgets = Budgets::new(limit, Duration::from_secs(1));
            budgets.set_live_replicas(size);
            budgets
        };
        (0..size).map(replica).collect()
    }

    #[test]
    fn one_replica_of_two_gives_the_whole_limit() {
        for limit in [1, 7, 100, 1_000] {
            let fleet = fleet(2, limit);
            assert_eq!(spend_all(&fleet[..1], u64::from(limit)), [u64::from(limit)]);
        }
    }

    #[test]
    fn a_fleet_exceeds_the_limit_by_a_tenth_at_most() {
        for (size, limit) in [(2, 100), (3, 100), (5, 1_000), (4, 10)] {
            let passed: u64 = spend_all(&fleet(size, limit), u64::from(limit))
                .iter()
                .sum();
            let limit = u64::from(limit);
            assert!(
                (limit..=limit + limit / 10).contains(&passed),
                "{size}: {passed} of {limit}"
            );
        }
    }

    #[test]
    fn what_a_row_gave_in_a_window_that_has_ended_is_void() {
        let replica = &fleet(2, 100)[0];
        let now = Instant::now();
        for _ in 0..2 {
            count(replica, now).unwrap();
            while replica.wanted().is_empty() {
                count(replica, now).unwrap();
            }
            // Each time the row knows of nothing: its window has just begun.
            let wanted = replica.wanted();
            let grants = wanted
                .iter()
                .map(|(b, amount)| (*b, grant(&mut 0, *amount, 100)));
            replica.take_in(&wanted, &grants.collect(), now);
        }
        assert_eq!(count(replica, now).unwrap().remaining, 99);
    }
}
