//! Numbers that one thread writes and any thread reads: counter, gauge, histogram.
//!
//! Before: a worker counts what it does. After: a scrape on another thread reads them. An increment
//! is a relaxed load and a relaxed store, two plain moves on x86 and ARM, where a read-modify-write
//! would lock the cache line: right only because each value has a single writer. A reader may see
//! one value newer than its neighbour, never a torn one. Nothing here allocates after its making.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// A count that only grows. Single writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    #[inline]
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `amount`.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// Takes over a total that is counted elsewhere, such as the engine's own. It must not go down.
    #[inline]
    pub fn set_total(&self, total: u64) {
        debug_assert!(total >= self.value(), "a counter never goes down");
        self.0.store(total, Relaxed);
    }

    /// The count.
    #[inline]
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down. Single writer.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds one.
    #[inline]
    pub fn increment(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// Takes one away.
    #[inline]
    pub fn decrement(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(1), Relaxed);
    }

    /// Sets it.
    #[inline]
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// The value.
    #[inline]
    pub fn value(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// How often an observed value fell between two bounds. Single writer.
///
/// `BUCKETS` includes the last one, which has no upper bound.
#[derive(Debug)]
pub struct Histogram<const BUCKETS: usize> {
    /// Upper bounds of all buckets but the last, inclusive, rising.
    bounds: &'static [u64],
    buckets: [Counter; BUCKETS],
    sum: Counter,
}

impl<const BUCKETS: usize> Histogram<BUCKETS> {
    /// An empty histogram. `bounds` are inclusive, rising, and one fewer than `BUCKETS`.
    pub fn new(bounds: &'static [u64]) -> Self {
        assert_eq!(bounds.len() + 1, BUCKETS, "the last bucket has no bound");
        debug_assert!(bounds.is_sorted());
        Self {
            bounds,
            buckets: [const { Counter(AtomicU64::new(0)) }; BUCKETS],
            sum: Counter::default(),
        }
    }

    /// Counts `value`, in the unit of the bounds.
    ///
    /// Cost: a scan from the lowest bucket, where nearly all values fall.
    #[inline]
    pub fn observe(&self, value: u64) {
        let bucket = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(BUCKETS - 1);
        self.buckets[bucket].increment();
        self.sum.add(value);
    }

    /// Upper bounds of all buckets but the last.
    pub fn bounds(&self) -> &'static [u64] {
        self.bounds
    }

    /// Observations per bucket, not cumulated.
    pub fn counts(&self) -> [u64; BUCKETS] {
        std::array::from_fn(|bucket| self.buckets[bucket].value())
    }

    /// Sum of all observed values.
    pub fn sum(&self) -> u64 {
        self.sum.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_falls_into_the_bucket_below() {
        let histogram = Histogram::<4>::new(&[10, 20, 30]);
        for value in [0, 10, 11, 20, 21, 30, 31, u64::MAX / 2] {
            histogram.observe(value);
        }
        assert_eq!(histogram.counts(), [2, 2, 2, 2]);
        assert_eq!(histogram.sum(), 10 + 11 + 20 + 21 + 30 + 31 + u64::MAX / 2);
    }

    #[test]
    fn counters_and_gauges_hold_what_they_were_given() {
        let (counter, gauge) = (Counter::default(), Gauge::default());
        counter.increment();
        counter.add(41);
        assert_eq!(counter.value(), 42);
        counter.set_total(50);
        assert_eq!(counter.value(), 50);
        gauge.increment();
        gauge.decrement();
        gauge.decrement();
        assert_eq!(gauge.value(), -1);
        gauge.set(7);
        assert_eq!(gauge.value(), 7);
    }

    #[test]
    fn a_reader_on_another_thread_never_sees_a_count_go_down() {
        let counter = Counter::default();
        std::thread::scope(|scope| {
            scope.spawn(|| (0..200_000).for_each(|_| counter.increment()));
            let mut seen = 0;
            while seen < 200_000 {
                let now = counter.value();
                assert!(now >= seen);
                seen = now;
            }
        });
    }
}
