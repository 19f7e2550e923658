//! Shares by weight: a draw by chance, and turns.
//!
//! Before: a snapshot has weights for a cluster. [`Weights`] are made of them once per process; a worker
//! makes its own [`Turns`]. After: a choice draws from them. Chance comes from the caller.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

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

/// Turns by weight, spread as evenly as they can be: each has its next turn at a time of its own, and
/// the earliest comes first.
///
/// Source: the earliest-deadline-first order of Envoy's and gRPC's weighted round robin; for equal times
/// the order is that of a smooth round robin.
#[derive(Debug)]
pub struct Turns {
    next: RefCell<BinaryHeap<Reverse<(u64, u32)>>>,
}

/// The time between two turns of an endpoint with the weight 1.
const ROUND: u64 = 1 << 32;

impl Turns {
    /// Nobody had a turn yet. `random` spreads the first turns, so that workers do not go in step.
    ///
    /// Cost: linear in their number.
    pub fn new(weights: &Weights, random: u64) -> Self {
        let first = |(index, weight): (usize, &u32)| {
            let between = ROUND / u64::from(*weight);
            let at = below(mix(random.wrapping_add(index as u64)) >> 32, between);
            Reverse((at, index as u32))
        };
        Self { next: RefCell::new(weights.each.iter().enumerate().map(first).collect()) }
    }

    /// Whose turn it is.
    ///
    /// Cost: logarithmic in their number.
    pub(super) fn take(&self, weights: &Weights) -> Option<u64> {
        let mut next = self.next.borrow_mut();
        let mut first = next.peek_mut()?;
        let Reverse((at, index)) = *first;
        let between = ROUND / u64::from(weights.each[index as usize]);
        // 2^64 is four billion turns of the weight 1: past it, all begin anew.
        *first = Reverse((at.checked_add(between).unwrap_or(0), index));
        Some(u64::from(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_weights_are_none() {
        assert!(Weights::of(&[]).is_none());
        assert!(Weights::of(&[7]).is_none());
        assert!(Weights::of(&[7, 7, 7]).is_none());
    }

    #[test]
    fn turns_are_spread() {
        let weights = Weights::of(&[5, 1, 1]).expect("they differ");
        let turns = Turns::new(&weights, 3);
        for _ in 0..100 {
            let round: Vec<u64> =
                (0..7).map(|_| turns.take(&weights).expect("there are some")).collect();
            assert_eq!(round.iter().filter(|index| **index == 0).count(), 5, "{round:?}");
            assert!(round.contains(&1) && round.contains(&2), "{round:?}");
            assert!(!round.windows(2).any(|pair| pair == [1, 1] || pair == [2, 2]), "{round:?}");
        }
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
