//! Contents that tell everything that a message should be: which write it is of, whose, whom it
//! mentions, what it replies to, how long it is. A message that disagrees with its content in any of
//! that, or whose content was altered, is given a value that no writer used.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};

use handoff_checker::history::{Change, Channel, Id, Message, Number, Value};
use serde::Deserialize;

/// What contents are filled up with; JSON escapes some of it.
const FILLING: &str = "the quick brown fox said \"jump\" \\ and the lazy dog\tlay still; \n";

/// Values that no writer uses.
const FOREIGN: Value = 1 << 63;

/// The content of a write, at least that long.
pub(super) fn compose(
    value: Value,
    sender: &str,
    mention: Option<&str>,
    thread: Option<Id>,
    bytes: usize,
) -> String {
    let mention = mention.unwrap_or_default();
    let thread = thread.unwrap_or(0);
    let mut content = format!("{value}|{sender}|{mention}|{thread}|{bytes}|");
    let mut filling = FILLING.chars().cycle().skip(value as usize % FILLING.len());
    while content.len() < bytes {
        content.extend(filling.next());
    }
    content
}

/// A message as the relay gives it.
#[derive(Deserialize)]
pub(super) struct WireMessage<'a> {
    #[serde(borrow)]
    pub(super) id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) channel: Cow<'a, str>,
    pub(super) seq: u64,
    #[serde(borrow)]
    sender: Cow<'a, str>,
    #[serde(borrow)]
    content: Cow<'a, str>,
    #[serde(borrow, default)]
    mention: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    thread_id: Option<Cow<'a, str>>,
}

impl WireMessage<'_> {
    /// The message for the history; none if its ID is no ID.
    pub(super) fn read(&self, channel: Channel) -> Option<Message> {
        Some(Message {
            id: self.id.parse().ok()?,
            channel,
            seq: self.seq,
            value: self.value(),
        })
    }

    /// The value of the write that it is of, if it is what that write made.
    pub(super) fn value(&self) -> Value {
        self.own_value().unwrap_or_else(|| foreign(&self.content))
    }

    fn own_value(&self) -> Option<Value> {
        let mut parts = self.content.splitn(6, '|');
        let value: Value = parts.next()?.parse().ok()?;
        let sender = parts.next()?;
        let mention = parts.next()?;
        let thread = parts.next()?;
        let bytes: usize = parts.next()?.parse().ok()?;
        let is_own = sender == self.sender
            && mention == self.mention.as_deref().unwrap_or_default()
            && thread == self.thread_id.as_deref().unwrap_or("0");
        let given = (!mention.is_empty()).then_some(mention);
        let thread = thread.parse().ok().filter(|thread| *thread != 0);
        let whole = || compose(value, sender, given, thread, bytes) == self.content;
        (is_own && bytes <= 1 << 16 && value < FOREIGN && whole()).then_some(value)
    }
}

/// A status change as the relay gives it.
#[derive(Deserialize)]
pub(super) struct WireChange<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    value: Cow<'a, str>,
    #[serde(default)]
    deleted: bool,
}

impl WireChange<'_> {
    /// The change for the history; none if its ID is no ID.
    pub(super) fn read(&self, channel: Channel) -> Option<Change> {
        let value = match self.deleted {
            true if self.value.is_empty() => None,
            true => Some(foreign(&self.value)),
            false => Some(value_of(&self.value)),
        };
        Some(Change {
            id: self.id.parse().ok()?,
            channel,
            key: key_of(&self.key),
            value,
        })
    }
}

/// A status value's number.
pub(super) fn value_of(text: &str) -> Value {
    let value = text.parse().ok().filter(|value| *value < FOREIGN);
    value.unwrap_or_else(|| foreign(text))
}

/// A status key's name.
pub(super) fn key_name(key: Number) -> String {
    format!("key {key}")
}

/// A status key's number; one that nobody uses has the last one.
pub(super) fn key_of(name: &str) -> Number {
    let number = name.strip_prefix("key ").and_then(|key| key.parse().ok());
    number.unwrap_or(Number::MAX)
}

fn foreign(text: &str) -> Value {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish() | FOREIGN
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(content: &str, sender: &'static str, thread: Option<&'static str>) -> Value {
        let message = WireMessage {
            id: "7".into(),
            channel: "ops".into(),
            seq: 3,
            sender: sender.into(),
            content: content.into(),
            mention: Some("bob".into()),
            thread_id: thread.map(Cow::from),
        };
        message.value()
    }

    #[test]
    fn a_message_is_only_its_own_as_it_was_written() {
        for bytes in [0, 40, 400] {
            let content = compose(12, "ann", Some("bob"), Some(5), bytes);
            assert!(content.len() >= bytes);
            assert_eq!(wire(&content, "ann", Some("5")), 12);
            for altered in [
                wire(&content, "eve", Some("5")),
                wire(&content, "ann", None),
                wire(&content, "ann", Some("6")),
                wire(&content[..content.len() - 1], "ann", Some("5")),
                wire(&format!("{content}!"), "ann", Some("5")),
                wire(&content.replacen("12", "13", 1), "eve", Some("5")),
            ] {
                assert!(altered >= FOREIGN);
            }
        }
    }

    #[test]
    fn a_change_keeps_its_key_and_value() {
        let read = |json: &str| {
            let change: WireChange<'_> = serde_json::from_str(json).unwrap();
            change.read(2).unwrap()
        };
        let set = read(r#"{"id":"9","channel":"ops","key":"key 3","value":"17"}"#);
        assert_eq!((set.id, set.key, set.value), (9, 3, Some(17)));
        let unset = read(r#"{"id":"9","key":"key 3","value":"","deleted":true}"#);
        assert_eq!(unset.value, None);
        let altered = read(r#"{"id":"9","key":"other","value":"x"}"#);
        assert!(altered.value.unwrap() >= FOREIGN && altered.key == Number::MAX);
    }
}
