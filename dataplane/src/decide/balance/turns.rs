//! Turns by weight, spread as evenly as they can be: each has its next turn at a time of its own, and the
//! earliest comes first.
//!
//! Before: a worker makes them of the [`Weights`] of a cluster, or of its part of one. After: a choice takes
//! the next. Chance comes from the caller.
//!
//! Sources: the earliest-deadline-first order of Envoy's and gRPC's weighted round robin; R. Brown, "Calendar
//! Queues: A Fast O(1) Priority Queue Implementation for the Simulation Event Set Problem", CACM 31(10),
//! 1988. In a heap a turn costs the more the more endpoints there are.

use std::cell::RefCell;

use super::mix;
use super::weighted::Weights;

/// Whose turn it is.
#[derive(Debug)]
pub struct Turns {
    calendar: RefCell<Calendar>,
}

/// Who has a turn at which time: a list for each day of a year, in which those of later years stand too.
///
/// Days are as long as it takes until the next turn on average, and a year has about as many days as there
/// are endpoints. So a day has a turn or two, and who has a turn in a later year is passed over once a year.
#[derive(Debug)]
struct Calendar {
    /// Of each, when its next turn is.
    at: Box<[u64]>,
    /// Of each, who stands behind it in the list of its day; [`NOBODY`] behind the last.
    behind: Box<[u32]>,
    /// Of each day of the year, who stands first.
    first: Box<[u32]>,
    /// A day has 2 to the power of this.
    day_bits: u32,
    /// No turn is before it. Counted from the beginning.
    today: u64,
}

/// The time between two turns of an endpoint with the weight 1.
const ROUND: u64 = 1 << 40;

/// All times are made smaller by what is past when they come here: four million turns of the weight 1. Twice
/// as much is far from the end of 64 bits.
const TIME_MAX: u64 = 1 << 62;

const NOBODY: u32 = u32::MAX;

impl Turns {
    /// Nobody had a turn yet. `random` spreads the first turns, so that workers do not go in step.
    ///
    /// Cost: linear in their number.
    pub fn new(weights: &Weights, random: u64) -> Self {
        let each = weights.each();
        let total: u64 = each.iter().map(|weight| u64::from(*weight)).sum();
        let first_turn = |(index, weight): (usize, &u32)| {
            let spread = u128::from(mix(random.wrapping_add(index as u64)));
            ((spread * u128::from(between(*weight))) >> 64) as u64
        };
        let mut calendar = Calendar {
            at: each.iter().enumerate().map(first_turn).collect(),
            behind: vec![NOBODY; each.len()].into(),
            first: vec![NOBODY; each.len().next_power_of_two()].into(),
            day_bits: (ROUND / total.max(1)).checked_ilog2().unwrap_or(0),
            today: 0,
        };
        calendar.enter_all();
        Self { calendar: RefCell::new(calendar) }
    }

    /// Whose turn it is.
    ///
    /// Cost: whatever their number, that of a few days of the calendar on average.
    pub(super) fn take(&self, weights: &Weights) -> Option<u64> {
        let mut calendar = self.calendar.borrow_mut();
        if calendar.at.is_empty() {
            return None;
        }
        let index = calendar.take_first();
        let at = &mut calendar.at[index as usize];
        *at += between(weights.of_one(index.into()));
        if *at > TIME_MAX {
            calendar.begin_anew();
            calendar.enter_all();
        } else {
            calendar.enter(index);
        }
        Some(index.into())
    }
}

fn between(weight: u32) -> u64 {
    ROUND / u64::from(weight)
}

impl Calendar {
    /// Takes who has the earliest turn out of its list; of several at one time the first in their order.
    fn take_first(&mut self) -> u32 {
        loop {
            let day = self.today as usize & (self.first.len() - 1);
            let mut earliest: Option<(u64, u32, u32)> = None;
            let (mut before, mut index) = (NOBODY, self.first[day]);
            while index != NOBODY {
                let at = self.at[index as usize];
                let is_today = at >> self.day_bits == self.today;
                if is_today && earliest.is_none_or(|(first, of, _)| (at, index) < (first, of)) {
                    earliest = Some((at, index, before));
                }
                (before, index) = (index, self.behind[index as usize]);
            }
            if let Some((_, index, before)) = earliest {
                let behind = self.behind[index as usize];
                match before {
                    NOBODY => self.first[day] = behind,
                    before => self.behind[before as usize] = behind,
                }
                return index;
            }
            // Each has a turn at some time, so that there is a day with one.
            self.today += 1;
        }
    }

    fn enter(&mut self, index: u32) {
        let day = (self.at[index as usize] >> self.day_bits) as usize & (self.first.len() - 1);
        self.behind[index as usize] = self.first[day];
        self.first[day] = index;
    }

    fn enter_all(&mut self) {
        self.first.fill(NOBODY);
        (0..self.at.len() as u32).for_each(|index| self.enter(index));
    }

    /// What is past is forgotten; between the turns to come all stays as it was.
    fn begin_anew(&mut self) {
        let past = self.today << self.day_bits;
        self.at.iter_mut().for_each(|at| *at -= past);
        self.today = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use proptest::prelude::*;

    use super::*;

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

    #[test]
    fn time_begins_anew_without_anybody_losing_a_turn() {
        let weights = Weights::of(&[3, 1, 7, 2]).expect("they differ");
        let (turns, late) = (Turns::new(&weights, 9), Turns::new(&weights, 9));
        {
            let mut calendar = late.calendar.borrow_mut();
            let days = (TIME_MAX >> calendar.day_bits) - 20;
            calendar.today = days;
            let past = days << calendar.day_bits;
            calendar.at.iter_mut().for_each(|at| *at += past);
            calendar.enter_all();
        }
        for _ in 0..1_000 {
            assert_eq!(turns.take(&weights), late.take(&weights));
        }
        let today = late.calendar.borrow().today;
        assert!(today < 100_000, "it never began anew: {today}");
    }

    #[test]
    fn a_turn_looks_at_few_days_and_few_others_whatever_the_weights() {
        let light_and_heavy = |count: usize| (0..count).map(|at| if at == 0 { 1_000 } else { 1 });
        let mixed = |count: usize| (0..count as u32).map(|at| 1 + at * 7 % 1_000);
        for each in [light_and_heavy(10_000).collect::<Vec<u32>>(), mixed(10_000).collect()] {
            let weights = Weights::of(&each).expect("they differ");
            let turns = Turns::new(&weights, 5);
            (0..50_000).for_each(|_| assert!(turns.take(&weights).is_some()));
            let before = turns.calendar.borrow().today;
            (0..50_000).for_each(|_| assert!(turns.take(&weights).is_some()));
            let days = turns.calendar.borrow().today - before;
            assert!(days <= 4 * 50_000, "{days} days for 50,000 turns");
            let calendar = turns.calendar.borrow();
            let longest = (0..calendar.first.len()).map(|day| {
                let first = Some(calendar.first[day]).filter(|index| *index != NOBODY);
                let next = |index: &u32| Some(calendar.behind[*index as usize]);
                std::iter::successors(first, |index| next(index).filter(|it| *it != NOBODY)).count()
            });
            let longest = longest.max().expect("there are days");
            assert!(longest < 40, "{longest} in the list of a day");
        }
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_a_heap(
            each in prop::collection::vec(1_u32..1_000, 2..200),
            random: u64,
        ) {
            let Some(weights) = Weights::of(&each) else { return Ok(()) };
            let turns = Turns::new(&weights, random);
            let first = turns.calendar.borrow().at.clone();
            let mut heap: BinaryHeap<_> = first.iter().copied().zip(0_u32..).map(Reverse).collect();
            for _ in 0..2_000 {
                let Reverse((at, index)) = heap.pop().expect("there are some");
                heap.push(Reverse((at + between(each[index as usize]), index)));
                prop_assert_eq!(turns.take(&weights), Some(index.into()));
            }
        }
    }
}
