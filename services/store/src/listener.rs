//! The listener: hears the bells of the other replicas, on the one connection that listens.

use crate::{
    DatabaseUrl, Result,
    bell::{self, Bell},
    connection::{Session, SessionKind, session},
    epochs::{self, Epochs},
    replicas::ReplicaId,
};
use std::{sync::Arc, time::Duration};
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
    const FIRST_PAUSE: Duration = Duration::from_millis(50);
    const LONGEST_PAUSE: Duration = Duration::from_secs(2);
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            outcome = connect(&url, bells.as_ref()) => match outcome {
                Ok(mut session) => {
                    pause = FIRST_PAUSE;
                    bells.listening();
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = hear(&mut session, replica, bells.as_ref()) => {}
                    }
                    tracing::warn!("The listener lost its connection");
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "The listener can't connect");
                }
            }
        }
        // Half of the pause is drawn by lot, so that a fleet doesn't come back as one.
        let drawn = pause.mul_f64(0.5 + rand::random::<f64>() / 2.0);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(drawn) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn connect(url: &DatabaseUrl, epochs: &dyn Bells) -> Result<Session> {
    let session = session(url, "handoff listener", SessionKind::Bell).await?;
    epochs.in_epoch(&epochs::establish(&session.client).await?);
    let listen = format!("listen {}; listen {}", bell::COMMITS, bell::KEYS);
    session.client.batch_execute(&listen).await?;
    Ok(session)
}

/// Passes on what is heard until the connection is lost.
async fn hear(session: &mut Session, replica: ReplicaId, bells: &dyn Bells) {
    while let Some(notice) = session.notices.recv().await {
        match Bell::parse(notice.channel(), notice.payload(), replica) {
            Some(Bell::Own) => {}
            Some(bell) => bells.heard(bell),
            // Perhaps of a newer release: something happened that we can't read.
            None => bells.listening(),
        }
    }
}
