//! What bulkheads did.

use crate::bulkhead::total::Resource;
use crate::observe::counter::Counter;

/// Why somebody was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Overflow {
    /// As many as may wait did, or nobody may.
    QueueFull,
    /// It waited in vain.
    TimedOut,
    /// Another had waited in vain, and nothing had come free since.
    FailFast,
}

impl Overflow {
    /// Every reason, at its index.
    pub const ALL: [Self; 3] = [Self::QueueFull, Self::TimedOut, Self::FailFast];

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::TimedOut => "timeout",
            Self::FailFast => "failfast",
        }
    }
}

/// The counters of one worker.
#[derive(Debug, Default)]
pub struct BulkheadMetrics {
    queued: [Counter; Resource::ALL.len()],
    overflow: [[Counter; Overflow::ALL.len()]; Resource::ALL.len()],
    /// `bulkhead_handed_over_total`: connections that went from one request to another that waited.
    pub handed_over: Counter,
    /// `bulkhead_recalled_total`: idle connections closed because another worker needed one.
    pub recalled: Counter,
}

impl BulkheadMetrics {
    /// `bulkhead_queued_total{resource}`: who had to wait.
    pub fn queued(&self, of: Resource) -> &Counter {
        &self.queued[of as usize]
    }

    /// `bulkhead_overflow_total{resource, reason}`: who was turned away.
    pub fn overflow(&self, of: Resource, why: Overflow) -> &Counter {
        &self.overflow[of as usize][why as usize]
    }
}
