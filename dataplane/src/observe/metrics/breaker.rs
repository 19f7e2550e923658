//! What a worker counts of breakers.

use crate::observe::counter::Counter;

/// The counters of one worker, which alone writes them.
#[derive(Debug, Default)]
pub struct BreakerMetrics {
    /// `breaker_rejected_total`: requests that an open breaker did not let through.
    pub rejected: Counter,
    /// `breaker_fallback_total{to="response"}`: those of them that the proxy answered as the policy says.
    pub fallback_response: Counter,
    /// `breaker_fallback_total{to="backend"}`: those of them that went to another backend.
    pub fallback_backend: Counter,
    /// `breaker_probes_total`: requests that were let through to see how they end.
    pub probes: Counter,
}
