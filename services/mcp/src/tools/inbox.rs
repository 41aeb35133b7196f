//! What the caller has not read: all of it at once, or the next that comes.

use super::{Call, Outcome, Result};
use crate::{
    failure::Failure,
    present::{NOTE, Place, capped, counted, messages_data, name, write_message},
};
use handoff_client::{
    Error,
    types::{Inbox, InboxQuery, Message},
};
use rmcp::model::{JsonObject, ProgressNotificationParam, ProgressToken};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Write, time::Duration};
use tokio::time::Instant;

/// How long one request to the relay waits: progress goes out in between.
const SLICE: Duration = Duration::from_secs(10);
/// How long to wait over HTTP unless told: clients give up on a response without a first byte
/// after a minute.
const HTTP_TIMEOUT_SECONDS: u32 = 45;
/// The most over HTTP for a client that takes no progress, for the same reason.
const HTTP_SILENT_TIMEOUT_SECONDS: u32 = 50;
/// How long to wait over stdio unless told: calls of two minutes are put into the background.
const STDIO_TIMEOUT_SECONDS: u32 = 100;
/// How long to let a relay be that could not be reached, or that does not know how to wait.
const PAUSE: Duration = Duration::from_secs(2);

pub(super) async fn read_inbox(call: &Call<'_>) -> Result<Outcome> {
    let query = InboxQuery {
        max_bytes: call.arguments.number("max_bytes"),
        ..InboxQuery::default()
    };
    let inbox = call.client.inbox(&query).await?;
    let mut data = inbox_data(&inbox);
    data.insert("has_more".to_owned(), inbox.has_more.into());
    Ok(Outcome {
        text: inbox_text(&inbox),
        data,
        unread: Some(inbox.unread),
    })
}

pub(super) async fn wait_for_messages(call: &Call<'_>) -> Result<Outcome> {
    let token = call.context.meta.get_progress_token();
    let asked = call.arguments.number("timeout_seconds");
    let timeout_seconds = match call.over_http {
        true => {
            let seconds = asked.unwrap_or(HTTP_TIMEOUT_SECONDS);
            match token {
                Some(_) => seconds,
                None => seconds.min(HTTP_SILENT_TIMEOUT_SECONDS),
            }
        }
        false => asked.unwrap_or(STDIO_TIMEOUT_SECONDS),
    };
    let query = InboxQuery {
        after_id: call.arguments.owned("after_id"),
        channels: call.arguments.names("channels"),
        mentions_only: call.arguments.flag("mentions_only"),
        ..InboxQuery::default()
    };
    tokio::select! {
        inbox = wait(call, query, timeout_seconds, token) => {
            let (inbox, arrived) = inbox?;
            Ok(arrival(inbox, arrived, timeout_seconds))
        }
        () = call.context.ct.cancelled() => Err(Failure::Cancelled),
    }
}

/// Asks until there is something to show, or time is up: the last answer, and which it was.
async fn wait(
    call: &Call<'_>,
    mut query: InboxQuery,
    timeout_seconds: u32,
    token: Option<ProgressToken>,
) -> Result<(Inbox, bool)> {
    let started = Instant::now();
    let deadline = started + Duration::from_secs(timeout_seconds.into());
    let mut last = Inbox::default();
    loop {
        let asked = Instant::now();
        let slice = deadline.saturating_duration_since(asked).min(SLICE);
        query.wait_seconds = Some(slice.as_secs_f64().ceil() as u32);
        match call.client.inbox(&query).await {
            Ok(inbox) if has_news(&inbox) => return Ok((inbox, true)),
            Ok(inbox) => last = inbox,
            // A relay that is being replaced is no reason to stop waiting.
            Err(error @ Error::Transport(_)) if Instant::now() + PAUSE < deadline => {
                tracing::debug!("Wait goes on after a failure: {error}");
            }
            Err(error) => return Err(error.into()),
        }
        let now = Instant::now();
        if now >= deadline {
            return Ok((last, false));
        }
        // It was asked to hold its answer and did not.
        if now - asked < PAUSE.min(slice) {
            tokio::time::sleep_until(deadline.min(now + PAUSE)).await;
        }
        if let Some(token) = &token {
            let progress = ProgressNotificationParam::new(
                token.clone(),
                started.elapsed().as_secs_f64().round(),
            )
            .with_total(timeout_seconds.into())
            .with_message("Nothing has arrived yet");
            // A client that is gone cancels the call by itself.
            let _ = call.context.peer.notify_progress(progress).await;
        }
    }
}

/// Whether there is something to show. A message that is larger than the budget is shown by
/// `has_more` alone.
fn has_news(inbox: &Inbox) -> bool {
    !inbox.mentions.is_empty() || !inbox.messages.is_empty() || inbox.has_more
}

/// What a wait came to.
fn arrival(inbox: Inbox, arrived: bool, timeout_seconds: u32) -> Outcome {
    let next = &inbox.next_after_id;
    if !arrived {
        return Outcome {
            text: match next.as_str() {
                // Nothing was unread and nothing came: the relay knows of no place.
                "" | "0" => format!(
                    "Nothing arrived in {timeout_seconds} s. To wait on: wait_for_messages again."
                ),
                next => format!(
                    "Nothing arrived in {timeout_seconds} s. To wait on: wait_for_messages with \
                     after_id {next}."
                ),
            },
            data: match json!({"timed_out": true, "next_after_id": next}) {
                Value::Object(data) => data,
                _ => JsonObject::new(),
            },
            unread: Some(inbox.unread),
        };
    }
    let mut text = inbox_text(&inbox);
    let _ = write!(
        text,
        "ack what you have dealt with. To wait for what is newer: wait_for_messages with \
         after_id {next}."
    );
    let mut data = inbox_data(&inbox);
    data.insert("timed_out".to_owned(), false.into());
    if inbox.has_more {
        data.insert("has_more".to_owned(), true.into());
    }
    Outcome {
        text,
        data,
        unread: Some(inbox.unread),
    }
}

/// Messages by channel, by name.
fn by_channel(messages: &[Message]) -> BTreeMap<&str, Vec<&Message>> {
    let mut channels: BTreeMap<&str, Vec<&Message>> = BTreeMap::new();
    for message in messages {
        channels.entry(&message.channel).or_default().push(message);
    }
    channels
}

fn inbox_text(inbox: &Inbox) -> String {
    let total: u64 = inbox.unread.channels.values().sum();
    if !has_news(inbox) && total == 0 {
        return "Nothing unread.\n".to_owned();
    }
    let mut text = format!(
        "{} unread mention you; unread in {}. ",
        capped(inbox.unread.mentions),
        counted(inbox.unread.channels.len(), "channel", "channels"),
    );
    if !inbox.mentions.is_empty() || !inbox.messages.is_empty() {
        text.push_str(NOTE);
    }
    text.push('\n');
    for message in &inbox.mentions {
        write_message(&mut text, message, Place::Named);
    }
    for (channel, messages) in by_channel(&inbox.messages) {
        let _ = writeln!(text, "Others in {}:", name(channel));
        for message in messages {
            write_message(&mut text, message, Place::Known);
        }
    }
    if inbox.has_more {
        let counts: Vec<String> = inbox
            .unread
            .channels
            .iter()
            .map(|(channel, count)| format!("{} {}", name(channel), capped(*count)))
            .collect();
        let _ = writeln!(
            text,
            "Not all fits here; unread in all: {}. See the rest with read_unread.",
            counts.join(", ")
        );
    }
    text
}

fn inbox_data(inbox: &Inbox) -> JsonObject {
    let channels: JsonObject = by_channel(&inbox.messages)
        .into_iter()
        .map(|(channel, messages)| (channel.to_owned(), messages_data(messages, Place::Known)))
        .collect();
    let mut data = JsonObject::new();
    if !inbox.mentions.is_empty() || !inbox.messages.is_empty() {
        data.insert("note".to_owned(), NOTE.into());
    }
    data.insert(
        "mentions".to_owned(),
        messages_data(&inbox.mentions, Place::Named),
    );
    data.insert("channels".to_owned(), channels.into());
    data.insert(
        "next_after_id".to_owned(),
        inbox.next_after_id.as_str().into(),
    );
    data
}
