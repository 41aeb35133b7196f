//! Those who read what is unread and ack it. Two share a sender, so that acks meet.

use std::sync::atomic::Ordering;
use std::time::Duration;

use handoff_checker::history::{Answer, Call, Message, Number};
use hyper::Method;
use rand::RngExt;
use serde::Deserialize;
use serde_json::json;

use super::readers::{Of, Page};
use super::seat::{Seat, Told, goes_on};

/// How long one rests between two requests.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Deserialize)]
struct WireAck {
    sender: String,
    last_read_id: String,
}

/// A sender's number, from a name like `session-3`; one that nobody has is the last one.
fn number_of(sender: &str) -> Number {
    let number = sender.strip_prefix("session-");
    let number = number.and_then(|number| number.parse().ok());
    number.unwrap_or(Number::MAX)
}

pub(super) async fn attend(mut seat: Seat, sender: Number) {
    let shared = seat.shared.clone();
    let mut stop = shared.stop.subscribe();
    let mut log = seat.log();
    while goes_on(&mut stop, PAUSE).await {
        let channel = seat.any_channel();
        let place = &shared.channels[channel];
        let c = place.number;
        log.invoke(Call::Unread { c, s: sender });
        let path = format!("/api/channels/{}/unread?limit=50", place.name);
        let ask = seat.ask(Method::GET, path);
        let told = seat.attempt(&ask).await;
        let page = match &told {
            Told::Ok(reply) => Page::read(Of::Messages, &reply.body, c),
            _ => None,
        };
        let Some(Page::Messages(items, more)) = page else {
            failed(&mut seat, &mut log, told, "unread").await;
            continue;
        };
        shared.meter.read.add(items.len() as u64);
        log.ok(Answer::Messages {
            items: items.clone(),
            more,
        });
        let newest = place.newest.load(Ordering::Relaxed);
        let Some(id) = choose(&mut seat, &items, newest) else {
            continue;
        };
        log.invoke(Call::Ack { c, s: sender, id });
        let body = json!({"last_read_id": id.to_string()});
        let path = format!("/api/channels/{}/ack", place.name);
        let ask = seat.ask(Method::POST, path).body(&body);
        let told = seat.attempt(&ask).await;
        let ack = match &told {
            Told::Ok(reply) => serde_json::from_slice::<WireAck>(&reply.body).ok(),
            _ => None,
        };
        let stands = ack.and_then(|ack| ack.last_read_id.parse().ok());
        match stands {
            Some(id) => {
                log.ok(Answer::Acked { id });
                shared.meter.acks.one();
            }
            None => failed(&mut seat, &mut log, told, "an ack").await,
        }
        if seat.random.random_bool(0.3) {
            read_acks(&mut seat, &mut log, channel).await;
        }
    }
}

/// Mostly the last one that it has read, sometimes an older one, sometimes the newest of all.
fn choose(seat: &mut Seat, items: &[Message], newest: u64) -> Option<u64> {
    let last = items.last()?.id;
    Some(match seat.random.random_range(0..10) {
        0..7 => last,
        7..9 => items[seat.random.random_range(0..items.len())].id,
        _ => last.max(newest),
    })
}

async fn read_acks(seat: &mut Seat, log: &mut handoff_checker::Log, channel: usize) {
    let shared = seat.shared.clone();
    let place = &shared.channels[channel];
    log.invoke(Call::Acks { c: place.number });
    let ask = seat.ask(Method::GET, format!("/api/channels/{}/acks", place.name));
    let told = seat.attempt(&ask).await;
    let acks = match &told {
        Told::Ok(reply) => acks_of(&reply.body),
        _ => None,
    };
    match acks {
        Some(acks) => drop(log.ok(Answer::Acks(acks))),
        None => failed(seat, log, told, "a read of acks").await,
    }
}

/// Acks as the relay gives them.
pub(super) fn acks_of(body: &[u8]) -> Option<Vec<(Number, u64)>> {
    let acks: Vec<WireAck> = serde_json::from_slice(body).ok()?;
    let read = |ack: WireAck| Some((number_of(&ack.sender), ack.last_read_id.parse().ok()?));
    acks.into_iter().map(read).collect()
}

/// Records what was refused, or not answered as it should have been.
pub(super) async fn failed(
    seat: &mut Seat,
    log: &mut handoff_checker::Log,
    told: Told,
    what: &str,
) {
    match told {
        Told::Ok(reply) => {
            log.info(reply.status);
            seat.shared
                .meter
                .refused(format!("{what} was answered with {:?}", reply.body));
        }
        Told::Refused(status) => {
            log.fail(status);
            seat.refused(what, status);
        }
        Told::Unknown(status) => log.info(status),
    }
    seat.rest().await;
}
