//! Traces: the spans of a message on its way from its post to its readers, and of a request's reads.
//!
//! A post in a trace that is recorded has a span of its own (`send`), which stands with the message
//! and is the parent of all that happens to it later: the commit of its batch, the bell, the feeds
//! of all replicas, each delivery. Spans go to the process's tracer provider; where there is none
//! they cost next to nothing, and the poster's own span stands with the message instead. They begin in
//! one task and end in another, so they are made by hand. What happens inside a request's own task
//! has spans of `tracing`, which the exporter's layer passes on; nobody else sees them.

use handoff_protocol::TraceParent;
use opentelemetry::{
    Context, KeyValue, SpanId, TraceFlags, TraceId,
    global::{self, BoxedSpan, BoxedTracer},
    trace::{Link, Span, SpanBuilder, SpanContext, SpanKind, TraceContextExt, TraceState},
};
use std::{sync::LazyLock, time::SystemTime};
use tracing::field::Empty;

/// Spans that one span links to at most, and writes of a batch that have a span of their own.
const TRACED_MAX: usize = 128;

/// The process's tracer, asked for once: its provider is set before anything is traced.
pub fn tracer() -> &'static BoxedTracer {
    static TRACER: LazyLock<BoxedTracer> = LazyLock::new(|| global::tracer("handoff"));
    &TRACER
}

/// The span under way, where its trace is recorded.
pub fn current() -> Option<TraceParent> {
    Context::map_current(|context| {
        context
            .has_active_span()
            .then(|| of(context.span().span_context()))
            .flatten()
    })
}

/// How a span is named to others, where its trace is recorded.
pub fn of(span: &SpanContext) -> Option<TraceParent> {
    let ids = TraceParent::new(span.trace_id().to_bytes(), span.span_id().to_bytes());
    ids.filter(|_| span.is_sampled())
}

fn span_context(parent: TraceParent) -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes(parent.trace_id()),
        SpanId::from_bytes(parent.span_id()),
        TraceFlags::SAMPLED,
        true,
        TraceState::NONE,
    )
}

/// Starts a span below another, perhaps of another process.
pub fn start(
    name: &'static str,
    kind: SpanKind,
    parent: TraceParent,
    began: SystemTime,
) -> BoxedSpan {
    let parent = Context::new().with_remote_span_context(span_context(parent));
    SpanBuilder::from_name(name)
        .with_kind(kind)
        .with_start_time(began)
        .start_with_context(tracer(), &parent)
}

/// The span of a post, from before it queues until it is answered.
pub struct SendSpan(Option<BoxedSpan>);

impl SendSpan {
    /// Starts one below the span under way, if there is any.
    pub fn start() -> Self {
        let Some(parent) = current() else {
            return Self(None);
        };
        let mut span = start("send", SpanKind::Producer, parent, SystemTime::now());
        span.set_attributes([
            KeyValue::new("messaging.system", "handoff"),
            KeyValue::new("messaging.operation.name", "send"),
            KeyValue::new("messaging.operation.type", "send"),
        ]);
        Self(Some(span))
    }

    /// What stands with the message.
    pub fn traceparent(&self) -> Option<TraceParent> {
        self.0.as_ref().and_then(|span| of(span.span_context()))
    }

    /// Notes the message's ID.
    pub fn posted(&mut self, id: handoff_protocol::Id) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new("messaging.message.id", id.to_string()));
        }
    }
}

/// A batch was committed: a span of its own, since many posts are its parents, and one below each
/// post that links to it.
pub(crate) fn committed(traced: &[TraceParent], began: SystemTime, writes: usize) {
    if traced.is_empty() {
        return;
    }
    let now = SystemTime::now();
    let traced = &traced[..traced.len().min(TRACED_MAX)];
    let links = traced
        .iter()
        .map(|parent| Link::with_context(span_context(*parent)));
    let postgres = || KeyValue::new("db.system.name", "postgresql");
    let mut batch = SpanBuilder::from_name("commit batch")
        .with_kind(SpanKind::Client)
        .with_start_time(began)
        .with_links(links.collect())
        .with_attributes([
            postgres(),
            KeyValue::new("db.operation.batch.size", writes as i64),
        ])
        .start_with_context(tracer(), &Context::new());
    for parent in traced {
        let mut span = start("commit", SpanKind::Client, *parent, began);
        span.set_attribute(postgres());
        span.add_link(batch.span_context().clone(), Vec::new());
        span.end_with_timestamp(now);
    }
    batch.end_with_timestamp(now);
}

/// Posts whose bell is yet to be rung, and since when; at most so many have a span.
#[derive(Default)]
pub(crate) struct UnrungPosts(Vec<(TraceParent, SystemTime)>);

impl UnrungPosts {
    pub(crate) fn add(&mut self, traced: impl Iterator<Item = TraceParent>) {
        let room = TRACED_MAX.saturating_sub(self.0.len());
        self.0
            .extend(traced.take(room).map(|parent| (parent, SystemTime::now())));
    }

    /// The bell was rung.
    pub(crate) fn rung(self) {
        for (parent, since) in self.0 {
            start("bell", SpanKind::Producer, parent, since).end();
        }
    }
}

/// The target of the spans inside a request. Only the exporter's layer asks for it: without an
/// exporter they are switched off where they stand in the code.
pub const REQUEST_TARGET: &str = "handoff_trace";

/// Whether the statement that comes is part of a request in a trace that is recorded. What runs in
/// the background is not: each of its reads would be a trace of its own.
fn is_in_request() -> bool {
    tracing::span_enabled!(target: REQUEST_TARGET, tracing::Level::INFO)
        && !tracing::Span::current().is_none()
}

/// The span of a wait for a pooled connection.
pub(crate) fn pool_wait() -> tracing::Span {
    match is_in_request() {
        true => tracing::info_span!(target: REQUEST_TARGET, "wait for connection"),
        false => tracing::Span::none(),
    }
}

/// The span of a statement, or of several that are sent together. It has their name, never their
/// parameters.
pub(crate) struct StatementSpan(tracing::Span);

impl StatementSpan {
    /// Starts one below the request's, if there is any.
    pub(crate) fn start(name: &'static str) -> Self {
        if !is_in_request() {
            return Self(tracing::Span::none());
        }
        Self(tracing::info_span!(
            target: REQUEST_TARGET,
            "statement",
            otel.name = name,
            otel.kind = "client",
            otel.status_code = Empty,
            db.system.name = "postgresql",
            db.query.summary = name,
            error.type = Empty,
        ))
    }

    /// What the statement runs in.
    pub(crate) fn span(&self) -> tracing::Span {
        self.0.clone()
    }

    /// It failed, with an SQLSTATE or another short word.
    pub(crate) fn failed(&self, kind: &str) {
        self.0.record("error.type", kind);
        self.0.record("otel.status_code", "ERROR");
    }
}

/// The span of a statement of the control plane, with its wait for a connection.
pub(crate) fn control_statement(name: &'static str) -> tracing::Span {
    StatementSpan::start(name).0
}
