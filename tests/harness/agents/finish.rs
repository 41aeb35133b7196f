//! The load's end: writers stop, readers read to the end, and what stands is read.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use handoff_checker::history::{Channel, Final, Id};
use hyper::Method;
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::readers::{LIMIT, Of, Page, page};
use super::seat::{Seat, Told};
use super::sessions::acks_of;
use super::setters::entries_of;
use super::{Agents, Counters, Shared};

/// Places that are read at a time in the end.
const READERS: usize = 4;

/// How much longer than its patience an agent may take to stop.
const GRACE: Duration = Duration::from_secs(30);

/// A load that is over.
#[derive(Clone, Debug)]
pub struct Finished {
    /// What the agents had done in the end.
    pub counters: Counters,
    /// Every reader read to the end, and all that stands was read.
    pub caught_up: bool,
    /// What was not: readers that did not get to the end, places that could not be read.
    pub behind: Vec<String>,
}

pub(super) async fn finish(agents: Agents, patience: Duration) -> Finished {
    let Agents {
        shared,
        mut writers,
        mut readers,
    } = agents;
    let mut behind = Vec::new();
    shared.stop.send_replace(true);
    let grace = shared.plan.patience + shared.plan.timeout + GRACE;
    let deadline = Instant::now() + grace;
    while let Some(writer) = join(&mut writers, deadline).await {
        if writer.is_none() {
            // What it had asked for stays of unknown outcome.
            behind.push(format!("{} writers did not stop", writers.len()));
            writers.abort_all();
        }
    }

    let mut clerk = Seat::new(&shared, &shared.admin, usize::MAX);
    let mut last = HashMap::new();
    for place in &shared.channels {
        let message = newest(&mut clerk, Of::Messages, &place.name).await;
        let change = newest(&mut clerk, Of::Changes, &place.name).await;
        if message.is_none() || change.is_none() {
            behind.push(format!("the end of {} could not be read", place.name));
        }
        last.insert(place.number, (message.unwrap_or(0), change.unwrap_or(0)));
    }
    let deadline = Instant::now() + patience;
    shared
        .ends
        .send_modify(|ends| ends.last = Some(Arc::new(last)));
    let mut gave_up = false;
    while let Some(reader) = join(&mut readers, deadline).await {
        match reader {
            Some(left) => behind.extend(left),
            None if gave_up => {
                behind.push(format!("{} readers did not stop", readers.len()));
                readers.abort_all();
            }
            None => {
                gave_up = true;
                shared.ends.send_modify(|ends| ends.give_up = true);
                // Each is told at its next turn, which its own waits bound.
                join_for(&mut readers, grace, &mut behind).await;
            }
        }
    }
    read_all(&shared, &mut behind).await;
    Finished {
        counters: shared.counters(),
        caught_up: behind.is_empty(),
        behind,
    }
}

/// The next task that ends: `Some(None)` when the time is over first. Panics as the task did.
async fn join<T: 'static>(tasks: &mut JoinSet<T>, deadline: Instant) -> Option<Option<T>> {
    match timeout_at(deadline, tasks.join_next()).await {
        Ok(None) => None,
        Ok(Some(Ok(done))) => Some(Some(done)),
        Ok(Some(Err(error))) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // One that was aborted.
        Ok(Some(Err(_))) => Box::pin(join(tasks, deadline)).await,
        Err(_) if tasks.is_empty() => None,
        Err(_) => Some(None),
    }
}

async fn join_for(readers: &mut JoinSet<Option<String>>, wait: Duration, behind: &mut Vec<String>) {
    let deadline = Instant::now() + wait;
    while let Some(Some(left)) = join(readers, deadline).await {
        behind.extend(left);
    }
}

#[derive(Deserialize)]
struct Newest {
    next_after_id: String,
}

/// The newest ID of a place; none if it can't be read.
async fn newest(clerk: &mut Seat, of: Of, channel: &str) -> Option<Id> {
    let resource = match of {
        Of::Messages => "messages",
        Of::Changes => "status/changes",
    };
    let path = format!("/api/channels/{channel}/{resource}?limit=1");
    let ask = clerk.ask(Method::GET, path);
    let Told::Ok(reply) = clerk.persist(&ask).await else {
        return None;
    };
    let newest: Newest = serde_json::from_slice(&reply.body).ok()?;
    newest.next_after_id.parse().ok()
}

/// Reads all places from their beginnings, a few at a time.
async fn read_all(shared: &Arc<Shared>, behind: &mut Vec<String>) {
    let mut readers = JoinSet::new();
    for reader in 0..READERS {
        let shared = shared.clone();
        readers.spawn(async move {
            let mut seat = Seat::new(&shared, &shared.admin, reader);
            let mut behind = Vec::new();
            for place in shared.channels.iter().skip(reader).step_by(READERS) {
                for of in [Of::Messages, Of::Changes] {
                    if read_place(&mut seat, of, &place.name, place.number)
                        .await
                        .is_none()
                    {
                        behind.push(format!("{of:?} of {} could not be read", place.name));
                    }
                }
                if read_state(&mut seat, &place.name, place.number)
                    .await
                    .is_none()
                {
                    behind.push(format!("the state of {} could not be read", place.name));
                }
            }
            behind
        });
    }
    while let Some(reader) = readers.join_next().await {
        match reader {
            Ok(left) => behind.extend(left),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    let mut clerk = Seat::new(shared, &shared.admin, 0);
    if read_channels(&mut clerk).await.is_none() {
        behind.push("the list of channels could not be read".to_owned());
    }
}

async fn read_place(seat: &mut Seat, of: Of, name: &str, c: Channel) -> Option<()> {
    let mut after = 0;
    loop {
        let ask = page(seat, of, name, after);
        let Told::Ok(reply) = seat.persist(&ask).await else {
            return None;
        };
        let page = Page::read(of, &reply.body, c)?;
        let more = page.has_more();
        // A page that claims that more follows, and doesn't move, would be asked for again and again.
        if more && (page.len() == 0 || page.len() > LIMIT || page.last() == Some(after)) {
            return None;
        }
        after = page.last().unwrap_or(after);
        let done = !more;
        seat.shared.recorder.stands(match page {
            Page::Messages(items, _) => Final::Messages { c, items, done },
            Page::Changes(items, _) => Final::Changes { c, items, done },
        });
        if done {
            return Some(());
        }
    }
}

async fn read_state(seat: &mut Seat, name: &str, c: Channel) -> Option<()> {
    let ask = seat.ask(Method::GET, format!("/api/channels/{name}/status"));
    let Told::Ok(reply) = seat.persist(&ask).await else {
        return None;
    };
    let entries = entries_of(&reply.body)?;
    seat.shared.recorder.stands(Final::Entries { c, entries });
    let ask = seat.ask(Method::GET, format!("/api/channels/{name}/acks"));
    let Told::Ok(reply) = seat.persist(&ask).await else {
        return None;
    };
    let mut acks = acks_of(&reply.body)?;
    // Probes of API keys ack the beginning, under names that no session has.
    acks.retain(|(_, id)| *id != 0);
    seat.shared.recorder.stands(Final::Acks { c, acks });
    Some(())
}

#[derive(Deserialize)]
struct Listed {
    name: String,
}

async fn read_channels(seat: &mut Seat) -> Option<()> {
    let ask = seat.ask(Method::GET, "/api/channels");
    let Told::Ok(reply) = seat.persist(&ask).await else {
        return None;
    };
    let listed: Vec<Listed> = serde_json::from_slice(&reply.body).ok()?;
    let numbers = &seat.shared.numbers;
    let channels = listed.iter().map(|channel| numbers.get(&channel.name));
    let channels = channels.flatten().copied().collect();
    seat.shared.recorder.stands(Final::Channels(channels));
    Some(())
}
