//! Drawing from the world's seeded numbers.

use std::ops::RangeInclusive;
use std::time::Duration;

use lateen_ring::sim;

/// True `in_100` times of 100.
pub(crate) fn percent(in_100: u64) -> bool {
    sim::random_below(100) < in_100
}

/// A number of a range.
pub(crate) fn within(range: RangeInclusive<usize>) -> usize {
    range.start() + sim::random_below((range.end() - range.start() + 1) as u64) as usize
}

/// A time of a range of milliseconds.
pub(crate) fn millis(range: RangeInclusive<usize>) -> Duration {
    Duration::from_millis(within(range) as u64)
}

/// One of some.
pub(crate) fn one_of<T: Copy>(of: &[T]) -> T {
    of[within(0..=of.len() - 1)]
}

/// A body's size: mostly small, seldom large enough for bulk reads and splices.
pub(crate) fn body_bytes() -> usize {
    match within(0..=99) {
        0..=14 => 0,
        15..=59 => within(1..=300),
        60..=87 => within(1..=9_000),
        88..=96 => within(1..=60_000),
        _ => within(60_000..=300_000),
    }
}

/// Where to cut `length` bytes into at most `pieces` pieces; ascending, without the ends.
pub(crate) fn cuts(length: usize, pieces: usize) -> Vec<usize> {
    let mut cuts: Vec<usize> =
        (1..pieces).map(|_| sim::random_below(length as u64) as usize).collect();
    cuts.retain(|cut| *cut > 0);
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}
