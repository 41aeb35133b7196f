//! The server over stdin and stdout, for one client and one key.

use crate::{
    channel_push::{self, ChannelPush},
    server::{ClientSource, HandoffServer},
};
use handoff_client::Client;
use rmcp::{
    RoleServer, ServiceExt,
    service::{QuitReason, ServerInitializeError},
    transport::IntoTransport,
};

/// What a served client gets.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Pushes messages into the client's session, for clients that know channels.
    pub channel_push: Option<ChannelPush>,
}

/// Why serving came to an end other than by the client's leaving.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The client did not speak MCP, or left in the middle of its first words.
    #[error("the MCP handshake failed")]
    Handshake(#[source] Box<ServerInitializeError>),
    /// The task that served it broke down.
    #[error("the MCP server broke down")]
    Broken(#[from] tokio::task::JoinError),
}

/// Serves the client at the other end of stdin and stdout until it leaves.
pub async fn serve_stdio(client: Client, options: Options) -> Result<(), ServeError> {
    serve(client, rmcp::transport::io::stdio_pipes(), options).await
}

/// Serves the client at the other end of this transport until it leaves.
pub async fn serve<T, E, A>(
    client: Client,
    transport: T,
    options: Options,
) -> Result<(), ServeError>
where
    T: IntoTransport<RoleServer, E, A>,
    E: std::error::Error + Send + Sync + 'static,
{
    let mut server = HandoffServer::new(ClientSource::Fixed(client.clone()));
    if options.channel_push.is_some() {
        server = server.with_channel_push();
    }
    let initialized = server.initialized();
    let service = match server.serve(transport).await {
        Ok(service) => service,
        // It has looked and left.
        Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(ServeError::Handshake(Box::new(error))),
    };
    let peer = service.peer().clone();
    let push = async {
        match options.channel_push {
            Some(push) => {
                initialized.notified().await;
                channel_push::run(client, push, peer).await;
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        quit = service.waiting() => match quit? {
            QuitReason::JoinError(error) => Err(error.into()),
            _ => Ok(()),
        },
        // Ends only when nobody is left to push to, which the other branch sees as well.
        () = push => Ok(()),
    }
}
