//! The feed's part of a message's trace: how long it waited here, and each delivery.

use handoff_protocol::TraceParent;
use handoff_store::{
    feed::{Event, SlotCommit},
    trace,
};
use opentelemetry::{
    global::BoxedSpan,
    trace::{Span, SpanKind},
};
use std::time::SystemTime;

/// The spans of traced messages that wait to be taken in; they end when this is dropped.
#[derive(Default)]
pub(crate) struct FeedSpans(
    #[expect(dead_code, reason = "held until it is dropped")] Vec<BoxedSpan>,
);

impl FeedSpans {
    /// Starts them for what a lane of this replica committed.
    pub(crate) fn start(commit: &SlotCommit) -> Self {
        let now = SystemTime::now();
        let traced = commit.events.iter().filter_map(Event::traceparent);
        Self(traced.map(|parent| span(parent, now)).collect())
    }
}

/// Messages of other replicas were read and taken in.
pub(crate) fn read(traced: impl IntoIterator<Item = TraceParent>, began: SystemTime) {
    for parent in traced {
        span(parent, began).end();
    }
}

fn span(parent: TraceParent, began: SystemTime) -> BoxedSpan {
    trace::start("feed", SpanKind::Internal, parent, began)
}

/// A traced message in memory, ready for delivery since then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Undelivered {
    traceparent: TraceParent,
    since: SystemTime,
}

impl Undelivered {
    /// From now on.
    pub(crate) fn new(traceparent: TraceParent) -> Self {
        let since = SystemTime::now();
        Self { traceparent, since }
    }

    /// It was handed to a stream.
    pub(crate) fn delivered(self) {
        trace::start("deliver", SpanKind::Consumer, self.traceparent, self.since).end();
    }
}
