//! API keys that change: their owners, those who use them on every replica, and their streams.
//!
//! No change is tried twice: an attempt that hangs in a stopped replica may still be made after later
//! ones. A key with such a change is given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use handoff_checker::Log;
use handoff_checker::history::{Answer, Call, Level, Number};
use hyper::Method;
use hyper::header::HeaderValue;
use rand::RngExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Shared;
use super::link::{Ask, bearer};
use super::seat::{Seat, Told, goes_on};
use super::streams::{Following, follow_with_key};

/// How often a replica is asked what a key may do.
const PROBE: Duration = Duration::from_millis(100);

/// How long a key is still used after it was revoked: longer than any bound.
const AFTERMATH: Duration = Duration::from_millis(6_000);

/// A key in use.
#[derive(Clone)]
struct Held {
    number: Number,
    key: HeaderValue,
}

#[derive(Deserialize)]
struct Made {
    api_key: String,
    key: String,
}

/// Numbers of keys, over all holders.
pub(super) type KeyNumbers = Arc<AtomicU32>;

/// Owns one key after the other, all for one channel.
pub(super) async fn hold(mut seat: Seat, number: usize, channel: usize, keys: KeyNumbers) {
    let shared = seat.shared.clone();
    let mut stop = shared.stop.subscribe();
    let mut log = seat.log();
    let current = watch::Sender::new(None::<Held>);
    let mut probers = JoinSet::new();
    for replica in 0..shared.replica_count() {
        let prober = Seat::new(&shared, &seat.key, 10_000 + 100 * number + replica);
        probers.spawn(probe(prober, replica, channel, current.subscribe()));
    }
    while goes_on(&mut stop, Duration::from_millis(100)).await {
        let held = keys.fetch_add(1, Ordering::Relaxed);
        let Some((held, hash)) = make(&mut seat, &mut log, number, channel, held).await else {
            seat.rest().await;
            continue;
        };
        current.send_replace(Some(held.clone()));
        let (end_stream, ended) = watch::channel(false);
        let follower = Seat::new(&shared, &held.key, 20_000 + number);
        let following = Following {
            channels: vec![channel],
            cursor: None,
            leaves: None,
            key: Some(held.number),
        };
        let stream = tokio::spawn(follow_with_key(follower, following, ended));
        let known = change(&mut seat, &mut log, &held, &hash, channel, &mut stop).await;
        if known {
            goes_on(&mut stop, AFTERMATH).await;
        }
        end_stream.send_replace(true);
        if let Err(error) = stream.await {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    // The probers end with it.
    drop(current);
    while let Some(prober) = probers.join_next().await {
        if let Err(error) = prober {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

fn permissions(shared: &Shared, channel: usize, level: Level) -> Value {
    let name = &shared.channels[channel].name;
    match level {
        Level::None => json!({}),
        Level::Read => json!({name: "read"}),
        Level::Write => json!({name: "write"}),
        Level::Admin => json!({name: "admin"}),
    }
}

/// Makes a key that may write.
async fn make(
    seat: &mut Seat,
    log: &mut Log,
    number: usize,
    channel: usize,
    key: Number,
) -> Option<(Held, String)> {
    let shared = seat.shared.clone();
    let replica = seat.random.random_range(0..shared.replica_count());
    log.invoke(Call::Grant {
        key,
        c: shared.channels[channel].number,
        level: Level::Write,
    });
    let body = json!({
        "sender_name": format!("holder-{number}"),
        "permissions": permissions(&shared, channel, Level::Write),
    });
    let ask = seat.ask(Method::POST, "/api/keys").body(&body);
    let told = seat.attempt_at(&shared.replica(replica), &ask).await;
    let made = match &told {
        Told::Ok(reply) => serde_json::from_slice::<Made>(&reply.body).ok(),
        _ => None,
    };
    settle(seat, log, &told, replica);
    let made = made?;
    shared.meter.key_changes.one();
    let held = Held {
        number: key,
        key: bearer(&made.api_key),
    };
    Some((held, made.key))
}

/// Changes what the key may do a few times, and revokes it; whether all of that is known to have
/// happened.
async fn change(
    seat: &mut Seat,
    log: &mut Log,
    held: &Held,
    hash: &str,
    channel: usize,
    stop: &mut watch::Receiver<bool>,
) -> bool {
    let shared = seat.shared.clone();
    let mut level = Level::Write;
    for _ in 0..seat.random.random_range(1..4) {
        let pause = Duration::from_millis(seat.random.random_range(300..2_500));
        if !goes_on(stop, pause).await {
            break;
        }
        let others: Vec<Level> = [Level::None, Level::Read, Level::Write]
            .into_iter()
            .filter(|other| *other != level)
            .collect();
        level = others[seat.random.random_range(0..others.len())];
        log.invoke(Call::Grant {
            key: held.number,
            c: shared.channels[channel].number,
            level,
        });
        let body = json!({"permissions": permissions(&shared, channel, level)});
        let path = format!("/api/keys/{hash}/permissions");
        let ask = seat.ask(Method::PUT, path).body(&body);
        if !apply(seat, log, &ask).await {
            return false;
        }
    }
    log.invoke(Call::Revoke { key: held.number });
    let ask = seat.ask(Method::DELETE, format!("/api/keys/{hash}"));
    apply(seat, log, &ask).await
}

/// One change on any replica; whether it is known to have happened.
async fn apply(seat: &mut Seat, log: &mut Log, ask: &Ask) -> bool {
    let shared = seat.shared.clone();
    let replica = seat.random.random_range(0..shared.replica_count());
    let told = seat.attempt_at(&shared.replica(replica), ask).await;
    settle(seat, log, &told, replica);
    let done = matches!(told, Told::Ok(_));
    if done {
        shared.meter.key_changes.one();
    }
    done
}

fn settle(seat: &Seat, log: &mut Log, told: &Told, replica: usize) {
    match told {
        Told::Ok(_) => {
            let n = Some(replica as Number);
            log.ok(Answer::Changed { n });
        }
        Told::Refused(status) => {
            log.fail(*status);
            seat.refused("a change of a key", *status);
        }
        Told::Unknown(status) => log.info(*status),
    }
}

/// Uses whatever key is current on one replica, until there is nobody who changes it.
async fn probe(
    mut seat: Seat,
    replica: usize,
    channel: usize,
    mut current: watch::Receiver<Option<Held>>,
) {
    let shared = seat.shared.clone();
    let mut log = seat.log();
    let place = &shared.channels[channel];
    let mut writes = false;
    loop {
        tokio::select! {
            changed = current.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(PROBE) => {
                if current.has_changed().is_err() {
                    return;
                }
            }
        }
        let Some(held) = current.borrow_and_update().clone() else {
            continue;
        };
        writes = !writes;
        let level = match writes {
            true => Level::Write,
            false => Level::Read,
        };
        log.invoke(Call::Probe {
            key: held.number,
            c: place.number,
            level,
            n: Some(replica as Number),
        });
        seat.key = held.key;
        // Neither changes anything: an ack of the beginning moves none.
        let ask = match writes {
            true => seat
                .ask(Method::POST, format!("/api/channels/{}/ack", place.name))
                .body(&json!({"last_read_id": "0"})),
            false => seat.ask(
                Method::GET,
                format!("/api/channels/{}/messages?limit=1", place.name),
            ),
        };
        match seat.attempt_at(&shared.replica(replica), &ask).await {
            Told::Ok(_) => drop(log.ok(Answer::Allowed(true))),
            Told::Refused(401 | 403) => drop(log.ok(Answer::Allowed(false))),
            Told::Refused(status) => {
                log.fail(status);
                seat.refused("a probe", status);
            }
            Told::Unknown(status) => log.info(status),
        }
        shared.meter.probes.one();
    }
}
