//! The simulation's dice: one seeded stream of numbers, the same on every machine.
//!
//! SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).

use std::ops::RangeInclusive;

/// Probabilities are in parts of this.
pub(crate) const ALWAYS: u32 = 65_536;

#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// True with probability `per_65536`.
    pub(crate) fn chance(&mut self, per_65536: u32) -> bool {
        per_65536 > 0 && (self.next() >> 48) < u64::from(per_65536)
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.chance(ALWAYS / 2)
    }

    /// A number below `bound`; 0 if that is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    pub(crate) fn within(&mut self, range: &RangeInclusive<u32>) -> u32 {
        let span = u64::from(range.end().saturating_sub(*range.start())) + 1;
        range.start() + self.below(span) as u32
    }

    /// At least 1, at most `count`; 0 if that is 0.
    pub(crate) fn part_of(&mut self, count: usize) -> usize {
        if count == 0 { 0 } else { 1 + self.below(count as u64) as usize }
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extremes_of_chance_are_never_and_always() {
        let mut random = Random::new(1);
        assert!((0..1_000).all(|_| !random.chance(0)));
        assert!((0..1_000).all(|_| random.chance(ALWAYS)));
        let hits = (0..10_000).filter(|_| random.chance(ALWAYS / 4)).count();
        assert!((2_200..2_800).contains(&hits), "{hits}");
    }

    #[test]
    fn numbers_stay_in_their_range() {
        let mut random = Random::new(2);
        assert_eq!(random.below(0), 0);
        assert_eq!(random.part_of(0), 0);
        for _ in 0..1_000 {
            assert!(random.below(7) < 7);
            assert!((1..=7).contains(&random.part_of(7)));
            assert!((3..=5).contains(&random.within(&(3..=5))));
        }
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..50).collect();
        Random::new(3).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
