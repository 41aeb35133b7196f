//! Every statement of the request path and of the feed, by name, for the test that looks at their
//! plans: each must find its rows by index, however large the tables are.

use crate::{
    acks, append, audit, channels, feed, inbox, messages, rate_limits, replicas, slots, statuses,
    waits,
};
use handoff_protocol::{Id, messages::MessageFilter};

/// The names and texts.
pub fn hot_statements() -> Vec<(String, String)> {
    let mut statements: Vec<(String, String)> = [
        ("lane: lock", slots::LOCK),
        ("lane: create channels", channels::CREATE),
        ("lane: delete channels", channels::DELETE),
        ("lane: append messages", append::EACH),
        ("lane: delete messages", messages::DELETE),
        ("lane: move acks", acks::MOVE),
        ("lane: set statuses", statuses::SET),
        ("lane: delete statuses", statuses::DELETE),
        ("lane: append denials", audit::APPEND),
        ("list channels", channels::LIST),
        ("find channel", channels::FIND),
        ("resolve channels", channels::RESOLVE),
        ("deleted channels", channels::DELETED),
        ("find message", messages::FIND),
        ("unread", messages::UNREAD),
        ("read ack", messages::MARK),
        ("stream page", messages::STREAM_PAGE),
        ("feed: messages", messages::IN_RANGE),
        ("feed: deleted messages", feed::DELETED_MESSAGES),
        ("feed: deleted channels", feed::DELETED_CHANNELS),
        ("inbox: channels", inbox::HEADS),
        ("inbox: mentions", inbox::MENTIONS),
        ("inbox: other messages", inbox::OTHERS),
        ("inbox: announced", inbox::ANNOUNCED),
        ("inbox: announce", inbox::ANNOUNCE),
        ("wait: statuses", waits::STATUSES),
        ("wait: acks", waits::ACKS),
        ("list acks", acks::LIST),
        ("list statuses", statuses::LIST),
        ("status changes after", statuses::CHANGES_AFTER),
        ("newest status changes", statuses::NEWEST_CHANGES),
        ("audit after", audit::AFTER),
        ("newest audit", audit::NEWEST),
        ("take rate limits", rate_limits::TAKE),
        ("streams elsewhere", replicas::STREAMS_ELSEWHERE),
    ]
    .map(|(name, sql)| (name.to_owned(), sql.to_owned()))
    .into();
    for parts in append::Parts::every() {
        for (name, sql) in [
            ("lane: append all messages", append::all(parts)),
            ("lane: append messages alone", append::alone(parts)),
        ] {
            let mut name = name.to_owned();
            name += if parts.mentions { ", mentions" } else { "" };
            name += if parts.replies { ", replies" } else { "" };
            statements.push((name, sql));
        }
    }
    for filters in 0..8 {
        let text = |bit: u8| (filters & bit != 0).then(|| "x".to_owned());
        let filter = MessageFilter {
            mention: text(1),
            sender: text(2),
            thread_id: (filters & 4 != 0).then_some(Id::BEGINNING),
        };
        for newest in [false, true] {
            let name = format!("messages page, filters {filters:03b}, newest {newest}");
            statements.push((name, messages::page_statement(&filter, newest)));
        }
    }
    statements
}
