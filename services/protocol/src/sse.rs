//! Server-sent events: how a message looks on a stream.

use crate::{Id, messages::Message};
use bytes::Bytes;

/// Sent at once when a stream opens, and to keep it alive.
pub const COMMENT: &str = ": handoff\n\n";

/// The event of a message, encoded once for every stream that shows it: `id`, `event` and `data`,
/// each on a line of its own. JSON has no raw line breaks, so the data is one line.
pub fn message_frame(message: &Message) -> Bytes {
    use std::io::Write;
    let mut frame = Vec::with_capacity(message.content.as_str().len() + 320);
    // Writing to a Vec can't fail, and a message always serializes.
    let _ = write!(frame, "id: {}\nevent: message\ndata: ", message.id);
    let _ = serde_json::to_writer(&mut frame, message);
    frame.extend_from_slice(b"\n\n");
    frame.into()
}

/// A block that dispatches nothing, but moves the client's resume point.
pub fn cursor_block(cursor: Id) -> String {
    format!("{COMMENT}id: {cursor}\n\n")
}
