//! The MCP server: a call comes in, the tool is found, its arguments are checked, and its result
//! goes out with what the caller has not read.

use crate::{
    arguments::Arguments,
    catalogue::{self, TOOLS, ToolSpec},
    failure::Failure,
    instructions::instructions,
    present,
    tools::{self, Call, Outcome},
};
use handoff_client::{
    Client,
    types::{InboxQuery, UnreadCounts},
};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock,
        DiscoverRequestMethod, DiscoverResult, Implementation, JsonObject, ListToolsResult,
        PaginatedRequestParams, ProtocolVersion, ServerCapabilities, ServerConfig, Tool,
    },
    service::{NotificationContext, RequestContext},
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::sync::Notify;

/// How long a result waits for the count of what is unread.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a client may keep what changes with the program only.
const TTL_MS: u64 = 3_600_000;

/// Where the client for a request comes from.
#[derive(Clone)]
pub enum ClientSource {
    /// It is the same for all requests: this server speaks for one key.
    Fixed(Client),
    /// Whoever took the HTTP request has put it into its extensions.
    HttpRequest,
}

/// The MCP server. Cheap to clone.
#[derive(Clone)]
pub struct HandoffServer {
    source: ClientSource,
    tools: Arc<[Tool]>,
    channel_push: bool,
    initialized: Arc<Notify>,
}

impl HandoffServer {
    /// A server whose requests go out through these clients.
    pub fn new(source: ClientSource) -> Self {
        Self {
            source,
            tools: TOOLS.iter().map(ToolSpec::to_tool).collect(),
            channel_push: false,
            initialized: Arc::default(),
        }
    }

    /// Says that this server sends channel events.
    pub(crate) fn with_channel_push(mut self) -> Self {
        self.channel_push = true;
        self
    }

    /// Is rung once the client has said that it is ready.
    pub(crate) fn initialized(&self) -> Arc<Notify> {
        self.initialized.clone()
    }

    /// The client for this request, and whether it came over HTTP.
    fn client(&self, context: &RequestContext<RoleServer>) -> Result<(Client, bool), ErrorData> {
        match &self.source {
            ClientSource::Fixed(client) => Ok((client.clone(), false)),
            ClientSource::HttpRequest => context
                .extensions
                .get::<http::request::Parts>()
                .and_then(|parts| parts.extensions.get::<Client>())
                .map(|client| (client.clone(), true))
                .ok_or_else(|| ErrorData::internal_error("the request carries no client", None)),
        }
    }
}

impl ServerHandler for HandoffServer {
    fn get_info(&self) -> ServerConfig {
        let mut capabilities = ServerCapabilities::builder().enable_tools().build();
        if self.channel_push {
            capabilities.experimental =
                Some([("claude/channel".to_owned(), JsonObject::new())].into());
        }
        ServerConfig::new(capabilities)
            .with_server_info(
                Implementation::new("handoff", env!("CARGO_PKG_VERSION")).with_title("Handoff"),
            )
            .with_instructions(instructions(self.channel_push))
    }

    /// Without a handshake there is no session to push into. A server that pushes answers like one
    /// that knows nothing else, as clients that would do without take it at its word.
    async fn discover(
        &self,
        _context: RequestContext<RoleServer>,
    ) -> Result<DiscoverResult, ErrorData> {
        if self.channel_push {
            return Err(ErrorData::method_not_found::<DiscoverRequestMethod>());
        }
        Ok(DiscoverResult::from_server_info(
            self.supported_protocol_versions().into_owned(),
            self.get_info(),
        )
        .with_ttl_ms(TTL_MS)
        .with_cache_scope(CacheScope::Public))
    }

    async fn on_initialized(&self, _context: NotificationContext<RoleServer>) {
        self.initialized.notify_one();
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let list = ListToolsResult::with_all_items(self.tools.to_vec());
        let has_cache_hints = context
            .protocol_version()
            .is_some_and(|version| version >= ProtocolVersion::V_2026_07_28);
        Ok(match has_cache_hints {
            true => list
                .with_ttl_ms(TTL_MS)
                .with_cache_scope(CacheScope::Public),
            false => list,
        })
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.tools.iter().find(|tool| tool.name == name).cloned()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(tool) = catalogue::find(&request.name) else {
            return Err(ErrorData::invalid_params(
                format!("there is no tool {}", present::name(&request.name)),
                None,
            ));
        };
        let (mut client, over_http) = self.client(&context)?;
        if let Some(traceparent) = context.meta.get_traceparent() {
            client = client.with_trace(traceparent, context.meta.get_tracestate());
        }
        let arguments = match Arguments::check(tool, request.arguments) {
            Ok(arguments) => arguments,
            Err(error) => {
                let failure = Failure::from(error);
                return Ok(failed(&client, tool, &failure, None).await.into());
            }
        };
        let call = Call {
            client: &client,
            arguments: &arguments,
            context: &context,
            over_http,
        };
        let result = match tools::call(tool.name, &call).await {
            Ok(outcome) => succeeded(&client, outcome).await,
            Err(failure) => failed(&client, tool, &failure, arguments.text("channel")).await,
        };
        Ok(result.into())
    }
}

/// A result, with what the caller has not read.
async fn succeeded(client: &Client, outcome: Outcome) -> CallToolResult {
    let Outcome {
        mut text,
        mut data,
        unread,
    } = outcome;
    match unread {
        // The text of these results says it already.
        Some(unread) => present::add_unread(&mut String::new(), Some(&mut data), &unread),
        None => {
            if let Some(unread) = unread_counts(client).await {
                present::add_unread(&mut text, Some(&mut data), &unread);
            }
        }
    }
    let mut result = CallToolResult::success(vec![ContentBlock::text(text.trim_end())]);
    result.structured_content = Some(Value::Object(data));
    result
}

/// What went wrong and what to do, as a result that the model sees.
async fn failed(
    client: &Client,
    tool: &ToolSpec,
    failure: &Failure,
    channel: Option<&str>,
) -> CallToolResult {
    let mut text = failure.describe(tool, channel);
    if failure.leaves_relay_usable()
        && let Some(unread) = unread_counts(client).await
    {
        present::add_unread(&mut text, None, &unread);
    }
    CallToolResult::error(vec![ContentBlock::text(text.trim_end())])
}

/// How much the caller has not read, if that can be had quickly: no call fails for it.
async fn unread_counts(client: &Client) -> Option<UnreadCounts> {
    let query = InboxQuery {
        max_bytes: Some(0),
        ..InboxQuery::default()
    };
    match tokio::time::timeout(UNREAD_TIMEOUT, client.inbox(&query)).await {
        Ok(Ok(inbox)) => Some(inbox.unread),
        Ok(Err(error)) => {
            tracing::debug!("Result goes out without unread counts: {error}");
            None
        }
        Err(_) => {
            tracing::debug!("Result goes out without unread counts: no answer in time");
            None
        }
    }
}
