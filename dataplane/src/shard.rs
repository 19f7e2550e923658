//! What one worker owns and shares with nobody: clusters, pools, clients, ids, clock, log.
//!
//! Before: `worker` makes it on its thread. After: every connection task of the worker borrows it
//! through an `Rc`. Nothing in it is held borrowed across an await, and no other thread sees it but
//! through the counters.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, SystemTime};

use lateen_ring::Instant;

use crate::accept::clients::Clients;
use crate::accept::proxied::Destinations;
use crate::bootstrap::config::Config;
use crate::cluster::registry::Clusters;
use crate::codec::date::{DATE_BYTES, http_date};
use crate::codec::http1::head::FieldScratch;
use crate::codec::message::HeadLimits;
use crate::decide::limit_key::PeerHashes;
use crate::forward::pool::Pool;
use crate::lag::WorkerLag;
use crate::live::Views;
use crate::loaded::{EpochWord, ListenerSlot, Loaded};
use crate::observe::access_log::{AccessLogBuffer, Entry};
use crate::observe::metrics::{ConnectionMetrics, ConnectionSide, Metrics, WorkerMetrics};
use crate::observe::request_id::RequestIdMaker;
use crate::pressure::Pressure;
use crate::rate_limit::Limiters;

/// The state of one worker.
pub struct Shard {
    /// What the process was started with.
    pub config: Arc<Config>,
    /// Which snapshot is live.
    pub views: Views,
    /// What is known of clusters and endpoints.
    pub clusters: Clusters,
    /// What it has of limited rates.
    pub limiters: Limiters,
    /// Idle upstream connections.
    pub pool: Pool,
    /// Client connections.
    pub clients: Clients,
    /// What some of them connected to.
    pub destinations: Destinations,
    /// What limits count some of them by.
    pub peer_hashes: PeerHashes,
    /// Clients beyond the cap that are being told so.
    pub refusing: Cell<usize>,
    /// Whether it can keep up, and what it does if not.
    pub lag: Rc<WorkerLag>,
    /// Mirrored copies under way.
    pub mirroring: Cell<usize>,
    /// Bounds of heads, as the codec wants them.
    pub head_limits: HeadLimits,
    /// Room for the field lines of the head that is being judged; never borrowed across an await.
    pub scratch: RefCell<FieldScratch>,
    counters: Rc<Counters>,
    worker: usize,
    request_ids: RefCell<RequestIdMaker>,
    access_log: Option<RefCell<AccessLogBuffer>>,
    /// Who hands log lines over, until there is one.
    log_keeper: Cell<Option<Waker>>,
    random: Cell<u64>,
    draining: Cell<bool>,
    wall: WallClock,
}

/// A worker's own counters among the process's.
#[derive(Debug)]
pub struct Counters {
    metrics: Arc<Metrics>,
    worker: usize,
}

impl Counters {
    /// The worker's block.
    #[inline]
    pub fn of_worker(&self) -> &WorkerMetrics {
        self.metrics.worker(self.worker)
    }

    /// What is counted of the process as a whole.
    pub fn of_process(&self) -> &Metrics {
        &self.metrics
    }
}

/// What a shard's sources of chance and time are; fixed ones make a simulation repeatable.
#[derive(Debug)]
pub struct Seeds {
    /// Start of the balancer's and the ids' randomness; not 0.
    pub random: u64,
    /// Microseconds since the Unix epoch at the engine clock's zero.
    pub unix_us_at_zero: u64,
    /// Whether the wall clock is looked at again from time to time, because it is set meanwhile.
    pub follows_host: bool,
}

impl Seeds {
    /// From this process and this machine, for a worker whose engine's clock reads `now`.
    pub fn of_host(now: Instant) -> Self {
        use std::hash::{BuildHasher as _, RandomState};
        Self {
            random: RandomState::new().hash_one(0_u8) | 1,
            unix_us_at_zero: host_unix_us_at_zero(now),
            follows_host: true,
        }
    }
}

impl Shard {
    /// The state of worker `worker` at its start. To be made within the worker's runtime.
    pub fn new(
        config: Arc<Config>,
        word: Arc<EpochWord>,
        loaded: Arc<Loaded>,
        metrics: Arc<Metrics>,
        worker: usize,
        access_log: Option<AccessLogBuffer>,
        seeds: &Seeds,
    ) -> Self {
        let head_limits = HeadLimits {
            head_bytes_max: config.sizes.head_bytes_max,
            headers_max: config.sizes.headers_max,
            target_bytes_max: config.sizes.target_bytes_max,
            trace_allowed: config.trace_method,
        };
        Self {
            views: Views::new(word, loaded),
            clusters: Clusters::default(),
            limiters: Limiters::default(),
            pool: Pool::new(
                &config.pool,
                share(config.pool.idle_max, &config, worker),
                share(config.pool.total_max, &config, worker),
            ),
            clients: Clients::new((config.connections_max / config.workers).max(1)),
            destinations: Destinations::default(),
            peer_hashes: PeerHashes::default(),
            refusing: Cell::new(0),
            lag: Rc::default(),
            mirroring: Cell::new(0),
            head_limits,
            scratch: RefCell::default(),
            counters: Rc::new(Counters { metrics, worker }),
            worker,
            request_ids: RefCell::new(RequestIdMaker::seeded(
                seeds.random.rotate_left(17),
                seeds.random.rotate_left(41) ^ worker as u64,
            )),
            access_log: access_log.map(RefCell::new),
            log_keeper: Cell::new(None),
            random: Cell::new(seeds.random | 1),
            draining: Cell::new(false),
            wall: WallClock {
                unix_us_at_zero: Cell::new(seeds.unix_us_at_zero),
                follows_host: seeds.follows_host,
                second: Cell::new(u64::MAX),
                date: Cell::new([b' '; DATE_BYTES]),
            },
            config,
        }
    }

    /// Which worker this is, from 0.
    #[inline]
    pub const fn worker(&self) -> usize {
        self.worker
    }

    /// This worker's counters.
    #[inline]
    pub fn metrics(&self) -> &WorkerMetrics {
        self.counters.of_worker()
    }

    /// The same, for what may outlive a borrow of the shard.
    #[inline]
    pub fn counters(&self) -> Rc<Counters> {
        self.counters.clone()
    }

    /// What this worker counts of the upstream side.
    #[inline]
    pub fn upstream_counts(&self) -> &ConnectionMetrics {
        self.metrics().connections(ConnectionSide::Upstream)
    }

    /// 64 evenly spread bits (xorshift64*: Vigna, ACM TOMS 42(4), 2016).
    #[inline]
    pub fn random(&self) -> u64 {
        let mut bits = self.random.get();
        bits ^= bits >> 12;
        bits ^= bits << 25;
        bits ^= bits >> 27;
        self.random.set(bits);
        bits.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A new request id.
    #[inline]
    pub fn request_id(&self) -> [u8; 32] {
        self.request_ids.borrow_mut().make()
    }

    /// The `Date` text of this second.
    #[inline]
    pub fn date(&self) -> [u8; DATE_BYTES] {
        self.wall.date(lateen_ring::now())
    }

    /// The wall clock, in microseconds since the Unix epoch.
    #[inline]
    pub fn unix_us(&self) -> u64 {
        self.wall.unix_us(lateen_ring::now())
    }

    /// The wall clock's seconds since the Unix epoch.
    #[inline]
    pub fn unix_s(&self) -> u64 {
        self.unix_us() / 1_000_000
    }

    /// Whether lines are logged at all: if not, nothing need be kept for them.
    #[inline]
    pub fn logs(&self) -> bool {
        self.access_log.is_some()
    }

    /// Logs one line; `began` is when its request's first byte came.
    pub fn log(&self, began: Instant, mut entry: Entry<'_>) {
        if let Some(log) = &self.access_log {
            entry.time_us = self.wall.unix_us(began);
            log.borrow_mut().record(&entry);
            if let Some(waker) = self.log_keeper.take() {
                waker.wake();
            }
        }
    }

    /// Wakes `waker` at the next log line.
    pub fn wake_when_logged(&self, waker: &Waker) {
        self.log_keeper.set(Some(waker.clone()));
    }

    /// Hands log lines to the writer before the worker waits; returns when to do so again.
    pub fn flush_log(&self, now: Instant) -> Option<Duration> {
        let log = self.access_log.as_ref()?;
        let now_us = now.as_nanos() / 1_000;
        let due_us = log.borrow_mut().flush_when_idle(now_us)?;
        Some(Duration::from_micros(due_us.saturating_sub(now_us)))
    }

    /// Hands over all log lines, at the end.
    pub fn flush_log_for_good(&self) {
        if let Some(log) = &self.access_log {
            log.borrow_mut().flush();
        }
    }

    /// Whether what comes next on a client's connection is the last that it is served.
    #[inline]
    pub fn is_leaving(&self, slot: ListenerSlot) -> bool {
        self.draining.get() || self.views.is_leaving(slot)
    }

    /// The same while the process is short of something that a connection takes.
    #[inline]
    pub fn closes_after(&self, slot: ListenerSlot) -> bool {
        self.is_leaving(slot) || self.pressure().is_tight()
    }

    /// How close the process is to the end of what it may use.
    #[inline]
    pub fn pressure(&self) -> &Pressure {
        &self.counters.of_process().overload.pressure
    }

    /// From now on every response closes its connection, and what waits begins.
    pub fn begin_drain(&self) {
        self.draining.set(true);
        self.lag.let_all_begin();
    }

    /// Whether a drain has begun.
    #[inline]
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }
}

/// This worker's part of a total of the process: the parts of all workers add up to it.
fn share(total: usize, config: &Config, worker: usize) -> usize {
    total / config.workers + usize::from(worker < total % config.workers)
}

/// The wall clock, derived from the engine's so that a request needs no clock reading for it.
struct WallClock {
    unix_us_at_zero: Cell<u64>,
    follows_host: bool,
    second: Cell<u64>,
    date: Cell<[u8; DATE_BYTES]>,
}

impl WallClock {
    fn unix_us(&self, now: Instant) -> u64 {
        self.unix_us_at_zero.get() + now.as_nanos() / 1_000
    }

    #[inline]
    fn date(&self, now: Instant) -> [u8; DATE_BYTES] {
        let second = self.unix_us(now) / 1_000_000;
        if self.second.replace(second) != second {
            if self.follows_host {
                // Once a second is often enough to follow a clock that is set.
                self.unix_us_at_zero.set(host_unix_us_at_zero(now));
            }
            self.date.set(http_date(second));
        }
        self.date.get()
    }
}

/// What this machine's wall clock said at the engine clock's zero, in microseconds since the Unix
/// epoch.
fn host_unix_us_at_zero(now: Instant) -> u64 {
    let unix_us = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64);
    unix_us.saturating_sub(now.as_nanos() / 1_000)
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").field("worker", &self.worker).finish_non_exhaustive()
    }
}
