//! Messages: post, reply, read, follow, and say how far one has read.

use crate::{
    args,
    commands::text_or_input,
    output::{BOLD, DIM, GOOD, Output, counted, message, name, table, time},
};
use handoff_client::{
    Client, StreamQuery,
    types::{Ack, Inbox, InboxQuery, MessageQuery, NewMessage, PageQuery},
};

/// `post`
pub(crate) async fn post(client: &Client, post: args::Post, output: &Output) -> anyhow::Result<()> {
    let new = NewMessage {
        content: text_or_input(post.text)?,
        mention: post.mention,
        thread_id: post.thread,
    };
    send(client, &post.channel, new, output).await
}

/// `reply`
pub(crate) async fn reply(
    client: &Client,
    reply: args::Reply,
    output: &Output,
) -> anyhow::Result<()> {
    let new = NewMessage {
        content: text_or_input(reply.text)?,
        mention: reply.mention,
        thread_id: Some(reply.id),
    };
    send(client, &reply.channel, new, output).await
}

async fn send(
    client: &Client,
    channel: &str,
    new: NewMessage,
    output: &Output,
) -> anyhow::Result<()> {
    let posted = client.post_message(channel, new).await?;
    output.show(&posted.message, |message| {
        vec![format!(
            "{GOOD}posted:{GOOD:#} {BOLD}{}{BOLD:#} {DIM}in {}{DIM:#}",
            message.id,
            name(&message.channel)
        )]
    })
}

/// `read`
pub(crate) async fn read(client: &Client, read: args::Read, output: &Output) -> anyhow::Result<()> {
    if let Some(thread) = &read.thread {
        let query = PageQuery {
            after_id: read.after,
            limit: read.limit,
        };
        let page = client.read_thread(&read.channel, thread, &query).await?;
        output.show(&page, |page| {
            let messages = std::iter::once(&page.parent).chain(&page.replies);
            messages.flat_map(message).collect()
        })?;
        more(page.has_more, &page.next_after_id, output);
        return Ok(());
    }
    let page = if read.unread {
        client
            .wait_for_unread(&read.channel, read.limit, read.wait.unwrap_or(0))
            .await?
    } else {
        let mention = match read.mention {
            Some(mine) if mine.is_empty() => Some(client.me().await?.sender),
            mention => mention,
        };
        let query = MessageQuery {
            after_id: read.after,
            limit: read.limit,
            mention,
            sender: read.sender,
            thread_id: None,
            wait_seconds: read.wait,
        };
        client.read_messages(&read.channel, &query).await?
    };
    output.show(&page, |page| {
        page.messages.iter().flat_map(message).collect()
    })?;
    if page.messages.is_empty() {
        output.remark("Nothing there.");
    }
    if read.unread
        && let Some(last) = page.messages.last()
    {
        output.remark(format!(
            "When done with it: handoff ack {} {}",
            name(&last.channel),
            last.id
        ));
    } else {
        more(page.has_more, &page.next_after_id, output);
    }
    Ok(())
}

fn more(has_more: bool, next_after_id: &str, output: &Output) {
    if has_more {
        output.remark(format!("More follows: --after {next_after_id}"));
    }
}

/// `tail`
pub(crate) async fn tail(client: &Client, tail: args::Tail, output: &Output) -> anyhow::Result<()> {
    let mut stream = client.stream(StreamQuery {
        channels: tail.channels,
        after_id: tail.after,
    });
    while let Some(next) = stream.next().await {
        let next = next?;
        if output.json {
            output.json(&next)?;
        } else {
            output.line(message(&next).join("\n"))?;
        }
    }
    Ok(())
}

/// `inbox`
pub(crate) async fn inbox(
    client: &Client,
    inbox: args::Inbox,
    output: &Output,
) -> anyhow::Result<()> {
    let query = InboxQuery {
        mentions_only: inbox.mentions,
        wait_seconds: inbox.wait,
        ..InboxQuery::default()
    };
    output.show(&client.inbox(&query).await?, inbox_lines)
}

fn inbox_lines(inbox: &Inbox) -> Vec<String> {
    let mut lines = Vec::new();
    for (heading, messages) in [
        ("Mentions of you", &inbox.mentions),
        ("Other messages", &inbox.messages),
    ] {
        if !messages.is_empty() {
            lines.push(format!("{BOLD}{heading}{BOLD:#}"));
            lines.extend(messages.iter().flat_map(message));
            lines.push(String::new());
        }
    }
    let channels = inbox.unread.channels.iter().map(|(channel, count)| {
        let more = if *count >= 100 { "+" } else { "" };
        format!("{} {count}{more}", name(channel))
    });
    let channels = channels.collect::<Vec<_>>().join(", ");
    lines.push(if channels.is_empty() {
        "Nothing unread.".to_owned()
    } else {
        let mentions = i64::try_from(inbox.unread.mentions).unwrap_or(i64::MAX);
        let mentions = counted(mentions, "mention", "mentions");
        format!("{DIM}Unread: {mentions}; by channel: {channels}{DIM:#}")
    });
    lines
}

/// `ack`
pub(crate) async fn ack(
    client: &Client,
    channel: &str,
    id: &str,
    output: &Output,
) -> anyhow::Result<()> {
    let ack = client.ack(channel, id).await?;
    output.show(&ack, |ack| {
        vec![format!(
            "{GOOD}read:{GOOD:#} {} up to {BOLD}{}{BOLD:#}",
            name(&ack.channel),
            ack.last_read_id
        )]
    })
}

/// `acks`
pub(crate) async fn acks(client: &Client, channel: &str, output: &Output) -> anyhow::Result<()> {
    output.show(&client.list_acks(channel).await?, |acks| {
        let head = ["who", "has read up to", "at"].map(str::to_owned);
        let row = |ack: &Ack| {
            vec![
                ack.sender.clone(),
                ack.last_read_id.clone(),
                time(&ack.acked_at),
            ]
        };
        let rows: Vec<_> = std::iter::once(head.to_vec())
            .chain(acks.iter().map(row))
            .collect();
        table(&rows)
    })
}
