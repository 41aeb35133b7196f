//! What the agents share: the pace, the clock, and the place where everything is shown.

use super::story::Role;
use crate::output::{DIM, ERROR, GOOD, MENTION, Output, excerpt, name};
use anstyle::{AnsiColor, Style};
use handoff_client::types::Message;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A pause for people, at speed 1.
const PAUSE: Duration = Duration::from_millis(600);
/// More pauses than the story has.
const PAUSES_MAX: u32 = 100;

const COLOURS: [AnsiColor; 7] = [
    AnsiColor::BrightMagenta,
    AnsiColor::BrightBlue,
    AnsiColor::BrightCyan,
    AnsiColor::BrightYellow,
    AnsiColor::BrightGreen,
    AnsiColor::BrightRed,
    AnsiColor::BrightWhite,
];

/// What the agents share.
pub(super) struct Stage {
    start: Instant,
    pause: Duration,
    output: Output,
    /// When each message was handed to the relay.
    posted: Mutex<HashMap<String, Instant>>,
}

impl Stage {
    /// An empty stage.
    pub(super) fn new(speed: f64, json: bool) -> Self {
        let pause = Duration::try_from_secs_f64(PAUSE.as_secs_f64() / speed);
        Self {
            start: Instant::now(),
            // At speed 0 the quotient is infinite: no duration.
            pause: pause.unwrap_or_default(),
            output: Output::new(json),
            posted: Mutex::default(),
        }
    }

    /// How long all pauses may take together.
    pub(super) fn pauses(&self) -> Duration {
        self.pause * PAUSES_MAX
    }

    /// Lets people follow.
    pub(super) async fn pause(&self) {
        tokio::time::sleep(self.pause).await;
    }

    /// When each message was handed to the relay.
    pub(super) fn posted(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message, as it arrived at the one who hears everything.
    pub(super) fn show_message(&self, message: &Message) -> anyhow::Result<()> {
        let thread = match &message.thread_id {
            Some(_) => "↳ ",
            None => "",
        };
        let mention = message
            .mention
            .as_ref()
            .map_or_else(String::new, |mention| {
                format!("{MENTION}@{}{MENTION:#} ", name(mention))
            });
        let text = excerpt(&message.content, 80);
        let line = format!("{DIM}{thread}{DIM:#}{mention}{text}");
        let event = json!({"event": "message", "message": message});
        self.show(&message.channel, &message.sender, &line, event)
    }

    /// A status entry that was set.
    pub(super) fn show_status(
        &self,
        role: &Role,
        channel: &str,
        key: &str,
        value: &str,
    ) -> anyhow::Result<()> {
        let line = format!("{GOOD}◆{GOOD:#} {key} = {value}");
        let event = json!({"event": "status", "channel": channel, "agent": role.name,
            "key": key, "value": value});
        self.show(channel, role.name, &line, event)
    }

    /// An ack.
    pub(super) fn show_ack(&self, role: &Role, channel: &str, id: &str) -> anyhow::Result<()> {
        let line = format!("{GOOD}✓{GOOD:#} {DIM}has read up to {id}{DIM:#}");
        let event = json!({"event": "ack", "channel": channel, "agent": role.name,
            "last_read_id": id});
        self.show(channel, role.name, &line, event)
    }

    /// Something that was refused.
    pub(super) fn show_refusal(
        &self,
        role: &Role,
        channel: &str,
        what: &str,
    ) -> anyhow::Result<()> {
        let line = format!("{ERROR}✗{ERROR:#} tried to {what}: {ERROR}refused{ERROR:#}");
        let event = json!({"event": "refused", "channel": channel, "agent": role.name,
            "what": what});
        self.show(channel, role.name, &line, event)
    }

    fn show(&self, channel: &str, agent: &str, line: &str, event: Value) -> anyhow::Result<()> {
        let at = self.start.elapsed();
        if self.output.json {
            let mut event = event;
            event["at_ms"] = json!(at.as_millis() as u64);
            return self.output.json(&event);
        }
        let style = style(agent);
        let seconds = at.as_secs_f64();
        self.output.line(format!(
            "{DIM}{seconds:>7.3}s{DIM:#}  {channel:<10}  {style}{agent:<12}{style:#}  {line}"
        ))?;
        Ok(())
    }
}

/// The colour of an agent.
pub(super) fn style(agent: &str) -> Style {
    let mut colours = super::story::CAST.iter().zip(COLOURS);
    let colour = colours.find(|(role, _)| role.name == agent);
    colour.map_or(Style::new(), |(_, colour)| colour.on_default().bold())
}
