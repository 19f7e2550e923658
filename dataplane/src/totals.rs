//! What is counted by the process and not by each worker, whatever the snapshot: by name.
//!
//! Before: a worker uses a cluster for the first time, or as another snapshot has it. After: it draws on
//! the cluster's totals in batches (`decide`), so that more workers never mean higher limits. The lock is
//! for finding a total by its name, and is never taken for a single request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::bulkhead::total::BulkheadTotal;
use crate::rate_limit::total::RateTotal;

/// Everything of that kind.
#[derive(Debug, Default)]
pub struct Totals {
    clusters: Mutex<ByName<ClusterTotals>>,
    rate_limits: Mutex<ByName<RateTotal>>,
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

impl<T: Default> ByName<T> {
    fn get(&mut self, name: &str) -> Arc<T> {
        if let Some(known) = self.known.get(name) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.look_at {
            self.known.retain(|_, total| Arc::strong_count(total) > 1);
            self.look_at = (2 * self.known.len()).max(LOOK_AT_LEAST);
        }
        let made = Arc::<T>::default();
        self.known.insert(name.to_owned(), Arc::clone(&made));
        made
    }
}

/// Of one cluster.
#[derive(Debug, Default)]
pub struct ClusterTotals {
    /// What it may take of the process.
    pub bulkhead: BulkheadTotal,
}

impl Totals {
    /// Those of the cluster of this name; made at its first use, and gone when nobody has it any more.
    pub fn of_cluster(&self, name: &str) -> Arc<ClusterTotals> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner).get(name)
    }

    /// That of the limit of this name; likewise.
    pub fn of_rate_limit(&self, name: &str) -> Arc<RateTotal> {
        self.rate_limits.lock().unwrap_or_else(PoisonError::into_inner).get(name)
    }
}
