//! Which web pages may use the relay: the headers that browsers ask of every answer (CORS).
//!
//! Each request brings its key, and no cookie counts here, so a page of any origin can do no more
//! than its key allows. OPTIONS is answered by the router like any other request; what a
//! preflight asks is added to that answer.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use std::{str::FromStr, sync::Arc};

/// What pages may send; GET, HEAD and POST go without saying, but are asked for all the same.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE");
/// Headers of requests that mean something here.
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, idempotency-key, last-event-id, traceparent, tracestate, \
     x-api-key, x-request-id",
);
/// Headers of answers that scripts may read.
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static(
    "retry-after, x-request-id, x-ratelimit-limit, x-ratelimit-remaining, idempotent-replay, \
     handoff-epoch, allow",
);
/// How long a preflight's answer holds, in seconds; no browser believes it for longer than 2 h.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");
const ANY_ORIGIN: HeaderValue = HeaderValue::from_static("*");

/// The origins whose pages may use the relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origins {
    /// All of them.
    Any,
    /// These, as browsers write them; perhaps none.
    Only(Arc<[HeaderValue]>),
}

impl FromStr for Origins {
    type Err = String;

    /// `*`, or origins separated by commas, or nothing.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "*" => Ok(Self::Any),
            "" => Ok(Self::none()),
            list => list
                .split(',')
                .map(origin)
                .collect::<Result<_, _>>()
                .map(Self::Only),
        }
    }
}

/// An origin as browsers write it: in lower case, without its scheme's own port.
fn origin(text: &str) -> Result<HeaderValue, String> {
    let text = text.trim().to_ascii_lowercase();
    let no_origin = || match text.as_str() {
        "*" => "* stands alone".to_owned(),
        _ => format!("{text:?} is no origin like https://app.example or http://localhost:5173"),
    };
    let uri = text.parse::<Uri>().map_err(|_| no_origin())?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(no_origin());
    };
    // Nothing follows, and nobody is named before it.
    if text != format!("{scheme}://{authority}") || authority.as_str().contains('@') {
        return Err(no_origin());
    }
    let host = authority.host();
    let port = match (scheme, authority.port_u16()) {
        ("http", Some(80)) | ("https", Some(443)) | (_, None) => String::new(),
        (_, Some(port)) => format!(":{port}"),
    };
    HeaderValue::try_from(format!("{scheme}://{host}{port}")).map_err(|_| no_origin())
}

/// What a request asks of the headers of its answer.
pub(crate) struct Asked {
    origin: Option<HeaderValue>,
    is_preflight: bool,
}

impl Asked {
    /// Read before the request is answered.
    pub(crate) fn by<B>(request: &http::Request<B>) -> Self {
        let headers = request.headers();
        Self {
            origin: headers.get(header::ORIGIN).cloned(),
            is_preflight: request.method() == Method::OPTIONS
                && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD),
        }
    }
}

impl Origins {
    /// No page of another origin.
    pub(crate) fn none() -> Self {
        Self::Only([].into())
    }

    /// Says in an answer's headers what the browser asked.
    pub(crate) fn answer(&self, asked: Asked, headers: &mut HeaderMap) {
        let allowed = match self {
            Self::Any => asked.origin.map(|_| ANY_ORIGIN),
            Self::Only(origins) if origins.is_empty() => None,
            Self::Only(origins) => {
                // A cache must not give one origin the answer that another got.
                headers.append(header::VARY, HeaderValue::from_name(header::ORIGIN));
                asked.origin.filter(|origin| origins.contains(origin))
            }
        };
        let Some(allowed) = allowed else {
            return;
        };
        let more: &[(HeaderName, HeaderValue)] = if asked.is_preflight {
            &[
                (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
                (header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS),
                (header::ACCESS_CONTROL_MAX_AGE, MAX_AGE),
            ]
        } else {
            &[(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS)]
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        headers.extend(more.iter().cloned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_written_as_browsers_write_them() {
        let written = "https://App.example:443, http://localhost:5173,http://[::1]:80";
        let Origins::Only(origins) = written.parse().unwrap() else {
            panic!("a list");
        };
        assert_eq!(
            *origins,
            [
                "https://app.example",
                "http://localhost:5173",
                "http://[::1]"
            ]
        );
        assert_eq!(" * ".parse(), Ok(Origins::Any));
        assert_eq!("".parse(), Ok(Origins::none()));
    }

    #[test]
    fn mistakes_are_named() {
        for wrong in [
            "app.example",
            "https://app.example/",
            "https://app.example/path",
            "https://me@app.example",
            "https://a.example,,https://b.example",
            "https://*.example?",
            "null",
        ] {
            let told = wrong.parse::<Origins>().unwrap_err();
            assert!(told.contains("is no origin like"), "{wrong}: {told}");
        }
        let told = "https://a.example, *".parse::<Origins>().unwrap_err();
        assert_eq!(told, "* stands alone");
    }
}
