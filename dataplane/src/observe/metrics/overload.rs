//! Who was turned away so that others are answered in time.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use lateen_snapshot::model::overload::Priority;

use crate::bulkhead::adaptive::AdaptiveTotal;
use crate::observe::counter::Counter;

/// Every priority, at its index, and the label's value.
pub const PRIORITIES: [(Priority, &str); 3] = [
    (Priority::Critical, "critical"),
    (Priority::Default, "default"),
    (Priority::Sheddable, "sheddable"),
];

/// Why somebody was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ShedCause {
    /// The queue for a service's room stands.
    QueueDelay,
    /// The same, where how long requests take says how much room there is.
    Concurrency,
}

impl ShedCause {
    /// Every cause, at its index.
    pub const ALL: [Self; 2] = [Self::QueueDelay, Self::Concurrency];

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueDelay => "queue_delay",
            Self::Concurrency => "concurrency",
        }
    }
}

/// The counters of one worker.
#[derive(Debug, Default)]
pub struct OverloadMetrics {
    shed: [[Counter; PRIORITIES.len()]; ShedCause::ALL.len()],
}

impl OverloadMetrics {
    /// `overload_shed_total{cause, priority}`: who was turned away.
    pub fn shed(&self, cause: ShedCause, priority: Priority) -> &Counter {
        &self.shed[cause as usize][priority as usize]
    }
}

/// What is known of the process as a whole.
#[derive(Debug, Default)]
pub struct OverloadFigures {
    /// `overload_concurrency_limit{cluster}`.
    limits: Mutex<Vec<(String, Weak<AdaptiveTotal>)>>,
}

impl OverloadFigures {
    /// A cluster has a limit that follows how long its requests take.
    pub fn enter_limit(&self, cluster: &str, total: &Arc<AdaptiveTotal>) {
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        limits.retain(|(_, total)| total.strong_count() > 0);
        limits.push((cluster.to_owned(), Arc::downgrade(total)));
    }

    /// The limits that workers go by, by cluster.
    pub fn limits(&self) -> Vec<(String, u32)> {
        let limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let in_use = limits.iter().filter_map(|(cluster, total)| {
            // The cluster's totals have it too.
            let total = total.upgrade().filter(|total| Arc::strong_count(total) > 2)?;
            Some((cluster.clone(), total.limit()))
        });
        in_use.collect()
    }
}
