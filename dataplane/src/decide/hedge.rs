//! When a request has waited long enough that a second one is worth its cost (backup requests: J. Dean
//! and L. A. Barroso, "The Tail at Scale", CACM 56(2), 2013).
//!
//! Before: requests of a route were answered, and how long that took was counted by each worker. After: the
//! quantile of what all of them saw lately says when a request is slow, and the [`Purse`] whether a second
//! one may be sent. Nothing here reads a clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::limits;

/// Buckets of each doubling: a quantile is known to an eighth.
const STEPS: u64 = 8;
/// Doublings from a microsecond on: more than a minute.
const DOUBLINGS: u64 = 27;
/// Spans that are told apart.
pub const BUCKETS: usize = (DOUBLINGS * STEPS) as usize;
/// How much of the past a second leaves: what is ten seconds old counts for a third.
const KEPT_EACH_SECOND: f64 = 0.9;

/// How long requests of a route took, as one worker counts them, which alone writes it.
#[derive(Debug)]
pub struct LatencyCounts {
    buckets: [AtomicU64; BUCKETS],
}

impl Default for LatencyCounts {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS] }
    }
}

impl LatencyCounts {
    /// A request took so many microseconds.
    #[inline]
    pub fn observe(&self, span_us: u64) {
        let bucket = &self.buckets[bucket_of(span_us)];
        bucket.store(bucket.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Adds what was counted to `sums`, one for each bucket.
    pub fn add_to(&self, sums: &mut [u64; BUCKETS]) {
        for (sum, bucket) in sums.iter_mut().zip(&self.buckets) {
            *sum += bucket.load(Ordering::Relaxed);
        }
    }
}

fn bucket_of(span_us: u64) -> usize {
    let span_us = span_us.max(1);
    let doublings = u64::from(span_us.ilog2());
    // The bits behind the first one.
    let step = (span_us << 3 >> doublings) & (STEPS - 1);
    ((doublings * STEPS + step) as usize).min(BUCKETS - 1)
}

/// The shortest span above all that a bucket counts.
pub fn end_of(bucket: usize) -> Duration {
    let (doublings, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    Duration::from_nanos((STEPS + step + 1) * 1_000 * (1 << doublings) / STEPS)
}

/// How long requests of a route took lately, on all workers.
#[derive(Debug)]
pub struct Recent {
    /// What the workers had counted at the last look.
    seen: [u64; BUCKETS],
    weights: [f64; BUCKETS],
    looked_ns: u64,
}

impl Default for Recent {
    fn default() -> Self {
        Self { seen: [0; BUCKETS], weights: [0.0; BUCKETS], looked_ns: 0 }
    }
}

/// Sums of the workers' counts.
#[derive(Debug)]
pub struct Sums(pub [u64; BUCKETS]);

impl Default for Sums {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Recent {
    /// Takes in what the workers have counted until now, which never falls.
    pub fn merge(&mut self, sums: &Sums, now_ns: u64) {
        let seconds = now_ns.saturating_sub(self.looked_ns) as f64 / 1e9;
        let kept = KEPT_EACH_SECOND.powf(seconds);
        self.looked_ns = now_ns;
        for (bucket, sum) in sums.0.iter().enumerate() {
            let came = sum.saturating_sub(self.seen[bucket]) as f64;
            self.weights[bucket] = self.weights[bucket] * kept + came;
        }
        self.seen = sums.0;
    }

    /// How long all but the slowest take: `percentile` of 100 are answered sooner. `None`: too few were
    /// seen to tell.
    pub fn quantile(&self, percentile: u32) -> Option<Duration> {
        let total: f64 = self.weights.iter().sum();
        if total < limits::HEDGE_SAMPLES_MIN {
            return None;
        }
        let wanted = total * f64::from(percentile) / 100.0;
        let mut below = 0.0;
        let bucket = self.weights.iter().position(|weight| {
            below += weight;
            below >= wanted
        });
        Some(end_of(bucket.unwrap_or(BUCKETS - 1)))
    }
}

/// What second requests of a route may cost: one for each 100 requests, no more than ten at once (Finagle's
/// `maxExtraLoad`).
#[derive(Debug)]
pub struct Purse {
    hundredths: u64,
    requests: u64,
}

impl Default for Purse {
    fn default() -> Self {
        Self { hundredths: limits::HEDGE_BURST * 100, requests: 0 }
    }
}

impl Purse {
    /// Pays for one. `requests` is how many came until now; it never falls.
    pub fn pay(&mut self, requests: u64) -> bool {
        let came = requests.saturating_sub(self.requests);
        self.requests = requests;
        self.hundredths = (self.hundredths + came).min(limits::HEDGE_BURST * 100);
        let is_paid = self.hundredths >= 100;
        if is_paid {
            self.hundredths -= 100;
        }
        is_paid
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// `count` requests of each of these spans, on `workers` by turns; then the sums.
    fn count(workers: &[LatencyCounts], spans_us: &[u64], count: usize) -> Sums {
        let spans = spans_us.iter().cycle().take(spans_us.len() * count);
        for (turn, span_us) in spans.enumerate() {
            workers[turn % workers.len()].observe(*span_us);
        }
        let mut sums = Sums::default();
        workers.iter().for_each(|worker| worker.add_to(&mut sums.0));
        sums
    }

    fn workers(count: usize) -> Vec<LatencyCounts> {
        (0..count).map(|_| LatencyCounts::default()).collect()
    }

    #[test]
    fn the_quantile_is_that_of_all_workers_together() {
        for worker_count in [1, 2, 16] {
            let workers = workers(worker_count);
            let mut spans_us = vec![1_000; 97];
            spans_us.extend([50_000; 3]);
            let mut recent = Recent::default();
            recent.merge(&count(&workers, &spans_us, 9), SECOND);
            assert_eq!(recent.quantile(95), None, "900 are too few");
            recent.merge(&count(&workers, &spans_us, 5), SECOND);
            let is_about = |found: Option<Duration>, span_us: u64| {
                let found_us = found.map_or(0, |found| found.as_micros() as u64);
                assert!((span_us..=span_us * 9 / 8 + 1).contains(&found_us), "{found_us}");
            };
            is_about(recent.quantile(95), 1_000);
            is_about(recent.quantile(98), 50_000);
        }
    }

    #[test]
    fn what_was_slow_is_forgotten() {
        let workers = workers(1);
        let mut recent = Recent::default();
        recent.merge(&count(&workers, &[100_000], 5_000), SECOND);
        assert!(recent.quantile(99) >= Some(Duration::from_millis(100)));
        for second in 2..60 {
            recent.merge(&count(&workers, &[1_000], 500), second * SECOND);
        }
        assert!(recent.quantile(99) < Some(Duration::from_millis(2)));
        recent.merge(&count(&workers, &[], 0), 3_600 * SECOND);
        assert_eq!(recent.quantile(99), None, "what an hour ago was says nothing");
    }

    #[test]
    fn second_requests_cost_a_hundredth_and_no_more_than_ten_at_once() {
        let mut purse = Purse::default();
        let paid = (0..100).filter(|_| purse.pay(0)).count();
        assert_eq!(paid, 10);
        let paid = (1..=100_000).filter(|&requests| purse.pay(requests)).count();
        assert_eq!(paid, 1_000);
        // An hour's worth is not saved up.
        let paid = (0..100).filter(|_| purse.pay(10_000_000)).count();
        assert_eq!(paid, 10);
    }

    proptest! {
        #[test]
        fn a_bucket_holds_what_it_says(span_us in 1..60_000_000_u64) {
            let bucket = bucket_of(span_us);
            let end_us = end_of(bucket).as_nanos() as f64 / 1e3;
            prop_assert!((span_us as f64) < end_us, "{span_us} in {bucket}, which ends at {end_us}");
            prop_assert!(end_us <= span_us as f64 * 1.125 + 1.0, "{span_us}: {end_us}");
        }

        #[test]
        fn no_span_is_without_a_bucket(span_us in any::<u64>()) {
            prop_assert!(bucket_of(span_us) < BUCKETS);
        }
    }
}
