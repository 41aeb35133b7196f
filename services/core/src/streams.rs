//! Streams: one loop for replay and live.
//!
//! A stream subscribes first and reads second: what memory holds comes from the feed, what is
//! older from the tables, always after one cursor. So everything after the cursor comes, in order,
//! once (guarantee G3).

use crate::{
    Error, Relay, Result, StreamGrant,
    access::Caller,
    feed::{Subscription, ring::Frame, slot::Taken},
    tokens::token_expired,
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use handoff_protocol::{ChannelName, Cursor, ErrorCode, Id, Permissions, Timestamp, keys::KeyHash};
use std::{
    collections::{BTreeMap, HashMap},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Messages that a stream reads from the tables at once.
const PAGE: i64 = 100;
/// Pauses after a failed read.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Where a stream starts.
#[derive(Clone, Copy, Debug)]
pub enum StreamStart {
    /// With what is posted from now on.
    Now,
    /// With everything after this.
    After(Cursor),
}

/// The streams that this replica holds open, by key; those of a token are its key's.
#[derive(Default)]
pub(crate) struct OpenStreams {
    keys: Mutex<HashMap<KeyHash, Arc<StreamsOfKey>>>,
    /// Those of tokens, by when they end, each with a number of its own.
    of_tokens: Mutex<BTreeMap<(Timestamp, u64), CancellationToken>>,
    next_of_token: AtomicU64,
}

struct StreamsOfKey {
    permissions: Permissions,
    expires_at: Option<Timestamp>,
    /// Cancelled when the key no longer is what it was: its streams end.
    end: CancellationToken,
    open: Mutex<usize>,
}

/// A stream's place under its key's limit; free again when dropped.
pub(crate) struct StreamSlot {
    relay: Arc<Relay>,
    hash: KeyHash,
    streams: Arc<StreamsOfKey>,
    /// Where it is listed among the streams of tokens.
    of_token: Option<(Timestamp, u64)>,
    end: CancellationToken,
}

impl OpenStreams {
    fn keys(&self) -> MutexGuard<'_, HashMap<KeyHash, Arc<StreamsOfKey>>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of_tokens(&self) -> MutexGuard<'_, BTreeMap<(Timestamp, u64), CancellationToken>> {
        self.of_tokens
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all streams of a key.
    pub(crate) fn end_streams_of(&self, hash: &KeyHash) {
        if let Some(streams) = self.keys().remove(hash) {
            streams.end.cancel();
        }
    }

    /// Ends a key's streams, unless it still has these permissions.
    pub(crate) fn end_streams_unless(&self, hash: &KeyHash, permissions: Option<&Permissions>) {
        let mut keys = self.keys();
        let changed = keys
            .get(hash)
            .is_some_and(|streams| Some(&streams.permissions) != permissions);
        if changed && let Some(streams) = keys.remove(hash) {
            streams.end.cancel();
        }
    }

    /// Ends the streams of keys and tokens that have expired.
    pub(crate) fn end_expired(&self) {
        let now = Timestamp::now();
        let mut of_tokens = self.of_tokens();
        while let Some(first) = of_tokens.first_entry()
            && first.key().0 <= now
        {
            first.remove().cancel();
        }
        drop(of_tokens);
        self.keys().retain(|_, streams| {
            let expired = streams.expires_at.is_some_and(|at| at <= now);
            if expired {
                streams.end.cancel();
            }
            !expired
        });
    }

    /// The keys with open streams, and how many.
    pub(crate) fn counts(&self) -> Vec<(KeyHash, usize)> {
        let keys = self.keys();
        let mut counts: Vec<_> = keys
            .iter()
            .map(|(hash, key)| (*hash, key.count()))
            .collect();
        counts.sort_unstable();
        counts
    }
}

impl StreamsOfKey {
    fn open(&self) -> MutexGuard<'_, usize> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self) -> usize {
        *self.open()
    }
}

impl StreamSlot {
    /// Resolves when the key is known to be what it was.
    ///
    /// # Errors
    /// It isn't, or the token has expired. `UNAVAILABLE` when it isn't known by the deadline, or when
    /// this replica stops.
    pub(crate) async fn stands(&self, deadline: Instant) -> Result<()> {
        tokio::select! {
            biased;
            () = self.end.cancelled() => return Err(self.ended()),
            () = self.relay.keys.trusted() => {}
            () = self.relay.stop.cancelled() => return Err(key_unknown()),
            () = tokio::time::sleep_until(deadline) => return Err(key_unknown()),
        }
        match self.end.is_cancelled() {
            true => Err(self.ended()),
            false => Ok(()),
        }
    }

    /// Cancelled when the key no longer is what it was, or the token has expired.
    pub(crate) fn end(&self) -> CancellationToken {
        self.end.clone()
    }

    /// Why it ended, for one who waited.
    pub(crate) fn ended(&self) -> Error {
        match self.of_token {
            Some((expires_at, _)) if expires_at <= Timestamp::now() => token_expired(),
            _ => Error::new(
                ErrorCode::InvalidApiKey,
                "This API key was changed or revoked while it waited",
            ),
        }
    }
}

fn key_unknown() -> Error {
    let message = "The database was out of reach, and this replica doesn't know yet whether the \
                   API key still stands";
    Error::new(ErrorCode::Unavailable, message).retry_after(Duration::from_secs(1))
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        if let Some(place) = &self.of_token {
            self.relay.open_streams.of_tokens().remove(place);
        }
        let mut keys = self.relay.open_streams.keys();
        let mut open = self.streams.open();
        *open = open.saturating_sub(1);
        if *open == 0
            && keys
                .get(&self.hash)
                .is_some_and(|here| Arc::ptr_eq(here, &self.streams))
        {
            keys.remove(&self.hash);
        }
    }
}

impl Relay {
    /// Opens a stream of channels; those that don't exist are waited for. With
    /// [`StreamStart::Now`], what is posted after this returns is delivered.
    ///
    /// # Errors
    /// `SSE_LIMIT_REACHED`
    pub async fn open_stream(
        self: &Arc<Self>,
        grant: StreamGrant,
        start: StreamStart,
    ) -> Result<MessageStream> {
        let StreamGrant { caller, channels } = grant;
        let place = self.take_stream_slot(&caller).await?;
        // Again only where a channel was deleted at this very moment.
        for _ in 0..5 {
            let mut reader = Reader {
                relay: self.clone(),
                subscription: self.feed.subscribe(caller.team()),
                waiting_for: channels.clone(),
                channels_seen: 0,
                must_look: true,
                cursor: 0,
                opened_at: Timestamp::now(),
                place: place.clone(),
            };
            if !reader.find_channels().await? {
                continue;
            }
            reader.cursor = match start {
                StreamStart::After(cursor) => cursor_of_resume(cursor.serial()),
                StreamStart::Now if planted!(UnsettledStart) => {
                    let slot = reader.subscription.team().slot();
                    self.store.last_values().await?.0[slot.index()]
                }
                StreamStart::Now => reader.subscription.settle().await?,
            };
            return Ok(MessageStream::new(reader));
        }
        Err(Error::new(
            ErrorCode::Unavailable,
            "A channel of this stream is being deleted",
        )
        .retry_after(Duration::from_secs(1)))
    }

    /// Takes a place under the key's limit of streams; free again when dropped.
    pub(crate) async fn take_stream_slot(
        self: &Arc<Self>,
        caller: &Caller,
    ) -> Result<Arc<StreamSlot>> {
        let key = &caller.key.row;
        let elsewhere = match self.budgets.live_replicas() {
            1 => 0,
            _ => self.store.streams_elsewhere(key.hash).await?,
        };
        let slot = self.count_stream(caller, elsewhere)?;
        // Whoever was told of a change after this key was checked and before now found no stream
        // to end.
        let stands = self.find_key(key.hash).await?;
        let permissions = stands.map(|stands| stands.row.permissions.clone());
        self.open_streams
            .end_streams_unless(&key.hash, permissions.as_ref());
        Ok(slot)
    }

    /// Takes a place under the key's limit, beside its streams on other replicas.
    fn count_stream(
        self: &Arc<Self>,
        caller: &Caller,
        elsewhere: usize,
    ) -> Result<Arc<StreamSlot>> {
        let key = &caller.key.row;
        let limit = self.config.streams_per_key as usize;
        let mut keys = self.open_streams.keys();
        let known = keys
            .get(&key.hash)
            .filter(|known| known.permissions == key.permissions);
        let streams = match known {
            Some(streams) => streams.clone(),
            None => Arc::new(StreamsOfKey {
                permissions: key.permissions.clone(),
                expires_at: key.expires_at,
                end: CancellationToken::new(),
                open: Mutex::new(0),
            }),
        };
        let mut open = streams.open();
        if *open + elsewhere >= limit {
            let message = format!("This key has {limit} streams open, which is its limit");
            return Err(
                Error::new(ErrorCode::SseLimitReached, message).retry_after(Duration::from_secs(1))
            );
        }
        *open += 1;
        drop(open);
        if let Some(replaced) = keys.insert(key.hash, streams.clone())
            && !Arc::ptr_eq(&replaced, &streams)
        {
            replaced.end.cancel();
        }
        drop(keys);
        let (of_token, end) = match caller.token_expires_at() {
            Some(expires_at) => {
                let open = &self.open_streams;
                let number = open.next_of_token.fetch_add(1, Ordering::Relaxed);
                let end = streams.end.child_token();
                open.of_tokens().insert((expires_at, number), end.clone());
                (Some((expires_at, number)), end)
            }
            None => (None, streams.end.clone()),
        };
        Ok(Arc::new(StreamSlot {
            relay: self.clone(),
            hash: key.hash,
            streams,
            of_token,
            end,
        }))
    }
}

/// The cursor after a page that ends with `last`: what a page that isn't full doesn't show up to the
/// watermark of before isn't there, and memory holds what follows.
pub(crate) fn cursor_after_page(last: i64, is_full: bool, watermark: i64) -> i64 {
    match is_full {
        true => last,
        false if planted!(DropFrameAtHandover) => last.max(watermark) + 1,
        false => last.max(watermark),
    }
}

/// Where a stream that resumes after this ID begins.
pub(crate) fn cursor_of_resume(last_event_id: i64) -> i64 {
    last_event_id + i64::from(planted!(SkipOnResume))
}

/// Messages of some channels after a cursor, as frames.
pub struct MessageStream {
    over: Over,
    reader: Reader,
}

impl MessageStream {
    fn new(reader: Reader) -> Self {
        let (end, stop) = (reader.place.end(), reader.relay.stop.clone());
        let over = Box::pin(async move {
            tokio::select! {
                () = end.cancelled() => {}
                () = stop.cancelled() => {}
            }
        });
        Self {
            over: Over(Some(over)),
            reader,
        }
    }

    /// Everything up to here was delivered or is none of this stream's business.
    pub fn cursor(&self) -> Cursor {
        Id::from_serial(self.reader.cursor)
    }

    /// The next frames, at least one; none when the stream has ended: its key changed, a channel
    /// was deleted, or this replica stops. Nothing is lost if the wait is given up.
    pub async fn next(&mut self) -> Option<Vec<Bytes>> {
        let Self { over, reader } = self;
        tokio::select! {
            biased;
            () = over => None,
            frames = reader.next_frames() => frames.map(|frames| reader.delivered(frames)),
        }
    }

    /// Resolves when the stream has ended for its key or because this replica stops.
    pub async fn over(&mut self) {
        (&mut self.over).await;
    }
}

/// Ready, from then on always, when a stream's key changed or its replica stops. Kept for the
/// stream's life: thousands that wait on the same two signals anew for every frame would get in
/// each other's way.
struct Over(Option<BoxFuture<'static, ()>>);

impl Future for Over {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if let Some(over) = &mut self.0 {
            ready!(over.as_mut().poll(context));
            self.0 = None;
        }
        Poll::Ready(())
    }
}

/// What a stream follows, and how far it has come.
struct Reader {
    relay: Arc<Relay>,
    subscription: Subscription,
    /// Channels that don't exist yet.
    waiting_for: Vec<ChannelName>,
    /// How often a channel had been opened when they were last looked for.
    channels_seen: u64,
    /// The last look for them was not brought to its end.
    must_look: bool,
    cursor: i64,
    opened_at: Timestamp,
    place: Arc<StreamSlot>,
}

impl Reader {
    /// Frames that are on their way to the client. What is older than the stream says nothing of
    /// how long a delivery takes.
    fn delivered(&self, frames: Vec<Frame>) -> Vec<Bytes> {
        let now = Timestamp::now();
        for frame in frames
            .iter()
            .filter(|frame| frame.created_at > self.opened_at)
        {
            // The two clocks may disagree by a little.
            let micros = now.as_micros() - frame.created_at.as_micros();
            let took = Duration::from_micros(micros.max(0) as u64);
            self.relay.metrics.delivery_duration.record(took);
        }
        for trace in frames.iter().filter_map(|frame| frame.trace) {
            trace.delivered();
        }
        frames.into_iter().map(|frame| frame.bytes).collect()
    }

    async fn next_frames(&mut self) -> Option<Vec<Frame>> {
        // What reads from Postgres is boxed: most streams wait for news, thousands at a time, and
        // shouldn't hold room for the rest meanwhile.
        let mut pause = FIRST_PAUSE;
        loop {
            // Of a key that was changed meanwhile nobody may have heard yet.
            if !self.relay.keys.is_trusted() {
                Box::pin(self.relay.keys.trusted()).await;
                // Lets the stream end first, if its key is no longer what it was.
                tokio::task::yield_now().await;
            }
            let before = self.cursor;
            let seen = (!self.waiting_for.is_empty()).then_some(self.channels_seen);
            let taken = match self.must_look {
                true => Taken::ChannelsCreated,
                false => self.subscription.take(self.cursor, seen),
            };
            let outcome = match taken {
                Taken::Frames { frames, cursor } => {
                    self.cursor = cursor;
                    if !frames.is_empty() {
                        return Some(frames);
                    }
                    self.subscription.woken().await;
                    continue;
                }
                Taken::Unsettled => {
                    self.subscription.woken().await;
                    continue;
                }
                Taken::Over => return None,
                Taken::ChannelsCreated => match Box::pin(self.find_channels()).await {
                    Ok(true) => continue,
                    Ok(false) => return None,
                    Err(error) => Err(error),
                },
                Taken::Behind { watermark } => Box::pin(self.read_page(watermark)).await,
            };
            match outcome {
                Ok(frames) if frames.is_empty() => pause = FIRST_PAUSE,
                // It took too long: once more, when the key is known to stand.
                Ok(_) if !self.relay.keys.is_trusted() => self.cursor = before,
                Ok(frames) => return Some(frames),
                Err(error) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "A stream can't read; it tries again"
                    );
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Reads on from the tables. What isn't found up to `watermark` isn't there.
    async fn read_page(&mut self, watermark: i64) -> Result<Vec<Frame>> {
        // A channel yet to be found may hold something after the watermark: go no further.
        let up_to = if self.waiting_for.is_empty() {
            i64::MAX
        } else {
            watermark
        };
        let team = self.subscription.team();
        let channels = self.subscription.channel_ids();
        let store = &self.relay.store;
        let messages = store
            .stream_page(team, &channels, self.cursor, up_to, PAGE)
            .await?;
        let last = messages
            .last()
            .map_or(self.cursor, |message| message.id.serial());
        let is_full = messages.len() as i64 == PAGE;
        self.cursor = cursor_after_page(last, is_full, watermark);
        Ok(messages.iter().map(Frame::new).collect())
    }

    /// Follows those of the channels waited for that exist by now. False where one was deleted
    /// before its deletion could be heard of.
    async fn find_channels(&mut self) -> Result<bool> {
        // First the ears, then the look; one that fails is made up for, since nothing wakes for it.
        self.must_look = true;
        self.subscription.wait_for_channels(true);
        self.channels_seen = self.subscription.channels_created();
        let team = self.subscription.team();
        let found = self
            .relay
            .store
            .resolve_channels(team, &self.waiting_for)
            .await?;
        for (id, _) in &found {
            self.subscription.add_channel(*id);
        }
        self.waiting_for
            .retain(|name| !found.iter().any(|(_, found)| found == name));
        if self.waiting_for.is_empty() {
            self.subscription.wait_for_channels(false);
        }
        let followed = self.subscription.channel_ids();
        let deleted = !followed.is_empty()
            && self
                .relay
                .store
                .any_channel_deleted(team, &followed)
                .await?;
        self.must_look = false;
        Ok(!deleted)
    }
}
