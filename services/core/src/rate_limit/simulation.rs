//! The shares of a rate limit against a model of the bucket's row: several replicas, requests in any
//! pattern, asks that take their time, those of several replicas in any order. All is drawn from a
//! seed. No ask fails here, and none takes so long that a request passes without its share.
//!
//! What is checked: the fleet passes no more than the limit and a tenth in a window of the row. Of
//! the window, the start is left out for as long as the slowest ask and its answer take, each up to
//! 2 ms late: what replicas pass by then may be of the window before. And a key that uses one
//! replica, a lone one or one of several, is refused only after it had its whole limit there, in the
//! length of a window and the same time more.

use super::*;
use crate::planted::{self, Bug};
use handoff_simulation::{finds, simulate};
use rand::{RngExt, rngs::StdRng};
use std::collections::VecDeque;

const BUCKET: Bucket = [7; 32];
const WINDOW: Duration = Duration::from_secs(1);
const STEPS: u64 = 600;

/// The bucket's row, as the statement changes it.
#[derive(Default)]
struct Row {
    began: Option<Instant>,
    used: u64,
}

impl Row {
    fn take(&mut self, wanted: u64, limit: u64, now: Instant) -> Grant {
        if self.began.is_none_or(|began| began + WINDOW <= now) {
            (self.began, self.used) = (Some(now), 0);
        }
        let granted = wanted.min(limit - self.used);
        self.used += granted;
        let ends = self.began.unwrap_or(now) + WINDOW;
        Grant {
            granted,
            used: self.used,
            window_left: ends - now,
        }
    }
}

/// An ask on its way: to the row, then back.
enum Ask {
    There(Vec<(Bucket, u64)>),
    Back(Vec<(Bucket, u64)>, HashMap<Bucket, Grant>),
}

struct Replica {
    budgets: Arc<Budgets>,
    /// A replica has one ask under way.
    ask: Option<(Instant, Ask)>,
}

struct World {
    random: StdRng,
    limit: u64,
    row: Row,
    replicas: Vec<Replica>,
    /// Those that the key's requests go to.
    used: usize,
    now: Instant,
    /// When requests passed in the row's window, or in one of before.
    passed: VecDeque<Instant>,
    /// How long an ask takes each way at most.
    slowest: Duration,
}

impl World {
    fn new(mut random: StdRng, replicas: usize, used: usize) -> Self {
        let limit = [10, 50, 100, 1_000][random.random_range(0..4)];
        let replica = |_| {
            let budgets = Budgets::new(limit, WINDOW);
            budgets.set_live_replicas(replicas);
            Replica { budgets, ask: None }
        };
        Self {
            limit: u64::from(limit),
            row: Row::default(),
            replicas: (0..replicas).map(replica).collect(),
            used,
            now: Instant::now(),
            passed: VecDeque::new(),
            slowest: Duration::from_millis(random.random_range(1..60)),
            random,
        }
    }

    fn delay(&mut self) -> Duration {
        self.slowest.mul_f64(self.random.random())
    }

    /// Sends asks, and brings those that are due to the row or back.
    fn carry(&mut self) {
        for index in 0..self.replicas.len() {
            let delay = self.delay();
            let (now, limit) = (self.now, self.limit);
            let replica = &mut self.replicas[index];
            match replica.ask.take() {
                None => {
                    let wanted = replica.budgets.wanted();
                    if !wanted.is_empty() {
                        replica.ask = Some((now + delay, Ask::There(wanted)));
                    }
                }
                Some((due, ask)) if due > now => replica.ask = Some((due, ask)),
                Some((_, Ask::There(wanted))) => {
                    let grants = wanted
                        .iter()
                        .map(|(bucket, amount)| (*bucket, self.row.take(*amount, limit, now)));
                    let grants = grants.collect();
                    replica.ask = Some((now + delay, Ask::Back(wanted, grants)));
                }
                Some((_, Ask::Back(wanted, grants))) => {
                    replica.budgets.take_in(&wanted, &grants, now);
                }
            }
        }
    }

    /// A request that waits for its share as long as it takes: asks are faster than patience ends.
    fn request(&mut self) -> Spent {
        let replica = self.random.random_range(0..self.used);
        loop {
            match self.replicas[replica]
                .budgets
                .count(BUCKET, self.now, false)
            {
                Count::Done(spent) => {
                    if spent.refused.is_none() {
                        self.passed.push_back(self.now);
                    }
                    return spent;
                }
                Count::Wait(_) => {
                    self.now += Duration::from_millis(1);
                    self.carry();
                }
            }
        }
    }

    fn passed_since(&self, since: Instant) -> u64 {
        self.passed.iter().filter(|at| **at >= since).count() as u64
    }

    fn pause(&mut self) {
        let millis = match self.random.random_bool(0.02) {
            true => self.random.random_range(0..1_500),
            false => self.random.random_range(0..4),
        };
        for _ in 0..millis {
            self.now += Duration::from_millis(1);
            self.carry();
        }
    }

    /// By how much the windows of replicas and of the row lie apart: an ask and its answer, each on
    /// its way for so long at most, and noticed within a millisecond.
    fn apart(&self) -> Duration {
        2 * (self.slowest + Duration::from_millis(2))
    }
}

/// The fleet gives a tenth more than the limit at most in a window of the row, once the replicas have
/// heard that it began: until then they spend what the one before gave them.
fn run_fleet(mut random: StdRng) -> u64 {
    let replicas = random.random_range(2..=5);
    let mut world = World::new(random, replicas, replicas);
    for _ in 0..STEPS {
        world.pause();
        for _ in 0..world.random.random_range(0..=world.limit / 8) {
            world.request();
        }
        let Some(began) = world.row.began.filter(|began| *began + WINDOW > world.now) else {
            continue;
        };
        let passed = world.passed_since(began + world.apart());
        let most = world.limit + world.limit / 10;
        assert!(passed <= most, "{passed} of {} by {replicas}", world.limit);
        while world.passed.front().is_some_and(|at| *at + WINDOW < began) {
            world.passed.pop_front();
        }
    }
    STEPS
}

/// A key that uses one replica of several, or the only one, is refused nothing below its limit.
fn run_one(mut random: StdRng) -> u64 {
    let replicas = random.random_range(1..=4);
    let mut world = World::new(random, replicas, 1);
    for _ in 0..STEPS {
        world.pause();
        for _ in 0..world.random.random_range(0..=world.limit / 8) {
            let spent = world.request();
            let passed = world.passed_since(world.now - WINDOW - world.apart());
            if spent.refused.is_some() {
                assert!(
                    passed >= world.limit,
                    "refused after {passed} of {}",
                    world.limit
                );
            }
        }
        let since = world.now - WINDOW - world.apart();
        while world.passed.front().is_some_and(|at| *at < since) {
            world.passed.pop_front();
        }
    }
    STEPS
}

#[test]
fn simulation_of_a_fleet_stays_within_a_tenth() {
    simulate("rate limit of a fleet", 60, run_fleet);
}

#[test]
fn simulation_of_one_replica_refuses_nothing_below_the_limit() {
    simulate("rate limit of one replica", 60, run_one);
}

#[test]
fn simulation_finds_planted_bugs() {
    planted::with(Bug::FreeShares, || finds("free shares", 60, run_fleet));
    planted::with(Bug::VoidGrants, || finds("void grants", 60, run_one));
}
