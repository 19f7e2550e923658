//! Shares by weight: a draw by chance.
//!
//! Before: a snapshot has weights for a cluster. [`Weights`] are made of them once per process; a worker
//! makes its own [turns](super::turns) of them. After: a choice draws from them. Chance comes from the caller.

use super::{below, mix};

/// The weights of a cluster's endpoints, made ready to be drawn from at a cost that does not grow with
/// their number.
///
/// Source: M. Vose, "A Linear Algorithm for Generating Random Numbers with a Given Distribution", IEEE
/// TSE 17(9), 1991 (the alias method).
#[derive(Debug)]
pub struct Weights {
    each: Box<[u32]>,
    mean: f64,
    /// Of each column the share of 2^32 that is its own; the rest is its alias's.
    columns: Box<[Column]>,
}

#[derive(Clone, Copy, Debug)]
struct Column {
    own: u32,
    alias: u32,
}

impl Weights {
    /// `None`: all are the same, and there is nothing to go by.
    ///
    /// Cost: linear in their number.
    pub fn of(weights: &[u32]) -> Option<Self> {
        if weights.iter().all(|weight| *weight == weights[0]) {
            return None;
        }
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let count = weights.len() as u64;
        // In units of which every column holds `total`.
        let mut scaled: Vec<u64> =
            weights.iter().map(|weight| u64::from(*weight) * count).collect();
        let (mut small, mut large): (Vec<u32>, Vec<u32>) =
            (0..weights.len() as u32).partition(|index| scaled[*index as usize] < total);
        let mut columns: Box<[Column]> =
            (0..weights.len() as u32).map(|alias| Column { own: u32::MAX, alias }).collect();
        while let (Some(less), Some(more)) = (small.pop(), large.last().copied()) {
            let own = scaled[less as usize];
            let share = (u128::from(own) << 32) / u128::from(total);
            columns[less as usize] = Column { own: share as u32, alias: more };
            let left = &mut scaled[more as usize];
            *left -= total - own;
            if *left < total {
                large.pop();
                small.push(more);
            }
        }
        Some(Self { each: weights.into(), mean: total as f64 / count as f64, columns })
    }

    /// The weight of one over the mean of all.
    #[inline]
    pub fn over_mean(&self, index: u64) -> f64 {
        f64::from(self.each[index as usize]) / self.mean
    }

    /// All of them.
    pub(super) fn each(&self) -> &[u32] {
        &self.each
    }

    /// The weight of one.
    #[inline]
    pub fn of_one(&self, index: u64) -> u32 {
        self.each[index as usize]
    }

    /// The one that 64 evenly distributed bits make.
    #[inline]
    pub(super) fn draw(&self, random: u64) -> u64 {
        let index = below(random >> 32, self.columns.len() as u64);
        let column = self.columns[index as usize];
        // The bits that chose the column say too little about where in it the point is.
        if mix(random) as u32 <= column.own { index } else { u64::from(column.alias) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decide::balance::turns::Turns;

    #[test]
    fn equal_weights_are_none() {
        assert!(Weights::of(&[]).is_none());
        assert!(Weights::of(&[7]).is_none());
        assert!(Weights::of(&[7, 7, 7]).is_none());
    }

    proptest! {
        #[test]
        fn draws_and_turns_are_as_the_weights_say(
            weights in prop::collection::vec(1_u32..200, 2..20),
            seed: u64,
        ) {
            let Some(made) = Weights::of(&weights) else { return Ok(()) };
            let turns = Turns::new(&made, seed);
            let total: u32 = weights.iter().sum();
            let rounds = 200_000 / total;
            let (mut drawn, mut took) = (vec![0_u32; weights.len()], vec![0_u32; weights.len()]);
            for step in 0..u64::from(rounds * total) {
                drawn[made.draw(mix(seed.wrapping_add(step))) as usize] += 1;
                took[turns.take(&made).expect("there are some") as usize] += 1;
            }
            for (index, weight) in weights.iter().enumerate() {
                let share = rounds * weight;
                let off = f64::from(drawn[index]) - f64::from(share);
                prop_assert!(off.abs() < 6.0 * f64::from(share).sqrt(), "draws of {index}: {off}");
                // A turn is at most one round early or late.
                prop_assert!(took[index].abs_diff(share) <= 1 + rounds / 100, "turns of {index}: {} not {share}", took[index]);
            }
        }
    }
}
