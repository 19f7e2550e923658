//! A cap of requests that follows how long they take, as all workers see it.
//!
//! Before: a service's policy asks for it; requests end. After: the gate of requests lends no more than the
//! limit. Each worker counts in a block of its own; whoever first comes by when a window is over judges for
//! all. What is known survives snapshots with the service's totals. `decide::overload::gradient` says what
//! follows from what.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lateen_ring::Instant;
use lateen_snapshot::model::overload::Concurrency;

use crate::bulkhead::total::{GateTotal, Terms};
use crate::decide::hedge::{LatencyCounts, Sums};
use crate::decide::overload::gradient::{Gradient, Look};
use crate::limits;
use crate::shard::Counters;
use crate::totals::{ServiceTotals, take_left};

/// What all workers know of a service's limit.
#[derive(Debug)]
pub struct AdaptiveTotal {
    limit: AtomicU32,
    /// A request that began before says nothing of the window at hand.
    window_began_ns: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    gradient: Gradient,
    counts: Vec<Arc<Seen>>,
    /// Of workers that use the service no longer.
    past: Sums,
    past_timed_out: u64,
}

/// What one worker saw of the ends of requests, which alone writes it.
#[derive(Debug, Default)]
struct Seen {
    answered: LatencyCounts,
    timed_out: AtomicU64,
}

impl State {
    /// How long answers took, and how many did not come in time.
    fn sums(&mut self) -> (Sums, u64) {
        let Self { counts, past, past_timed_out, .. } = self;
        take_left(counts, |seen| {
            seen.answered.add_to(&mut past.0);
            *past_timed_out += seen.timed_out.load(Ordering::Relaxed);
        });
        let (mut sums, mut timed_out) = (Sums(past.0), *past_timed_out);
        for seen in counts.iter() {
            seen.answered.add_to(&mut sums.0);
            timed_out += seen.timed_out.load(Ordering::Relaxed);
        }
        (sums, timed_out)
    }
}

impl AdaptiveTotal {
    /// Nothing is known yet.
    pub fn new(bounds: Concurrency, now: Instant) -> Self {
        let gradient = Gradient::new(bounds, now.as_nanos());
        Self {
            limit: AtomicU32::new(gradient.limit()),
            window_began_ns: AtomicU64::new(0),
            state: Mutex::new(State {
                gradient,
                counts: Vec::new(),
                past: Sums::default(),
                past_timed_out: 0,
            }),
        }
    }

    /// So many requests at a time.
    #[inline]
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }
}

/// What one worker has of it.
#[derive(Debug)]
pub struct Adaptive {
    bounds: Cell<Concurrency>,
    total: Arc<AdaptiveTotal>,
    seen: Arc<Seen>,
    /// When it is looked again whether the window is over.
    look_at: Cell<Instant>,
}

impl Adaptive {
    /// Of a worker that begins to use the service of this name, or to go by such a limit.
    pub fn join(
        totals: &ServiceTotals,
        bounds: Concurrency,
        counters: &Counters,
        name: &str,
    ) -> Rc<Self> {
        let total = totals.adaptive.get_or_init(|| {
            let total = Arc::new(AdaptiveTotal::new(bounds, lateen_ring::now()));
            counters.of_process().overload.enter_limit(name, &total);
            total
        });
        let seen = Arc::<Seen>::default();
        lock(&total.state).counts.push(Arc::clone(&seen));
        let adaptive = Self {
            bounds: Cell::new(bounds),
            total: Arc::clone(total),
            seen,
            look_at: Cell::default(),
        };
        adaptive.set_bounds(bounds);
        Rc::new(adaptive)
    }

    /// The limit stays within these from now on.
    pub fn set_bounds(&self, bounds: Concurrency) {
        self.bounds.set(bounds);
        let mut state = lock(&self.total.state);
        state.gradient.bound(bounds);
        self.total.limit.store(state.gradient.limit(), Ordering::Relaxed);
    }

    /// So many requests at a time, of all workers.
    #[inline]
    pub fn limit(&self) -> u32 {
        self.total.limit()
    }

    /// A request took from `began` to `ended`; `None`: longer than anybody waited.
    #[inline]
    pub fn observe(&self, began: Instant, ended: Option<Instant>) {
        let timed_out = &self.seen.timed_out;
        match ended {
            // Whenever it began: it tells of now.
            None => timed_out.store(timed_out.load(Ordering::Relaxed) + 1, Ordering::Relaxed),
            Some(ended) => {
                if began.as_nanos() >= self.total.window_began_ns.load(Ordering::Relaxed) {
                    self.seen.answered.observe(ended.micros_since(began));
                }
            }
        }
    }

    /// Judges if a window is over. `terms` says what follows for the gate of requests.
    pub fn look(&self, gate: &GateTotal, terms: impl FnOnce() -> Terms) {
        let now = lateen_ring::now();
        if now < self.look_at.get() {
            return;
        }
        self.look_at.set(now + limits::ADAPTIVE_LOOK);
        // Whoever looks at the same time does it for all.
        let Ok(mut state) = self.total.state.try_lock() else { return };
        let now_ns = now.as_nanos();
        if !state.gradient.is_due(now_ns) {
            return;
        }
        let (sums, timed_out) = state.sums();
        let random = sums.0.iter().fold(now_ns, |bits, sum| bits.wrapping_mul(31) ^ sum);
        let peak = gate.peak();
        let look = Look { sums: &sums, timed_out, peak, now_ns, random };
        let looked = state.gradient.look(self.bounds.get(), look);
        if looked {
            gate.forget_peak();
            self.total.window_began_ns.store(now_ns, Ordering::Relaxed);
            self.total.limit.store(state.gradient.limit(), Ordering::Relaxed);
            drop(state);
            gate.set_terms(terms(), now_ns);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
