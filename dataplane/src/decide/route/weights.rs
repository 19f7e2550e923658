//! A choice by weight.
//!
//! Before it: a route was found. After it: one of its backends. Chance comes from the caller.

/// The weights of some choices.
#[derive(Clone, Debug)]
pub struct Weights {
    /// Of each choice the sum of all weights up to it, its own included.
    ends: Box<[u64]>,
}

impl Weights {
    /// `None`: they add up to 0, and there is nothing to choose.
    pub fn of(weights: impl IntoIterator<Item = u32>) -> Option<Self> {
        let mut sum = 0;
        let ends: Box<[u64]> = weights
            .into_iter()
            .map(|weight| {
                sum += u64::from(weight);
                sum
            })
            .collect();
        (sum > 0).then_some(Self { ends })
    }

    /// The choice that 64 evenly distributed bits make. A weight of 0 is never chosen.
    #[inline]
    pub fn choose(&self, random: u64) -> usize {
        let [before @ .., total] = &*self.ends else { return 0 };
        if before.is_empty() {
            return 0;
        }
        // The high half of the product is even over 0..total, but for one part in 2^64 / total.
        let point = ((u128::from(random) * u128::from(*total)) >> 64) as u64;
        before.iter().position(|end| point < *end).unwrap_or(before.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_as_the_weights_say() {
        let weights = Weights::of([0, 90, 0, 10, 0]).expect("more than 0");
        let mut counts = [0; 5];
        for step in 0..1000_u64 {
            counts[weights.choose(step * (u64::MAX / 1000) + u64::MAX / 2000)] += 1;
        }
        assert_eq!(counts, [0, 900, 0, 100, 0]);
        assert_eq!((weights.choose(0), weights.choose(u64::MAX)), (1, 3));
    }

    #[test]
    fn the_largest_weights_add_up() {
        let weights = Weights::of([u32::MAX; 16]).expect("more than 0");
        assert_eq!((weights.choose(0), weights.choose(u64::MAX)), (0, 15));
    }

    #[test]
    fn one_choice_needs_no_chance_and_no_weight_is_no_choice() {
        assert_eq!(Weights::of([3]).expect("more than 0").choose(u64::MAX), 0);
        assert!(Weights::of([]).is_none());
        assert!(Weights::of([0, 0]).is_none());
    }
}
