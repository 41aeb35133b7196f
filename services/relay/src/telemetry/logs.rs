//! The log, and who else hears what the relay tells with `tracing`.

use super::traces::{self, Export};
use handoff_store::trace::REQUEST_TARGET;
use std::io::IsTerminal;
use tracing::{Dispatch, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer, layer::SubscriberExt, registry, util::SubscriberInitExt,
};

/// Starts logging to standard error: lines for people on a terminal, JSON for machines elsewhere.
/// Where spans are exported, those of requests go to the exporter.
pub fn start_logging(quiet: bool) {
    // Mistakes in the environment are reported with those of all settings.
    let export = Export::from_env().unwrap_or(Export::Off);
    dispatch(filter(quiet), export).init();
}

/// What is logged, as the environment says it.
fn filter(quiet: bool) -> EnvFilter {
    // Of MCP the library logs each request, and a client's mistakes as warnings.
    let default = if quiet {
        "warn,rmcp=error,opentelemetry=warn"
    } else {
        "info,rmcp=error,opentelemetry=warn"
    };
    let mut filter =
        EnvFilter::try_from_env("RUST_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    // Beyond this these libraries log what they carry: messages and keys. Nobody can ask for it.
    for cap in [
        "tokio_postgres=info",
        "rmcp=warn",
        "hyper=debug",
        "rustls=debug",
    ] {
        if filter.max_level_hint() > Some(LevelFilter::INFO)
            && let Ok(cap) = cap.parse()
        {
            filter = filter.add_directive(cap);
        }
    }
    filter
}

/// Who hears what is told: the log, and the exporter where there is one.
fn dispatch(filter: EnvFilter, export: Export) -> Dispatch {
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let log = if std::io::stderr().is_terminal() {
        log.compact().boxed()
    } else {
        log.json().flatten_event(true).boxed()
    };
    // The spans of requests are the exporter's: the log names a request by its IDs, which it has
    // without an exporter as well.
    let filter = match format!("{REQUEST_TARGET}=off").parse() {
        Ok(none) => filter.add_directive(none),
        Err(_) => filter,
    };
    let subscriber = registry().with(log.with_filter(filter));
    match export {
        Export::Off => subscriber.into(),
        Export::Otlp => subscriber.with(traces::layer()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::dispatcher::with_default;

    fn span() -> tracing::Span {
        tracing::info_span!(target: REQUEST_TARGET, "handle")
    }

    #[test]
    fn without_an_exporter_the_spans_of_requests_are_switched_off_whatever_is_logged() {
        let exporting = dispatch(EnvFilter::new("warn"), Export::Otlp);
        let handled = with_default(&exporting, span);
        let metadata = handled.metadata().expect("it is made for the exporter");
        assert!(!exporting.register_callsite(metadata).is_never());
        // A place in the code is switched off only once nobody at all wants it.
        drop((handled, exporting));
        for filter in ["info", "debug", "trace", "handoff_trace=trace"] {
            let logging = dispatch(EnvFilter::new(filter), Export::Off);
            assert!(with_default(&logging, span).is_disabled(), "{filter}");
            // The place in the code is never asked again.
            assert!(logging.register_callsite(metadata).is_never(), "{filter}");
        }
    }
}
