//! Those who set, delete and read status entries. Each attempt is an operation of its own: a setter
//! that is not answered sets another value next.

use std::sync::atomic::Ordering;
use std::time::Duration;

use handoff_checker::Log;
use handoff_checker::history::{Answer, Call, Number, Value};
use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rand::RngExt;
use serde::Deserialize;
use serde_json::json;

use super::content::{key_name, key_of, value_of};
use super::seat::{Seat, Told, goes_on};
use super::sessions::failed;

/// How long one rests between two requests.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Deserialize)]
struct WireEntry {
    key: String,
    value: String,
}

/// The entries of a channel as the relay gives them.
pub(super) fn entries_of(body: &[u8]) -> Option<Vec<(Number, Value)>> {
    let entries: Vec<WireEntry> = serde_json::from_slice(body).ok()?;
    let read = |entry: WireEntry| (key_of(&entry.key), value_of(&entry.value));
    Some(entries.into_iter().map(read).collect())
}

pub(super) async fn set(mut seat: Seat) {
    let shared = seat.shared.clone();
    let mut stop = shared.stop.subscribe();
    let mut log = seat.log();
    while goes_on(&mut stop, PAUSE).await {
        let channel = seat.any_channel();
        let key = seat.random.random_range(0..shared.plan.status_keys.max(1));
        match seat.random.random_range(0..10) {
            0..6 => set_entry(&mut seat, &mut log, channel, key).await,
            6 => delete_entry(&mut seat, &mut log, channel, key).await,
            _ => read_entry(&mut seat, &mut log, channel, key).await,
        }
    }
}

async fn set_entry(seat: &mut Seat, log: &mut Log, channel: usize, key: Number) {
    let shared = seat.shared.clone();
    let place = &shared.channels[channel];
    let value = shared.values.fetch_add(1, Ordering::Relaxed);
    log.invoke(Call::Set {
        c: place.number,
        k: key,
        v: value,
    });
    let body = json!({"key": key_name(key), "value": value.to_string()});
    let path = format!("/api/channels/{}/status", place.name);
    let ask = seat.ask(Method::PUT, path).body(&body);
    let told = seat.attempt(&ask).await;
    let is_own = match &told {
        Told::Ok(reply) => serde_json::from_slice(&reply.body)
            .is_ok_and(|entry: WireEntry| value_of(&entry.value) == value),
        _ => false,
    };
    if is_own {
        log.ok(Answer::Done);
        shared.meter.status_writes.one();
    } else {
        failed(seat, log, told, "a status").await;
    }
}

async fn delete_entry(seat: &mut Seat, log: &mut Log, channel: usize, key: Number) {
    let shared = seat.shared.clone();
    let place = &shared.channels[channel];
    log.invoke(Call::Unset {
        c: place.number,
        k: key,
    });
    let name = key_name(key);
    let name = utf8_percent_encode(&name, NON_ALPHANUMERIC);
    let path = format!("/api/channels/{}/status/{name}", place.name);
    let ask = seat.ask(Method::DELETE, path);
    match seat.attempt(&ask).await {
        Told::Ok(_) => {
            log.ok(Answer::Done);
            shared.meter.status_writes.one();
        }
        // There is no entry, which is an answer.
        Told::Refused(404) => log.fail(404),
        told => failed(seat, log, told, "a status' deletion").await,
    }
}

async fn read_entry(seat: &mut Seat, log: &mut Log, channel: usize, key: Number) {
    let shared = seat.shared.clone();
    let place = &shared.channels[channel];
    log.invoke(Call::Get {
        c: place.number,
        k: key,
    });
    let name = key_name(key);
    let name = utf8_percent_encode(&name, NON_ALPHANUMERIC);
    let path = format!("/api/channels/{}/status?key={name}", place.name);
    let ask = seat.ask(Method::GET, path);
    let told = seat.attempt(&ask).await;
    let entries = match &told {
        Told::Ok(reply) => entries_of(&reply.body),
        _ => None,
    };
    match entries {
        Some(entries) => {
            let entry = entries.iter().find(|(listed, _)| *listed == key);
            log.ok(Answer::Value(entry.map(|(_, value)| *value)));
            shared.meter.status_reads.one();
        }
        None => failed(seat, log, told, "a read of a status").await,
    }
}
