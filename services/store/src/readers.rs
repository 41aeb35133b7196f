//! Shared connections: many reads at a time go over a few, one behind the other.
//!
//! A connection that always has a statement at hand costs Postgres less than several that wait
//! between two: no process goes to sleep and is woken, and caches stay warm. More of them than this
//! replica's cores can keep busy would only wait.
//!
//! For single statements only: a transaction of one would be in the way of another's.

use crate::{Error, Result, connection::Discarded};
use deadpool_postgres::{Object, Pool};
use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};

/// Statements that are under way on a connection at most.
const DEPTH: usize = 16;

/// Connections of a pool that reads share, opened as they are needed.
pub(crate) struct Readers {
    pool: Pool,
    places: Box<[Place]>,
    turns: Semaphore,
    waiting: AtomicUsize,
}

/// Where a connection is, or will be.
#[derive(Default)]
struct Place {
    reader: RwLock<Option<Arc<Reader>>>,
    /// Held by the one who opens it.
    opening: Mutex<()>,
}

struct Reader {
    client: Discarded,
    under_way: AtomicUsize,
    retired: AtomicBool,
}

/// The right to have one statement under way.
pub(crate) struct Turn<'a> {
    reader: Arc<Reader>,
    _permit: SemaphorePermit<'a>,
}

impl Readers {
    /// One more than there are cores, or a quarter of a large pool, but no more than half of it:
    /// what needs a connection of its own must not wait for reads.
    pub(crate) fn new(pool: Pool) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let size = pool.status().max_size;
        let shared = (cores + 1).max(size / 4).min(size / 2).max(1);
        Self {
            pool,
            places: (0..shared).map(|_| Place::default()).collect(),
            turns: Semaphore::new(shared * DEPTH),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Waits for a turn, on the connection that has the least to do. How long is up to the caller.
    pub(crate) async fn turn(&self) -> Result<Turn<'_>> {
        let _waiting = Counted::in_(&self.waiting);
        let permit = self.turns.acquire().await;
        let permit = permit.map_err(|_| Error::unavailable("this replica is stopping"))?;
        let reader = self.least_busy().await?;
        reader.under_way.fetch_add(1, Ordering::Relaxed);
        Ok(Turn {
            reader,
            _permit: permit,
        })
    }

    /// The first that has nothing to do, or the one with the least; opens another when all that
    /// are open have something.
    async fn least_busy(&self) -> Result<Arc<Reader>> {
        let mut least_busy: Option<Arc<Reader>> = None;
        for place in &self.places {
            let reader = match self.reader_at(place, least_busy.is_none()).await {
                Ok(Some(reader)) => reader,
                Ok(None) => continue,
                Err(_) if least_busy.is_some() => continue,
                Err(error) => return Err(error),
            };
            let load = reader.load();
            if least_busy.as_ref().is_none_or(|least| load < least.load()) {
                least_busy = Some(reader);
            }
            if load == 0 {
                break;
            }
        }
        least_busy.ok_or(Error::unavailable("no connection is open"))
    }

    /// The connection of a place, opened if it isn't; none while another opens it, for one who
    /// needn't wait for that.
    async fn reader_at(&self, place: &Place, must_wait: bool) -> Result<Option<Arc<Reader>>> {
        if let Some(reader) = place.open_reader() {
            return Ok(Some(reader));
        }
        let _opening = match place.opening.try_lock() {
            Ok(opening) => opening,
            Err(_) if !must_wait => return Ok(None),
            Err(_) => place.opening.lock().await,
        };
        if let Some(reader) = place.open_reader() {
            return Ok(Some(reader));
        }
        let reader = Arc::new(Reader {
            client: Discarded::new(self.pool.get().await?),
            under_way: AtomicUsize::new(0),
            retired: AtomicBool::new(false),
        });
        let mut place = place.reader.write().unwrap_or_else(PoisonError::into_inner);
        *place = Some(reader.clone());
        Ok(Some(reader))
    }

    /// Reads that wait for a turn.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Connections that are open and have nothing to do.
    pub(crate) fn idle(&self) -> usize {
        let readers = self.places.iter().filter_map(Place::open_reader);
        readers.filter(|reader| reader.load() == 0).count()
    }
}

impl Place {
    fn open_reader(&self) -> Option<Arc<Reader>> {
        let reader = self.reader.read().unwrap_or_else(PoisonError::into_inner);
        reader.as_ref().filter(|reader| reader.is_fit()).cloned()
    }
}

impl Reader {
    fn is_fit(&self) -> bool {
        !self.retired.load(Ordering::Relaxed)
            && self.client.get().is_some_and(|client| !client.is_closed())
    }

    fn load(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }
}

impl Turn<'_> {
    pub(crate) fn client(&self) -> Option<&Object> {
        self.reader.client.get()
    }

    /// The connection takes no more reads: its answers don't come in time.
    pub(crate) fn retire(&self) {
        self.reader.retired.store(true, Ordering::Relaxed);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.reader.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One more, as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn in_(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
