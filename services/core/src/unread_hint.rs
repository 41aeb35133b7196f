//! How much a caller has not read, for the results of MCP tools: each carries it along, and most
//! tools are called while nothing is new, or nothing but what this replica has committed itself.
//!
//! So a lone replica keeps the counts of the last look and moves them on by what the slot's
//! [`changes`](crate::feed::changes) say; where these don't say enough, it looks at the tables
//! again. One of several always looks: what another answered, its next answer must know (guarantee
//! G4), and a bell comes a little later. So does one whose last heartbeat is too old to say whether
//! it is alone: a replica that starts serves only when the others know of it
//! ([`ALONE_FOR`](handoff_store::replicas::ALONE_FOR)).

use crate::{
    Operation, Relay, Result, TeamGrant,
    feed::changes::{Change, Place},
    unread_cache::Counter,
};
use handoff_protocol::{Id, inbox::UnreadCounts};
use handoff_store::{
    inbox::{COUNT_MAX, ChannelUnread},
    replicas::ALONE_FOR,
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Channels whose counts are remembered, over all callers: of about 150 bytes each.
const CAPACITY: u64 = 100_000;

/// The counts of the last look, and what was heard since.
#[derive(Clone)]
struct Hint {
    /// The time alone in which it was made: before it, others may have posted.
    alone: TimeAlone,
    place: Place,
    /// The channels that the key could read.
    readable: Option<Arc<[String]>>,
    /// In ascending order.
    channels: Arc<[ChannelUnread]>,
}

/// A time in which no other replica serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TimeAlone {
    since: Instant,
}

pub(crate) struct UnreadHints {
    by_caller: moka::sync::Cache<Counter, Hint>,
    /// The time alone, and until when it is certain.
    alone: Mutex<Option<(TimeAlone, Instant)>>,
}

impl UnreadHints {
    pub(crate) fn new() -> Self {
        let weight =
            |_: &Counter, hint: &Hint| u32::try_from(hint.channels.len() + 1).unwrap_or(u32::MAX);
        Self {
            by_caller: moka::sync::Cache::builder()
                .max_capacity(CAPACITY)
                .weigher(weight)
                .time_to_idle(Duration::from_secs(600))
                .build(),
            alone: Mutex::new(None),
        }
    }

    /// A heartbeat that began then found this replica alone, or not.
    pub(crate) fn beat(&self, began: Instant, is_alone: bool) {
        let mut alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        *alone = is_alone.then(|| {
            // Where it was not certain up to now, there may have been another in between.
            let goes_on = alone.filter(|(_, until)| began <= *until);
            let time = goes_on.map_or(TimeAlone { since: began }, |(time, _)| time);
            (time, began + ALONE_FOR)
        });
    }

    /// The time alone, if this replica is certain to be alone now.
    fn alone(&self) -> Option<TimeAlone> {
        let alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        alone
            .filter(|(_, until)| Instant::now() < *until)
            .map(|(time, _)| time)
    }
}

impl Relay {
    /// How much the caller has not read.
    ///
    /// # Errors
    /// Where it has to look and can't.
    pub async fn unread_hint(&self, grant: &TeamGrant) -> Result<UnreadCounts> {
        let caller = grant.caller_for(Operation::ReadInbox)?;
        let Some(alone) = self.hints.alone() else {
            let channels = self.unread_channels(caller, None, Id::BEGINNING).await?;
            return Ok(counts(&channels));
        };
        let readable = caller.readable();
        let counter = self.counter(caller);
        let changes = self.feed.changes(counter.team);
        let known = self.hints.by_caller.get(&counter).filter(|hint| {
            if hint.alone != alone {
                return false;
            }
            let (before, now) = (hint.readable.as_deref(), readable.as_deref());
            match (before, now) {
                (None, None) => true,
                (Some(before), Some(now)) => before.iter().eq(now),
                _ => false,
            }
        });
        if let Some(mut hint) = known {
            let mut news = News::of(&hint.channels);
            let place = changes.since(hint.place, |change| news.take(&counter, change));
            if let Some(place) = place {
                let moved = place != hint.place;
                hint.place = place;
                if let Some(channels) = news.changed {
                    hint.channels = channels.into();
                }
                let counts = counts(&hint.channels);
                if moved {
                    self.hints.by_caller.insert(counter, hint);
                }
                return Ok(counts);
            }
        }
        // First the place, then the look: what comes in between is told, and told apart by its ID.
        let place = changes.place();
        let readable = readable.map(|names| names.into_iter().map(String::from).collect());
        let channels = self.unread_channels(caller, None, Id::BEGINNING).await?;
        let counts = counts(&channels);
        let hint = Hint {
            alone,
            place,
            readable,
            channels: channels.into(),
        };
        self.hints.by_caller.insert(counter, hint);
        Ok(counts)
    }
}

/// Counts of the channels in which there is something.
pub(crate) fn counts(channels: &[ChannelUnread]) -> UnreadCounts {
    let mentions = channels.iter().map(|channel| channel.mentions).sum::<u64>();
    let unread = channels.iter().filter(|channel| channel.messages > 0);
    UnreadCounts {
        mentions: mentions.min(COUNT_MAX),
        channels: unread
            .map(|channel| (channel.name.clone(), channel.messages))
            .collect(),
    }
}

/// What changes make of the counts of a look.
struct News<'a> {
    looked: &'a [ChannelUnread],
    /// None while they are the same.
    changed: Option<Vec<ChannelUnread>>,
}

impl<'a> News<'a> {
    fn of(looked: &'a [ChannelUnread]) -> Self {
        Self {
            looked,
            changed: None,
        }
    }

    /// Takes a change in; answers whether it could.
    fn take(&mut self, counter: &Counter, change: &Change) -> bool {
        match change {
            Change::Posted {
                team,
                channel,
                id,
                sender,
                mention,
            } => {
                if *team != counter.team || *sender == counter.sender {
                    return true;
                }
                let mention = mention.as_ref().map(|mention| mention.as_str());
                let calls = mention == Some(counter.sender.as_str());
                let looked = self.looked;
                match looked.binary_search_by_key(channel, |channel| channel.id) {
                    Ok(place) => self.count(place, *id, calls),
                    // The key can't read it.
                    Err(_) => true,
                }
            }
            Change::InTeam(team) => *team != counter.team,
            Change::Heard(bell) => {
                let concerned = self.looked.iter().any(|channel| {
                    bell.touched.includes(channel.id) || bell.acks.includes(channel.id)
                });
                !bell.channel_created && !concerned
            }
            Change::Unclear => false,
        }
    }

    fn count(&mut self, place: usize, id: i64, calls: bool) -> bool {
        let channel = &self.looked[place];
        match channel.seen {
            Some(seen) if id <= seen.serial() => return true,
            Some(_) => {}
            // It is known of such a channel only that there is much.
            None => return channel.messages == COUNT_MAX && !calls,
        }
        let changed = self.changed.get_or_insert_with(|| self.looked.to_vec());
        let channel = &mut changed[place];
        channel.messages = COUNT_MAX.min(channel.messages + 1);
        channel.mentions = COUNT_MAX.min(channel.mentions + u64::from(calls));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use handoff_protocol::{ChannelName, MentionName, Name, TeamId};
    use handoff_store::{
        ChannelId,
        bell::{BellEntry, Touched},
        inbox::Counted,
    };

    const TEAM: TeamId = TeamId::from_row(3);

    fn counter() -> Counter {
        Counter {
            epoch: None,
            team: TEAM,
            sender: Name::from_row("bob"),
        }
    }

    fn looked(seen: Option<i64>, messages: u64) -> [ChannelUnread; 1] {
        let id = ChannelId(7);
        [ChannelUnread {
            id,
            name: ChannelName::from_row("ops"),
            floor: Id::BEGINNING,
            messages,
            mentions: 0,
            seen: seen.map(Id::from_serial),
            counted: Counted::nothing(id),
        }]
    }

    fn posted(id: i64, sender: &str, mention: Option<&str>) -> Change {
        Change::Posted {
            team: TEAM,
            channel: ChannelId(7),
            id,
            sender: Name::from_row(sender),
            mention: mention.map(MentionName::from_row),
        }
    }

    /// Messages and mentions after the changes; none where they can't be told.
    fn after(looked: &[ChannelUnread], changes: &[Change]) -> Option<(u64, u64)> {
        let (counter, mut news) = (counter(), News::of(looked));
        let taken = changes.iter().all(|change| news.take(&counter, change));
        let channel = news.changed.as_deref().unwrap_or(looked)[0].clone();
        taken.then_some((channel.messages, channel.mentions))
    }

    #[test]
    fn a_time_alone_ends_with_its_certainty() {
        let hints = UnreadHints::new();
        assert_eq!(hints.alone(), None, "nothing is known yet");
        let began = Instant::now();
        hints.beat(began, true);
        let first = hints.alone();
        assert_eq!(first, Some(TimeAlone { since: began }));
        let next = began + Duration::from_secs(1);
        hints.beat(next, true);
        assert_eq!(hints.alone(), first);
        let late = next + 2 * ALONE_FOR;
        hints.beat(late, true);
        assert_eq!(hints.alone(), Some(TimeAlone { since: late }));
        hints.beat(late, false);
        assert_eq!(hints.alone(), None);
        let past = Instant::now().checked_sub(ALONE_FOR).unwrap();
        hints.beat(past, true);
        assert_eq!(hints.alone(), None, "it is over");
    }

    #[test]
    fn what_others_posted_counts_once() {
        let looked = looked(Some(10), 1);
        let changes = [
            posted(10, "ada", None),
            posted(11, "bob", None),
            posted(12, "ada", Some("bob")),
            posted(13, "ada", Some("carol")),
        ];
        assert_eq!(after(&looked, &changes), Some((3, 1)));
    }

    #[test]
    fn what_cannot_be_told_is_looked_for() {
        let heard = |touched: &[i64], acks: &[i64]| {
            let among =
                |ids: &[i64]| Touched::Channels(ids.iter().copied().map(ChannelId).collect());
            Change::Heard(BellEntry {
                slot: TEAM.slot(),
                first: 11,
                last: 12,
                touched: among(touched),
                acks: among(acks),
                statuses: Touched::Any,
                channel_created: false,
                deletions: false,
            })
        };
        let some = looked(Some(10), 1);
        for change in [
            Change::InTeam(TEAM),
            Change::Unclear,
            heard(&[7], &[]),
            heard(&[], &[7]),
        ] {
            assert_eq!(
                after(&some, std::slice::from_ref(&change)),
                None,
                "{change:?}"
            );
        }
        for change in [Change::InTeam(TeamId::from_row(67)), heard(&[8], &[9])] {
            assert_eq!(
                after(&some, std::slice::from_ref(&change)),
                Some((1, 0)),
                "{change:?}"
            );
        }
        // Of these it isn't known how far they were counted.
        let many = looked(None, 100);
        assert_eq!(after(&many, &[posted(11, "ada", None)]), Some((100, 0)));
        assert_eq!(after(&many, &[posted(11, "ada", Some("bob"))]), None);
        assert_eq!(after(&looked(None, 5), &[posted(11, "ada", None)]), None);
    }
}
