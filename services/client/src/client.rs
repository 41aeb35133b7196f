//! The whole contract, a method each. Arguments come in, a request goes out through the transport,
//! its answer comes back as a type; texts are encrypted on the way out and decrypted on the way in.

use crate::{
    Error, MessageStream, Result, StreamQuery,
    e2ee::{Keyring, Kind},
    request::{Call, Query, Repeat, decode, segment},
    transport::Transport,
    types::*,
};
use http::{HeaderValue, Method, StatusCode};
use serde_json::json;
use std::{fmt, slice, sync::Arc, time::Duration};
use tokio::sync::OnceCell;

/// Longest that the relay holds a request for the inbox.
const INBOX_WAIT_MAX_SECONDS: u32 = 55;
/// Longest that the relay holds another request.
const WAIT_MAX_SECONDS: u32 = 50;

/// A client of a relay, for one key. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    pub(crate) transport: Arc<dyn Transport>,
    keyring: Option<Arc<Keyring>>,
    pub(crate) trace: Option<Arc<TraceHeaders>>,
    /// Shared by the clones, so that it is asked for once.
    me: Arc<OnceCell<Me>>,
}

/// What makes a request part of a trace.
pub(crate) struct TraceHeaders {
    pub(crate) traceparent: HeaderValue,
    pub(crate) tracestate: Option<HeaderValue>,
}

/// Without keys of any sort.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("keyring", &self.keyring)
            .finish_non_exhaustive()
    }
}

/// What came of a post.
#[derive(Clone, Debug)]
pub struct Posted {
    /// The message as it stands.
    pub message: Message,
    /// Whether it stood already: an earlier try of this post had arrived.
    pub replayed: bool,
}

impl Client {
    /// A client that reaches its relay through this transport.
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self {
            transport,
            keyring: None,
            trace: None,
            me: Arc::default(),
        }
    }

    /// A client of the relay at this URL.
    #[cfg(feature = "http-transport")]
    pub fn connect(relay_url: &str, api_key: Option<&str>) -> Result<Self> {
        let transport = crate::HttpTransport::new(relay_url, api_key.map(Into::into))?;
        Ok(Self::new(Arc::new(transport)))
    }

    /// Encrypts what it sends with these keys, and decrypts what it reads.
    pub fn with_keyring(mut self, keyring: Keyring) -> Self {
        self.keyring = Some(Arc::new(keyring));
        self
    }

    /// Makes its requests part of a trace, by the headers of W3C Trace Context; ones that can't be
    /// headers are left out.
    pub fn with_trace(mut self, traceparent: &str, tracestate: Option<&str>) -> Self {
        self.trace = HeaderValue::from_str(traceparent).ok().map(|traceparent| {
            let tracestate = tracestate.and_then(|state| HeaderValue::from_str(state).ok());
            Arc::new(TraceHeaders {
                traceparent,
                tracestate,
            })
        });
        self
    }

    /// The keys that it encrypts and decrypts with.
    pub fn keyring(&self) -> Option<&Keyring> {
        self.keyring.as_deref()
    }

    /// Signs a team up. Needs no key.
    pub async fn signup(&self, team_name: &str, sender_name: &str) -> Result<SignedUp> {
        let body = json!({"team_name": team_name, "sender_name": sender_name});
        self.ask(Call::post("/api/signup", Repeat::IfUntouched).json(&body)?)
            .await
    }

    /// Who the key speaks for. Asked for once, then remembered.
    pub async fn me(&self) -> Result<Me> {
        self.me
            .get_or_try_init(|| self.ask(Call::get("/api/me")))
            .await
            .cloned()
    }

    /// Makes a key for a sender; without permissions it may do everything.
    pub async fn create_key(
        &self,
        sender: &str,
        permissions: Option<&Permissions>,
    ) -> Result<CreatedKey> {
        let mut body = json!({"sender_name": sender});
        if let Some(permissions) = permissions {
            body["permissions"] = json!(permissions);
        }
        self.ask(Call::post("/api/keys", Repeat::IfUntouched).json(&body)?)
            .await
    }

    /// The team's keys.
    pub async fn list_keys(&self) -> Result<Vec<Key>> {
        self.ask(Call::get("/api/keys")).await
    }

    /// Replaces what a key may do, which its hash names.
    pub async fn set_key_permissions(
        &self,
        hash: &str,
        permissions: &Permissions,
    ) -> Result<KeyPermissions> {
        let path = format!("/api/keys/{}/permissions", segment("key hash", hash)?);
        self.ask(Call::new(Method::PUT, path).json(&json!({"permissions": permissions}))?)
            .await
    }

    /// Ends a key, which its hash names.
    pub async fn revoke_key(&self, hash: &str) -> Result<()> {
        self.delete(format!("/api/keys/{}", segment("key hash", hash)?))
            .await
    }

    /// Makes a short-lived token that does what the caller's key does, or less.
    pub async fn create_token(&self, token: &NewToken) -> Result<CreatedToken> {
        // One that was made and never arrived does nothing, and ends by itself.
        self.ask(Call::post("/api/tokens", Repeat::Always).json(token)?)
            .await
    }

    /// The denied requests.
    pub async fn read_audit(&self, page: &PageQuery, result: Option<&str>) -> Result<AuditPage> {
        let query = Query::new().page(page).text("result", result);
        self.ask(Call::get("/api/audit").query(query)).await
    }

    /// Opens a channel; one that is open already stays as it is.
    pub async fn create_channel(&self, name: &str, description: Option<&str>) -> Result<Channel> {
        let mut body = json!({"name": name});
        if let Some(description) = description {
            body["description"] = json!(description);
        }
        // The second time answers with the channel that stands.
        self.ask(Call::post("/api/channels", Repeat::Always).json(&body)?)
            .await
    }

    /// The channels that the key can read, by name.
    pub async fn list_channels(&self) -> Result<Vec<Channel>> {
        self.ask(Call::get("/api/channels")).await
    }

    /// Deletes a channel with everything in it.
    pub async fn delete_channel(&self, name: &str) -> Result<()> {
        self.delete(channel_path(name, "")?).await
    }

    /// Posts a message, once however often it must be tried.
    pub async fn post_message(&self, channel: &str, message: NewMessage) -> Result<Posted> {
        let path = channel_path(channel, "/messages")?;
        if message.content.is_empty() {
            // Encrypted it would be no longer empty, and the relay could not tell.
            return Err(Error::InvalidArgument(
                "A message must say something".into(),
            ));
        }
        let content = self
            .encrypt(channel, Kind::Message, message.content)
            .await?;
        let call = Call::post(path, Repeat::Always)
            .json(&NewMessage { content, ..message })?
            .idempotent();
        let answer = self.send(call).await?;
        let mut message: Message = decode(&answer)?;
        self.decrypt_messages(Some(channel), slice::from_mut(&mut message))
            .await?;
        Ok(Posted {
            message,
            replayed: answer.status == StatusCode::OK,
        })
    }

    /// A page of a channel's messages.
    pub async fn read_messages(&self, channel: &str, query: &MessageQuery) -> Result<MessagePage> {
        let wait_seconds = query.wait_seconds.map(|wait| wait.min(WAIT_MAX_SECONDS));
        let query = Query::new()
            .text("after_id", query.after_id.as_deref())
            .number("limit", query.limit)
            .text("mention", query.mention.as_deref())
            .text("sender", query.sender.as_deref())
            .text("thread_id", query.thread_id.as_deref())
            .number("wait", wait_seconds);
        let call = Call::get(channel_path(channel, "/messages")?)
            .query(query)
            .held_for(Duration::from_secs(wait_seconds.unwrap_or(0).into()));
        let mut page: MessagePage = self.ask(call).await?;
        self.decrypt_messages(Some(channel), &mut page.messages)
            .await?;
        Ok(page)
    }

    /// Deletes a message.
    pub async fn delete_message(&self, channel: &str, id: &str) -> Result<()> {
        let id = segment("message ID", id)?;
        self.delete(channel_path(channel, &format!("/messages/{id}"))?)
            .await
    }

    /// A message and a page of its replies.
    pub async fn read_thread(
        &self,
        channel: &str,
        id: &str,
        page: &PageQuery,
    ) -> Result<ThreadPage> {
        let id = segment("message ID", id)?;
        let call = Call::get(channel_path(channel, &format!("/threads/{id}"))?)
            .query(Query::new().page(page));
        let mut page: ThreadPage = self.ask(call).await?;
        self.decrypt_messages(Some(channel), slice::from_mut(&mut page.parent))
            .await?;
        self.decrypt_messages(Some(channel), &mut page.replies)
            .await?;
        Ok(page)
    }

    /// Says that everything up to this message was read. Never moves back.
    pub async fn ack(&self, channel: &str, last_read_id: &str) -> Result<Ack> {
        let call = Call::post(channel_path(channel, "/ack")?, Repeat::Always)
            .json(&json!({"last_read_id": last_read_id}))?;
        self.ask(call).await
    }

    /// Says in several channels how far the caller has read, in one request: pairs of a channel and
    /// a message's ID. All move, or none.
    pub async fn ack_all(&self, acks: &[(String, String)]) -> Result<Vec<Ack>> {
        let acks = acks.iter().map(
            |(channel, last_read_id)| json!({"channel": channel, "last_read_id": last_read_id}),
        );
        let body = json!({"acks": acks.collect::<Vec<_>>()});
        self.ask(Call::post("/api/inbox/ack", Repeat::Always).json(&body)?)
            .await
    }

    /// Waits until others have done something, 1 to 50 seconds; the relay watches.
    pub async fn wait(&self, what: &WaitFor, timeout_seconds: u32) -> Result<WaitOutcome> {
        let (WaitFor::Any(conditions) | WaitFor::All(conditions)) = what;
        let compares =
            |condition: &Condition| matches!(condition, Condition::Status { value: Some(_), .. });
        if self.keyring.is_some() && conditions.iter().any(compares) {
            return Err(Error::InvalidArgument(
                "The relay can't compare an encrypted status value: wait for the entry to change \
                 (after_id), and look at it"
                    .into(),
            ));
        }
        let mut body = serde_json::to_value(what)
            .map_err(|error| Error::InvalidArgument(format!("This is no JSON: {error}")))?;
        body["timeout_seconds"] = json!(timeout_seconds);
        let call = Call::post("/api/wait", Repeat::Always)
            .json(&body)?
            .held_for(Duration::from_secs(
                timeout_seconds.min(WAIT_MAX_SECONDS).into(),
            ));
        let mut outcome: WaitOutcome = self.ask(call).await?;
        for state in &mut outcome.conditions {
            self.decrypt_messages(None, state.message.as_mut_slice())
                .await?;
            self.decrypt_statuses(None, state.status.as_mut_slice())
                .await?;
        }
        Ok(outcome)
    }

    /// How far each sender has read a channel.
    pub async fn list_acks(&self, channel: &str) -> Result<Vec<Ack>> {
        self.ask(Call::get(channel_path(channel, "/acks")?)).await
    }

    /// What comes after the caller's ack, its own messages included. Moves no ack.
    pub async fn read_unread(&self, channel: &str, limit: Option<u32>) -> Result<MessagePage> {
        self.wait_for_unread(channel, limit, 0).await
    }

    /// What comes after the caller's ack; where there is nothing, as soon as there is, or when so
    /// many seconds, 50 at most, are over.
    pub async fn wait_for_unread(
        &self,
        channel: &str,
        limit: Option<u32>,
        wait_seconds: u32,
    ) -> Result<MessagePage> {
        let wait_seconds = wait_seconds.min(WAIT_MAX_SECONDS);
        let wait = (wait_seconds > 0).then_some(wait_seconds);
        let query = Query::new().number("limit", limit).number("wait", wait);
        let call = Call::get(channel_path(channel, "/unread")?)
            .query(query)
            .held_for(Duration::from_secs(wait_seconds.into()));
        let mut page: MessagePage = self.ask(call).await?;
        self.decrypt_messages(Some(channel), &mut page.messages)
            .await?;
        Ok(page)
    }

    /// Sets a status entry.
    pub async fn set_status(&self, channel: &str, key: &str, value: &str) -> Result<Status> {
        let path = channel_path(channel, "/status")?;
        let value = self
            .encrypt(channel, Kind::Status { key }, value.into())
            .await?;
        let call = Call::new(Method::PUT, path).json(&json!({"key": key, "value": value}))?;
        let mut status: Status = self.ask(call).await?;
        self.decrypt_statuses(Some(channel), slice::from_mut(&mut status))
            .await?;
        Ok(status)
    }

    /// A channel's status entries, or the one of this key.
    pub async fn list_statuses(&self, channel: &str, key: Option<&str>) -> Result<Vec<Status>> {
        let call =
            Call::get(channel_path(channel, "/status")?).query(Query::new().text("key", key));
        let mut statuses: Vec<Status> = self.ask(call).await?;
        self.decrypt_statuses(Some(channel), &mut statuses).await?;
        Ok(statuses)
    }

    /// The status entries of all channels that the key can read.
    pub async fn list_all_statuses(
        &self,
        channel: Option<&str>,
        key: Option<&str>,
    ) -> Result<Vec<Status>> {
        // An empty one asks for all.
        let channel = channel.filter(|channel| !channel.is_empty());
        let query = Query::new().text("channel", channel).text("key", key);
        let mut statuses: Vec<Status> = self.ask(Call::get("/api/status").query(query)).await?;
        self.decrypt_statuses(channel, &mut statuses).await?;
        Ok(statuses)
    }

    /// Deletes a status entry.
    pub async fn delete_status(&self, channel: &str, key: &str) -> Result<()> {
        let key = segment("status key", key)?;
        self.delete(channel_path(channel, &format!("/status/{key}"))?)
            .await
    }

    /// A page of a channel's status history.
    pub async fn list_status_changes(
        &self,
        channel: &str,
        page: &PageQuery,
    ) -> Result<StatusChangePage> {
        let call =
            Call::get(channel_path(channel, "/status/changes")?).query(Query::new().page(page));
        let mut page: StatusChangePage = self.ask(call).await?;
        self.decrypt_changes(channel, &mut page.changes).await?;
        Ok(page)
    }

    /// What the caller has not read, over all channels.
    pub async fn inbox(&self, query: &InboxQuery) -> Result<Inbox> {
        let wait_seconds = query
            .wait_seconds
            .map(|wait| wait.min(INBOX_WAIT_MAX_SECONDS));
        let channels = (!query.channels.is_empty()).then(|| query.channels.join(","));
        let parameters = Query::new()
            .number("max_bytes", query.max_bytes)
            .text("after_id", query.after_id.as_deref())
            .text("channels", channels.as_deref())
            .text("mentions_only", query.mentions_only.then_some("true"))
            .number("wait", wait_seconds);
        let call = Call::get("/api/inbox")
            .query(parameters)
            .held_for(Duration::from_secs(wait_seconds.unwrap_or(0).into()));
        let mut inbox: Inbox = self.ask(call).await?;
        self.decrypt_messages(None, &mut inbox.mentions).await?;
        self.decrypt_messages(None, &mut inbox.messages).await?;
        Ok(inbox)
    }

    /// Follows channels. Nothing is sent before the stream is first asked for something.
    pub fn stream(&self, query: StreamQuery) -> MessageStream {
        MessageStream::new(self.clone(), query)
    }
}

/// A path below a channel.
fn channel_path(channel: &str, below: &str) -> Result<String> {
    Ok(format!(
        "/api/channels/{}{below}",
        segment("channel name", channel)?
    ))
}
