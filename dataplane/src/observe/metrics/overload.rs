//! Who was turned away so that others are answered in time.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use lateen_snapshot::model::overload::Priority;

use crate::bulkhead::adaptive::AdaptiveTotal;
use crate::observe::counter::{Counter, Gauge};
use crate::pressure::Pressure;

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
    /// The worker can't keep up.
    Lag,
    /// The process has next to no memory left.
    Memory,
    /// The same for descriptors.
    Descriptors,
}

impl ShedCause {
    /// Every cause, at its index.
    pub const ALL: [Self; 5] =
        [Self::QueueDelay, Self::Concurrency, Self::Lag, Self::Memory, Self::Descriptors];

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueDelay => "queue_delay",
            Self::Concurrency => "concurrency",
            Self::Lag => "lag",
            Self::Memory => "memory",
            Self::Descriptors => "descriptors",
        }
    }
}

/// The counters of one worker.
#[derive(Debug, Default)]
pub struct OverloadMetrics {
    shed: [[Counter; PRIORITIES.len()]; ShedCause::ALL.len()],
    /// `overload_held_total`: requests that waited because the worker could not keep up.
    pub held: Counter,
    /// `overload_accept_paused_total`: times that a listener let nobody in.
    pub accept_paused: Counter,
    /// Whether the worker can't keep up; part of `overload_active{cause="lag"}`.
    pub lagging: Gauge,
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
    /// How close the process is to the end of what it may use; written by the main thread alone.
    pub pressure: Pressure,
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
