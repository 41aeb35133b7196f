//! Messages, threads and read positions.

use super::{Call, Outcome, Result};
use crate::present::{
    NOTE, Place, counted, message_data, messages_data, name, to_the_second, write_message,
};
use handoff_client::types::{Message, MessagePage, MessageQuery, NewMessage, PageQuery};
use serde_json::json;
use std::fmt::Write;

pub(super) async fn post_message(call: &Call<'_>) -> Result<Outcome> {
    let arguments = call.arguments;
    let message = NewMessage {
        content: arguments.required("content").to_owned(),
        mention: arguments.owned("mention"),
        thread_id: arguments.owned("thread_id"),
    };
    let channel = arguments.required("channel");
    let posted = call.client.post_message(channel, message).await?.message;
    Ok(Outcome::new(
        format!("Posted #{} to {}.", posted.id, posted.channel),
        json!({
            "id": posted.id,
            "channel": posted.channel,
            "created_at": to_the_second(&posted.created_at),
        }),
    ))
}

pub(super) async fn read_messages(call: &Call<'_>) -> Result<Outcome> {
    let arguments = call.arguments;
    let query = MessageQuery {
        after_id: arguments.owned("after_id"),
        limit: arguments.number("limit"),
        mention: arguments.owned("mention"),
        sender: arguments.owned("sender"),
        thread_id: arguments.owned("thread_id"),
        wait_seconds: None,
    };
    let channel = arguments.required("channel");
    let page = call.client.read_messages(channel, &query).await?;
    Ok(message_page(&page, "message", "messages"))
}

pub(super) async fn read_unread(call: &Call<'_>) -> Result<Outcome> {
    let arguments = call.arguments;
    let page = call
        .client
        .read_unread(arguments.required("channel"), arguments.number("limit"))
        .await?;
    Ok(message_page(&page, "unread message", "unread messages"))
}

fn message_page(page: &MessagePage, one: &str, many: &str) -> Outcome {
    let mut text = format!(
        "{} in {}",
        counted(page.messages.len(), one, many),
        page.channel
    );
    write_rest(
        &mut text,
        &page.messages,
        &page.next_after_id,
        page.has_more,
    );
    let mut data = json!({
        "channel": page.channel,
        "messages": messages_data(&page.messages, Place::Known),
        "next_after_id": page.next_after_id,
        "has_more": page.has_more,
    });
    if !page.messages.is_empty() {
        data["note"] = NOTE.into();
    }
    Outcome::new(text, data)
}

/// The end of a page's first line, and its messages.
fn write_rest(text: &mut String, messages: &[Message], next_after_id: &str, has_more: bool) {
    if let (Some(first), Some(last)) = (messages.first(), messages.last()) {
        let _ = write!(text, ", {}", to_the_second(&first.created_at));
        if messages.len() > 1 {
            let _ = write!(text, " to {}", to_the_second(&last.created_at));
        }
    }
    let _ = match has_more {
        true => write!(text, "; more follows after_id {next_after_id}"),
        false => write!(text, "; next after_id {next_after_id}"),
    };
    text.push_str(". ");
    if !messages.is_empty() {
        text.push_str(NOTE);
    }
    text.push('\n');
    for message in messages {
        write_message(text, message, Place::Known);
    }
}

pub(super) async fn read_thread(call: &Call<'_>) -> Result<Outcome> {
    let arguments = call.arguments;
    let query = PageQuery {
        after_id: arguments.owned("after_id"),
        limit: arguments.number("limit"),
    };
    let channel = arguments.required("channel");
    let thread = call
        .client
        .read_thread(channel, arguments.required("message_id"), &query)
        .await?;
    let mut text = format!(
        "Thread of #{} in {}, {}",
        thread.parent.id,
        thread.parent.channel,
        counted(thread.replies.len(), "reply here", "replies here")
    );
    let mut replies = String::new();
    write_rest(
        &mut replies,
        &thread.replies,
        &thread.next_after_id,
        thread.has_more,
    );
    let (head, replies) = replies.split_once('\n').unwrap_or_default();
    text.push_str(head);
    if thread.replies.is_empty() {
        text.push_str(NOTE);
    }
    text.push('\n');
    write_message(&mut text, &thread.parent, Place::Known);
    text.push_str(replies);
    Ok(Outcome::new(
        text,
        json!({
            "channel": thread.parent.channel,
            "parent": message_data(&thread.parent, Place::Known),
            "replies": messages_data(&thread.replies, Place::Known),
            "next_after_id": thread.next_after_id,
            "has_more": thread.has_more,
            "note": NOTE,
        }),
    ))
}

pub(super) async fn delete_message(call: &Call<'_>) -> Result<Outcome> {
    let channel = call.arguments.required("channel");
    let id = call.arguments.required("message_id");
    call.client.delete_message(channel, id).await?;
    Ok(Outcome::new(
        format!("Deleted #{id} from {channel}."),
        json!({"deleted": true, "channel": channel, "message_id": id}),
    ))
}

pub(super) async fn ack(call: &Call<'_>) -> Result<Outcome> {
    let arguments = call.arguments;
    let ack = call
        .client
        .ack(
            arguments.required("channel"),
            arguments.required("last_read_id"),
        )
        .await?;
    Ok(Outcome::new(
        format!("{} is read up to #{}.", ack.channel, ack.last_read_id),
        json!({
            "channel": ack.channel,
            "last_read_id": ack.last_read_id,
            "acked_at": to_the_second(&ack.acked_at),
        }),
    ))
}

pub(super) async fn get_acks(call: &Call<'_>) -> Result<Outcome> {
    let channel = call.arguments.required("channel");
    let acks = call.client.list_acks(channel).await?;
    let readers = counted(acks.len(), "agent has", "agents have");
    let mut text = format!("{readers} acked {channel}.\n");
    for ack in &acks {
        let _ = writeln!(
            text,
            "{} up to #{} ({})",
            name(&ack.sender),
            ack.last_read_id,
            to_the_second(&ack.acked_at)
        );
    }
    let data: Vec<_> = acks
        .iter()
        .map(|ack| {
            json!({
                "sender": ack.sender,
                "last_read_id": ack.last_read_id,
                "acked_at": to_the_second(&ack.acked_at),
            })
        })
        .collect();
    Ok(Outcome::new(
        text,
        json!({"channel": channel, "acks": data}),
    ))
}
