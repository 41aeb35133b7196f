//! Those who post, in an open loop: every post has the time at which it is due, whatever became of
//! those before it. What is late is made up for as fast as the relay takes it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use handoff_checker::Log;
use handoff_checker::history::{Answer, Call, Id};
use hyper::Method;
use rand::RngExt;
use serde::Serialize;
use tokio::time::Instant;

use super::Shared;
use super::content::{WireMessage, compose};
use super::link::Reply;
use super::seat::{Seat, Told, goes_on};

#[derive(Serialize)]
pub(super) struct Body<'a> {
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mention: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_id: Option<String>,
}

/// A post to be made.
pub(super) struct Post {
    pub(super) channel: usize,
    pub(super) bytes: usize,
    pub(super) with_key: bool,
    /// Another agent: its number in the history, and its name.
    pub(super) mention: Option<(u32, String)>,
    pub(super) thread: Option<Id>,
}

/// What became of it.
pub(super) enum Posted {
    At(Id),
    Refused,
    Unknown,
}

/// Posts whenever a post is due.
pub(super) async fn post(mut seat: Seat, sender: String, began: Instant) {
    let shared = seat.shared.clone();
    let mut stop = shared.stop.subscribe();
    let mut log = seat.log();
    // What it may reply to: its last message in each channel.
    let mut own: Vec<Option<Id>> = vec![None; shared.channels.len()];
    while let Some(due) = next_due(&shared, began) {
        let wait = due.saturating_duration_since(Instant::now());
        if !goes_on(&mut stop, wait).await {
            return;
        }
        let channel = seat.any_channel();
        let (shortest, longest) = shared.plan.bytes;
        let post = Post {
            channel,
            bytes: seat.random.random_range(shortest..=longest.max(shortest)),
            with_key: seat.random.random_bool(0.9),
            mention: seat.random.random_bool(0.1).then(|| {
                let other = seat.random.random_range(0..shared.plan.sessions.max(1)) as u32;
                (other, format!("session-{other}"))
            }),
            thread: own[channel].filter(|_| seat.random.random_bool(0.05)),
        };
        if let Posted::At(id) = send(&mut seat, &mut log, &sender, post).await {
            own[channel] = Some(id);
        }
    }
}

/// When the next post is due; posts that are too late are left out.
fn next_due(shared: &Arc<Shared>, began: Instant) -> Option<Instant> {
    let plan = &shared.plan;
    if plan.rate <= 0.0 {
        return None;
    }
    let due_by_now = (began.elapsed().as_secs_f64() * plan.rate) as u64;
    let oldest = due_by_now.saturating_sub(plan.backlog);
    let before = shared.tickets.fetch_max(oldest, Ordering::Relaxed);
    shared.meter.posts_late.add(oldest.saturating_sub(before));
    let ticket = shared.tickets.fetch_add(1, Ordering::Relaxed);
    Some(began + Duration::from_secs_f64(ticket as f64 / plan.rate))
}

/// Makes one post, with its retries, and records it.
pub(super) async fn send(seat: &mut Seat, log: &mut Log, sender: &str, post: Post) -> Posted {
    let shared = seat.shared.clone();
    let place = &shared.channels[post.channel];
    let value = shared.values.fetch_add(1, Ordering::Relaxed);
    let mention = post.mention.as_ref().map(|(_, name)| name.as_str());
    let content = compose(value, sender, mention, post.thread, post.bytes);
    let body = Body {
        content: &content,
        mention,
        thread_id: post.thread.map(|id| id.to_string()),
    };
    let path = format!("/api/channels/{}/messages", place.name);
    let mut ask = seat.ask(Method::POST, path).body(&body);
    if post.with_key {
        ask = ask.header("idempotency-key", &value.to_string());
    }
    let call = Call::Post {
        c: place.number,
        v: value,
        key: post.with_key,
        mention: post.mention.as_ref().map(|(number, _)| *number),
        thread: post.thread,
    };
    let began = log.invoke(call);
    shared.meter.post_began(value, began);
    let end = Instant::now() + shared.plan.patience;
    let mut unknown = None;
    let told = loop {
        let told = seat.attempt(&ask).await;
        let Told::Unknown(status) = told else {
            break told;
        };
        unknown = Some(status);
        if !post.with_key || Instant::now() >= end {
            break told;
        }
        shared.meter.retries.one();
        seat.rest().await;
    };
    match told {
        Told::Ok(reply) => {
            let (id, seq) = read(&reply, &place.name, value);
            let ended = log.ok(Answer::Posted { id, seq });
            place.newest.fetch_max(id, Ordering::Relaxed);
            shared.meter.posts_acked.one();
            shared.meter.post_answered(ended - began);
            Posted::At(id)
        }
        Told::Refused(status) => {
            seat.refused("a post", status);
            match unknown {
                // An attempt before may have been taken.
                Some(status) => log.info(status),
                None => log.fail(status),
            }
            shared.meter.posts_refused.one();
            Posted::Refused
        }
        Told::Unknown(status) => {
            log.info(status);
            shared.meter.posts_unknown.one();
            Posted::Unknown
        }
    }
}

/// ID and `seq` of the message that was answered; of another one than was posted: zeros, which no
/// message has.
fn read(reply: &Reply, channel: &str, value: u64) -> (Id, u64) {
    let message = serde_json::from_slice::<WireMessage<'_>>(&reply.body).ok();
    let own = message.filter(|message| message.channel == channel && message.value() == value);
    let told = own.and_then(|message| Some((message.id.parse().ok()?, message.seq)));
    told.unwrap_or((0, 0))
}
