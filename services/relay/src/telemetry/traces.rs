//! Traces over OTLP: where spans go, and the span of each request.
//!
//! The standard `OTEL_…` variables say whether and how. Without an endpoint nothing is recorded; a
//! caller's `traceparent` is passed on all the same.
//!
//! What happens while a request is handled (waits for connections, statements, what is logged) is
//! told with `tracing`; a layer of the subscriber, which is there only with an exporter, puts it
//! below the request's span.

use super::metrics::{RouteMetrics, known_method};
use anyhow::Context as _;
use handoff_protocol::{ErrorCode, TraceParent};
use handoff_store::trace;
use http::{HeaderValue, StatusCode, request::Parts};
use opentelemetry::{
    Context, KeyValue,
    global::BoxedSpan,
    propagation::TextMapPropagator,
    trace::{SpanBuilder, SpanKind, Status, TraceContextExt, Tracer},
};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use std::{env, time::Duration};
use tracing::{Span, Subscriber, level_filters::LevelFilter};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

/// How long the last spans may take to be sent.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// Routes that are asked every few seconds, and say nothing new.
const UNTRACED: [&str; 2] = ["/healthz", "/readyz"];

/// Where spans are to go, as the environment says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Export {
    /// Nowhere.
    Off,
    /// To the endpoint that the exporter reads from the environment.
    Otlp,
}

impl Export {
    /// Reads the environment.
    ///
    /// # Errors
    /// What is wrong with it, each mistake with its variable's name.
    pub(crate) fn from_env() -> Result<Self, Vec<String>> {
        let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let disabled = set("OTEL_SDK_DISABLED").is_some_and(|off| off.eq_ignore_ascii_case("true"));
        let exporter = set("OTEL_TRACES_EXPORTER");
        let endpoints = [
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
        ]
        .map(|name| set(name).map(|url| (name, url)));
        if disabled || exporter.as_deref() == Some("none") || endpoints.iter().all(Option::is_none)
        {
            return Ok(Self::Off);
        }
        let mut mistakes = Vec::new();
        if exporter.as_deref().is_some_and(|name| name != "otlp") {
            mistakes.push("OTEL_TRACES_EXPORTER: must be otlp or none".to_owned());
        }
        for (name, url) in endpoints.into_iter().flatten() {
            let uri = url.parse::<http::Uri>().ok();
            let http = |uri: &http::Uri| matches!(uri.scheme_str(), Some("http" | "https"));
            if !uri.is_some_and(|uri| http(&uri) && uri.host().is_some()) {
                mistakes.push(format!(
                    "{name}: {url:?} is no URL like http://collector:4318"
                ));
            }
        }
        for name in [
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
            "OTEL_EXPORTER_OTLP_PROTOCOL",
        ] {
            if set(name).is_some_and(|protocol| protocol != "http/protobuf") {
                mistakes.push(format!("{name}: must be http/protobuf"));
            }
        }
        const SAMPLERS: [&str; 6] = [
            "always_on",
            "always_off",
            "traceidratio",
            "parentbased_always_on",
            "parentbased_always_off",
            "parentbased_traceidratio",
        ];
        let sampler = set("OTEL_TRACES_SAMPLER");
        if sampler
            .as_deref()
            .is_some_and(|sampler| !SAMPLERS.contains(&sampler))
        {
            let known = SAMPLERS.join(", ");
            mistakes.push(format!("OTEL_TRACES_SAMPLER: must be one of {known}"));
        }
        if sampler.is_some_and(|sampler| sampler.ends_with("ratio")) {
            let ratio = set("OTEL_TRACES_SAMPLER_ARG").and_then(|ratio| ratio.parse::<f64>().ok());
            if !ratio.is_some_and(|ratio| (0.0..=1.0).contains(&ratio)) {
                mistakes.push("OTEL_TRACES_SAMPLER_ARG: must be a number from 0 to 1".to_owned());
            }
        }
        match mistakes.is_empty() {
            true => Ok(Self::Otlp),
            false => Err(mistakes),
        }
    }
}

/// Sends the spans of this process; what waits when it ends is sent by [`Exporter::stop`].
pub(crate) struct Exporter(SdkTracerProvider);

impl Exporter {
    /// Starts sending, from a thread of its own and a queue with a bound.
    ///
    /// # Errors
    /// When the exporter can't be made.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .build()
            .context("the OTLP exporter can't be made")?;
        let mut resource = Resource::builder()
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        let named = |name: &str| {
            let text = env::var(name).unwrap_or_default();
            text.contains("service.name=") || (name == "OTEL_SERVICE_NAME" && !text.is_empty())
        };
        if !["OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"]
            .into_iter()
            .any(named)
        {
            resource = resource.with_service_name("handoff-relay");
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .build();
        opentelemetry::global::set_tracer_provider(provider.clone());
        Ok(Self(provider))
    }

    /// Sends what waits, and no more after that.
    pub(crate) async fn stop(self) {
        let stop = move || self.0.shutdown_with_timeout(FLUSH_TIMEOUT);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(stop).await {
            tracing::warn!(%error, "The last spans were not sent");
        }
    }
}

/// The process's tracer, looked up when the first span is made: logs start before the exporter.
struct LateTracer;

impl Tracer for LateTracer {
    type Span = BoxedSpan;

    fn build_with_context(&self, builder: SpanBuilder, parent: &Context) -> BoxedSpan {
        trace::tracer().build_with_context(builder, parent)
    }
}

/// Sends the `tracing` spans of requests, and what our crates log inside them (`info` and above),
/// to the exporter.
pub(crate) fn layer<S>() -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    tracing_opentelemetry::layer()
        .with_tracer(LateTracer)
        // The context of a request's work stays that of its own span: what is sent on from there
        // (a post, a tool's call) is below the request itself.
        .with_context_activation(false)
        // What a handler does isn't worth more than its route; threads change at every await.
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_filter(Targets::new().with_target("handoff_", LevelFilter::INFO))
}

/// The trace that a request belongs to: its own span where spans are recorded, else the caller's.
#[derive(Clone)]
pub(crate) struct RequestTrace(Option<Context>);

impl RequestTrace {
    /// No trace.
    pub(crate) const NONE: Self = Self(None);

    /// Starts the request's span.
    pub(crate) fn start(export: Export, parts: &Parts, route: &RouteMetrics) -> Self {
        let has_caller = parts.headers.contains_key("traceparent");
        if (export == Export::Off && !has_caller) || UNTRACED.contains(&route.path()) {
            return Self(None);
        }
        let caller = TraceContextPropagator::new()
            .extract_with_context(&Context::new(), &HeaderExtractor(&parts.headers));
        if export == Export::Off {
            let sampled = caller.span().span_context().is_sampled();
            return Self(sampled.then_some(caller));
        }
        let method = known_method(&parts.method);
        let name = match route.path() {
            "" => method.to_owned(),
            path => format!("{method} {path}"),
        };
        let mut attributes = vec![KeyValue::new("http.request.method", method)];
        if !route.path().is_empty() {
            attributes.push(KeyValue::new("http.route", route.path()));
        }
        let span = SpanBuilder::from_name(name)
            .with_kind(SpanKind::Server)
            .with_attributes(attributes)
            .start_with_context(trace::tracer(), &caller);
        Self(Some(caller.with_span(span)))
    }

    /// What the request's work happens in.
    pub(crate) fn context(&self) -> Option<Context> {
        self.0.clone()
    }

    /// The span of the request's handler, below the request's own, where that is recorded.
    pub(crate) fn handler_span(&self) -> Span {
        let recorded = |context: &&Context| context.span().span_context().is_sampled();
        let Some(context) = self.0.as_ref().filter(recorded) else {
            return Span::none();
        };
        let span = tracing::info_span!(target: trace::REQUEST_TARGET, parent: None, "handle");
        // Without an exporter there is no such span, and nothing to put it below.
        let _ = span.set_parent(context.clone());
        span
    }

    /// The trace and the span, for the log.
    pub(crate) fn ids(&self) -> Option<(String, String)> {
        let span = self.0.as_ref()?.span();
        let ids = span.span_context();
        Some((ids.trace_id().to_string(), ids.span_id().to_string()))
    }

    /// Ends the request's span with its answer.
    pub(crate) fn answered(&self, status: StatusCode, refused: Option<ErrorCode>) {
        let Some(context) = &self.0 else {
            return;
        };
        let span = context.span();
        span.set_attribute(KeyValue::new(
            "http.response.status_code",
            i64::from(status.as_u16()),
        ));
        if let Some(code) = refused {
            span.set_attribute(KeyValue::new("error.type", code.as_str()));
        }
        if status.is_server_error() {
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

/// The header that makes a request part of the trace under way, where that is recorded.
pub(crate) fn traceparent_header() -> Option<HeaderValue> {
    let current: TraceParent = trace::current()?;
    HeaderValue::from_str(&current.to_string()).ok()
}
