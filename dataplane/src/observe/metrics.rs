//! What is counted: one block of counters per worker, and one for the process.
//!
//! Before: the conductors and the engine count as they go, each worker in its own
//! [`WorkerMetrics`]. After: a scrape sums the blocks (`metrics_text`) on the admin's thread. A
//! worker never writes another's block, and blocks share no cache line.

pub mod breaker;
pub mod bulkhead;
pub mod faults;
pub mod health;
pub mod overload;
pub mod proxy_protocol;
pub mod lasted;
pub mod rate_limit;
pub mod retry;
pub mod sessions;

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use crossbeam_utils::CachePadded;
use lateen_snapshot::model::Epoch;

use crate::failure::{Classification, Failure, ResponseFlag};
use crate::observe::counter::{Counter, Gauge, Histogram};
use crate::observe::metrics::bulkhead::BulkheadMetrics;
use crate::observe::metrics::faults::FaultMetrics;
use crate::observe::metrics::lasted::Lasted;
use crate::observe::metrics::overload::{OverloadFigures, OverloadMetrics};
use crate::observe::metrics::proxy_protocol::ProxyProtocolMetrics;
use crate::observe::metrics::rate_limit::RateLimitMetrics;
use crate::observe::metrics::retry::{HedgeMetrics, RetryMetrics};
use crate::observe::metrics::sessions::SessionMetrics;
use crate::observe::metrics_text;

use breaker::BreakerMetrics;
use health::HealthMetrics;

/// Upper bounds of `response_latency_ms` in microseconds: Linkerd's buckets, 1 ms to 50 s, so that
/// its dashboards keep working.
pub const LATENCY_BOUNDS_US: [u64; 25] = {
    let milliseconds = [
        1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500, 1_000, 2_000, 3_000, 4_000,
        5_000, 10_000, 20_000, 30_000, 40_000, 50_000,
    ];
    let mut microseconds = [0; 25];
    let mut bucket = 0;
    while bucket < microseconds.len() {
        microseconds[bucket] = milliseconds[bucket] * 1_000;
        bucket += 1;
    }
    microseconds
};

/// Upper bounds of `worker_loop_us` in microseconds: powers of four, 4 µs to 4.2 s. The loop's time
/// matters by its magnitude: a second is a stall, a millisecond is a pause a client can see.
pub const LOOP_BOUNDS_US: [u64; 11] =
    [4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304];

/// Which side of the proxy a connection is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ConnectionSide {
    /// Between a client and the proxy.
    Downstream,
    /// Between the proxy and an endpoint.
    Upstream,
}

impl ConnectionSide {
    /// Both, at their index.
    pub const ALL: [Self; 2] = [Self::Downstream, Self::Upstream];

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Downstream => "downstream",
            Self::Upstream => "upstream",
        }
    }
}

/// The first digit of a status, or that no response was sent at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum StatusClass {
    /// The client left before any response.
    Unanswered,
    /// 1xx, which as a final response is 101 only.
    Informational,
    /// 2xx.
    Successful,
    /// 3xx.
    Redirection,
    /// 4xx.
    ClientError,
    /// 5xx, and anything above that an endpoint made up.
    ServerError,
}

impl StatusClass {
    /// Every class, at its index.
    pub const ALL: [Self; 6] = [
        Self::Unanswered,
        Self::Informational,
        Self::Successful,
        Self::Redirection,
        Self::ClientError,
        Self::ServerError,
    ];

    /// Of a status code; 0 stands for no response.
    pub const fn of_status(status: u16) -> Self {
        match status {
            0..=99 => Self::Unanswered,
            100..=199 => Self::Informational,
            200..=299 => Self::Successful,
            300..=399 => Self::Redirection,
            400..=499 => Self::ClientError,
            500.. => Self::ServerError,
        }
    }

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unanswered => "none",
            Self::Informational => "1xx",
            Self::Successful => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
        }
    }
}

/// How a connection ended: the errno names that sockets end with (`tcp(7)`, `connect(2)`,
/// `recv(2)`), so that the label's values are bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CloseReason {
    /// By FIN, or because we closed it.
    Orderly,
    /// `ECONNRESET`.
    ConnectionReset,
    /// `ECONNREFUSED`.
    ConnectionRefused,
    /// `ECONNABORTED`: also what the proxy itself broke off.
    ConnectionAborted,
    /// `EPIPE`.
    BrokenPipe,
    /// `ETIMEDOUT`, the kernel's or a timeout of ours.
    TimedOut,
    /// `EHOSTUNREACH`.
    HostUnreachable,
    /// `ENETUNREACH`.
    NetworkUnreachable,
    /// `EADDRNOTAVAIL`: no local port is left.
    AddressNotAvailable,
    /// `EMFILE` or `ENFILE`: no descriptor is left.
    NoDescriptor,
    /// `ENOBUFS` or `ENOMEM`.
    NoMemory,
    /// Any other.
    Other,
}

impl CloseReason {
    /// Every reason, at its index.
    pub const ALL: [Self; 12] = [
        Self::Orderly,
        Self::ConnectionReset,
        Self::ConnectionRefused,
        Self::ConnectionAborted,
        Self::BrokenPipe,
        Self::TimedOut,
        Self::HostUnreachable,
        Self::NetworkUnreachable,
        Self::AddressNotAvailable,
        Self::NoDescriptor,
        Self::NoMemory,
        Self::Other,
    ];

    /// Of an I/O error, by its errno; an error of ours without one by its kind.
    pub fn of_error(error: &io::Error) -> Self {
        use rustix::io::Errno;
        let Some(errno) = Errno::from_io_error(error) else {
            return match error.kind() {
                io::ErrorKind::TimedOut => Self::TimedOut,
                io::ErrorKind::ConnectionReset => Self::ConnectionReset,
                io::ErrorKind::ConnectionRefused => Self::ConnectionRefused,
                io::ErrorKind::ConnectionAborted => Self::ConnectionAborted,
                io::ErrorKind::BrokenPipe => Self::BrokenPipe,
                io::ErrorKind::UnexpectedEof => Self::Orderly,
                _ => Self::Other,
            };
        };
        match errno {
            Errno::CONNRESET => Self::ConnectionReset,
            Errno::CONNREFUSED => Self::ConnectionRefused,
            Errno::CONNABORTED => Self::ConnectionAborted,
            Errno::PIPE => Self::BrokenPipe,
            Errno::TIMEDOUT => Self::TimedOut,
            Errno::HOSTUNREACH => Self::HostUnreachable,
            Errno::NETUNREACH => Self::NetworkUnreachable,
            Errno::ADDRNOTAVAIL => Self::AddressNotAvailable,
            Errno::MFILE | Errno::NFILE => Self::NoDescriptor,
            Errno::NOBUFS | Errno::NOMEM => Self::NoMemory,
            _ => Self::Other,
        }
    }

    /// The value of the label `errno`; `none` for an orderly close.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Orderly => "none",
            Self::ConnectionReset => "ECONNRESET",
            Self::ConnectionRefused => "ECONNREFUSED",
            Self::ConnectionAborted => "ECONNABORTED",
            Self::BrokenPipe => "EPIPE",
            Self::TimedOut => "ETIMEDOUT",
            Self::HostUnreachable => "EHOSTUNREACH",
            Self::NetworkUnreachable => "ENETUNREACH",
            Self::AddressNotAvailable => "EADDRNOTAVAIL",
            Self::NoDescriptor => "EMFILE",
            Self::NoMemory => "ENOBUFS",
            Self::Other => "other",
        }
    }
}

/// What is counted of one side's connections. Bytes are as read from and written to the sockets of
/// that side.
#[derive(Debug, Default)]
pub struct ConnectionMetrics {
    /// `tcp_open_connections{side}`: open now.
    pub open: Gauge,
    /// Part of `tcp_open_total`.
    pub open_total: Counter,
    /// Part of `tcp_close_total{errno}`, by [`CloseReason`].
    pub close_total: [Counter; CloseReason::ALL.len()],
    /// Part of `tcp_read_bytes_total`.
    pub read_bytes: Counter,
    /// Part of `tcp_write_bytes_total`.
    pub write_bytes: Counter,
}

impl ConnectionMetrics {
    /// A connection was established.
    #[inline]
    pub fn on_open(&self) {
        self.open.increment();
        self.open_total.increment();
    }

    /// An established connection ended.
    #[inline]
    pub fn on_close(&self, reason: CloseReason) {
        self.open.decrement();
        self.close_total[reason as usize].increment();
    }

    /// A connect failed: nothing was open, the reason counts all the same.
    #[inline]
    pub fn on_connect_failed(&self, reason: CloseReason) {
        self.close_total[reason as usize].increment();
    }
}

/// How an endpoint may be chosen, by the position of its counter.
pub const PICK_METHODS: [&str; 6] =
    ["least_request", "round_robin", "random", "peak_ewma", "ring_hash", "maglev"];

/// The counters of one worker, which alone writes them.
#[derive(Debug)]
pub struct WorkerMetrics {
    /// `request_total`: request heads that were read whole, refused ones included.
    pub request: Counter,
    response: [[Counter; Classification::COUNT]; StatusClass::ALL.len()],
    response_latency: Histogram<{ LATENCY_BOUNDS_US.len() + 1 }>,
    response_flags: [Counter; ResponseFlag::COUNT],
    connections: [ConnectionMetrics; 2],
    /// `mirror_total`: copies of requests sent to mirrors.
    pub mirror: Counter,
    /// `mirror_skipped_total`: copies that were not made: the request was not all in memory, or too
    /// many were under way.
    pub mirror_skipped: Counter,
    /// `mirror_failed_total`: copies without an answer.
    pub mirror_failed: Counter,
    /// `endpoint_pick_total`: choices of an endpoint, by how it was chosen ([`PICK_METHODS`]).
    pub endpoint_pick: [Counter; PICK_METHODS.len()],
    /// `endpoint_pick_keyless_total`: choices by key for a request that had none.
    pub endpoint_pick_keyless: Counter,
    /// `endpoint_pick_moved_total`: choices by key of another endpoint than the key's own, which refuses
    /// connections or has more than its share.
    pub endpoint_pick_moved: Counter,
    /// Tries beyond the first.
    pub retry: RetryMetrics,
    /// Second requests beside slow ones.
    pub hedge: HedgeMetrics,
    /// `endpoint_pick_panic_total`: choices while so few endpoints were in service that it did not count.
    pub endpoint_pick_panic: Counter,
    /// `endpoint_pick_slow_start_total`: choices while an endpoint of the cluster was new.
    pub endpoint_pick_slow_start: Counter,
    /// `endpoint_pick_aperture_widened_total`: choices that found nothing in the worker's part of a cluster,
    /// and were made from all of it.
    pub endpoint_pick_aperture_widened: Counter,
    /// `endpoint_pick_failover_total`: requests and connections that went further because too few of the
    /// nearer endpoints were in service.
    pub endpoint_pick_failover: Counter,
    /// Faults that were put into requests.
    pub faults: FaultMetrics,
    /// Headers of the PROXY protocol.
    pub proxy_protocol: ProxyProtocolMetrics,
    /// Sessions that stay at their endpoints.
    pub sessions: SessionMetrics,
    /// What bulkheads did.
    pub bulkhead: BulkheadMetrics,
    /// What limits of rates decided.
    pub rate_limit: RateLimitMetrics,
    /// Of requests whose route has a breaker.
    pub breaker: BreakerMetrics,
    /// Who was turned away.
    pub overload: OverloadMetrics,
    /// `connection_lasted_total{of}`: connections that were closed because they had lasted as long as they
    /// may, at [`Lasted`].
    pub lasted: [Counter; Lasted::ALL.len()],
    /// `pool_hit_total`: requests that found a pooled connection.
    pub pool_hit: Counter,
    /// `pool_miss_total`: requests that had to connect.
    pub pool_miss: Counter,
    /// `pool_evicted_total`: pooled connections closed for age, a cap, or unasked bytes.
    pub pool_evicted: Counter,
    /// `bytes_spliced_total`: body and tunnel bytes moved by splice(2).
    pub bytes_spliced: Counter,
    /// `bytes_copied_total`: body and tunnel bytes moved through user space.
    pub bytes_copied: Counter,
    /// `ring_enter_total`: the engine's system calls to submit and wait.
    pub ring_enter: Counter,
    /// `ring_sqe_total`: operations submitted.
    pub ring_sqe: Counter,
    /// `ring_cqe_total`: completions taken.
    pub ring_cqe: Counter,
    /// `ring_buffers_free`: provided buffers that no operation holds.
    pub ring_buffers_free: Gauge,
    /// `worker_loop_us`: one turn of the worker's loop without its wait, in µs.
    pub worker_loop: Histogram<{ LOOP_BOUNDS_US.len() + 1 }>,
    /// `task_panics_total`: tasks that panicked and were ended.
    pub task_panics: Counter,
    /// `access_log_dropped_total`, the worker's part: lines dropped because the disk is slow.
    pub access_log_dropped: Counter,
}

impl Default for WorkerMetrics {
    fn default() -> Self {
        Self {
            request: Counter::default(),
            response: Default::default(),
            response_latency: Histogram::new(&LATENCY_BOUNDS_US),
            response_flags: Default::default(),
            connections: Default::default(),
            mirror: Counter::default(),
            mirror_skipped: Counter::default(),
            mirror_failed: Counter::default(),
            endpoint_pick: Default::default(),
            endpoint_pick_keyless: Counter::default(),
            endpoint_pick_moved: Counter::default(),
            retry: RetryMetrics::default(),
            hedge: HedgeMetrics::default(),
            endpoint_pick_panic: Counter::default(),
            endpoint_pick_slow_start: Counter::default(),
            endpoint_pick_aperture_widened: Counter::default(),
            endpoint_pick_failover: Counter::default(),
            faults: FaultMetrics::default(),
            proxy_protocol: ProxyProtocolMetrics::default(),
            sessions: SessionMetrics::default(),
            bulkhead: BulkheadMetrics::default(),
            rate_limit: RateLimitMetrics::default(),
            breaker: BreakerMetrics::default(),
            overload: OverloadMetrics::default(),
            pool_hit: Counter::default(),
            pool_miss: Counter::default(),
            lasted: Default::default(),
            pool_evicted: Counter::default(),
            bytes_spliced: Counter::default(),
            bytes_copied: Counter::default(),
            ring_enter: Counter::default(),
            ring_sqe: Counter::default(),
            ring_cqe: Counter::default(),
            ring_buffers_free: Gauge::default(),
            worker_loop: Histogram::new(&LOOP_BOUNDS_US),
            task_panics: Counter::default(),
            access_log_dropped: Counter::default(),
        }
    }
}

impl WorkerMetrics {
    /// Counts one finished exchange: `status` as the client saw it (0 when it saw none),
    /// `latency_us` from the request's first byte to the response's last.
    #[inline]
    pub fn record_response(&self, status: u16, failure: Option<Failure>, latency_us: u64) {
        let classification = match failure {
            None => Classification::of_status(status),
            Some(failure) => self.record_failure(failure),
        };
        let class = StatusClass::of_status(status) as usize;
        self.response[class][classification.index()].increment();
        self.response_latency.observe(latency_us);
    }

    /// Counts a failure that belongs to no request: of a TCP connection, or before a head was read.
    #[inline]
    pub fn record_failure(&self, failure: Failure) -> Classification {
        let outcome = failure.outcome();
        self.response_flags[outcome.flag.index()].increment();
        outcome.classification
    }

    /// Counts what happened to a request beside its failure, if it had one.
    pub fn record_flag(&self, flag: ResponseFlag) {
        self.response_flags[flag.index()].increment();
    }

    /// Responses counted so far, of every class.
    pub fn responses(&self) -> u64 {
        self.response.iter().flatten().map(Counter::value).sum()
    }

    /// The counters of one side's connections.
    #[inline]
    pub fn connections(&self, side: ConnectionSide) -> &ConnectionMetrics {
        &self.connections[side as usize]
    }

    pub(super) fn response_count(&self, class: StatusClass, of: Classification) -> u64 {
        self.response[class as usize][of.index()].value()
    }

    pub(super) fn flag_count(&self, flag: ResponseFlag) -> u64 {
        self.response_flags[flag.index()].value()
    }

    pub(super) fn response_latency(&self) -> &Histogram<{ LATENCY_BOUNDS_US.len() + 1 }> {
        &self.response_latency
    }
}

/// What is counted of the control plane's side. Written by its threads alone, never by a worker.
#[derive(Debug, Default)]
pub struct ControlMetrics {
    /// `control_connected`: 1 while the control plane's socket is connected.
    pub connected: Gauge,
    /// `config_epoch`: number of the epoch that every worker runs.
    pub epoch: Gauge,
    /// `config_store_info`: the store that numbers those epochs; 0 while there is none.
    pub store: Gauge,
    /// `config_applied_total`: snapshots that every worker has switched to.
    pub applied: Counter,
    /// `config_rejected_total`: snapshots that were refused; the old one stayed.
    pub rejected: Counter,
}

impl ControlMetrics {
    /// Every worker runs this one.
    pub fn set_epoch(&self, epoch: Epoch) {
        // As much of the store as an epoch shows.
        self.store.set(i64::from(epoch.store as u32));
        self.epoch.set(epoch.number as i64);
    }
}

/// Which engine runs, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineInfo {
    /// `uring` or `epoll`.
    pub engine: &'static str,
    /// Why: what was asked for, or what the probe found.
    pub reason: String,
}

/// All that is counted in the process. Made once, shared by [`Arc`], never locked.
#[derive(Debug)]
pub struct Metrics {
    workers: Box<[CachePadded<WorkerMetrics>]>,
    /// `worker_stalled_total{worker}`, written by the main thread's watchdog alone.
    stalled: Box<[Counter]>,
    /// Lines lost because a write failed, written by the access log's thread alone.
    pub(super) access_log_write_dropped: Counter,
    /// Of endpoints out of service, written by the health thread alone.
    pub health: HealthMetrics,
    /// How much is let through.
    pub overload: OverloadFigures,
    engine: OnceLock<EngineInfo>,
    /// What the control plane made of this process; none without one.
    control: OnceLock<ControlMetrics>,
    started: SystemTime,
}

impl Metrics {
    /// Counters at zero for `worker_count` workers. The making counts as the process's start.
    pub fn new(worker_count: usize) -> Arc<Self> {
        Arc::new(Self {
            workers: (0..worker_count).map(|_| CachePadded::default()).collect(),
            stalled: (0..worker_count).map(|_| Counter::default()).collect(),
            access_log_write_dropped: Counter::default(),
            health: HealthMetrics::default(),
            overload: OverloadFigures::default(),
            engine: OnceLock::new(),
            control: OnceLock::new(),
            started: SystemTime::now(),
        })
    }

    /// The block of one worker, which alone may write it.
    ///
    /// # Panics
    /// When there is no such worker.
    pub fn worker(&self, worker: usize) -> &WorkerMetrics {
        &self.workers[worker]
    }

    /// Every worker's block.
    pub fn workers(&self) -> impl Iterator<Item = &WorkerMetrics> {
        self.workers.iter().map(|worker| &**worker)
    }

    /// Worker `worker` was found blocked for longer than
    /// [`WORKER_STALL`](crate::limits::WORKER_STALL). For the watchdog's thread alone.
    pub fn record_stall(&self, worker: usize) {
        self.stalled[worker].increment();
    }

    /// States which engine runs, for `engine_info`; the first call counts.
    pub fn set_engine(&self, engine: EngineInfo) {
        // A later worker may find a lesser engine; the log tells, the metric keeps the first.
        let _ = self.engine.set(engine);
    }

    /// The counters of a process that a control plane tells what to do; made by the first call.
    pub fn control(&self) -> &ControlMetrics {
        self.control.get_or_init(ControlMetrics::default)
    }

    pub(super) fn control_if_any(&self) -> Option<&ControlMetrics> {
        self.control.get()
    }

    /// Every metric as OpenMetrics text, ending in `# EOF`. Reads `/proc/self`; for a thread that
    /// may block.
    pub fn text(self: &Arc<Self>) -> String {
        metrics_text::encode(self)
    }

    pub(super) fn engine(&self) -> Option<&EngineInfo> {
        self.engine.get()
    }

    pub(super) fn stalled(&self) -> impl Iterator<Item = u64> {
        self.stalled.iter().map(Counter::value)
    }

    pub(super) fn start_time(&self) -> Duration {
        self.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
