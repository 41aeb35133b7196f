//! `handoff watch`: a line for each burst of messages that an agent should hear of. Each line
//! wakes an agent, so there is one for what comes together, none for its own messages, and never
//! a second for the same message.
//!
//! It asks the inbox from a cursor on, over and over, the relay holding each request until there
//! is something: this covers channels that don't exist yet, and a cursor outlives any relay.

use crate::{
    args::Watch,
    output::{Output, excerpt, name},
};
use handoff_client::{
    Client, Error,
    types::{Encryption, Inbox, InboxQuery, Message},
};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::sleep;

/// How long the relay is asked to hold a request.
const WAIT_SECONDS: u32 = 50;
/// How much text to ask for: what is beyond is counted.
const MAX_BYTES: u32 = 65_536;
/// How much of a message is shown.
const EXCERPT: usize = 120;
/// How many messages of a burst are shown.
const SHOWN: usize = 3;
/// The first and the longest pause before asking a relay again that did not answer.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Watches until it is stopped, or until asking again can't help.
pub(crate) async fn run(client: &Client, options: Watch, output: &Output) -> anyhow::Result<()> {
    let burst = Duration::from_millis(options.burst_ms);
    let mut watcher = Watcher {
        client,
        query: InboxQuery {
            max_bytes: Some(MAX_BYTES),
            after_id: None,
            channels: options.channels,
            mentions_only: !options.all,
            wait_seconds: None,
        },
        news: News::default(),
    };
    // What is unread already is not news: a hook or the agent itself looks at it at the start.
    watcher.gather().await?;
    loop {
        let mut messages = watcher.wait().await?;
        if messages.is_empty() {
            continue;
        }
        sleep(burst).await;
        messages.extend(watcher.gather().await?);
        messages.sort_by_key(|message| number(&message.id));
        if output.json {
            output.json(&json!({"messages": messages}))?;
        } else {
            output.line(line(&messages, options.all))?;
        }
    }
}

/// Asks the inbox for what it has not seen yet.
struct Watcher<'a> {
    client: &'a Client,
    query: InboxQuery,
    news: News,
}

impl Watcher<'_> {
    /// Everything that is there.
    async fn gather(&mut self) -> handoff_client::Result<Vec<Message>> {
        self.query.wait_seconds = None;
        let mut messages = Vec::new();
        loop {
            let inbox = self.ask().await?;
            let has_more = inbox.has_more;
            let before = self.news.cursor;
            messages.extend(self.news.of(inbox));
            if !has_more || self.news.cursor == before {
                return Ok(messages);
            }
        }
    }

    /// What is there, or comes within the time that the relay holds a request.
    async fn wait(&mut self) -> handoff_client::Result<Vec<Message>> {
        self.query.wait_seconds = Some(WAIT_SECONDS);
        let inbox = self.ask().await?;
        Ok(self.news.of(inbox))
    }

    /// Asks until there is an answer. Refusals that would only come again end it.
    async fn ask(&mut self) -> handoff_client::Result<Inbox> {
        let cursor = self.news.cursor;
        self.query.after_id = (cursor > 0).then(|| cursor.to_string());
        let mut pause = FIRST_PAUSE;
        let mut refused = false;
        loop {
            match self.client.inbox(&self.query).await {
                Ok(inbox) => return Ok(inbox),
                Err(Error::Api(error)) => match error.status.as_u16() {
                    408 | 429 | 500.. => sleep(error.retry_after.unwrap_or(pause)).await,
                    // A request under way ends so when its key is changed: the next may do.
                    401 if !refused => refused = true,
                    _ => return Err(Error::Api(error)),
                },
                // A proxy without a relay behind it answers in its own words.
                Err(Error::Transport(_) | Error::BadAnswer(_)) => sleep(pause).await,
                Err(error) => return Err(error),
            }
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }
}

/// Tells what is new from what was seen.
#[derive(Default)]
struct News {
    /// Everything up to here was seen.
    cursor: u64,
    /// What was seen beyond: mentions are shown before other messages that are older.
    ahead: BTreeSet<u64>,
}

impl News {
    fn of(&mut self, inbox: Inbox) -> Vec<Message> {
        let mut messages = inbox.mentions;
        messages.extend(inbox.messages);
        messages.retain(|message| {
            let id = number(&message.id);
            id > self.cursor && self.ahead.insert(id)
        });
        self.cursor = self.cursor.max(number(&inbox.next_after_id));
        self.ahead = self.ahead.split_off(&(self.cursor + 1));
        messages
    }
}

fn number(id: &str) -> u64 {
    id.parse().unwrap_or(0)
}

/// One line for these messages.
fn line(messages: &[Message], all: bool) -> String {
    let shown = messages.iter().take(SHOWN).map(|message| {
        let text = match message.encryption {
            Encryption::Failed(_) => "encrypted with a key that is not at hand".to_owned(),
            _ => format!(
                "\"{}\"",
                excerpt(&message.content, EXCERPT).replace('"', "'")
            ),
        };
        format!(
            "{} in {} (id {}): {text}",
            name(&message.sender),
            name(&message.channel),
            message.id,
        )
    });
    let shown = shown.collect::<Vec<_>>().join("; ");
    let (one, many) = if all {
        ("new message", "new messages")
    } else {
        ("mention of you", "mentions of you")
    };
    let count = messages.len();
    let head = format!("Handoff: {count} {}", if count == 1 { one } else { many });
    if count <= SHOWN {
        return format!("{head}: {shown}");
    }
    let mut rest = BTreeMap::<&str, usize>::new();
    for message in &messages[SHOWN..] {
        *rest.entry(&message.channel).or_default() += 1;
    }
    let rest = rest
        .iter()
        .map(|(channel, count)| format!("{count} in {}", name(channel)));
    let rest = rest.collect::<Vec<_>>().join(", ");
    format!("{head}: {shown}; and {rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: u64, content: &str) -> Message {
        Message {
            id: id.to_string(),
            channel: "build".to_owned(),
            seq: 1,
            sender: "bob".to_owned(),
            content: content.to_owned(),
            mention: Some("alice".to_owned()),
            thread_id: None,
            reply_count: 0,
            created_at: "2026-01-01T00:00:00Z".to_owned(),
            encryption: Encryption::Unknown,
        }
    }

    #[test]
    fn one_line_however_many_and_whatever_they_say() {
        let one = line(&[message(7, "a\nb\u{1b}[2J \"quoted\"")], false);
        assert_eq!(
            one,
            "Handoff: 1 mention of you: bob in build (id 7): \"a b\u{fffd}[2J 'quoted'\""
        );
        let many: Vec<Message> = (1..=5).map(|id| message(id, &"x".repeat(500))).collect();
        let many = line(&many, false);
        assert!(many.starts_with("Handoff: 5 mentions of you: bob in build (id 1)"));
        assert!(many.ends_with("; and 2 in build"), "{many}");
        assert!(
            many.chars().count() < 600,
            "short: {}",
            many.chars().count()
        );
        assert!(!many.contains('\n'));
    }

    #[test]
    fn nothing_twice_and_the_cursor_never_goes_back() {
        let mut news = News::default();
        let inbox = |mentions: &[u64], messages: &[u64], next_after_id: u64| Inbox {
            mentions: mentions.iter().map(|id| message(*id, "hey")).collect(),
            messages: messages.iter().map(|id| message(*id, "well")).collect(),
            next_after_id: next_after_id.to_string(),
            ..Inbox::default()
        };
        let mut ids = |inbox| {
            let messages = news.of(inbox).into_iter();
            messages.map(|message| message.id).collect::<Vec<_>>()
        };
        // The budget ends at message 4: the mentions beyond are shown already.
        assert_eq!(ids(inbox(&[3, 9], &[4], 4)), ["3", "9", "4"]);
        assert_eq!(ids(inbox(&[9], &[6], 9)), ["6"]);
        assert!(ids(inbox(&[9], &[6], 9)).is_empty());
        assert!(ids(inbox(&[], &[], 3)).is_empty());
        assert!(ids(inbox(&[8], &[], 8)).is_empty());
        assert_eq!(ids(inbox(&[10], &[], 10)), ["10"]);
    }
}
