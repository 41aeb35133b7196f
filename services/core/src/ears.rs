//! What one who waits hears of the feed. Only what concerns it is worth a look at the tables: in a
//! busy team many wait, and most of what happens is for others.

use crate::feed::{
    Subscription,
    slot::{Stirs, Taken},
};
use handoff_protocol::{messages::Message, sse::message_in};
use handoff_store::ChannelId;
use std::time::Duration;

/// Between two looks of one who waits: in a busy team every message of others is news.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// First the ears, then the look: what happens in between is heard.
pub(crate) struct Ears {
    pub(crate) subscription: Subscription,
    /// Everything up to here was heard, or is for the next look to find.
    pub(crate) cursor: i64,
    /// How often a channel had been opened at the last look; none while no channel is waited for.
    channels_seen: Option<u64>,
}

/// Why to look at the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Something may be there to show.
    News(News),
    /// A channel is gone, or the database is another, and with it this subscription.
    Over,
}

/// What there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct News {
    /// Messages that concern the waiter.
    pub(crate) messages: bool,
    /// Other things.
    pub(crate) stirs: Stirs,
    /// Channels that are waited for.
    pub(crate) channels: bool,
}

impl News {
    /// Anything at all.
    pub(crate) const ANYTHING: Self = Self {
        messages: true,
        stirs: Stirs::ALL,
        channels: true,
    };
}

impl Ears {
    /// Ears that hear of channels that are opened.
    pub(crate) fn new(subscription: Subscription) -> Self {
        let mut ears = Self {
            subscription,
            cursor: 0,
            channels_seen: None,
        };
        ears.wait_for_channels(true);
        ears
    }

    /// Hears of channels that are opened after this, or no longer.
    pub(crate) fn wait_for_channels(&mut self, waiting: bool) {
        if waiting != self.channels_seen.is_some() {
            self.subscription.wait_for_channels(waiting);
        }
        self.channels_seen = waiting.then(|| self.subscription.channels_created());
    }

    /// Follows the channels that aren't followed yet; answers whether there were any.
    pub(crate) fn follow(&mut self, channels: impl IntoIterator<Item = ChannelId>) -> bool {
        let before = self.subscription.channel_ids().len();
        for channel in channels {
            self.subscription.add_channel(channel);
        }
        self.subscription.channel_ids().len() > before
    }

    /// Waits until there is something to look for. Nothing is lost if the wait is given up.
    pub(crate) async fn hear(&mut self, concerns: impl Fn(&Message) -> bool) -> Heard {
        loop {
            match self.subscription.take(self.cursor, self.channels_seen) {
                Taken::Frames { frames, cursor } => {
                    let found = frames.iter().filter_map(|frame| message_in(&frame.bytes));
                    let messages = found.into_iter().any(|message| concerns(&message));
                    let moved = cursor > self.cursor && !frames.is_empty();
                    self.cursor = cursor;
                    let stirs = self.subscription.take_stirs();
                    if messages || stirs.has(Stirs::ALL) {
                        return Heard::News(News {
                            messages,
                            stirs,
                            channels: false,
                        });
                    }
                    // There may be more than it takes at once.
                    if moved {
                        continue;
                    }
                }
                Taken::Unsettled => {}
                Taken::ChannelsCreated => return Heard::News(News::ANYTHING),
                Taken::Over => return Heard::Over,
                Taken::Behind { watermark } => {
                    self.cursor = watermark;
                    return Heard::News(News::ANYTHING);
                }
            }
            self.subscription.woken().await;
        }
    }
}
