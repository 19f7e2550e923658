//! What is counted by the process and not by each worker, whatever the snapshot: by name.
//!
//! Before: a worker uses a cluster for the first time, or as another snapshot has it. After: it draws on
//! the cluster's totals in batches (`decide`), so that more workers never mean higher limits. The lock is
//! for finding a total by its name, and is never taken for a single request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::breaker::Board;
use crate::health::board::{ClusterHealth, Desk};

/// Everything of that kind.
#[derive(Debug, Default)]
pub struct Totals {
    /// Where workers tell what fails.
    pub desk: Arc<Desk>,
    clusters: Mutex<ByName<ClusterTotals>>,
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
    /// What was seen of its endpoints, and decided.
    pub health: ClusterHealth,
}

/// Of one route.
#[derive(Debug, Default)]
pub struct RouteTotals {
    /// Where its breaker stands.
    pub breaker: Board,
}

impl Totals {
    /// Those of the route of this name; likewise.
    pub fn of_route(&self, name: &str) -> Arc<RouteTotals> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner).get(name)
    }

    /// Those of the cluster of this name; made at its first use, and gone when nobody has it any more.
    pub fn of_cluster(&self, name: &str) -> Arc<ClusterTotals> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner).get(name)
    }
}
