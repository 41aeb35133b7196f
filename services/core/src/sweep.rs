//! What a replica does every second: it makes up for bells that were never heard, reads which
//! keys changed, and says that it lives.

use crate::Relay;
use handoff_store::epochs::Epochs;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, time::MissedTickBehavior};

const EVERY: Duration = Duration::from_secs(1);
/// How long a key that is said to have changed may fail to be looked at before its streams end: a
/// connection that breaks says nothing of a key.
const RECHECK_TIME: Duration = Duration::from_millis(500);
const CLEAN_EVERY: Duration = Duration::from_secs(30);

impl Relay {
    /// Sweeps until the replica stops.
    pub(crate) async fn sweep(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut streams = None;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            self.budgets.forget_ended();
            self.open_streams.end_expired();
            let swept = tokio::join!(self.sweep_keys(), self.sweep_slots(), async {
                let counts = self.open_streams.counts();
                let changed = (streams.as_ref() != Some(&counts)).then_some(counts.as_slice());
                let began = Instant::now();
                let fleet = self.store.heartbeat(changed).await?;
                self.hints.beat(began, fleet.is_alone);
                if fleet.is_waited_for {
                    self.store.heartbeat(None).await?;
                }
                self.budgets.set_live_replicas(fleet.live);
                self.notifier.set_live_replicas(fleet.live);
                streams = Some(counts);
                Ok(())
            });
            if let (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) = swept {
                streams = None;
                tracing::warn!(error = &error as &dyn std::error::Error, "A sweep failed");
            }
        }
    }

    async fn sweep_slots(&self) -> handoff_store::Result<()> {
        let (last_values, epoch) = self.store.last_values().await?;
        if let Some(epoch) = epoch {
            self.feed.in_epoch(&epoch);
        }
        if planted!(SkipSweep | SwallowBell) {
            return Ok(());
        }
        self.feed.swept(&last_values);
        Ok(())
    }

    /// Reads which keys changed lately. After a pause that is too long for that, nothing that was
    /// remembered counts any more.
    async fn sweep_keys(&self) -> handoff_store::Result<()> {
        let began = Instant::now();
        let was_trusted = self.keys.is_trusted();
        let changed = self.store.recent_key_changes().await?;
        let until = Instant::now() + RECHECK_TIME;
        if planted!(ForgetRevocation) {
            // Nothing is heard of it.
        } else {
            if !was_trusted {
                self.keys.drop_all();
            }
            for (change, hash) in changed {
                if self.key_changes_seen.is_new(change) {
                    self.recheck_key(hash, until).await;
                }
            }
            if !was_trusted {
                // Nothing is said of these. Without Postgres streams stay open, so where it goes
                // away again none ends: the next sweep looks at them all.
                for (hash, _) in self.open_streams.counts() {
                    self.look_at_key(hash).await?;
                }
            }
        }
        self.keys.swept(began);
        Ok(())
    }

    /// Looks at the keys that are said to have changed, as they are rung for.
    pub(crate) async fn hear_of_keys(
        self: Arc<Self>,
        mut changed: mpsc::Receiver<handoff_protocol::keys::KeyHash>,
    ) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                hash = changed.recv() => match hash {
                    Some(hash) => self.recheck_key(hash, Instant::now() + RECHECK_TIME).await,
                    None => return,
                }
            }
        }
    }

    /// Forgets all keys when the database is another than it was: theirs may be others there.
    pub(crate) async fn hear_of_epochs(self: Arc<Self>) {
        let mut epoch = self.feed.epoch();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                changed = epoch.changed() => if changed.is_err() { return },
            }
            self.key_changes_seen.forget();
            self.keys.drop_all();
        }
    }

    /// Removes what nobody can see any more, until the replica stops.
    pub(crate) async fn clean(self: Arc<Self>) {
        loop {
            // Replicas take turns at random; each channel is one replica's work at a time.
            let pause = CLEAN_EVERY.mul_f64(0.5 + rand::random::<f64>());
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            if let Err(error) = self.refresh_signing_keys().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "The signing keys can't be looked at"
                );
            }
            while !self.stop.is_cancelled() {
                match self.store.clean().await {
                    Ok(true) => tokio::task::yield_now().await,
                    Ok(false) => break,
                    Err(error) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "Cleaning up failed"
                        );
                        break;
                    }
                }
            }
        }
    }
}
