//! What all workers and the health thread have in common of a cluster: what was seen of its endpoints, and
//! what was decided.
//!
//! Each worker writes into slots of its own by plain stores, and the thread sums them up; the thread alone
//! writes what is decided, and raises a number that every worker looks at when it chooses an endpoint. So no
//! decision can be lost in a full mailbox, and no idle worker is woken for one. The locks here are taken when
//! an endpoint fails or is judged, never for a request that goes well.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crossbeam_utils::CachePadded;
use lateen_snapshot::model::Cluster;
use lateen_snapshot::model::breaker::CircuitBreaker;

use crate::decide::breaker::Event;
use crate::decide::outlier::sweep::{Counts, LATENCY_SORTS, median_us, sort_of_latency};
use crate::decide::outlier::{Ending, Runs};
use crate::limits;
use crate::observe::counter::Counter;
use crate::totals::{ClusterTotals, RouteTotals};

/// What is known of a cluster's endpoints in the process.
#[derive(Debug, Default)]
pub struct ClusterHealth {
    seen: Mutex<HashMap<SocketAddr, Arc<Seen>>>,
    verdicts: Mutex<Verdicts>,
    /// Of the verdicts; 0: there never were any.
    version: AtomicU64,
    /// The thread knows that there is traffic to compare endpoints by.
    is_compared: AtomicBool,
}

/// What was decided of a cluster's endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Those that are ejected, in order.
    pub ejected: Vec<SocketAddr>,
    /// Those that pass their health checks, in order; `None`: nobody is checked.
    pub well: Option<Vec<SocketAddr>>,
}

impl ClusterHealth {
    /// What was seen of an endpoint by `workers` workers; made at its first use.
    pub fn seen(&self, address: SocketAddr, workers: usize) -> Arc<Seen> {
        let mut seen = lock(&self.seen);
        // Who has gone, or is looked at by no worker any more, is as good as new.
        let is_known = |known: &Arc<Seen>| !known.has_gone() && Arc::strong_count(known) > 1;
        if let Some(known) = seen.get(&address).filter(|known| is_known(known)) {
            return Arc::clone(known);
        }
        if seen.len() == seen.capacity() {
            seen.retain(|_, known| is_known(known));
        }
        let new = Arc::new(Seen::new(workers));
        seen.insert(address, Arc::clone(&new));
        new
    }

    /// The same, if there is anything.
    pub fn seen_if_any(&self, address: SocketAddr) -> Option<Arc<Seen>> {
        lock(&self.seen).get(&address).cloned()
    }

    /// Changes with every verdict.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// What is decided at present.
    pub fn verdicts(&self) -> MutexGuard<'_, Verdicts> {
        lock(&self.verdicts)
    }

    /// Decides. For the health thread alone.
    pub fn decide(&self, change: impl FnOnce(&mut Verdicts)) {
        change(&mut lock(&self.verdicts));
        self.version.store(self.version.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// Whether the thread knows that there is traffic.
    #[inline]
    pub fn is_compared(&self) -> bool {
        self.is_compared.load(Ordering::Relaxed)
    }

    /// It knows now, or has found that there is none. A worker that is told too late tells it again.
    pub fn set_compared(&self, is_compared: bool) {
        self.is_compared.store(is_compared, Ordering::Relaxed);
    }
}

/// What was seen of an endpoint: a slot for each worker, which alone writes it.
#[derive(Debug)]
pub struct Seen {
    slots: Box<[CachePadded<Slot>]>,
    /// How often the endpoint came back into service: what was seen before counts no longer.
    returns: AtomicU32,
    /// When the thread was told that it fails, by a worker's clock; 0: it was not, or has found that it
    /// fails no longer.
    told_ns: AtomicU64,
    /// It left the cluster. Who comes again at its address is another one.
    has_gone: AtomicBool,
}

/// What one worker saw of an endpoint.
#[derive(Debug, Default)]
pub struct Slot {
    /// [`Seen::returns`] at the time of its runs.
    returns: AtomicU32,
    /// The same at the last good answer, and 1; 0: there was none.
    proven: AtomicU32,
    refused: AtomicU32,
    local: AtomicU32,
    gateway: AtomicU32,
    server: AtomicU32,
    tries: Counter,
    failures: Counter,
    latencies: OnceLock<Box<[Counter; LATENCY_SORTS]>>,
}

impl Seen {
    fn new(workers: usize) -> Self {
        Self {
            slots: (0..workers).map(|_| CachePadded::default()).collect(),
            returns: AtomicU32::new(0),
            told_ns: AtomicU64::new(0),
            has_gone: AtomicBool::new(false),
        }
    }

    /// Notes how a try ended at worker `worker`, who calls. Returns what all workers saw in a row, and
    /// whether the endpoint is on trial.
    pub fn note(&self, worker: usize, ending: Ending) -> (Runs, bool) {
        let slot = &self.slots[worker];
        let returns = self.returns.load(Ordering::Relaxed);
        let mut runs = slot.runs(returns);
        runs.note(ending);
        slot.refused.store(runs.refused, Ordering::Relaxed);
        slot.local.store(runs.local, Ordering::Relaxed);
        slot.gateway.store(runs.gateway, Ordering::Relaxed);
        slot.server.store(runs.server, Ordering::Relaxed);
        // Last: runs of before a return must not pass for new ones.
        slot.returns.store(returns, Ordering::Release);
        if ending.is_good() {
            slot.proven.store(returns.wrapping_add(1), Ordering::Relaxed);
            return (runs, false);
        }
        // Of two workers that see the last failure it takes at the same time, one sees the other's.
        fence(Ordering::SeqCst);
        self.sum()
    }

    /// What all workers saw in a row, and whether the endpoint is on trial.
    pub fn sum(&self) -> (Runs, bool) {
        let returns = self.returns.load(Ordering::Relaxed);
        let runs = self.slots.iter().map(|slot| slot.runs(returns));
        let is_proven = |slot: &CachePadded<Slot>| {
            slot.proven.load(Ordering::Relaxed) == returns.wrapping_add(1)
        };
        let on_trial = returns > 0 && !self.slots.iter().any(is_proven);
        (runs.fold(Runs::default(), Runs::and), on_trial)
    }

    /// Counts a try of worker `worker`, who calls, to compare endpoints by.
    pub fn count(&self, worker: usize, ending: Ending, latency_us: Option<u64>) {
        let slot = &self.slots[worker];
        slot.tries.increment();
        if !ending.is_good() {
            slot.failures.increment();
        }
        if let Some(latency_us) = latency_us {
            let latencies = slot
                .latencies
                .get_or_init(|| Box::new(std::array::from_fn(|_| Counter::default())));
            latencies[sort_of_latency(latency_us)].increment();
        }
    }

    /// What all workers counted since the process began.
    pub fn counted(&self) -> Counted {
        let mut counted = Counted::default();
        for slot in &self.slots {
            // Failures first: there are never more of them than tries.
            counted.failures += slot.failures.value();
            counted.tries += slot.tries.value();
            for (sum, of_slot) in counted
                .sorts
                .iter_mut()
                .zip(slot.latencies.get().into_iter().flat_map(|all| all.iter()))
            {
                *sum += of_slot.value();
            }
        }
        counted
    }

    /// The endpoint is back in service: it is on trial, and what was seen before counts no longer. For the
    /// health thread alone.
    pub fn come_back(&self) {
        self.returns.store(self.returns.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        self.forget_told();
    }

    /// Whether it left the cluster.
    pub fn has_gone(&self) -> bool {
        self.has_gone.load(Ordering::Relaxed)
    }

    /// It left the cluster.
    pub fn note_gone(&self) {
        self.has_gone.store(true, Ordering::Relaxed);
    }

    /// Whether the thread was told less than `span_ns` ago. It may have declined then, or have heard of it
    /// in vain; so it is told again of who goes on failing.
    pub fn was_told(&self, now_ns: u64, span_ns: u64) -> bool {
        let told_ns = self.told_ns.load(Ordering::Relaxed);
        told_ns != 0 && now_ns.saturating_sub(told_ns) < span_ns
    }

    /// It is told. Whoever comes second tells it twice, which does no harm.
    pub fn note_told(&self, now_ns: u64) {
        self.told_ns.store(now_ns.max(1), Ordering::Relaxed);
    }

    /// It was not told, or has looked.
    pub fn forget_told(&self) {
        self.told_ns.store(0, Ordering::Relaxed);
    }
}

impl Slot {
    fn runs(&self, returns: u32) -> Runs {
        if self.returns.load(Ordering::Acquire) != returns {
            return Runs::default();
        }
        Runs {
            refused: self.refused.load(Ordering::Relaxed),
            local: self.local.load(Ordering::Relaxed),
            gateway: self.gateway.load(Ordering::Relaxed),
            server: self.server.load(Ordering::Relaxed),
        }
    }
}

/// What was counted of an endpoint up to some time.
#[derive(Clone, Debug)]
pub struct Counted {
    /// Tries that ended.
    pub tries: u64,
    failures: u64,
    sorts: [u64; LATENCY_SORTS],
}

impl Default for Counted {
    fn default() -> Self {
        Self { tries: 0, failures: 0, sorts: [0; LATENCY_SORTS] }
    }
}

impl Counted {
    /// What came after `before`; all of it where that is of another one at the same address.
    pub fn since(&self, before: &Self) -> Counts {
        let nothing = Self::default();
        let before = if before.tries > self.tries { &nothing } else { before };
        let sorts = std::array::from_fn(|sort| self.sorts[sort].saturating_sub(before.sorts[sort]));
        let tries = self.tries.saturating_sub(before.tries);
        let failures = self.failures.saturating_sub(before.failures).min(tries);
        Counts { tries, failures, median_us: median_us(&sorts) }
    }
}

/// Where workers tell the health thread what it should look at.
#[derive(Debug, Default)]
pub struct Desk {
    notices: Mutex<Vec<Notice>>,
    of_breakers: Mutex<Vec<BreakerNotice>>,
    /// Wakes the thread; none while there is none.
    bell: OnceLock<OwnedFd>,
}

/// Something to look at.
#[derive(Debug)]
pub struct Notice {
    /// The cluster, as the worker has it.
    pub cluster: Arc<Cluster>,
    /// What is known of it.
    pub totals: Arc<ClusterTotals>,
    /// Which of its endpoints fails; `None`: endpoints are to be compared, for there is traffic.
    pub failing: Option<SocketAddr>,
}

/// Something that happened to a route's breaker.
#[derive(Debug)]
pub struct BreakerNotice {
    /// The route's.
    pub name: Arc<str>,
    /// Where its breaker stands.
    pub totals: Arc<RouteTotals>,
    /// What it goes by.
    pub rule: CircuitBreaker,
    /// In which turn that was: in another one it means nothing.
    pub turn: u64,
    /// What it was.
    pub event: Event,
}

impl Desk {
    /// Tells the thread of a breaker. A worker does so once in a turn of a breaker, or once more when too
    /// many fail at the same time, which bounds them.
    pub fn tell_breaker(&self, notice: BreakerNotice) {
        if self.bell.get().is_some() {
            lock(&self.of_breakers).push(notice);
            self.ring();
        }
    }

    pub(super) fn take_breakers(&self) -> Vec<BreakerNotice> {
        std::mem::take(&mut lock(&self.of_breakers))
    }

    /// Tells the thread. False: there is none, or it has too much to do; to be told again.
    pub fn tell(&self, notice: Notice) -> bool {
        if self.bell.get().is_none() {
            return false;
        }
        let mut notices = lock(&self.notices);
        if notices.len() >= limits::NOTICES_MAX {
            return false;
        }
        notices.push(notice);
        drop(notices);
        self.ring();
        true
    }

    /// Wakes the thread.
    pub fn ring(&self) {
        if let Some(bell) = self.bell.get() {
            // EAGAIN: it was rung so often that it can't be missed.
            let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
        }
    }

    /// The thread is there, and hears `bell`. False: another one is there already.
    pub(super) fn take_up(&self, bell: OwnedFd) -> bool {
        self.bell.set(bell).is_ok()
    }

    pub(super) fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.bell.get().map(AsFd::as_fd)
    }

    pub(super) fn take(&self) -> Vec<Notice> {
        std::mem::take(&mut lock(&self.notices))
    }
}

/// The locks guard plain data that no panic leaves half-changed, so poison is passed over.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_before_a_return_counts_no_longer() {
        let seen = Seen::new(2);
        seen.note(0, Ending::Reset);
        let (runs, on_trial) = seen.note(1, Ending::ConnectFailed);
        assert_eq!((runs.local, runs.refused, on_trial), (2, 1, false));
        seen.come_back();
        assert_eq!(seen.sum(), (Runs::default(), true));
        let (runs, on_trial) = seen.note(1, Ending::Reset);
        assert_eq!((runs.local, on_trial), (1, true));
        seen.note(0, Ending::Answered);
        let (runs, on_trial) = seen.sum();
        assert_eq!(
            (runs.local, on_trial),
            (1, false),
            "one worker proved it, the other's run goes on"
        );
    }

    #[test]
    fn who_goes_on_failing_is_told_of_again() {
        let seen = Seen::new(1);
        assert!(!seen.was_told(5, 10));
        seen.note_told(5);
        assert!(seen.was_told(14, 10) && !seen.was_told(15, 10));
        seen.come_back();
        assert!(!seen.was_told(6, 10));
    }

    #[test]
    fn who_comes_again_at_an_address_is_as_good_as_new() {
        let health = ClusterHealth::default();
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let first = health.seen(address, 1);
        first.note(0, Ending::Reset);
        assert_eq!(health.seen(address, 1).sum().0.local, 1, "it is still there");
        first.note_gone();
        let second = health.seen(address, 1);
        assert_eq!(second.sum().0, Runs::default());
        second.note(0, Ending::Reset);
        assert_eq!(first.sum().0.local, 1, "requests of before go on with what they had");
        drop((first, second));
        assert_eq!(health.seen(address, 1).sum().0, Runs::default(), "nobody looked at it");
    }

    #[test]
    fn what_is_counted_is_summed_over_workers_and_told_by_difference() {
        let seen = Seen::new(3);
        for worker in 0..3 {
            seen.count(worker, Ending::Answered, Some(1_000));
            seen.count(worker, Ending::GatewayError, None);
        }
        let before = seen.counted();
        assert_eq!(before.since(&Counted::default()).tries, 6);
        seen.count(0, Ending::Reset, None);
        seen.count(0, Ending::Answered, Some(100_000));
        let counts = seen.counted().since(&before);
        assert_eq!((counts.tries, counts.failures), (2, 1));
        assert!(counts.median_us.is_some_and(|median_us| (90_000..110_000).contains(&median_us)));
    }

    #[test]
    fn nobody_is_told_while_nobody_listens() {
        let desk = Desk::default();
        let totals = crate::totals::Totals::default();
        let notice = || Notice {
            cluster: crate::testing::clusters(&[("a", &[1])]).clusters[0].clone(),
            totals: totals.of_cluster("a"),
            failing: None,
        };
        assert!(!desk.tell(notice()));
        let flags = rustix::event::EventfdFlags::NONBLOCK;
        assert!(desk.take_up(rustix::event::eventfd(0, flags).expect("a descriptor")));
        assert!(desk.tell(notice()));
        assert_eq!(desk.take().len(), 1);
        assert!(desk.take().is_empty());
    }
}
