//! Server-sent events: how a message looks on a stream.

use crate::{Id, messages::Message};
use bytes::Bytes;

/// Sent at once when a stream opens, and to keep it alive.
pub const COMMENT: &str = ": handoff\n\n";

/// The event of a message, encoded once for every stream that shows it: `id`, `event` and `data`,
/// each on a line of its own. JSON has no raw line breaks, so the data is one line.
pub fn message_frame(message: &Message) -> Bytes {
    use std::io::Write;
    let mut frame = Vec::with_capacity(message.json_len() + 64);
    // Writing to a Vec can't fail.
    let _ = write!(frame, "id: {}\nevent: message\ndata: ", message.id);
    message.write_json(&mut frame);
    frame.extend_from_slice(b"\n\n");
    frame.into()
}

/// The message that a frame of [`message_frame`] shows.
pub fn message_in(frame: &[u8]) -> Option<Message> {
    let data = frame
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"data: "))?;
    serde_json::from_slice(data).ok()
}

/// A block that dispatches nothing, but moves the client's resume point.
pub fn cursor_block(cursor: Id) -> String {
    format!("{COMMENT}id: {cursor}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ChannelName, Content, MentionName, Name, Timestamp};

    #[test]
    fn a_frame_gives_its_message_back() {
        let message = Message {
            id: Id::from_serial(7),
            channel: ChannelName::from_row("ops"),
            seq: 1,
            sender: Name::from_row("ada"),
            content: Content::from_row("two\nlines, data: and more"),
            mention: Some(MentionName::from_row("bob")),
            thread_id: None,
            reply_count: 0,
            created_at: Timestamp::now(),
            traceparent: None,
        };
        let found = message_in(&message_frame(&message)).expect("a message");
        assert_eq!(found.content, message.content);
        assert_eq!(found.mention, message.mention);
        assert_eq!(message_in(cursor_block(message.id).as_bytes()), None);
    }
}
