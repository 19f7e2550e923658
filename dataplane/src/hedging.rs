//! Second requests of a route, as one worker makes them.
//!
//! Before: a snapshot's route asks for them. After: `response` knows when to stop waiting for the first
//! answer alone, and `attempt` whether a second request is paid for. What all workers know of a route
//! survives snapshots by its name.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lateen_ring::Instant;
use lateen_snapshot::model::retry::HedgeAfter;

use crate::decide::hedge::{LatencyCounts, Purse, Recent, Sums};
use crate::limits;
use crate::totals::take_left;

/// What all workers know of the requests of one route.
#[derive(Debug, Default)]
pub struct HedgeTotal {
    state: Mutex<State>,
    /// When a request is slow, in nanoseconds; 0: nobody can tell.
    slow_ns: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    counts: Vec<Arc<LatencyCounts>>,
    /// Of workers that have gone on to another snapshot.
    past: Sums,
    recent: Recent,
    purse: Purse,
}

impl State {
    fn sums(&mut self) -> Sums {
        let Self { counts, past, .. } = self;
        take_left(counts, |count| count.add_to(&mut past.0));
        let mut sums = Sums(past.0);
        counts.iter().for_each(|count| count.add_to(&mut sums.0));
        sums
    }
}

/// The second requests of one route, on one worker.
#[derive(Debug)]
pub struct Hedge {
    after: HedgeAfter,
    total: Arc<HedgeTotal>,
    counts: Arc<LatencyCounts>,
    /// When it is looked again how long requests take.
    look_at: Cell<Instant>,
    /// There was nothing to pay with: it is not asked before.
    pay_at: Cell<Instant>,
}

impl Hedge {
    /// Of a worker that begins to serve the route.
    pub fn new(after: HedgeAfter, total: Arc<HedgeTotal>) -> Self {
        let counts = Arc::<LatencyCounts>::default();
        let mut state = total.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.counts.push(Arc::clone(&counts));
        drop(state);
        Self { after, total, counts, look_at: Cell::default(), pay_at: Cell::default() }
    }

    /// Until when an answer to what was sent just now is waited for alone: [`Instant::NEVER`], for as long as it
    /// takes.
    pub fn alone_until(&self) -> Instant {
        let now = lateen_ring::now();
        let percentile = match self.after {
            HedgeAfter::DelayMs(delay_ms) => return now.plus_millis(delay_ms.into()),
            HedgeAfter::Percentile(percentile) => percentile,
        };
        if now >= self.look_at.get() {
            self.look_at.set(now + limits::HEDGE_LOOK);
            // Whoever looks at the same time does it for all.
            if let Ok(mut state) = self.total.state.try_lock() {
                let sums = state.sums();
                state.recent.merge(&sums, now.as_nanos());
                let slow_ns =
                    state.recent.quantile(percentile).map_or(0, |slow| slow.as_nanos() as u64);
                self.total.slow_ns.store(slow_ns, Ordering::Relaxed);
            }
        }
        match self.total.slow_ns.load(Ordering::Relaxed) {
            0 => Instant::NEVER,
            slow_ns => now.plus_nanos(slow_ns),
        }
    }

    /// A request was answered after so many microseconds.
    #[inline]
    pub fn observe(&self, span_us: u64) {
        self.counts.observe(span_us);
    }

    /// Pays for a second request.
    pub fn pay(&self) -> bool {
        let now = lateen_ring::now();
        if now < self.pay_at.get() {
            return false;
        }
        let mut state = self.total.state.lock().unwrap_or_else(PoisonError::into_inner);
        let requests = state.sums().0.iter().sum();
        let is_paid = state.purse.pay(requests);
        if !is_paid {
            self.pay_at.set(now + limits::RETRY_BUDGET_LOOK);
        }
        is_paid
    }
}
