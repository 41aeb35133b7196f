//! Those who read by pages, each from the beginning on.

use std::time::Duration;

use handoff_checker::Log;
use handoff_checker::history::{Answer, Call, Change, Channel, Id, Message};
use hyper::Method;
use serde::Deserialize;
use tokio::time::timeout;

use super::Ends;
use super::content::{WireChange, WireMessage};
use super::link::Ask;
use super::seat::{Seat, Told};

/// Items on a page at most.
pub(super) const LIMIT: usize = 100;

/// How long a reader rests when it has everything.
const IDLE: Duration = Duration::from_millis(50);

#[derive(Deserialize)]
struct MessagePage<'a> {
    #[serde(borrow)]
    messages: Vec<WireMessage<'a>>,
    has_more: bool,
}

#[derive(Deserialize)]
struct ChangePage<'a> {
    #[serde(borrow)]
    changes: Vec<WireChange<'a>>,
    has_more: bool,
}

/// What a channel's pages are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Messages,
    Changes,
}

/// A page as the relay gave it.
pub(super) enum Page {
    Messages(Vec<Message>, bool),
    Changes(Vec<Change>, bool),
}

impl Page {
    /// None for what is no such page.
    pub(super) fn read(of: Of, body: &[u8], channel: Channel) -> Option<Page> {
        match of {
            Of::Messages => {
                let page: MessagePage<'_> = serde_json::from_slice(body).ok()?;
                let items = page.messages.iter().map(|message| message.read(channel));
                Some(Page::Messages(items.collect::<Option<_>>()?, page.has_more))
            }
            Of::Changes => {
                let page: ChangePage<'_> = serde_json::from_slice(body).ok()?;
                let items = page.changes.iter().map(|change| change.read(channel));
                Some(Page::Changes(items.collect::<Option<_>>()?, page.has_more))
            }
        }
    }

    pub(super) fn last(&self) -> Option<Id> {
        match self {
            Page::Messages(items, _) => items.last().map(|item| item.id),
            Page::Changes(items, _) => items.last().map(|item| item.id),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Page::Messages(items, _) => items.len(),
            Page::Changes(items, _) => items.len(),
        }
    }

    pub(super) fn has_more(&self) -> bool {
        match self {
            Page::Messages(_, more) | Page::Changes(_, more) => *more,
        }
    }

    fn answer(self) -> Answer {
        match self {
            Page::Messages(items, more) => Answer::Messages { items, more },
            Page::Changes(items, more) => Answer::Changes { items, more },
        }
    }
}

/// The request for the page of a channel after a cursor.
pub(super) fn page(seat: &Seat, of: Of, channel: &str, after: Id) -> Ask {
    let resource = match of {
        Of::Messages => "messages",
        Of::Changes => "status/changes",
    };
    let path = format!("/api/channels/{channel}/{resource}?after_id={after}&limit={LIMIT}");
    seat.ask(Method::GET, path)
}

/// A walk over one channel.
struct Walk {
    log: Log,
    channel: usize,
    cursor: Id,
    done: bool,
}

/// Walks over all these channels, page by page; tells where it could not get to.
pub(super) async fn walk(mut seat: Seat, of: Of, channels: Vec<usize>) -> Option<String> {
    let shared = seat.shared.clone();
    let mut ends = shared.ends.subscribe();
    let mut walks: Vec<Walk> = channels
        .into_iter()
        .map(|channel| Walk {
            log: seat.log(),
            channel,
            cursor: 0,
            done: false,
        })
        .collect();
    loop {
        let mut progress = false;
        for walk in walks.iter_mut().filter(|walk| !walk.done) {
            let place = &shared.channels[walk.channel];
            let now = ends.borrow_and_update().clone();
            if let Some(end) = end_of(&now, of, place.number)
                && (walk.cursor >= end || now.give_up)
            {
                walk.log.due(end);
                walk.done = true;
                if walk.cursor < end {
                    return Some(format!(
                        "a walk over {} is at {}, not {end}",
                        place.name, walk.cursor
                    ));
                }
                continue;
            }
            progress |= step(&mut seat, walk, of).await;
        }
        if walks.iter().all(|walk| walk.done) {
            return None;
        }
        if !progress {
            let _ = timeout(IDLE, ends.changed()).await;
        }
    }
}

fn end_of(ends: &Ends, of: Of, channel: Channel) -> Option<Id> {
    let (message, change) = ends.last.as_ref()?.get(&channel).copied().unwrap_or((0, 0));
    Some(match of {
        Of::Messages => message,
        Of::Changes => change,
    })
}

/// One page; whether more is there already.
async fn step(seat: &mut Seat, walk: &mut Walk, of: Of) -> bool {
    let shared = seat.shared.clone();
    let place = &shared.channels[walk.channel];
    let (c, after) = (place.number, walk.cursor);
    walk.log.invoke(match of {
        Of::Messages => Call::Messages { c, after },
        Of::Changes => Call::Changes { c, after },
    });
    let ask = page(seat, of, &place.name, after);
    match seat.attempt(&ask).await {
        Told::Ok(reply) => match Page::read(of, &reply.body, c) {
            Some(page) => {
                shared.meter.read.add(page.len() as u64);
                walk.cursor = page.last().unwrap_or(walk.cursor);
                let more = page.has_more();
                walk.log.ok(page.answer());
                more
            }
            None => {
                walk.log.info(reply.status);
                shared.meter.refused(format!("no page: {:?}", reply.body));
                seat.rest().await;
                false
            }
        },
        Told::Refused(status) => {
            walk.log.fail(status);
            seat.refused("a page", status);
            seat.rest().await;
            false
        }
        Told::Unknown(status) => {
            walk.log.info(status);
            seat.rest().await;
            false
        }
    }
}
