//! Metrics for Prometheus: what the door measures, and the listener that shows everything.

use anyhow::Context;
use axum::{Router, routing::get};
use handoff_core::Relay;
use handoff_protocol::ErrorCode;
use http::{Method, StatusCode, header};
use metrics::{
    Counter, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{sync::Semaphore, time::MissedTickBehavior};

/// How often Postgres is asked how it is, and histograms are put in order: samples wait in memory
/// until then.
const UPKEEP: Duration = Duration::from_secs(5);

/// Upper bounds of what takes time: fine where most requests are, up to the longest timeouts.
const SECONDS: [f64; 16] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];
/// Upper bounds of the number of writes in a batch; a batch has 512 at most.
const WRITES: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// Statuses whose handles are kept; others are looked up each time.
const STATUSES: [u16; 15] = [
    200, 201, 202, 204, 400, 401, 403, 404, 405, 409, 413, 422, 429, 500, 503,
];

const REQUEST_DURATION: &str = "http_server_request_duration_seconds";
const REQUEST_FAILURES: &str = "handoff_request_failures_total";

/// What is measured of one route. Handles are made when they are first needed.
pub(crate) struct RouteMetrics {
    method: &'static str,
    path: &'static str,
    durations: [OnceLock<Histogram>; STATUSES.len()],
    failures: [OnceLock<Counter>; ErrorCode::ALL.len()],
}

impl RouteMetrics {
    /// Of the route with this method and path.
    pub(crate) fn new(method: &Method, path: &'static str) -> Arc<Self> {
        Arc::new(Self {
            method: known_method(method),
            path,
            durations: Default::default(),
            failures: [const { OnceLock::new() }; ErrorCode::ALL.len()],
        })
    }

    /// The path's template; empty where no route has the path.
    pub(crate) fn path(&self) -> &'static str {
        self.path
    }

    /// Notes an answer, which is on its way out.
    pub(crate) fn answered(&self, method: &Method, status: StatusCode, took: Duration) {
        let method = known_method(method);
        let place = STATUSES.iter().position(|known| *known == status.as_u16());
        match place {
            Some(place) if method == self.method => self.durations[place]
                .get_or_init(|| self.duration(method, status))
                .record(took),
            _ => self.duration(method, status).record(took),
        }
    }

    /// Notes that a request was refused.
    pub(crate) fn failed(&self, method: &Method, code: ErrorCode) {
        let method = known_method(method);
        let place = ErrorCode::ALL.iter().position(|known| *known == code);
        let failures = || {
            counter!(REQUEST_FAILURES, "http_route" => self.path,
                "http_request_method" => method, "code" => code.as_str())
        };
        match place {
            Some(place) if method == self.method => {
                self.failures[place].get_or_init(failures).increment(1)
            }
            _ => failures().increment(1),
        }
    }

    fn duration(&self, method: &'static str, status: StatusCode) -> Histogram {
        histogram!(REQUEST_DURATION, "http_route" => self.path, "http_request_method" => method,
            "http_response_status_code" => status.as_str().to_owned())
    }
}

/// A method's name; others than HTTP's own are one, since anybody can make them up.
pub(crate) fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}

/// Notes that a handler panicked.
pub(crate) fn panicked() {
    counter!("handoff_panics_total").increment(1);
}

/// Makes this process collect metrics; to be called before anything makes a handle.
///
/// # Errors
/// When it was called before.
pub(crate) fn install() -> anyhow::Result<PrometheusHandle> {
    let writes = Matcher::Full("handoff_lane_batch_writes".to_owned());
    let handle = PrometheusBuilder::new()
        .set_buckets(&SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(writes, &WRITES))
        .and_then(PrometheusBuilder::install_recorder)
        .context("metrics can't be collected")?;
    describe_histogram!(
        REQUEST_DURATION,
        Unit::Seconds,
        "Time from a request's head until its answer's, which for streams is when they open"
    );
    describe_counter!(
        REQUEST_FAILURES,
        Unit::Count,
        "Requests that were refused or failed, by the code in the answer"
    );
    describe_counter!(
        "handoff_panics_total",
        Unit::Count,
        "Handlers that panicked; each is a mistake in the relay"
    );
    counter!("handoff_panics_total").absolute(0);
    describe_gauge!(
        "handoff_connections_open",
        Unit::Count,
        "Connections of clients; each stream is one"
    );
    describe_gauge!(
        "handoff_connections_max",
        Unit::Count,
        "Connections of clients that the replica accepts"
    );
    describe_gauge!(
        "handoff_build_info",
        Unit::Count,
        "Always 1; the labels say which build this is"
    );
    gauge!("handoff_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1);
    metrics_process::Collector::default().describe();
    #[cfg(feature = "count-allocations")]
    crate::allocations::describe();
    Ok(handle)
}

/// Shows the metrics of a replica.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) handle: PrometheusHandle,
    pub(crate) relay: Arc<Relay>,
    /// Free places for connections, of so many.
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) connections_max: usize,
}

impl Metrics {
    /// `GET /metrics`, and nothing else.
    pub(crate) fn router(&self) -> Router {
        let metrics = self.clone();
        let scrape = async move || {
            let text = "text/plain; version=0.0.4; charset=utf-8";
            ([(header::CONTENT_TYPE, text)], metrics.scrape())
        };
        Router::new().route("/metrics", get(scrape))
    }

    fn scrape(&self) -> String {
        self.relay.observe();
        let open = self.connections_max - self.connections.available_permits();
        gauge!("handoff_connections_open").set(open as f64);
        gauge!("handoff_connections_max").set(self.connections_max as f64);
        metrics_process::Collector::default().collect();
        #[cfg(feature = "count-allocations")]
        crate::allocations::observe();
        self.handle.render()
    }

    /// Keeps the metrics in order, for ever.
    pub(crate) async fn upkeep(self) {
        let mut ticks = tokio::time::interval(UPKEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.relay.probe_postgres().await;
            self.handle.run_upkeep();
        }
    }
}
