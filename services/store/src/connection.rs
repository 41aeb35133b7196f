//! Connections: the pool of the data plane, the pool of the control plane, and single sessions.

use crate::{
    DatabaseUrl, Error, READ_TIMEOUT, Result, StoreConfig,
    metrics::PoolMetrics,
    readers::Readers,
    trace::{StatementSpan, pool_wait},
};
use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime, Status, Timeouts,
};
use futures_util::future::poll_fn;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_postgres::{AsyncMessage, Client, Row, types::ToSql};
use tracing::Instrument;

/// Settings that keep every statement on its index, whatever the statistics say of a table that
/// was empty a moment ago: a cached plan must not turn into a scan while the table grows.
///
/// Behind PgBouncer they count only where it passes them on (`ignore_startup_parameters` drops
/// them); statements are right without them.
pub const PLANNER_SETTINGS: &str = "-c enable_seqscan=off -c enable_bitmapscan=off \
     -c enable_hashjoin=off -c enable_mergejoin=off -c plan_cache_mode=force_generic_plan \
     -c jit=off -c timezone=UTC -c client_min_messages=warning";

/// What a lane adds: a commit is durable, and a holder of locks that hangs is ended by Postgres.
const LANE_SETTINGS: &str = "-c synchronous_commit=on -c lock_timeout=2s \
     -c idle_in_transaction_session_timeout=1s -c work_mem=32MB";

/// What a reader adds: no read outlives the wait for it.
const READER_SETTINGS: &str = "-c statement_timeout=10s -c lock_timeout=2s \
     -c idle_in_transaction_session_timeout=5s";

/// How long a read waits for a connection.
const WAIT_TIMEOUT: Duration = Duration::from_secs(5);

/// The pool that reads go through: single statements over the connections that they share, a
/// pipeline of several over one of its own.
#[derive(Clone)]
pub struct DataPlane {
    pool: Pool,
    readers: Arc<Readers>,
    metrics: PoolMetrics,
}

impl DataPlane {
    pub(crate) fn new(config: &StoreConfig) -> Result<Self> {
        let url = &config.database_url;
        let internal = |error: crate::DatabaseUrlError| Error::Internal(Box::new(error));
        let mut session = url.session_config("handoff reader").map_err(internal)?;
        session.options(options(&session, READER_SETTINGS));
        let recycling = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = Manager::from_config(session, url.tls().map_err(internal)?, recycling);
        let pool = Pool::builder(manager)
            .max_size(config.pool_size)
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(WAIT_TIMEOUT),
                create: Some(WAIT_TIMEOUT),
                recycle: Some(WAIT_TIMEOUT),
            })
            .build()
            .map_err(|error| Error::Internal(Box::new(error)))?;
        Ok(Self {
            readers: Arc::new(Readers::new(pool.clone())),
            pool,
            metrics: PoolMetrics::new(),
        })
    }

    /// Runs statements on a pooled connection of their own; `name` says in a trace what they do.
    ///
    /// A connection whose answer doesn't come in time isn't used again: the next borrower would
    /// wait behind that answer.
    pub(crate) async fn run<T>(
        &self,
        name: &'static str,
        statements: impl AsyncFnOnce(&Object) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T> {
        let borrowed = self.waited_for(async { Ok(self.pool.get().await?) });
        let client = Discarded::new(borrowed.await?);
        let borrowed = client.get().ok_or(Error::Overloaded)?;
        match answer(name, statements(borrowed)).await? {
            Some(answer) => {
                client.give_back();
                Ok(answer)
            }
            None => Err(Error::unavailable("no answer in time")),
        }
    }

    /// Runs one statement, prepared on first use; `name` says in a trace what it does.
    pub(crate) async fn query(
        &self,
        name: &'static str,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>> {
        let turn = async {
            let turn = tokio::time::timeout(WAIT_TIMEOUT, self.readers.turn()).await;
            turn.unwrap_or_else(|_| Err(Error::unavailable("no connection in time")))
        };
        let turn = self.waited_for(turn).await?;
        let client = turn.client().ok_or(Error::Overloaded)?;
        let rows = async {
            let statement = client.prepare_cached(sql).await?;
            client.query(&statement, params).await
        };
        match answer(name, rows).await? {
            Some(rows) => Ok(rows),
            None => {
                turn.retire();
                Err(Error::unavailable("no answer in time"))
            }
        }
    }

    async fn waited_for<T>(&self, connection: impl Future<Output = Result<T>>) -> Result<T> {
        let began = Instant::now();
        let connection = connection.instrument(pool_wait()).await;
        self.metrics.wait_duration.record(began.elapsed());
        if connection.is_err() {
            self.metrics.failures.increment(1);
        }
        connection
    }

    /// How the pool's connections are used.
    pub(crate) fn usage(&self) -> PoolUsage {
        let Status {
            size,
            available,
            waiting,
            max_size,
        } = self.pool.status();
        PoolUsage {
            size,
            idle: available + self.readers.idle(),
            waiting: waiting + self.readers.waiting(),
            max_size,
        }
    }

    pub(crate) fn close(&self) {
        self.pool.close();
    }
}

/// What came of statements; none where the answer didn't come in time.
async fn answer<T>(
    name: &'static str,
    statements: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<Option<T>> {
    let span = StatementSpan::start(name);
    let answer = tokio::time::timeout(READ_TIMEOUT, statements);
    match answer.instrument(span.span()).await {
        Ok(Ok(answer)) => Ok(Some(answer)),
        Ok(Err(error)) => {
            span.failed(error.code().map_or("_OTHER", |code| code.code()));
            Err(error.into())
        }
        Err(_) => {
            span.failed("timeout");
            Ok(None)
        }
    }
}

/// Connections of a pool, and who waits for one.
pub(crate) struct PoolUsage {
    pub(crate) size: usize,
    pub(crate) idle: usize,
    pub(crate) waiting: usize,
    pub(crate) max_size: usize,
}

/// A pooled connection that is thrown away unless it is given back: its user may be dropped at
/// any await (a client that hangs up), with statements under way, or inside a transaction, which
/// nobody else must find open.
pub(crate) struct Discarded(Option<Object>);

impl Discarded {
    pub(crate) fn new(client: Object) -> Self {
        Self(Some(client))
    }

    pub(crate) fn get(&self) -> Option<&Object> {
        self.0.as_ref()
    }

    fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Discarded {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            drop(Object::take(object));
        }
    }
}

fn options(session: &tokio_postgres::Config, more: &str) -> String {
    let own = session.get_options().unwrap_or_default();
    format!("{own} {PLANNER_SETTINGS} {more}")
}

pub(crate) fn control_plane(config: &StoreConfig) -> Result<sqlx::PgPool> {
    let options = config
        .database_url
        .control_options()
        .map_err(|error| Error::Internal(Box::new(error)))?;
    Ok(sqlx::postgres::PgPoolOptions::new()
        .max_connections(4)
        .acquire_timeout(Duration::from_secs(10))
        .connect_lazy_with(options))
}

/// A session of its own: its client, and the messages that arrive unasked.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) notices: tokio::sync::mpsc::Receiver<tokio_postgres::Notification>,
}

/// Opens a session; a task drives it until the client is dropped or the connection is lost.
///
/// Notifications wait in a queue of 1,024; when that is full the session stops reading, and
/// Postgres keeps the rest.
pub(crate) async fn session(
    url: &DatabaseUrl,
    application: &str,
    kind: SessionKind,
) -> Result<Session> {
    let internal = |error: crate::DatabaseUrlError| Error::Internal(Box::new(error));
    let mut config = url.session_config(application).map_err(internal)?;
    if kind == SessionKind::Lane {
        config.options(options(&config, LANE_SETTINGS));
        if planted!(LoseOnCrash) {
            config.options(options(&config, "-c synchronous_commit=off"));
        }
    }
    let connect = config.connect(url.tls().map_err(internal)?);
    let (client, mut connection) = tokio::time::timeout(Duration::from_secs(5), connect)
        .await
        .map_err(|_| Error::unavailable("no connection in time"))??;
    let (sender, notices) = tokio::sync::mpsc::channel(1_024);
    tokio::spawn(async move {
        // Ends when the connection does, and with it the queue of notices.
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notification) = message
                && sender.send(notification).await.is_err()
            {
                // Nobody listens any more; the client may still be waiting for its answers.
                let _ = poll_fn(|context| connection.poll_message(context)).await;
            }
        }
    });
    Ok(Session { client, notices })
}

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionKind {
    /// Writes in transactions that hold slots' locks.
    Lane,
    /// Rings or hears bells.
    Bell,
}
