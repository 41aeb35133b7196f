//! Messages as JSON, written without a serializer: the same bytes as `Serialize` makes, in a third
//! of the time. Pages hold up to a hundred of them, and every frame of a stream holds one.

use crate::{
    Id, Timestamp,
    messages::{Message, MessagePage},
    timestamp::Rfc3339Text,
};

/// What a message without its texts takes, at most about.
const MESSAGE_BYTES: usize = 256;

impl Message {
    /// Appends the message's JSON.
    pub fn write_json(&self, json: &mut Vec<u8>) {
        json.extend_from_slice(br#"{"id":"#);
        write_id(self.id, json);
        json.extend_from_slice(br#","channel":"#);
        write_text(self.channel.as_str(), json);
        json.extend_from_slice(br#","seq":"#);
        write_number(self.seq, json);
        json.extend_from_slice(br#","sender":"#);
        write_text(self.sender.as_str(), json);
        json.extend_from_slice(br#","content":"#);
        write_text(self.content.as_str(), json);
        json.extend_from_slice(br#","mention":"#);
        write_or_null(self.mention.as_ref(), json, |mention, json| {
            write_text(mention.as_str(), json);
        });
        json.extend_from_slice(br#","thread_id":"#);
        write_or_null(self.thread_id, json, write_id);
        json.extend_from_slice(br#","reply_count":"#);
        write_number(self.reply_count, json);
        json.extend_from_slice(br#","created_at":"#);
        write_time(self.created_at, json);
        if let Some(traceparent) = self.traceparent {
            json.extend_from_slice(br#","traceparent":"#);
            write_text(&traceparent.to_string(), json);
        }
        json.push(b'}');
    }

    /// How many bytes its JSON takes, about.
    pub fn json_len(&self) -> usize {
        self.content.as_str().len() + MESSAGE_BYTES
    }
}

impl MessagePage {
    /// The page's JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let messages = self.messages.iter().map(Message::json_len).sum::<usize>();
        let mut json = Vec::with_capacity(messages + MESSAGE_BYTES);
        json.extend_from_slice(br#"{"messages":["#);
        for (index, message) in self.messages.iter().enumerate() {
            if index > 0 {
                json.push(b',');
            }
            message.write_json(&mut json);
        }
        json.extend_from_slice(br#"],"next_after_id":"#);
        write_id(self.next_after_id, &mut json);
        json.extend_from_slice(br#","has_more":"#);
        json.extend_from_slice(if self.has_more { b"true" } else { b"false" });
        json.extend_from_slice(br#","channel":"#);
        write_text(self.channel.as_str(), &mut json);
        json.push(b'}');
        json
    }
}

fn write_or_null<T>(value: Option<T>, json: &mut Vec<u8>, write: impl FnOnce(T, &mut Vec<u8>)) {
    match value {
        Some(value) => write(value, json),
        None => json.extend_from_slice(b"null"),
    }
}

fn write_number(number: i64, json: &mut Vec<u8>) {
    json.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn write_id(id: Id, json: &mut Vec<u8>) {
    json.push(b'"');
    write_number(id.serial(), json);
    json.push(b'"');
}

fn write_time(time: Timestamp, json: &mut Vec<u8>) {
    json.push(b'"');
    json.extend_from_slice(Rfc3339Text::new(time).as_str().as_bytes());
    json.push(b'"');
}

/// Most texts hold nothing that must be escaped (RFC 8259, section 7), and are copied as they are.
fn write_text(text: &str, json: &mut Vec<u8>) {
    // No early end: whole vectors of bytes are looked at in a step.
    let escapes = text.bytes().fold(false, |escapes, byte| {
        escapes | (byte < 0x20) | (byte == b'"') | (byte == b'\\')
    });
    if escapes {
        // Writing to a Vec can't fail.
        let _ = serde_json::to_writer(json, text);
        return;
    }
    json.push(b'"');
    json.extend_from_slice(text.as_bytes());
    json.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ChannelName, Content, MentionName, Name, TraceParent};

    fn message(text: &str, number: i64) -> Message {
        Message {
            id: Id::from_serial(number),
            channel: ChannelName::from_row("ops"),
            seq: number,
            sender: Name::from_row(text),
            content: Content::from_row(text),
            mention: (number % 2 == 0).then(|| MentionName::from_row(text)),
            thread_id: (number % 3 == 0).then_some(Id::from_serial(number)),
            reply_count: number / 2,
            created_at: Timestamp::from_micros(number),
            traceparent: (number % 5 == 0)
                .then(|| TraceParent::new([7; 16], [9; 8]))
                .flatten(),
        }
    }

    fn messages() -> Vec<Message> {
        let every_character: String = (1..0x800).filter_map(char::from_u32).collect();
        let texts = [
            "x",
            "",
            "a plain text, longer than what fits into a few vectors of a processor: 0123456789",
            "the last one is a quote\"",
            "a\\b\u{1}\u{1f}\u{7f}\u{2028}🦀",
            &every_character,
        ];
        let numbers = [0, 1, 2, 3, 10, 15, 1_790_000_000_123_456, i64::MAX];
        let all = texts
            .iter()
            .flat_map(|text| numbers.map(|number| message(text, number)));
        all.collect()
    }

    #[test]
    fn a_message_is_what_serde_writes() {
        for message in messages() {
            let mut json = Vec::new();
            message.write_json(&mut json);
            assert_eq!(
                String::from_utf8(json).unwrap(),
                serde_json::to_string(&message).unwrap()
            );
        }
    }

    #[test]
    fn a_page_is_what_serde_writes() {
        for (messages, has_more) in [(messages(), true), (Vec::new(), false)] {
            let page = MessagePage {
                messages,
                next_after_id: Id::from_serial(7),
                has_more,
                channel: ChannelName::from_row("ops"),
            };
            assert_eq!(
                String::from_utf8(page.to_json()).unwrap(),
                serde_json::to_string(&page).unwrap()
            );
        }
    }
}
