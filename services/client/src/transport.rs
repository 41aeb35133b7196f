//! How requests reach a relay: over the network, or inside of it.

use bytes::Bytes;
use futures_util::{future::BoxFuture, stream::BoxStream};
use http::{HeaderMap, Request, StatusCode};
use std::time::Duration;

/// A request to the relay: the URI is its path and query. What a transport adds is where to, and
/// the caller's key.
pub type ApiRequest = Request<Bytes>;

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct ApiResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// An answer whose body goes on.
pub struct StreamResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, as it comes.
    pub body: BoxStream<'static, Result<Bytes, TransportError>>,
}

/// No answer came: the request may have been carried out or not.
#[derive(Debug, thiserror::Error)]
#[error("the relay could not be reached: {0}")]
pub struct TransportError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

impl TransportError {
    /// A request that never left: no connection came about.
    pub fn unsent(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(Box::new(Unsent(source.into())))
    }

    /// Whether it is certain that the request never left.
    pub fn is_unsent(&self) -> bool {
        self.0.is::<Unsent>()
    }
}

/// Marks a request that never left.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unsent(#[source] Box<dyn std::error::Error + Send + Sync>);

/// Carries requests to a relay, each once: who repeats them is the client.
pub trait Transport: Send + Sync + 'static {
    /// Sends a request, and reads its answer within this time.
    fn send(
        &self,
        request: ApiRequest,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<ApiResponse, TransportError>>;

    /// Sends a request whose answer goes on until one side ends it.
    fn stream(&self, request: ApiRequest) -> BoxFuture<'_, Result<StreamResponse, TransportError>>;
}
