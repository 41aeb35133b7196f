//! Running a replica: from its settings to its last answer.

use crate::{
    connection::{self, Site},
    cors::Origins,
    door::App,
    router,
    settings::{Serve, ServeSettings},
    telemetry::{
        metrics::{self, Metrics, RouteMetrics},
        traces::{Export, Exporter},
    },
};
use anyhow::Context;
use handoff_core::Relay;
use http::Method;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

/// How long a proxy may take to see that the replica is not ready, before it stops accepting.
const NOTICE: Duration = Duration::from_millis(500);

/// Runs a replica until it is told to stop.
///
/// # Errors
/// When a setting is wrong, Postgres can't be reached, the schema is too old, or the port is taken.
pub async fn serve(settings: ServeSettings) -> anyhow::Result<()> {
    let settings = settings.check()?;
    let stop = stop_signal()?;
    run(settings, stop, async |address, _relay| {
        println!("Handoff relay is listening on http://{address}");
        Ok(())
    })
    .await
}

/// Resolves at SIGTERM or SIGINT.
pub(crate) fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("signals can't be heard")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals can't be heard")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Runs a replica until `stop`; `listening` is called once its port is open.
pub(crate) async fn run(
    settings: Serve,
    stop: impl Future<Output = ()>,
    listening: impl AsyncFnOnce(SocketAddr, Arc<Relay>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let metrics = match settings.metrics_address {
        Some(address) => Some((bind(address).await?, metrics::install()?)),
        None => None,
    };
    let exporter = match settings.export {
        Export::Otlp => Some(Exporter::start()?),
        Export::Off => None,
    };
    let relay = Relay::open(settings.relay)
        .await
        .context("the relay can't start")?;
    let app = Arc::new(App {
        relay: relay.clone(),
        trusted_proxies: settings.trusted_proxies,
        export: settings.export,
        unrouted: RouteMetrics::new(&Method::OPTIONS, ""),
        stopping: AtomicBool::new(false),
    });
    let listener = bind(settings.address).await?;
    let connections = Arc::new(Semaphore::new(settings.connections));
    // Shown until the very end, when they say most.
    let _metrics = match metrics {
        Some((listener, handle)) => {
            let address = listener.local_addr()?;
            tracing::info!("Metrics are served on http://{address}/metrics");
            let metrics = Metrics {
                handle,
                relay: relay.clone(),
                connections: connections.clone(),
                connections_max: settings.connections,
            };
            Some(AbortOnDropHandle::new(tokio::spawn(show(
                metrics, listener,
            ))))
        }
        None => None,
    };
    listening(listener.local_addr()?, relay.clone()).await?;

    let site = Site {
        router: router::router(app.clone()),
        origins: settings.cors_origins,
    };
    let attendants = Attendants::default();
    let mut stop = std::pin::pin!(stop);
    tokio::select! {
        () = accept(&listener, &site, &attendants, &connections) => {}
        () = &mut stop => {}
    }
    tracing::info!("Stopping");
    app.stopping.store(true, Ordering::Relaxed);
    // Still accepting, for those who haven't noticed; streams end, so that clients go elsewhere.
    let notice = NOTICE.min(settings.shutdown / 4);
    let _ = tokio::time::timeout(notice, accept(&listener, &site, &attendants, &connections)).await;
    drop(listener);
    relay.end_streams();
    let finish = async {
        attendants.finish().await;
        relay.close().await;
    };
    if tokio::time::timeout(settings.shutdown, finish)
        .await
        .is_err()
    {
        tracing::warn!("Stopped before everything under way was finished");
    }
    if let Some(exporter) = exporter {
        exporter.stop().await;
    }
    Ok(())
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("{address} can't be listened on"))
}

/// Shows metrics for ever, on a listener of its own.
async fn show(metrics: Metrics, listener: TcpListener) {
    const CONNECTIONS: usize = 64;
    let attendants = Attendants::default();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let site = Site {
        router: metrics.router(),
        origins: Origins::none(),
    };
    tokio::join!(
        metrics.upkeep(),
        accept(&listener, &site, &attendants, &places),
    );
}

/// The tasks of a listener's connections.
#[derive(Default)]
struct Attendants {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Attendants {
    /// Serves a connection in a task of its own. One that a stream takes over goes on in another:
    /// the stream needs little of what the requests before it did.
    fn attend(
        &self,
        socket: TcpStream,
        peer: SocketAddr,
        site: Site,
        permit: OwnedSemaphorePermit,
    ) {
        // An answer is one write; it must not wait for an acknowledgement of the one before.
        let _ = socket.set_nodelay(true);
        let (tasks, stop) = (self.tasks.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            if let Some(stream) = connection::serve(socket, peer, site, stop).await {
                tasks.spawn(async move {
                    stream.write().await;
                    drop(permit);
                });
            }
        });
    }

    /// Waits until every connection has ended; idle ones are closed, the others after the request
    /// under way.
    async fn finish(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Accepts connections for ever, as many at a time as there are permits.
async fn accept(
    listener: &TcpListener,
    site: &Site,
    attendants: &Attendants,
    connections: &Arc<Semaphore>,
) {
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((socket, peer)) => attendants.attend(socket, peer, site.clone(), permit),
            Err(error) => {
                // Out of file descriptors, most likely: wait for some to be freed.
                tracing::warn!(%error, "A connection can't be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
