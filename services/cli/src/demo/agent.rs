//! One agent at work: its key, what came over its stream, and what it has done.

use super::{stage::Stage, story::Role};
use anyhow::{Context, bail};
use handoff_client::{
    Client, Error, MessageStream, StreamQuery,
    types::{Message, NewMessage},
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, time::timeout};

/// Messages that wait for an agent which is busy; more than the story has.
const INBOUND_MAX: usize = 256;
/// How long a stream may take to open.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// A message that came over the stream, and when.
pub(super) type Heard = (Message, Instant);

/// What an agent was refused.
#[derive(Clone)]
pub(super) struct Refused {
    /// What it tried, in words that follow "to".
    pub(super) what: String,
    /// Where; `*` for what concerns the whole team.
    pub(super) channel: String,
}

/// What an agent has done.
#[derive(Clone, Copy, Default)]
pub(super) struct Deeds {
    /// Messages that start a thread or stand alone.
    pub(super) posts: usize,
    /// Replies.
    pub(super) replies: usize,
    /// Acks.
    pub(super) acks: usize,
    /// Status entries set.
    pub(super) statuses: usize,
}

/// One agent.
pub(super) struct Agent {
    /// Its part.
    pub(super) role: &'static Role,
    /// Speaks with its key.
    pub(super) client: Client,
    /// Names its key.
    pub(super) hash: String,
    /// What it has done.
    pub(super) deeds: Deeds,
    /// What it was refused, in order.
    pub(super) refused: Vec<Refused>,
    stage: Arc<Stage>,
    heard: Arc<Mutex<Vec<Heard>>>,
}

/// What reaches an agent, for it to react to.
pub(super) struct Inbound {
    name: &'static str,
    messages: mpsc::Receiver<Message>,
}

impl Agent {
    /// An agent whose stream is open: it misses nothing from here on.
    pub(super) async fn enter(
        role: &'static Role,
        client: Client,
        hash: String,
        stage: Arc<Stage>,
    ) -> anyhow::Result<(Self, Inbound)> {
        let mut stream = client.stream(StreamQuery {
            channels: role.hears.iter().map(ToString::to_string).collect(),
            after_id: None,
        });
        timeout(OPEN_LIMIT, stream.opened())
            .await
            .with_context(|| format!("the stream of {} does not open", role.name))??;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (sender, messages) = mpsc::channel(INBOUND_MAX);
        // Ends with the runtime: the last messages are heard after the agent's own part is over.
        tokio::spawn(listen(stream, Arc::clone(&heard), sender));
        let inbound = Inbound {
            name: role.name,
            messages,
        };
        let agent = Self {
            role,
            client,
            hash,
            deeds: Deeds::default(),
            refused: Vec::new(),
            stage,
            heard,
        };
        Ok((agent, inbound))
    }

    /// What came over its stream so far.
    pub(super) fn heard(&self) -> MutexGuard<'_, Vec<Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows what it hears: the part of the one who hears everything.
    pub(super) fn show(&self, message: &Message) -> anyhow::Result<()> {
        self.stage.show_message(message)
    }

    /// Posts a message, perhaps to somebody.
    pub(super) async fn post(
        &mut self,
        channel: &str,
        text: &str,
        mention: Option<&str>,
    ) -> anyhow::Result<Message> {
        self.deeds.posts += 1;
        self.send(channel, text, mention, None).await
    }

    /// Replies in the thread of a message.
    pub(super) async fn reply(&mut self, to: &Message, text: &str) -> anyhow::Result<Message> {
        self.deeds.replies += 1;
        let thread = to.thread_id.as_ref().unwrap_or(&to.id);
        self.send(&to.channel, text, None, Some(thread)).await
    }

    async fn send(
        &self,
        channel: &str,
        text: &str,
        mention: Option<&str>,
        thread: Option<&String>,
    ) -> anyhow::Result<Message> {
        self.stage.pause().await;
        let new = NewMessage {
            content: text.to_owned(),
            mention: mention.map(str::to_owned),
            thread_id: thread.cloned(),
        };
        let start = Instant::now();
        let posted = self.client.post_message(channel, new).await;
        let message = posted.with_context(|| self.failed("post"))?.message;
        self.stage.posted().insert(message.id.clone(), start);
        Ok(message)
    }

    /// Sets a status entry.
    pub(super) async fn set_status(
        &mut self,
        channel: &str,
        key: &str,
        value: &str,
    ) -> anyhow::Result<()> {
        let set = self.client.set_status(channel, key, value).await;
        set.with_context(|| self.failed("set a status"))?;
        self.deeds.statuses += 1;
        self.stage.show_status(self.role, channel, key, value)
    }

    /// Says that it has read up to a message.
    pub(super) async fn ack(&mut self, message: &Message) -> anyhow::Result<()> {
        let acked = self.client.ack(&message.channel, &message.id).await;
        acked.with_context(|| self.failed("ack"))?;
        self.deeds.acks += 1;
        self.stage
            .show_ack(self.role, &message.channel, &message.id)
    }

    /// Takes note of an attempt that must be refused.
    pub(super) fn must_not<T>(
        &mut self,
        what: &str,
        channel: &str,
        outcome: handoff_client::Result<T>,
    ) -> anyhow::Result<()> {
        match outcome {
            Err(Error::Api(error)) if error.code == "FORBIDDEN" => {
                self.refused.push(Refused {
                    what: what.to_owned(),
                    channel: channel.to_owned(),
                });
                self.stage.show_refusal(self.role, channel, what)
            }
            Err(error) => Err(error).with_context(|| self.failed(what)),
            Ok(_) => bail!("{} was let {what}, which its key forbids", self.role.name),
        }
    }

    /// Waits for people's eyes.
    pub(super) async fn pause(&self) {
        self.stage.pause().await;
    }

    fn failed(&self, what: &str) -> String {
        format!("{} could not {what}", self.role.name)
    }
}

impl Inbound {
    /// The next message.
    pub(super) async fn next(&mut self) -> anyhow::Result<Message> {
        let next = self.messages.recv().await;
        next.with_context(|| format!("the stream of {} has ended", self.name))
    }

    /// The next message from that sender that begins so.
    pub(super) async fn next_from(&mut self, sender: &str, start: &str) -> anyhow::Result<Message> {
        loop {
            let message = self.next().await?;
            if message.sender == sender && message.content.starts_with(start) {
                return Ok(message);
            }
        }
    }
}

async fn listen(
    mut stream: MessageStream,
    heard: Arc<Mutex<Vec<Heard>>>,
    inbound: mpsc::Sender<Message>,
) {
    // An error ends the stream, and with it what waits for messages of it.
    while let Some(Ok(message)) = stream.next().await {
        heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((message.clone(), Instant::now()));
        // An agent whose part is over no longer reacts.
        let _ = inbound.send(message).await;
    }
}
