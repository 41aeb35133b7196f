//! One a replica: posts to it directly, again and again, so that its absences are seen.

use std::time::Duration;

use handoff_checker::history::{Answer, Call};
use hyper::Method;
use std::sync::atomic::Ordering;

use super::content::{WireMessage, compose};
use super::seat::{Seat, Told, goes_on};

/// How long a pulse waits for its answer: one that hangs must not hide that others would be answered.
const TIMEOUT: Duration = Duration::from_secs(1);

pub(super) async fn pulse(mut seat: Seat, replica: usize, channel: usize) {
    seat.link = super::link::Link::new(TIMEOUT);
    let shared = seat.shared.clone();
    let mut stop = shared.stop.subscribe();
    let mut log = seat.log();
    let sender = format!("pulse-{replica}");
    let place = &shared.channels[channel];
    let path = format!("/api/channels/{}/messages", place.name);
    while goes_on(&mut stop, shared.plan.pulse).await {
        let value = shared.values.fetch_add(1, Ordering::Relaxed);
        let content = compose(value, &sender, None, None, 0);
        let body = serde_json::json!({"content": content});
        let ask = seat.ask(Method::POST, &path).body(&body);
        let host = shared.replica(replica);
        let began = log.invoke(Call::Post {
            c: place.number,
            v: value,
            key: false,
            mention: None,
            thread: None,
        });
        shared.meter.post_began(value, began);
        let told = seat.attempt_at(&host, &ask).await;
        let ok = matches!(told, Told::Ok(_));
        match told {
            Told::Ok(reply) => {
                let message = serde_json::from_slice::<WireMessage<'_>>(&reply.body).ok();
                let own = message.filter(|message| message.value() == value);
                let told = own.and_then(|message| Some((message.id.parse().ok()?, message.seq)));
                let (id, seq) = told.unwrap_or((0, 0));
                log.ok(Answer::Posted { id, seq });
                shared.meter.posts_acked.one();
                place.newest.fetch_max(id, Ordering::Relaxed);
            }
            Told::Refused(status) => {
                log.fail(status);
                shared.meter.posts_refused.one();
                seat.refused("a pulse", status);
            }
            Told::Unknown(status) => {
                log.info(status);
                shared.meter.posts_unknown.one();
            }
        }
        shared.meter.pulse(replica, shared.elapsed(), ok);
    }
}
