//! Requests over the network, with reqwest.

use crate::{
    Error, Result,
    transport::{ApiRequest, ApiResponse, StreamResponse, Transport, TransportError},
};
use futures_util::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture};
use http::{HeaderValue, header};
use reqwest::{Url, redirect};
use secrecy::{ExposeSecret, SecretString};
use std::{error::Error as StdError, time::Duration};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a stream may take to begin.
const STREAM_TIMEOUT: Duration = Duration::from_secs(30);
/// How the client introduces itself.
const USER_AGENT: &str = concat!("handoff-client/", env!("CARGO_PKG_VERSION"));

/// Reaches a relay over HTTP(S).
#[derive(Debug)]
pub struct HttpTransport {
    http: reqwest::Client,
    /// Without a slash at its end.
    base: String,
    authorization: Option<HeaderValue>,
}

impl HttpTransport {
    /// A way to the relay at this URL, which may have a path, with this key.
    pub fn new(relay_url: &str, api_key: Option<SecretString>) -> Result<Self> {
        let base = base(relay_url)?;
        let authorization = api_key.as_ref().map(authorization).transpose()?;
        // An error means that another part of this program has installed one already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = http_client(base.starts_with("https:")).map_err(|error| {
            Error::InvalidArgument(format!("No HTTP client can be set up: {}", chain(&error)))
        })?;
        Ok(Self {
            http,
            base,
            authorization,
        })
    }

    fn request(&self, request: ApiRequest) -> Result<reqwest::RequestBuilder, TransportError> {
        let (parts, body) = request.into_parts();
        let url =
            Url::parse(&format!("{}{}", self.base, parts.uri)).map_err(TransportError::unsent)?;
        let mut builder = self
            .http
            .request(parts.method, url)
            .headers(parts.headers)
            .body(body);
        if let Some(authorization) = &self.authorization {
            builder = builder.header(header::AUTHORIZATION, authorization);
        }
        Ok(builder)
    }
}

impl Transport for HttpTransport {
    fn send(
        &self,
        request: ApiRequest,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<ApiResponse, TransportError>> {
        async move {
            let answer = self
                .request(request)?
                .timeout(timeout)
                .send()
                .await
                .map_err(failure)?;
            Ok(ApiResponse {
                status: answer.status(),
                headers: answer.headers().clone(),
                body: answer.bytes().await.map_err(failure)?,
            })
        }
        .boxed()
    }

    fn stream(&self, request: ApiRequest) -> BoxFuture<'_, Result<StreamResponse, TransportError>> {
        async move {
            let sent = self.request(request)?.send();
            let answer = tokio::time::timeout(STREAM_TIMEOUT, sent)
                .await
                .map_err(|_| TransportError(format!("no answer within {STREAM_TIMEOUT:?}").into()))?
                .map_err(failure)?;
            Ok(StreamResponse {
                status: answer.status(),
                headers: answer.headers().clone(),
                body: answer.bytes_stream().map_err(failure).boxed(),
            })
        }
        .boxed()
    }
}

fn http_client(tls: bool) -> Result<reqwest::Client, reqwest::Error> {
    let builder = || {
        reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_TIMEOUT)
            // Followed, a redirected POST would arrive as a GET, and be answered like one.
            .redirect(redirect::Policy::none())
    };
    if !tls {
        // Reading the system's certificates takes time, and a bare container has none.
        return builder().tls_certs_only([]).build();
    }
    builder().build().or_else(|error| {
        tracing::debug!("The built-in root certificates are used: {}", chain(&error));
        let roots = rustls::RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        builder().tls_backend_preconfigured(tls).build()
    })
}

/// The URL that paths are appended to.
fn base(relay_url: &str) -> Result<String> {
    let invalid = |why: &str| {
        Error::InvalidArgument(format!(
            "RELAY_API_URL must be like https://relay.example.com: {why}"
        ))
    };
    let mut url = Url::parse(relay_url.trim()).map_err(|error| invalid(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid("it starts with neither http:// nor https://"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid("nothing may follow its path"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("a name or password has no place in it"));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn authorization(key: &SecretString) -> Result<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose_secret().trim()))
        .map_err(|_| {
            Error::InvalidArgument("RELAY_API_KEY has characters that no key has".into())
        })?;
    // Keeps it out of what is logged and of `Debug`.
    value.set_sensitive(true);
    Ok(value)
}

/// Why no answer came, with its causes: reqwest alone says only that something failed.
fn failure(error: reqwest::Error) -> TransportError {
    let unsent = error.is_connect();
    let message = chain(&error.without_url());
    if unsent {
        TransportError::unsent(message)
    } else {
        TransportError(message.into())
    }
}

/// An error and its causes in one sentence.
fn chain(error: &dyn StdError) -> String {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !sentence.ends_with(&text) {
            sentence = format!("{sentence}: {text}");
        }
        cause = error.source();
    }
    sentence
}
