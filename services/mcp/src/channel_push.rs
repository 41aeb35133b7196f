//! Pushes messages into the session of an idle agent, for MCP clients that know channels.
//!
//! A stream of all channels that the key can read comes in, `notifications/claude/channel` go out.
//! Pushing is not reading: no read position moves, and what a client drops is still unread.

use crate::present::readable;
use futures_util::{FutureExt, future::BoxFuture};
use handoff_client::{
    Client, Result, StreamQuery,
    types::{Encryption, Message, Permissions},
};
use rmcp::{
    Peer, RoleServer, ServiceError,
    model::{CustomNotification, ServerNotification},
};
use serde_json::json;
use std::{
    collections::{BTreeSet, HashSet},
    future::pending,
    time::Duration,
};
use tokio::time::{Instant, MissedTickBehavior};

/// The notification that a client knows.
const METHOD: &str = "notifications/claude/channel";
/// The tag between which it shows the text.
const TAG: &str = "channel";
/// How often to look for channels that are new, or newly readable.
const LIST_EVERY: Duration = Duration::from_secs(5);
/// Where everything begins.
const BEGINNING: &str = "0";
/// How long to let a relay be that has refused.
const PAUSE: Duration = Duration::from_secs(5);

/// What to push into a client's session.
#[derive(Clone, Debug, Default)]
pub struct ChannelPush {
    /// Which messages.
    pub pushed: Pushed,
    /// Only those from these senders; none: from anybody in the team.
    pub senders: Option<BTreeSet<String>>,
}

/// Which messages are pushed. The caller's own never are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pushed {
    /// Those that mention the caller.
    #[default]
    Mentions,
    /// All.
    All,
}

impl ChannelPush {
    /// Whether this message is for the caller to see at once.
    fn wants(&self, message: &Message, caller: &str) -> bool {
        message.sender != caller
            && match self.pushed {
                Pushed::Mentions => message.mention.as_deref() == Some(caller),
                Pushed::All => true,
            }
            && self
                .senders
                .as_ref()
                .is_none_or(|senders| senders.contains(&message.sender))
    }
}

/// Follows the team's channels and pushes what is wanted, until nobody is left to push to.
pub(crate) async fn run(client: Client, push: ChannelPush, peer: Peer<RoleServer>) {
    let me = loop {
        match client.me().await {
            Ok(me) => break me,
            Err(error) => tracing::warn!("Messages can't be pushed yet: {error}"),
        }
        tokio::time::sleep(PAUSE).await;
    };
    let mut follower = Follower {
        client,
        granted: me.permissions,
        position: Position::default(),
        channels: BTreeSet::new(),
    };
    let push = |message: &Message| {
        push.wants(message, &me.sender)
            .then(|| peer.send_notification(event(message)))
    };
    loop {
        match follower.follow(&push).await {
            Ok(Ended::ClientGone) => return,
            Ok(Ended::OtherChannels) => {}
            Err(error) => {
                tracing::warn!("Messages are not pushed for a while: {error}");
                // What the key can read may have changed.
                follower.channels.clear();
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// How far the stream has come.
///
/// IDs ascend over all channels of a team, and so does the stream. A channel that a listing did not
/// show holds nothing that was there before that listing began. So when a later one shows it, the
/// stream starts again from there, and what it brings again is passed over.
#[derive(Default)]
struct Position {
    /// Where the stream stood when the last listing began; none before the first stream has
    /// opened.
    listed_at: Option<String>,
    /// What this stream has brought after that.
    since: HashSet<String>,
    /// What earlier streams have brought after that, and this one has not brought again yet.
    again: HashSet<String>,
    /// Where the stream stands.
    now: Option<String>,
}

impl Position {
    /// A stream starts again from the last listing.
    fn restart(&mut self) {
        self.again.extend(self.since.drain());
        self.now.clone_from(&self.listed_at);
    }

    /// The first stream has opened here.
    fn start(&mut self, at: Option<&str>) {
        self.listed_at = at.map(str::to_owned);
        self.now.clone_from(&self.listed_at);
    }

    /// The stream has brought this: whether it is new.
    fn pass(&mut self, id: &str) -> bool {
        self.now = Some(id.to_owned());
        self.since.insert(id.to_owned());
        !self.again.remove(id)
    }
}

/// A listing under way, and where the stream stood when it began.
type Listing = (BoxFuture<'static, Result<BTreeSet<String>>>, Option<String>);

/// Follows the channels, one stream after the other.
struct Follower {
    client: Client,
    granted: Permissions,
    position: Position,
    channels: BTreeSet<String>,
}

/// The channels that the key can read: those that are there, and those it was granted by name,
/// which may come to be.
async fn list(client: Client, granted: Permissions) -> Result<BTreeSet<String>> {
    let named = granted.into_keys().filter(|name| name != "*");
    let listed = client.list_channels().await?;
    Ok(listed
        .into_iter()
        .map(|channel| channel.name)
        .chain(named)
        .collect())
}

/// Why a stream is given up.
enum Ended {
    /// The key can read other channels now.
    OtherChannels,
    /// Nobody is left to push to.
    ClientGone,
}

impl Follower {
    /// Follows one stream until there are other channels to follow.
    async fn follow<F, P>(&mut self, push: &F) -> Result<Ended>
    where
        F: Fn(&Message) -> Option<P>,
        P: Future<Output = Result<(), ServiceError>>,
    {
        self.position.restart();
        let mut stream = (!self.channels.is_empty()).then(|| {
            self.client.stream(StreamQuery {
                channels: self.channels.iter().cloned().collect(),
                after_id: self.position.listed_at.clone(),
            })
        });
        if let Some(stream) = &mut stream
            && self.position.listed_at.is_none()
        {
            stream.opened().await?;
            self.position.start(stream.start());
        }
        let first = match stream {
            Some(_) => Instant::now() + LIST_EVERY,
            None => Instant::now(),
        };
        let mut due = tokio::time::interval_at(first, LIST_EVERY);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut listing: Option<Listing> = None;
        let mut since_listing = HashSet::new();
        loop {
            tokio::select! {
                message = async {
                    match &mut stream {
                        Some(stream) => stream.next().await,
                        None => pending().await,
                    }
                } => {
                    let Some(message) = message.transpose()? else {
                        return Ok(Ended::OtherChannels);
                    };
                    if listing.is_some() {
                        since_listing.insert(message.id.clone());
                    }
                    if self.position.pass(&message.id)
                        && let Some(pushed) = push(&message)
                        && pushed.await.is_err()
                    {
                        return Ok(Ended::ClientGone);
                    }
                }
                _ = due.tick(), if listing.is_none() => {
                    since_listing.clear();
                    listing = Some((
                        list(self.client.clone(), self.granted.clone()).boxed(),
                        self.position.now.clone(),
                    ));
                }
                channels = async {
                    match &mut listing {
                        Some((channels, _)) => channels.await,
                        None => pending().await,
                    }
                } => {
                    let began_at = listing.take().map(|(_, began_at)| began_at);
                    match (channels, began_at) {
                        (Ok(channels), _) if channels.is_empty() => {
                            self.channels = channels;
                            // The team has no channel yet: whatever will be is new.
                            if self.position.listed_at.is_none() && self.granted.contains_key("*") {
                                self.position.start(Some(BEGINNING));
                            }
                        }
                        (Ok(channels), _) if channels != self.channels => {
                            self.channels = channels;
                            return Ok(Ended::OtherChannels);
                        }
                        (Ok(_), Some(began_at)) => {
                            self.position.listed_at = began_at;
                            self.position.since = std::mem::take(&mut since_listing);
                        }
                        (Ok(_), None) => {}
                        // The stream may well go on; the next listing comes soon.
                        (Err(error), _) => {
                            tracing::debug!("Channels could not be listed: {error}");
                        }
                    }
                }
            }
        }
    }
}

/// A message as the client's model gets to see it.
fn event(message: &Message) -> ServerNotification {
    let mark = match message.encryption {
        Encryption::Plain => "[not encrypted] ",
        _ => "",
    };
    let content = readable(&message.content, &message.encryption);
    let mut meta = json!({
        "sender": attribute(&message.sender),
        "channel": attribute(&message.channel),
        "message_id": attribute(&message.id),
    });
    if let Some(thread_id) = &message.thread_id {
        meta["thread_id"] = attribute(thread_id).into();
    }
    ServerNotification::CustomNotification(CustomNotification::new(
        METHOD,
        Some(json!({"content": format!("{mark}{}", inert(&content)), "meta": meta})),
    ))
}

/// The text, so that it can neither end its event nor begin another: the client sets it between
/// tags of that name.
fn inert(content: &str) -> String {
    let mut text = String::with_capacity(content.len());
    for (at, c) in content.char_indices() {
        let rest = content[at..].strip_prefix('<').map(|rest| {
            let rest = rest.trim_start();
            rest.strip_prefix('/').unwrap_or(rest).trim_start()
        });
        let is_tag = rest
            .and_then(|rest| rest.get(..TAG.len()))
            .is_some_and(|name| name.eq_ignore_ascii_case(TAG));
        if is_tag {
            text.push_str("&lt;");
        } else {
            text.push(c);
        }
    }
    text
}

/// A value that stays inside the quotes of an attribute.
fn attribute(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        if c.is_control() || matches!(c, '"' | '<' | '>') {
            text.extend(c.escape_unicode());
        } else {
            text.push(c);
        }
    }
    text
}
