//! The listener: hears the bells of the other replicas, on the one connection that listens.

use crate::{
    DatabaseUrl, Result,
    bell::{self, Bell},
    connection::{Session, SessionKind, session},
    epochs::{self, Epochs},
    replicas::ReplicaId,
};
use std::{sync::Arc, time::Duration};
use tokio_postgres::Notification;
use tokio_util::sync::CancellationToken;

/// Who is told of what the listener hears. Calls must not block.
pub trait Bells: Epochs {
    /// A bell was heard.
    fn heard(&self, bell: Bell);
    /// Listening began, for the first time or after a connection was lost: what was rung before
    /// went unheard.
    fn listening(&self);
}

/// Listens until `stop`; a lost connection is made again, with back-off.
pub async fn listen(
    url: DatabaseUrl,
    replica: ReplicaId,
    bells: Arc<dyn Bells>,
    stop: CancellationToken,
) {
    let postgres = Postgres {
        url,
        replica,
        bells: bells.clone(),
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = reconnect(&postgres, bells.as_ref(), rand::random) => {}
    }
}

/// Where bells come from: Postgres, or the simulation's model of it.
trait Ears {
    type Session;
    /// Connects, and listens: what is rung from now on is heard, until the connection is lost.
    async fn connect(&self) -> Result<Self::Session>;
    /// The next bell, or none when the connection is lost.
    async fn next(&self, session: &mut Self::Session) -> Option<Heard>;
}

/// What was heard.
enum Heard {
    Bell(Bell),
    /// Perhaps of a newer release: something happened that we can't read.
    Unreadable,
}

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Passes on what is heard, for ever; `lot` draws between 0 and 1.
async fn reconnect<E: Ears>(ears: &E, bells: &dyn Bells, lot: impl Fn() -> f64) {
    let mut pause = FIRST_PAUSE;
    loop {
        match ears.connect().await {
            Ok(mut session) => {
                pause = FIRST_PAUSE;
                if !planted!(SkipSettling) {
                    bells.listening();
                }
                while let Some(heard) = ears.next(&mut session).await {
                    match heard {
                        Heard::Bell(Bell::Own) => {}
                        Heard::Bell(bell) => bells.heard(bell),
                        Heard::Unreadable => bells.listening(),
                    }
                }
                tracing::warn!("The listener lost its connection");
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "The listener can't connect"
                );
            }
        }
        // Half of the pause is drawn by lot, so that a fleet doesn't come back as one.
        tokio::time::sleep(pause.mul_f64(0.5 + lot() / 2.0)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

struct Postgres {
    url: DatabaseUrl,
    replica: ReplicaId,
    bells: Arc<dyn Bells>,
}

impl Ears for Postgres {
    type Session = Session;

    async fn connect(&self) -> Result<Session> {
        let session = session(&self.url, "handoff listener", SessionKind::Bell).await?;
        self.bells
            .in_epoch(&epochs::establish(&session.client).await?);
        let listen = format!("listen {}; listen {}", bell::COMMITS, bell::KEYS);
        session.client.batch_execute(&listen).await?;
        Ok(session)
    }

    async fn next(&self, session: &mut Session) -> Option<Heard> {
        let notice: Notification = session.notices.recv().await?;
        let bell = Bell::parse(notice.channel(), notice.payload(), self.replica);
        Some(bell.map_or(Heard::Unreadable, Heard::Bell))
    }
}

#[cfg(test)]
mod simulation;
