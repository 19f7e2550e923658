//! How long an endpoint takes, as one worker sees it: a latency that rises at once and falls slowly (peak
//! EWMA).
//!
//! Before: a try at the endpoint ended, or was given up. After: the next choice takes the endpoint that
//! will probably answer sooner. Nothing here reads a clock.
//!
//! Source: Finagle's `PeakEwma` load balancer, which Linkerd has from it: an average that only followed
//! would send many requests to an endpoint that has just become slow. Theirs falls towards the latest
//! answers, and so an endpoint of ten that is fast again after it was 50 times slower had 4 % of the requests
//! a minute later. Here it falls towards nothing, and stops at the latest answer: 10 % after 40 seconds.

use std::cell::Cell;

use lateen_snapshot::model::PeakEwma;

/// The latency of one endpoint. Survives snapshots.
#[derive(Debug)]
pub struct Latency {
    peak_ns: Cell<u64>,
    /// When `peak_ns` was right.
    at_ns: Cell<u64>,
    /// Whether that is a guess.
    is_guess: Cell<bool>,
}

impl Latency {
    /// Of an endpoint that has not answered yet. What it is taken to need is forgotten like a latency: else
    /// one that chance passed over, until the others were known to be faster, would never be tried.
    pub fn unknown(terms: &PeakEwma, now_ns: u64) -> Self {
        let default_ns = u64::from(terms.default_rtt_ms) * 1_000_000;
        let peak_ns = Cell::new(default_ns);
        Self { peak_ns, at_ns: Cell::new(now_ns), is_guess: Cell::new(true) }
    }

    /// A try at the endpoint took so long until it ended or was given up. The first one replaces what
    /// the endpoint was taken to need.
    pub fn observe(&self, terms: &PeakEwma, elapsed_ns: u64, now_ns: u64) {
        let kept = kept_share(terms, now_ns.saturating_sub(self.at_ns.get()));
        let kept_ns = (self.peak_ns.get() as f64 * kept) as u64;
        let is_first = self.is_guess.replace(false);
        self.peak_ns.set(if is_first { elapsed_ns } else { elapsed_ns.max(kept_ns) });
        self.at_ns.set(now_ns);
    }

    /// What a request that is given to it now will probably take: the average, which falls while nothing
    /// is heard, times the requests that wait there, its own among them.
    #[inline]
    pub fn cost(&self, terms: &PeakEwma, in_flight: f64, now_ns: u64) -> f64 {
        let kept = kept_share(terms, now_ns.saturating_sub(self.at_ns.get()));
        self.peak_ns.get() as f64 * kept * (in_flight + 1.0)
    }
}

/// How much of what is that old still counts.
fn kept_share(terms: &PeakEwma, elapsed_ns: u64) -> f64 {
    (-(elapsed_ns as f64) / (f64::from(terms.decay_ms) * 1e6)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: PeakEwma = PeakEwma { default_rtt_ms: 30, decay_ms: 10_000 };
    const MS: u64 = 1_000_000;

    #[test]
    fn the_first_sample_replaces_the_default() {
        let latency = Latency::unknown(&TERMS, 0);
        assert_eq!(latency.cost(&TERMS, 0.0, 0), 30e6);
        assert_eq!(latency.cost(&TERMS, 2.0, 0), 90e6);
        latency.observe(&TERMS, MS, 5 * MS);
        assert_eq!(latency.cost(&TERMS, 0.0, 5 * MS), 1e6);
    }

    #[test]
    fn an_endpoint_that_was_never_tried_is_tried_some_time() {
        let latency = Latency::unknown(&TERMS, 7_000 * MS);
        assert_eq!(latency.cost(&TERMS, 0.0, 7_000 * MS), 30e6);
        assert!(latency.cost(&TERMS, 0.0, 60_000 * MS) < 1e6);
    }

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_slowly() {
        let latency = Latency::unknown(&TERMS, 0);
        latency.observe(&TERMS, MS, 0);
        latency.observe(&TERMS, 50 * MS, 0);
        assert_eq!(latency.cost(&TERMS, 0.0, 0), 50e6);
        let after_decay = latency.cost(&TERMS, 0.0, 10_000 * MS);
        assert!((after_decay - 50e6 / std::f64::consts::E).abs() < 1.0, "{after_decay}");
        latency.observe(&TERMS, MS, 10_000 * MS);
        let after_answer = latency.cost(&TERMS, 0.0, 10_000 * MS);
        assert!((after_answer - after_decay).abs() < 2.0, "{after_answer}");
        latency.observe(&TERMS, 2 * MS, 60_000 * MS);
        assert_eq!(latency.cost(&TERMS, 0.0, 60_000 * MS), 2e6, "it was forgotten meanwhile");
    }

    #[test]
    fn a_clock_that_stands_or_goes_back_does_no_harm() {
        let latency = Latency::unknown(&TERMS, 0);
        latency.observe(&TERMS, 0, 7);
        latency.observe(&TERMS, 0, 3);
        assert!(latency.cost(&TERMS, 4e9, 1).is_finite());
        latency.observe(&TERMS, u64::MAX, u64::MAX);
        assert!(latency.cost(&TERMS, 4e9, 0).is_finite());
    }
}
