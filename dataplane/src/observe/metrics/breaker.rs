//! What a worker counts of breakers.

use crate::observe::counter::Counter;

/// The counters of one worker, which alone writes them.
#[derive(Debug, Default)]
pub struct BreakerMetrics {
    /// `breaker_rejected_total`: requests that an open breaker did not let through.
    pub rejected: Counter,
    /// `breaker_fallback_total`: those of them that were answered by a fallback.
    pub fallback: Counter,
    /// `breaker_probes_total`: requests that were let through to see how they end.
    pub probes: Counter,
}
