//! What is counted by the process and not by each worker, whatever the snapshot: by name.
//!
//! Before: a worker uses a cluster for the first time, or as another snapshot has it. After: it draws on
//! the cluster's totals in batches (`decide`), so that more workers never mean higher limits. The lock is
//! for finding a total by its name, and is never taken for a single request.

use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use lateen_snapshot::model::retry::RetryBudget;

use crate::breaker::Board;
use crate::bulkhead::adaptive::AdaptiveTotal;
use crate::bulkhead::total::BulkheadTotal;
use crate::decide::retry::budget::Budget;
use crate::health::board::{ClusterHealth, Desk};
use crate::hedging::HedgeTotal;
use crate::rate_limit::total::RateTotal;

/// Everything of that kind.
#[derive(Debug, Default)]
pub struct Totals {
    hedges: Mutex<ByName<HedgeTotal>>,
    /// Where workers tell what fails.
    pub desk: Arc<Desk>,
    clusters: Mutex<ByName<ClusterTotals>>,
    services: Mutex<ByName<ServiceTotals>>,
    rate_limits: Mutex<ByName<RateTotal>>,
    /// Of what limits count by; nobody outside knows its seed.
    hasher: RandomState,
    routes: Mutex<ByName<RouteTotals>>,
}

#[derive(Debug)]
struct ByName<T> {
    known: HashMap<String, Arc<T>>,
    /// When there are so many, it is looked whether all are needed.
    look_at: usize,
}

impl<T> Default for ByName<T> {
    fn default() -> Self {
        Self { known: HashMap::new(), look_at: LOOK_AT_LEAST }
    }
}

/// Fewer are not worth a look.
const LOOK_AT_LEAST: usize = 64;

impl<T> ByName<T> {
    fn get(&mut self, name: &str) -> Arc<T>
    where
        T: Default,
    {
        self.get_or(name, T::default)
    }

    fn get_or(&mut self, name: &str, make: impl FnOnce() -> T) -> Arc<T> {
        if let Some(known) = self.known.get(name) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.look_at {
            self.known.retain(|_, total| Arc::strong_count(total) > 1);
            self.look_at = (2 * self.known.len()).max(LOOK_AT_LEAST);
        }
        let made = Arc::new(make());
        self.known.insert(name.to_owned(), Arc::clone(&made));
        made
    }
}

/// Of one cluster.
#[derive(Debug, Default)]
pub struct ClusterTotals {
    /// What was seen of its endpoints, and decided.
    pub health: ClusterHealth,
}

/// Of one service, whose parts (its localities and subsets) are clusters of their own.
#[derive(Debug, Default)]
pub struct ServiceTotals {
    /// What tries beyond the first may cost.
    pub retries: RetryTotal,
    /// What it may take of the process.
    pub bulkhead: BulkheadTotal,
    /// How many requests it works on at a time, where that is asked for.
    pub adaptive: OnceLock<Arc<AdaptiveTotal>>,
}

/// Takes the counts that no worker writes any more out of those that workers joined, and shows each.
pub fn take_left<T>(counts: &mut Vec<Arc<T>>, mut show: impl FnMut(&T)) {
    counts.retain(|count| {
        let is_used = Arc::strong_count(count) > 1;
        if !is_used {
            show(count);
        }
        is_used
    });
}

/// What tries beyond the first may cost, and what that depends on.
#[derive(Debug, Default)]
pub struct RetryTotal(Mutex<Retrying>);

#[derive(Debug, Default)]
struct Retrying {
    budget: Budget,
    /// Of the workers that use the service.
    counts: Vec<Arc<RequestCount>>,
    /// Requests of those that use it no longer.
    past: u64,
}

/// Requests to a service that one worker has seen, which alone writes it.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct RequestCount(AtomicU64);

impl RequestCount {
    /// One more.
    #[inline]
    pub fn increment(&self) {
        self.0.store(self.0.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

impl RetryTotal {
    /// Where a worker counts its requests from now on.
    pub fn join(&self, terms: RetryBudget, now_ns: u64) -> Arc<RequestCount> {
        let mut retrying = self.lock();
        let Retrying { counts, past, .. } = &mut *retrying;
        take_left(counts, |count| *past += count.0.load(Ordering::Relaxed));
        let count = Arc::<RequestCount>::default();
        counts.push(Arc::clone(&count));
        // What comes from now on is what it is a share of.
        retrying.draw(terms, 0, now_ns);
        count
    }

    /// Pays for up to `wanted` tries, and says for how many.
    pub fn draw(&self, terms: RetryBudget, wanted: u32, now_ns: u64) -> u32 {
        self.lock().draw(terms, wanted, now_ns)
    }

    fn lock(&self) -> MutexGuard<'_, Retrying> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Retrying {
    fn draw(&mut self, terms: RetryBudget, wanted: u32, now_ns: u64) -> u32 {
        let counts = self.counts.iter().map(|count| count.0.load(Ordering::Relaxed));
        let requests = self.past + counts.sum::<u64>();
        self.budget.draw(terms, wanted, requests, now_ns)
    }
}

/// Of one route.
#[derive(Debug, Default)]
pub struct RouteTotals {
    /// Where its breaker stands.
    pub breaker: Board,
}

impl Totals {
    /// What is known of the second requests of the route of this name; likewise.
    pub fn of_hedged_route(&self, name: &str) -> Arc<HedgeTotal> {
        self.hedges.lock().unwrap_or_else(PoisonError::into_inner).get(name)
    }

    /// Those of the route of this name; likewise.
    pub fn of_route(&self, name: &str) -> Arc<RouteTotals> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner).get(name)
    }

    /// Those of the cluster of this name; made at its first use, and gone when nobody has it any more.
    pub fn of_cluster(&self, name: &str) -> Arc<ClusterTotals> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner).get(name)
    }

    /// Those of the service of this name; likewise.
    pub fn of_service(&self, name: &str) -> Arc<ServiceTotals> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).get(name)
    }

    /// That of the limit of this name; likewise.
    pub fn of_rate_limit(&self, name: &str) -> Arc<RateTotal> {
        let mut limits = self.rate_limits.lock().unwrap_or_else(PoisonError::into_inner);
        limits.get_or(name, || RateTotal::new(self.hasher.clone()))
    }
}
