//! The listener against a model of Postgres: connections that can't be made or are lost at any
//! moment, with the bells on their way; bells that can't be read. All is drawn from a seed, and the
//! clock is tokio's, which goes on by itself when everything waits. Whatever was rung is heard, or
//! made up for by the settling after the next LISTEN; pauses are bounded, and short again after a
//! good connection.

use super::*;
use crate::{
    epochs::Epoch,
    planted::{self, Bug},
};
use handoff_protocol::keys::KeyHash;
use handoff_simulation::{finds, simulate};
use rand::{RngExt, rngs::StdRng};
use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard},
};
use tokio::{sync::mpsc, time::Instant};

const STEPS: u64 = 200;

/// Changes are numbered; each is rung for with a bell that names it.
struct World {
    random: StdRng,
    changes: u64,
    /// What the replica has not heard of, one way or the other.
    unknown: BTreeSet<u64>,
    /// The connection, if there is one that listens.
    connection: Option<mpsc::UnboundedSender<Heard>>,
    reachable: bool,
    /// When the last try was made, and how many have failed since the last good one.
    tried_at: Instant,
    failed: u32,
}

struct Model(Mutex<World>);

impl Model {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    async fn some_time(&self, most_ms: u64) {
        let millis = self.world().random.random_range(0..most_ms);
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    /// A commit of another replica, with its bell.
    fn change(&self) {
        let mut world = self.world();
        world.changes += 1;
        let number = world.changes;
        world.unknown.insert(number);
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_be_bytes());
        let heard = match world.random.random_range(0..20) {
            0 => Heard::Unreadable,
            _ => Heard::Bell(Bell::KeyChanged(KeyHash(hash))),
        };
        if let Some(connection) = &world.connection {
            let _ = connection.send(heard);
        }
    }
}

impl Ears for Model {
    type Session = mpsc::UnboundedReceiver<Heard>;

    async fn connect(&self) -> Result<Self::Session> {
        {
            let mut world = self.world();
            let (now, failed) = (Instant::now(), world.failed);
            let longest = (FIRST_PAUSE * 2_u32.pow(failed.min(6))).min(LONGEST_PAUSE);
            let waited = now - world.tried_at;
            assert!(waited <= longest, "tries again only after {waited:?}");
            world.failed += 1;
        }
        self.some_time(30).await;
        let receiver = {
            let mut world = self.world();
            world.tried_at = Instant::now();
            if !world.reachable || world.random.random_bool(0.3) {
                return Err(crate::Error::unavailable("nobody answers"));
            }
            let (sender, receiver) = mpsc::unbounded_channel();
            world.connection = Some(sender);
            world.failed = 0;
            receiver
        };
        // LISTEN is done; its answer is on its way.
        self.some_time(10).await;
        self.world().tried_at = Instant::now();
        Ok(receiver)
    }

    async fn next(&self, session: &mut Self::Session) -> Option<Heard> {
        let heard = session.recv().await;
        self.world().tried_at = Instant::now();
        heard
    }
}

impl Epochs for Model {
    fn in_epoch(&self, _: &Epoch) {}
}

impl Bells for Model {
    fn heard(&self, bell: Bell) {
        if let Bell::KeyChanged(KeyHash(hash)) = bell {
            let number = u64::from_be_bytes(hash[..8].try_into().unwrap());
            self.world().unknown.remove(&number);
        }
    }

    /// All is read anew.
    fn listening(&self) {
        self.world().unknown.clear();
    }
}

fn run(random: StdRng) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let model = Model(Mutex::new(World {
            random,
            changes: 0,
            unknown: BTreeSet::new(),
            connection: None,
            reachable: true,
            tried_at: Instant::now(),
            failed: 1,
        }));
        let world = async {
            for _ in 0..STEPS {
                model.some_time(60).await;
                let step = model.world().random.random_range(0..20);
                match step {
                    // Cut: what was sent and not yet read may or may not arrive.
                    0..3 => drop(model.world().connection.take()),
                    3 => {
                        let reachable = model.world().random.random_bool(0.6);
                        model.world().reachable = reachable;
                        model.world().connection = None;
                    }
                    _ => model.change(),
                }
            }
            model.world().reachable = true;
            // Long enough for the longest pause, and for several tries that fail by chance.
            tokio::time::sleep(60 * LONGEST_PAUSE).await;
            model.change();
            tokio::time::sleep(60 * LONGEST_PAUSE).await;
            let unknown = model.world().unknown.clone();
            assert!(unknown.is_empty(), "never heard of {unknown:?}");
        };
        let lot = || model.world().random.random();
        tokio::select! {
            biased;
            () = world => {}
            () = reconnect(&model, &model, lot) => {}
        }
    });
    STEPS
}

#[test]
fn simulation_hears_of_everything_in_the_end() {
    simulate("listener", 200, run);
}

#[test]
fn simulation_finds_planted_bugs() {
    planted::with(Bug::SkipSettling, || finds("skip settling", 20, run));
}
